metadata name = 'Dead-letter role'
metadata description = 'Allows the identity of a system topic to write undelivered events, into that container and no other.'

@description('Name of the storage account of the app.')
param storageAccountName string

@description('Name of the container for dead letters.')
param containerName string

@description('Object id of the identity of the system topic.')
param principalId string

var blobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'

resource account 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: storageAccountName

  resource blobs 'blobServices' existing = {
    name: 'default'

    resource container 'containers' existing = {
      name: containerName
    }
  }
}

resource writer 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account::blobs::container.id, principalId, blobDataContributor)
  scope: account::blobs::container
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataContributor)
    principalId: principalId
    principalType: 'ServicePrincipal'
    description: 'Image Patcher: writes events that could not be delivered'
  }
}
