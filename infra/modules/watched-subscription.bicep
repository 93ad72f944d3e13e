metadata name = 'Watched subscription'
metadata description = 'What is made in each subscription whose machines are watched: a system topic (unless there is one), and the role of the app.'

targetScope = 'subscription'

import { tagsType } from '../types.bicep'

@description('Region of the resource group.')
param location string

@description('Tags.')
param tags tagsType

@description('Name of the resource group for the topic. In the subscription of the app it is that of the app.')
param resourceGroupName string

@description('Part of every generated name.')
param token string

@description('Subscription of the app.')
param hostSubscriptionId string

@description('Resource group of the app.')
param hostResourceGroupName string

@description('Name of the storage account of the app.')
param storageAccountName string

@description('Name of the container for dead letters.')
param deadLetterContainerName string

@description('Whether the app is given its role here. False where it has it from a management group.')
param assignPatchRole bool

@description('Object id of the identity of the app.')
param principalId string

@description('Whether the identity of the topic is given the right to write dead letters.')
param assignDeadLetterRole bool

@description('Resource id of the system topic that this subscription has already; empty: one is made.')
param existingTopicId string

@description('Resource ids of the action groups that are told of dead letters.')
param actionGroupIds string[]

var isHost = subscription().subscriptionId == hostSubscriptionId
var makesTopic = empty(existingTopicId)
var existingParts = split(existingTopicId, '/')
var topicName = 'evgst-patch-${token}'

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
    #disable-next-line what-if-short-circuiting // an assignment is named after whom it is for
    principalId: makesTopic ? topic!.outputs.principalId : existingTopic!.outputs.principalId
  }
}

module role 'patch-role.bicep' = if (assignPatchRole) {
  name: 'patch-role-${token}'
  params: {
    principalId: principalId
    suffix: token
  }
}

@description('Resource id of the system topic.')
output topicId string = makesTopic ? topic!.outputs.id : existingTopicId
