metadata name = 'Image Patcher for a management group'
metadata description = 'Between phases 1 and 2: creates the role of the app once, at a management group, and a system topic in each subscription below it whose events the app should receive.'

targetScope = 'managementGroup'

import { tagsType } from '../types.bicep'

@description('Name of the installation, as given to main.bicep.')
param environmentName string

@description('Region of the resource groups.')
param location string = deployment().location

@description('Tags of all resources that support tags.')
param tags tagsType = {}

@description('Subscription of the app.')
param hostSubscriptionId string

@description('Resource group of the app.')
param hostResourceGroupName string

@description('Name of the storage account of the app, for dead letters.')
param storageAccountName string

@description('Object id of the identity of the app.')
param principalId string

@description('Id (GUID or resource id) of a role that an administrator created at the management group. Empty: it is created.')
param patchRoleId string = ''

@description('Whether the app patches members of scale sets (PATCH_SCALE_SETS=include): it then reads their scale sets.')
param scaleSets bool = false

@description('Whether the app patches Arc-enabled servers (PATCH_ARC=on): it then reads them, and assesses and patches them.')
param arcServers bool = false

@description('Whether the app starts stopped machines to patch them (PATCH_START_STOPPED): it then starts and deallocates machines.')
param startStopped bool = false

@description('Subscriptions whose events the app receives. The sweep finds machines of other subscriptions, minutes later.')
param subscriptionIds string[]

@description('Where Event Grid delivers events, as given to main.bicep.')
param eventDelivery 'function' | 'queue' = 'function'

@description('Resource ids of existing system topics of these subscriptions: Azure allows one per subscription. Each needs a system-assigned identity.')
param existingSystemTopicIds string[] = []

@description('Resource ids of the action groups to notify of dead letters.')
param actionGroupIds string[] = []

var token = uniqueString(hostSubscriptionId, environmentName, storageAccountName)
var allTags = union(tags, { 'azd-env-name': environmentName })

var roleId = empty(patchRoleId)
  ? role.id
  : managementGroupResourceId('Microsoft.Authorization/roleDefinitions', last(split(patchRoleId, '/')))

// A custom role may name only one management group, and may have no data actions there.
resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (empty(patchRoleId)) {
  name: guid(managementGroup().id, 'image-patcher', token)
  properties: {
    roleName: 'Image Patcher (${uniqueString(managementGroup().id, token)})'
    description: 'Read virtual machines and their patch state, assess and install patches. Nothing else.'
    type: 'CustomRole'
    assignableScopes: [
      managementGroup().id
    ]
    permissions: [
      {
        actions: concat(
          loadJsonContent('../patch-actions.json'),
          scaleSets ? loadJsonContent('../scale-set-actions.json') : [],
          arcServers ? loadJsonContent('../arc-actions.json') : [],
          startStopped ? loadJsonContent('../start-stopped-actions.json') : []
        )
        notActions: []
      }
    ]
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(managementGroup().id, principalId, roleId)
  properties: {
    roleDefinitionId: roleId
    principalId: principalId
    principalType: 'ServicePrincipal'
    description: 'Image Patcher'
  }
}

module watchedSubscriptions '../modules/watched-subscription.bicep' = [
  for id in subscriptionIds: {
    name: 'patch-watched-${uniqueString(id, token)}'
    scope: subscription(id)
    params: {
      location: location
      tags: allTags
      resourceGroupName: id == hostSubscriptionId ? hostResourceGroupName : '${hostResourceGroupName}-events'
      token: token
      topicName: 'evgst-patch-${token}'
      hostSubscriptionId: hostSubscriptionId
      hostResourceGroupName: hostResourceGroupName
      storageAccountName: storageAccountName
      deadLetterContainerName: 'dead-letters'
      assignPatchRole: false
      principalId: principalId
      assignDeadLetterRole: true
      eventDelivery: eventDelivery
      existingTopicId: first(filter(
        existingSystemTopicIds,
        topic => startsWith(toLower(topic), toLower('/subscriptions/${id}/'))
      )) ?? ''
      actionGroupIds: actionGroupIds
    }
  }
]

@description('Resource ids of the system topics. Pass them to events.bicep.')
output SYSTEM_TOPIC_IDS string[] = [for (id, index) in subscriptionIds: watchedSubscriptions[index].outputs.topicId]
