using '../main.bicep'

// Sets as many parameters as possible, so that the tests cover them.
param environmentName = 'private'
param location = 'westeurope'
param mode = 'install'
param window = '2nd Tue +3d,Sat 22:00-02:00 Europe/Paris; Mon-Fri 01:00-03:00'
param createdAfter = 'always'
param tags = {
  costCenter: '4711'
}
param settings = {
  PATCH_BLACKOUT: '2026-12-20..2027-01-05 Europe/Paris'
  PATCH_MAX_IN_FLIGHT: '20'
  PATCH_REBOOT: 'IfRequired'
  PATCH_SLA_DAYS: 'Critical 7, Security 30'
}
param network = {
  addressPrefix: '10.20.0.0/24'
  appSubnetPrefix: '10.20.0.0/26'
  endpointSubnetPrefix: '10.20.0.64/27'
}
param publishFrom = [
  '203.0.113.10/32'
]
param storageSuffix = 'core.windows.net'
param retentionInDays = 400
param alertEmail = 'patching@example.com'
param operators = []
