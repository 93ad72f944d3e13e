using '../events.bicep'

param resourceGroupName = 'rg-fleet'
param functionAppName = 'func-patch-hrzr7qnsxtgfq'
param storageAccountName = 'stpatchhrzr7qnsxtgfq'
param systemTopicIds = [
  '/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-fleet/providers/Microsoft.EventGrid/systemTopics/evgst-patch-zgrdhypvtl6de'
  '/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-fleet-events/providers/Microsoft.EventGrid/systemTopics/evgst-patch-zgrdhypvtl6de'
]
