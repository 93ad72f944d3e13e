using '../main.bicep'

// Two subscriptions, the whole fleet, two windows, a private network, and the log retention that auditors ask for.
param environmentName = 'patching-prod'
param location = 'westeurope'
param mode = 'install'
param window = 'Sat 22:00-02:00 Europe/Paris; 2nd Tue +3d 20:00-23:00 America/New_York'
param subscriptionIds = [
  '11111111-1111-1111-1111-111111111111'
  '22222222-2222-2222-2222-222222222222'
]
param createdAfter = 'always'
param settings = {
  PATCH_BLACKOUT: '2026-12-20..2027-01-05 Europe/Paris'
  PATCH_MAX_IN_FLIGHT: '10%'
  PATCH_MAX_PER_IMAGE: '5%'
  PATCH_BREAKER: '2 in 7 days'
}
param network = {
  addressPrefix: '10.20.0.0/24'
  appSubnetPrefix: '10.20.0.0/26'
  endpointSubnetPrefix: '10.20.0.64/27'
}
param publishFrom = [
  '203.0.113.10/32'
]
param storageSkuName = 'Standard_GZRS'
param retentionInDays = 400
param alertEmail = 'patching@example.com'
param operators = [
  {
    principalId: '33333333-3333-3333-3333-333333333333'
    principalType: 'Group'
  }
]
param tags = {
  costCenter: '4711'
}
