using '../events.bicep'

param resourceGroupName = 'rg-patching'
param functionAppName = 'func-patch-scrce44oupoh4'
param storageAccountName = 'stpatchscrce44oupoh4'
param systemTopicIds = [
  '/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-patching/providers/Microsoft.EventGrid/systemTopics/evgst-patch-scrce44oupoh4'
]
