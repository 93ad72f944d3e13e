using '../events.bicep'

param resourceGroupName = 'rg-queue'
param functionAppName = 'func-patch-pab7irfxih7ma'
param storageAccountName = 'stpatchpab7irfxih7ma'
param eventDelivery = 'queue'
param systemTopicIds = [
  '/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-queue/providers/Microsoft.EventGrid/systemTopics/evgst-patch-pab7irfxih7ma'
]
