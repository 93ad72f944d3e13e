metadata name = 'Watched subscription'
metadata description = 'Creates in each watched subscription a system topic, if there is none, and the role of the app.'

targetScope = 'subscription'

import { diagnosticSettingType, tagsType } from '../types.bicep'

@description('Region of the resource group.')
param location string

@description('Tags.')
param tags tagsType

@description('Name of the resource group for the topic. In the subscription of the app it is the resource group of the app.')
param resourceGroupName string

@description('Part of every generated name.')
param token string

@description('Name of the topic, if one is created.')
param topicName string

@description('Subscription of the app.')
param hostSubscriptionId string

@description('Resource group of the app.')
param hostResourceGroupName string

@description('Name of the storage account of the app.')
param storageAccountName string

@description('Name of the container for dead letters.')
param deadLetterContainerName string

@description('Whether to assign the role of the app here. False if a management group provides it.')
param assignPatchRole bool

@description('Id of an existing role for the app. Empty: it is created.')
param patchRoleId string = ''

@description('Object id of the identity of the app.')
param principalId string

@description('Whether the app patches members of scale sets.')
param scaleSets bool = false

@description('Whether the app patches Arc-enabled servers.')
param arcServers bool = false

@description('Whether the app starts stopped machines to patch them.')
param startStopped bool = false

@description('Whether to assign the roles for dead letters, and for the queue of events, to the identity of the topic.')
param assignDeadLetterRole bool

@description('Where Event Grid delivers events. With queue, the identity of the topic gets the role to send them.')
param eventDelivery 'function' | 'queue' = 'function'

@description('Resource id of the existing system topic of this subscription. Empty: one is created.')
param existingTopicId string

@description('Resource ids of the action groups to notify of dead letters.')
param actionGroupIds string[]

@description('Diagnostic settings of the topic, if one is created.')
param diagnosticSettings diagnosticSettingType[] = []

var isHost = subscription().subscriptionId == hostSubscriptionId
var makesTopic = empty(existingTopicId)
var existingParts = split(existingTopicId, '/')

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = if (!isHost && makesTopic) {
  name: resourceGroupName
  location: location
  tags: tags
}

module topic 'system-topic.bicep' = if (makesTopic) {
  name: 'patch-topic-${token}'
  scope: resourceGroup(resourceGroupName)
  params: {
    name: topicName
    tags: tags
    actionGroupIds: actionGroupIds
    diagnosticSettings: diagnosticSettings
  }
  dependsOn: [
    group
  ]
}

module existingTopic 'existing-topic.bicep' = if (!makesTopic) {
  name: 'patch-existing-topic-${token}'
  scope: resourceGroup(makesTopic ? resourceGroupName : existingParts[4])
  params: {
    name: last(existingParts)
  }
}

module deadLetterRole 'dead-letter-role.bicep' = if (assignDeadLetterRole) {
  name: 'patch-dead-letters-${uniqueString(subscription().id, token)}'
  scope: resourceGroup(hostSubscriptionId, hostResourceGroupName)
  params: {
    storageAccountName: storageAccountName
    containerName: deadLetterContainerName
    #disable-next-line what-if-short-circuiting // the name of an assignment derives from its principal
    principalId: makesTopic ? topic!.outputs.principalId : existingTopic!.outputs.principalId
  }
}

module queueRole 'event-queue-role.bicep' = if (assignDeadLetterRole && eventDelivery == 'queue') {
  name: 'patch-event-queue-${uniqueString(subscription().id, token)}'
  scope: resourceGroup(hostSubscriptionId, hostResourceGroupName)
  params: {
    storageAccountName: storageAccountName
    queueName: 'machine-events'
    #disable-next-line what-if-short-circuiting // the name of an assignment derives from its principal
    principalId: makesTopic ? topic!.outputs.principalId : existingTopic!.outputs.principalId
  }
}

module role 'patch-role.bicep' = if (assignPatchRole) {
  name: 'patch-role-${token}'
  params: {
    principalId: principalId
    suffix: token
    existingRoleId: patchRoleId
    scaleSets: scaleSets
    arcServers: arcServers
    startStopped: startStopped
  }
}

@description('Resource id of the system topic.')
output topicId string = makesTopic ? topic!.outputs.id : existingTopicId
