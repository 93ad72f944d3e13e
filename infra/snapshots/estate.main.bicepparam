using '../main.bicep'

// Everything that is optional in whom the app patches, and no public endpoint for events: the demo deploys it.
param environmentName = 'estate'
param location = 'westeurope'
param mode = 'install'
param window = 'any'
param eventDelivery = 'queue'
param settings = {
  PATCH_ARC: 'on'
  PATCH_SCALE_SETS: 'include'
  PATCH_START_STOPPED: '5'
}
param network = {
  addressPrefix: '10.20.0.0/24'
  appSubnetPrefix: '10.20.0.0/26'
  endpointSubnetPrefix: '10.20.0.64/27'
}
param storageSuffix = 'core.windows.net'
param alertEmail = ''
param operators = []
