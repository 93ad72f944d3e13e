using '../main.bicep'

// A private network without any public endpoint for events.
param environmentName = 'queue'
param location = 'westeurope'
param mode = 'install'
param window = 'any'
param eventDelivery = 'queue'
param network = {
  addressPrefix: '10.20.0.0/24'
  appSubnetPrefix: '10.20.0.0/26'
  endpointSubnetPrefix: '10.20.0.64/27'
}
param storageSuffix = 'core.windows.net'
param alertEmail = ''
param operators = []
