using '../events.bicep'

param resourceGroupName = 'rg-app-patching'
param functionAppName = 'func-corp-patching'
param storageAccountName = 'stcorppatching'
param systemTopicIds = [
  '/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-app-patching/providers/Microsoft.EventGrid/systemTopics/evgst-corp-subscription'
]
param arcServers = true
