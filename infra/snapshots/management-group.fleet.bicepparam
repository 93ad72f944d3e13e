using '../management-group/main.bicep'

param environmentName = 'fleet'
param location = 'westeurope'
param hostSubscriptionId = '00000000-0000-0000-0000-000000000001'
param hostResourceGroupName = 'rg-fleet'
param storageAccountName = 'stpatchhrzr7qnsxtgfq'
// Only a running Azure knows this value. Here it is the object id that the simulator assigns to the app's identity.
param principalId = '00000000-0000-0000-0000-0000000b0b01'
param subscriptionIds = [
  '00000000-0000-0000-0000-000000000001'
  '00000000-0000-0000-0000-000000000002'
]
