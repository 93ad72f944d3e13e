using '../events.bicep'

param resourceGroupName = 'rg-estate'
param functionAppName = 'func-patch-kqq2p5zinrdr6'
param storageAccountName = 'stpatchkqq2p5zinrdr6'
param eventDelivery = 'queue'
param systemTopicIds = [
  '/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-estate/providers/Microsoft.EventGrid/systemTopics/evgst-patch-kqq2p5zinrdr6'
]
param arcServers = true
