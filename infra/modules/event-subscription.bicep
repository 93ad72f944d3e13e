metadata name = 'Event subscription'
metadata description = 'Sends writes and starts of machines to the function or the queue of the app, and no other event of the subscription.'

@description('Name of the system topic, which is in this resource group.')
param systemTopicName string

@description('Name of the event subscription.')
param name string

@description('Resource id of the function. Empty: events go to the queue.')
param functionId string

@description('Name of the queue for events.')
param queueName string

@description('Resource id of the storage account of the app.')
param storageAccountId string

@description('Name of the container for dead letters.')
param deadLetterContainerName string

@description('Whether to send writes of Arc-enabled servers, too.')
param arcServers bool = false

// Event Grid finds this endpoint with the rights of the deploying principal, and does not disclose its key.
var toFunction = {
  endpointType: 'AzureFunction'
  properties: {
    resourceId: functionId
    maxEventsPerBatch: 1
    preferredBatchSizeInKilobytes: 64
  }
}
// Behind a firewall only the topic's own identity is let in, as that of a trusted service.
var toQueue = {
  identity: {
    type: 'SystemAssigned'
  }
  destination: {
    endpointType: 'StorageQueue'
    properties: {
      resourceId: storageAccountId
      queueName: queueName
      queueMessageTimeToLiveInSeconds: 604800
    }
  }
}

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = {
  name: systemTopicName

  resource subscription 'eventSubscriptions' = {
    name: name
    properties: {
      eventDeliverySchema: 'EventGridSchema'
      ...(empty(functionId) ? { deliveryWithResourceIdentity: toQueue } : { destination: toFunction })
      filter: {
        includedEventTypes: [
          'Microsoft.Resources.ResourceWriteSuccess'
          'Microsoft.Resources.ResourceActionSuccess'
        ]
        advancedFilters: [
          {
            operatorType: 'StringIn'
            key: 'data.operationName'
            values: concat(
              [
                'Microsoft.Compute/virtualMachines/write'
                'Microsoft.Compute/virtualMachines/start/action'
                'Microsoft.Compute/virtualMachines/reimage/action'
              ],
              arcServers ? ['Microsoft.HybridCompute/machines/write'] : []
            )
          }
        ]
      }
      retryPolicy: {
        maxDeliveryAttempts: 30
        eventTimeToLiveInMinutes: 1440
      }
      deadLetterWithResourceIdentity: {
        identity: {
          type: 'SystemAssigned'
        }
        deadLetterDestination: {
          endpointType: 'StorageBlob'
          properties: {
            resourceId: storageAccountId
            blobContainerName: deadLetterContainerName
          }
        }
      }
    }
  }
}
