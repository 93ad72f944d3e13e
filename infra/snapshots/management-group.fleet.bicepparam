using '../management-group/main.bicep'

param environmentName = 'fleet'
param location = 'westeurope'
param hostSubscriptionId = '00000000-0000-0000-0000-000000000001'
param hostResourceGroupName = 'rg-fleet'
param storageAccountName = 'stpatchhrzr7qnsxtgfq'
// What only a running Azure knows: here the object id that the simulator gives to the identity of the app.
param principalId = '00000000-0000-0000-0000-0000000b0b01'
param subscriptionIds = [
  '00000000-0000-0000-0000-000000000001'
  '00000000-0000-0000-0000-000000000002'
]
