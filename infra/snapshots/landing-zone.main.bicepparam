using '../main.bicep'

// Uses what a platform team provides: subnets, DNS zones, a workspace, names, a lock.
param environmentName = 'landing'
param location = 'westeurope'
param mode = 'install'
param window = 'any'
param settings = {
  PATCH_SCALE_SETS: 'include'
  PATCH_ARC: 'on'
  PATCH_START_STOPPED: '5'
}
param resourceGroupName = 'rg-app-patching'
param names = {
  functionApp: 'func-corp-patching'
  plan: 'asp-corp-patching'
  storageAccount: 'stcorppatching'
  identity: 'id-corp-patching'
  applicationInsights: 'appi-corp-patching'
  actionGroup: 'ag-corp-patching'
  systemTopic: 'evgst-corp-subscription'
}
param appSubnetId = '/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-network/providers/Microsoft.Network/virtualNetworks/vnet-spoke/subnets/flex'
param endpointSubnetId = '/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-network/providers/Microsoft.Network/virtualNetworks/vnet-spoke/subnets/endpoints'
param dnsZoneIds = {
  blob: '/subscriptions/00000000-0000-0000-0000-000000000009/resourceGroups/rg-dns/providers/Microsoft.Network/privateDnsZones/privatelink.blob.core.windows.net'
  queue: '/subscriptions/00000000-0000-0000-0000-000000000009/resourceGroups/rg-dns/providers/Microsoft.Network/privateDnsZones/privatelink.queue.core.windows.net'
}
param workspaceId = '/subscriptions/00000000-0000-0000-0000-000000000009/resourceGroups/rg-logs/providers/Microsoft.OperationalInsights/workspaces/log-corp'
param diagnosticSettings = [
  {
    name: 'to-siem'
    workspaceResourceId: '/subscriptions/00000000-0000-0000-0000-000000000009/resourceGroups/rg-logs/providers/Microsoft.OperationalInsights/workspaces/log-corp'
  }
]
param zoneRedundant = true
param siteUpdateStrategy = 'RollingUpdate'
param maximumInstanceCount = 10
param lock = 'CanNotDelete'
param alertEmail = 'patching@example.com'
param operators = []
