using '../events.bicep'

param resourceGroupName = 'rg-private'
param functionAppName = 'func-patch-p6wehlf4xf3e2'
param storageAccountName = 'stpatchp6wehlf4xf3e2'
param systemTopicIds = [
  '/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-private/providers/Microsoft.EventGrid/systemTopics/evgst-patch-p6wehlf4xf3e2'
]
