metadata name = 'Event queue role'
metadata description = 'Allows the identity of a system topic to add events to that queue. It reads nothing.'

@description('Name of the storage account of the app.')
param storageAccountName string

@description('Name of the queue for events.')
param queueName string

@description('Object id of the identity of the system topic.')
param principalId string

var queueDataMessageSender = 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'

resource account 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: storageAccountName

  resource service 'queueServices' existing = {
    name: 'default'

    resource queue 'queues' existing = {
      name: queueName
    }
  }
}

resource sender 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account::service::queue.id, principalId, queueDataMessageSender)
  scope: account::service::queue
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', queueDataMessageSender)
    principalId: principalId
    principalType: 'ServicePrincipal'
    description: 'Image Patcher: sends events of machines'
  }
}
