metadata name = 'Image Patcher'
metadata description = 'Phase 1: everything but the event subscriptions, which Azure takes only once the code is there (events.bicep).'

targetScope = 'subscription'

import { networkType, operatorType, settingsType, tagsType } from 'types.bicep'

// -- what it may do

@allowed([
  'off'
  'plan'
  'assess'
  'install'
])
@description('How much the app may do. There is no default: begin with assess.')
param mode string

@description('When installations may run, such as "Sat 22:00-02:00 Europe/Paris" (docs/windows.md). Mode install is refused without.')
param window string = ''

@description('The watched subscriptions. In each the app gets its role, and a system topic unless there is one.')
param subscriptionIds string[] = [
  subscription().subscriptionId
]

@description('Names of the management groups to look at instead of subscriptions. Role and topics then come from management-group/main.bicep.')
param managementGroupNames string[] = []

@description('Which machines are in scope: those created since the first deployment (first-deployment; deploying again never moves that time), all (always), or those created after an ISO time such as 2026-11-25T00:00:00Z.')
param createdAfter string = 'first-deployment'

@description('App settings without a parameter of their own.')
param settings settingsType = {}

@description('When the sweep runs, as an NCRONTAB expression.')
param sweepSchedule string = '0 */5 * * * *'

// -- where, and with what name

@minLength(1)
@maxLength(40)
@description('Name of this installation. Generated names are made of it, so another name gives a second installation.')
param environmentName string

@description('Region of everything that has one.')
@metadata({
  azd: {
    type: 'location'
  }
})
param location string = deployment().location

@maxLength(83)
@description('Resource group of the app. It is made if it is not there. Other watched subscriptions get one named after it, with -events at the end.')
param resourceGroupName string = 'rg-${environmentName}'

@description('Tags of everything that takes tags.')
param tags tagsType = {}

// -- with what

@allowed([
  512
  2048
  4096
])
@description('Memory of an instance, in MB.')
param instanceMemoryMB int = 2048

@minValue(40)
@maxValue(1000)
@description('How many instances there may be at once: what an event storm can cost at most. Flex Consumption takes no number below 40.')
param maximumInstanceCount int = 40

@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GZRS'
])
@description('Redundancy of the storage account. A region without availability zones has only Standard_LRS.')
param storageSkuName string = 'Standard_ZRS'

@description('Address ranges of a virtual network for the app, with private endpoints for its storage account. Without: none is made.')
param network networkType?

@description('DNS suffix of storage in this cloud, for the private DNS zones.')
param storageSuffix string = environment().suffixes.storage

@description('Resource ids of system topics that watched subscriptions have already: Azure allows one in each. It needs a system-assigned identity.')
param existingSystemTopicIds string[] = []

// -- what people see

@minValue(30)
@maxValue(730)
@description('How long logs are kept, in days. Auditors often ask for 400.')
param retentionInDays int = 90

@description('Where alerts are mailed to. Empty: they are shown in the portal only.')
param alertEmail string = ''

@description('Resource ids of action groups that are told of alerts too.')
param actionGroupIds string[] = []

// -- who may

@description('People who may look into the storage account, pause the app and close a breaker.')
param operators operatorType[] = []

@description('Whether roles are assigned. False for somebody who may not; somebody who may then deploys the same once more with true.')
param assignRoles bool = true

@minValue(1)
@maxValue(365)
@description('How long dead letters are kept, in days. They hold names and addresses of people.')
param deadLetterDays int = 30

// The app refuses this too; here it is said before anything is made.
var checkedWindow = mode == 'install' && empty(trim(window))
  ? fail('Mode install needs a window: set the parameter window, such as Sat 22:00-02:00 Europe/Paris, or any.')
  : window

var token = uniqueString(subscription().id, environmentName, location)
var allTags = union(tags, { 'azd-env-name': environmentName })
var names = {
  storageAccount: 'stpatch${token}'
  functionApp: 'func-patch-${token}'
  packageContainer: 'app-package'
  deadLetterContainer: 'dead-letters'
}
// What is not given is left out, so that the app takes its own default.
var appSettings = union(
  {
    PATCH_MODE: mode
    PATCH_SCOPE: join(empty(managementGroupNames) ? subscriptionIds : managementGroupNames, ',')
    PATCH_CREATED_AFTER: createdAfter
    RECONCILE_SCHEDULE: sweepSchedule
  },
  empty(checkedWindow) ? {} : { PATCH_WINDOW: checkedWindow },
  mapValues(settings, value => string(value))
)
var watched = empty(managementGroupNames) ? subscriptionIds : []

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: resourceGroupName
  location: location
  tags: allTags
}

module identity 'modules/identity.bicep' = {
  name: 'patch-identity-${token}'
  scope: group
  params: {
    name: 'id-patch-${token}'
    location: location
    tags: allTags
  }
}

module privateNetwork 'modules/network.bicep' = if (network != null) {
  name: 'patch-network-${token}'
  scope: group
  params: {
    token: token
    location: location
    tags: allTags
    network: network!
    storageSuffix: storageSuffix
  }
}

module storage 'modules/storage.bicep' = {
  name: 'patch-storage-${token}'
  scope: group
  params: {
    name: names.storageAccount
    location: location
    tags: allTags
    skuName: storageSkuName
    #disable-next-line what-if-short-circuiting // an assignment is named after whom it is for
    principalId: identity.outputs.principalId
    operators: operators
    assignRoles: assignRoles
    endpointSubnetId: privateNetwork.?outputs.endpointSubnetId ?? ''
    dnsZoneIds: privateNetwork.?outputs.dnsZoneIds ?? {}
    deadLetterDays: deadLetterDays
    packageContainerName: names.packageContainer
    deadLetterContainerName: names.deadLetterContainer
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'patch-monitoring-${token}'
  scope: group
  params: {
    token: token
    location: location
    tags: allTags
    retentionInDays: retentionInDays
    #disable-next-line what-if-short-circuiting // an assignment is named after whom it is for
    principalId: identity.outputs.principalId
    assignRoles: assignRoles
    alertEmail: alertEmail
    actionGroupIds: actionGroupIds
  }
}

module watchedSubscriptions 'modules/watched-subscription.bicep' = [
  for id in watched: {
    name: 'patch-watched-${uniqueString(id, token)}'
    scope: subscription(id)
    params: {
      location: location
      tags: allTags
      resourceGroupName: id == subscription().subscriptionId ? group.name : '${group.name}-events'
      token: token
      hostSubscriptionId: subscription().subscriptionId
      hostResourceGroupName: group.name
      storageAccountName: names.storageAccount
      deadLetterContainerName: names.deadLetterContainer
      assignPatchRole: assignRoles
      #disable-next-line what-if-short-circuiting // an assignment is named after whom it is for
      principalId: identity.outputs.principalId
      assignDeadLetterRole: assignRoles
      existingTopicId: first(filter(
        existingSystemTopicIds,
        topic => startsWith(toLower(topic), toLower('/subscriptions/${id}/'))
      )) ?? ''
      actionGroupIds: monitoring.outputs.actionGroupIds
    }
    dependsOn: [
      storage
    ]
  }
]

module app 'modules/function-app.bicep' = {
  name: 'patch-app-${token}'
  scope: group
  params: {
    name: names.functionApp
    planName: 'asp-patch-${token}'
    location: location
    tags: allTags
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    storageAccountName: names.storageAccount
    packageContainerName: names.packageContainer
    insightsConnectionString: monitoring.outputs.connectionString
    subnetId: privateNetwork.?outputs.appSubnetId ?? ''
    settings: appSettings
  }
  dependsOn: [
    storage
  ]
}

@description('Resource group of the app.')
output AZURE_RESOURCE_GROUP string = group.name

@description('Name of the function app.')
output AZURE_FUNCTION_APP_NAME string = app.outputs.name

@description('Name of the storage account.')
output STORAGE_ACCOUNT_NAME string = names.storageAccount

@description('Resource ids of the system topics: what events.bicep is told.')
output SYSTEM_TOPIC_IDS string[] = [for (id, index) in watched: watchedSubscriptions[index].outputs.topicId]

@description('Object id of the identity of the app: what management-group/main.bicep is told.')
output IDENTITY_PRINCIPAL_ID string = identity.outputs.principalId

@description('Resource ids of the action groups that are told of alerts: what management-group/main.bicep may be told.')
output ACTION_GROUP_IDS string[] = monitoring.outputs.actionGroupIds

@description('Name of the Log Analytics workspace.')
output WORKSPACE_NAME string = monitoring.outputs.workspaceName
