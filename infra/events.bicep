metadata name = 'Events of Image Patcher'
metadata description = 'Phase 2, after the code is published: sends the events of the watched subscriptions to the app. Every deployment uses this same file.'

targetScope = 'subscription'

@description('Resource group of the app.')
param resourceGroupName string

@description('Name of the function app.')
param functionAppName string

@description('Name of the storage account of the app, for dead letters.')
param storageAccountName string

@minLength(1)
@description('Resource ids of the system topics, as main.bicep prints them. They may belong to other subscriptions.')
param systemTopicIds string[]

@description('Whether the app patches Arc-enabled servers (PATCH_ARC=on): it then receives their events, too. main.bicep prints it.')
param arcServers bool = false

@description('Where Event Grid delivers events, as main.bicep prints it.')
param eventDelivery 'function' | 'queue' = 'function'

@description('Name of the function.')
param functionName string = 'on_machine_written'

resource app 'Microsoft.Web/sites@2025-03-01' existing = {
  name: functionAppName
  scope: resourceGroup(resourceGroupName)

  resource function 'functions' existing = {
    name: functionName
  }
}

resource account 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: storageAccountName
  scope: resourceGroup(resourceGroupName)
}

module subscriptions 'modules/event-subscription.bicep' = [
  for id in systemTopicIds: {
    name: 'patch-events-${uniqueString(id, functionAppName)}'
    scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
    params: {
      systemTopicName: last(split(id, '/'))
      name: functionAppName
      functionId: eventDelivery == 'function' ? app::function.id : ''
      queueName: 'machine-events'
      storageAccountId: account.id
      deadLetterContainerName: 'dead-letters'
      arcServers: arcServers
    }
  }
]
