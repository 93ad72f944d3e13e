metadata name = 'Image Patcher'
metadata description = 'Phase 1: all resources except the event subscriptions, which Azure accepts only after the code is published (events.bicep).'

targetScope = 'subscription'

import { diagnosticSettingType, dnsZoneIdsType, namesType, networkType, operatorType, settingsType, tagsType } from 'types.bicep'

// -- mode and scope

@allowed([
  'off'
  'plan'
  'assess'
  'install'
])
@description('How much the app may do. It has no default: begin with assess.')
param mode string

@description('When installations may run, such as "Sat 22:00-02:00 Europe/Paris" (docs/windows.md). Mode install requires it.')
param window string = ''

@description('The watched subscriptions. In each, the app gets its role, and a system topic is created if there is none.')
param subscriptionIds string[] = [
  subscription().subscriptionId
]

@description('Names of management groups to watch instead of subscriptions. management-group/main.bicep then creates role and topics.')
param managementGroupNames string[] = []

@description('Which machines are in scope: those created since the first deployment (first-deployment; a later deployment never moves that time), all (always), or those created after an ISO time such as 2026-11-25T00:00:00Z.')
param createdAfter string = 'first-deployment'

@description('App settings that have no parameter of their own.')
param settings settingsType = {}

@description('When the sweep runs, as an NCRONTAB expression.')
param sweepSchedule string = '0 */5 * * * *'

// -- naming and location

@minLength(1)
@maxLength(40)
@description('Name of this installation. Generated names derive from it, so another name creates a second installation.')
param environmentName string

@description('Region of all regional resources.')
@metadata({
  azd: {
    type: 'location'
  }
})
param location string = deployment().location

@maxLength(83)
@description('Resource group of the app, created if missing. Each other watched subscription gets a resource group of this name with -events appended. Empty: rg-<environmentName>.')
param resourceGroupName string = ''

@description('Names of resources. One that is not given is generated.')
param names namesType = {}

@description('Tags of all resources that support tags.')
param tags tagsType = {}

// -- sizing, storage and network

@allowed([
  512
  2048
  4096
])
@description('Memory of an instance, in MB.')
param instanceMemoryMB int = 2048

@minValue(1)
@maxValue(1000)
@description('Maximum number of on-demand instances of each function; the app has eight. It limits the cost of an event storm. Some regions accept no value below 40.')
param maximumInstanceCount int = 40

@description('Whether instances are spread over availability zones. Azure then keeps two instances of each function that is always ready.')
param zoneRedundant bool = false

@allowed([
  'Recreate'
  'RollingUpdate'
])
@description('How a deployment replaces instances: all at once, or one after another (preview).')
param siteUpdateStrategy string = 'Recreate'

@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GZRS'
])
@description('Redundancy of the storage account. A region without availability zones has no Standard_ZRS and no Standard_GZRS.')
param storageSkuName string = 'Standard_ZRS'

@description('Address ranges of a virtual network for the app, with private endpoints for its storage account. If omitted, no network is created.')
param network networkType = {}

@description('DNS suffix of storage, for the private DNS zones. Empty: that of this cloud.')
param storageSuffix string = ''

@description('Resource id of an existing subnet for the app, instead of network. It is delegated to Microsoft.App/environments and used by no other app.')
param appSubnetId string = ''

@description('Resource id of an existing subnet for the private endpoints of the storage account. It needs appSubnetId.')
param endpointSubnetId string = ''

@description('Existing private DNS zones for these endpoints.')
param dnsZoneIds dnsZoneIdsType = {}

@description('Address ranges (CIDR) that may publish code to an app with a subnet. Empty: none may, until you name one. Without a subnet every address may, by identity.')
param publishFrom string[] = []

@allowed([
  'function'
  'queue'
])
@description('Where Event Grid delivers events: to the function, over the internet; or to a queue of the storage account, as a trusted service, and then no address may call the app (docs/deploy.md).')
param eventDelivery string = 'function'

@description('Resource ids of existing system topics of watched subscriptions: Azure allows one per subscription. Each needs a system-assigned identity.')
param existingSystemTopicIds string[] = []

// -- monitoring

@minValue(30)
@maxValue(730)
@description('Log retention in days, in a workspace of its own. Auditors often ask for 400.')
param retentionInDays int = 90

@description('Resource id of an existing Log Analytics workspace. Empty: one is created. A workspace holds the journal of one installation.')
param workspaceId string = ''

@description('Mail address for alerts. It has no default; empty: alerts appear in the portal only.')
param alertEmail string

@description('Resource ids of additional action groups that alerts notify.')
param actionGroupIds string[] = []

@description('Address of the folder docs of your copy of this repository, to which the workbook links from what needs a person, such as https://github.com/you/image-patcher/blob/main/docs. Empty: no links.')
param documentsUrl string = ''

@minValue(0)
@maxValue(100)
@description('How many percent of the machines may miss a patch for longer than PATCH_SLA_DAYS before an alert fires.')
param latePercent int = 10

@description('Resource id of an existing Event Grid topic that gets notices for other programs (docs/notices.md). Empty: no notices.')
param noticesTopicId string = ''

// -- access

@description('Diagnostic settings of the storage account, the app and the system topics. Empty: who changes data of the storage account, or reads its blobs, is logged in the workspace.')
param diagnosticSettings diagnosticSettingType[] = []

@description('Principals that may read dead letters and messages, pause the app and close a breaker. It has no default; [] for none.')
param operators operatorType[]

@description('Whether to assign roles. That requires Owner, or Contributor with User Access Administrator. Without that right deploy with false; an administrator then deploys the same with true.')
param assignRoles bool = true

@description('Id (GUID or resource id) of a role that an administrator created for the app. Empty: the role is created. With it, Role Based Access Control Administrator suffices beside Contributor.')
param patchRoleId string = ''

@allowed([
  'None'
  'CanNotDelete'
])
@description('Lock of the resource group of the app.')
param lock string = 'None'

@minValue(1)
@maxValue(365)
@description('Retention of dead letters in days, to which a week of soft deletion is added. They contain names and addresses of people.')
param deadLetterDays int = 30

// The app refuses this too. The check here fails before any resource is created.
var checkedWindow = mode == 'install' && empty(trim(window))
  ? fail('Mode install needs a window: set the parameter window, such as Sat 22:00-02:00 Europe/Paris, or any.')
  : window

var checkedEndpointSubnetId = !empty(endpointSubnetId) && empty(appSubnetId)
  ? fail('endpointSubnetId needs appSubnetId: without a subnet the app does not reach a private endpoint.')
  : endpointSubnetId
var newNetwork = empty(network)
  ? network
  : !empty(appSubnetId)
      ? fail('Give either network or appSubnetId: the one creates a network, the other uses an existing one.')
      : length(items(network)) == 3
          ? network
          : fail('network needs addressPrefix, appSubnetPrefix and endpointSubnetPrefix.')

var token = uniqueString(subscription().id, environmentName, location)
var allTags = union(tags, { 'azd-env-name': environmentName })
var packageContainer = 'app-package'
var deadLetterContainer = 'dead-letters'
var finalNames = {
  storageAccount: names.?storageAccount ?? 'stpatch${token}'
  functionApp: names.?functionApp ?? 'func-patch-${token}'
  plan: names.?plan ?? 'asp-patch-${token}'
  identity: names.?identity ?? 'id-patch-${token}'
  workspace: names.?workspace ?? 'log-patch-${token}'
  applicationInsights: names.?applicationInsights ?? 'appi-patch-${token}'
  actionGroup: names.?actionGroup ?? 'ag-patch-${token}'
  virtualNetwork: names.?virtualNetwork ?? 'vnet-patch-${token}'
  systemTopic: names.?systemTopic ?? 'evgst-patch-${token}'
}
// A setting that is not given is omitted, so the app uses its own default.
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
  name: empty(resourceGroupName) ? 'rg-${environmentName}' : resourceGroupName
  location: location
  tags: allTags
}

module identity 'modules/identity.bicep' = {
  name: 'patch-identity-${token}'
  scope: group
  params: {
    name: finalNames.identity
    location: location
    tags: allTags
  }
}

module privateNetwork 'modules/network.bicep' = if (!empty(newNetwork)) {
  name: 'patch-network-${token}'
  scope: group
  params: {
    token: token
    name: finalNames.virtualNetwork
    location: location
    tags: allTags
    network: newNetwork
    storageSuffix: empty(storageSuffix) ? environment().suffixes.storage : storageSuffix
  }
}

module storage 'modules/storage.bicep' = {
  name: 'patch-storage-${token}'
  scope: group
  params: {
    name: finalNames.storageAccount
    location: location
    tags: allTags
    skuName: storageSkuName
    #disable-next-line what-if-short-circuiting // the name of an assignment derives from its principal
    principalId: identity.outputs.principalId
    operators: operators
    assignRoles: assignRoles
    endpointSubnetId: privateNetwork.?outputs.endpointSubnetId ?? checkedEndpointSubnetId
    dnsServices: empty(newNetwork) ? map(items(dnsZoneIds), zone => zone.key) : ['blob', 'queue', 'table']
    dnsZoneIds: privateNetwork.?outputs.dnsZoneIds ?? dnsZoneIds
    deadLetterDays: deadLetterDays
    packageContainerName: packageContainer
    deadLetterContainerName: deadLetterContainer
    auditWorkspaceId: monitoring.outputs.workspaceId
    diagnosticSettings: diagnosticSettings
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'patch-monitoring-${token}'
  scope: group
  params: {
    token: token
    location: location
    tags: allTags
    workspaceId: workspaceId
    workspaceName: finalNames.workspace
    insightsName: finalNames.applicationInsights
    actionGroupName: finalNames.actionGroup
    functionAppName: finalNames.functionApp
    retentionInDays: retentionInDays
    #disable-next-line what-if-short-circuiting // the name of an assignment derives from its principal
    principalId: identity.outputs.principalId
    assignRoles: assignRoles
    alertEmail: alertEmail
    actionGroupIds: actionGroupIds
    latePercent: latePercent
    documentsUrl: documentsUrl
  }
}

// With diagnosticSettings the log of the storage account may be elsewhere.
module auditAlerts 'modules/audit-alerts.bicep' = if (empty(diagnosticSettings)) {
  name: 'patch-audit-${token}'
  scope: group
  params: {
    token: token
    location: location
    tags: allTags
    workspaceId: monitoring.outputs.workspaceId
    ownWorkspace: empty(workspaceId)
    storageAccountName: finalNames.storageAccount
    packageContainerName: packageContainer
    principalId: identity.outputs.principalId
    actionGroupIds: monitoring.outputs.actionGroupIds
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
      topicName: finalNames.systemTopic
      hostSubscriptionId: subscription().subscriptionId
      hostResourceGroupName: group.name
      storageAccountName: finalNames.storageAccount
      deadLetterContainerName: deadLetterContainer
      assignPatchRole: assignRoles
      patchRoleId: patchRoleId
      #disable-next-line what-if-short-circuiting // the name of an assignment derives from its principal
      principalId: identity.outputs.principalId
      scaleSets: settings.?PATCH_SCALE_SETS == 'include'
      arcServers: settings.?PATCH_ARC == 'on'
      startStopped: !contains(['off', '0', '0%', ''], toLower(settings.?PATCH_START_STOPPED ?? 'off'))
      assignDeadLetterRole: assignRoles
      eventDelivery: eventDelivery
      existingTopicId: first(filter(
        existingSystemTopicIds,
        topic => startsWith(toLower(topic), toLower('/subscriptions/${id}/'))
      )) ?? ''
      actionGroupIds: monitoring.outputs.actionGroupIds
      diagnosticSettings: diagnosticSettings
    }
    dependsOn: [
      storage
    ]
  }
]

module noticesTopic 'modules/notices-topic.bicep' = if (!empty(noticesTopicId)) {
  name: 'patch-notices-${token}'
  scope: resourceGroup(split(noticesTopicId, '/')[?2] ?? '', split(noticesTopicId, '/')[?4] ?? '')
  params: {
    name: last(split(noticesTopicId, '/'))
    #disable-next-line what-if-short-circuiting // the name of an assignment derives from its principal
    principalId: identity.outputs.principalId
    assignRole: assignRoles
  }
}

module app 'modules/function-app.bicep' = {
  name: 'patch-app-${token}'
  scope: group
  params: {
    name: finalNames.functionApp
    planName: finalNames.plan
    location: location
    tags: allTags
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    zoneRedundant: zoneRedundant
    siteUpdateStrategy: siteUpdateStrategy
    diagnosticSettings: diagnosticSettings
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    storageAccountName: finalNames.storageAccount
    packageContainerName: packageContainer
    insightsConnectionString: monitoring.outputs.connectionString
    subnetId: privateNetwork.?outputs.appSubnetId ?? appSubnetId
    publishFrom: publishFrom
    eventDelivery: eventDelivery
    settings: union(empty(noticesTopicId) ? {} : { PATCH_NOTICES: noticesTopic!.outputs.endpoint }, appSettings)
  }
  dependsOn: [
    storage
  ]
}

// Last, so that no step of the deployment meets it.
module groupLock 'modules/lock.bicep' = if (lock != 'None') {
  name: 'patch-lock-${token}'
  scope: group
  params: {
    kind: lock
  }
  dependsOn: [
    app
    watchedSubscriptions
  ]
}

@description('Resource group of the app.')
output AZURE_RESOURCE_GROUP string = group.name

@description('Name of the function app.')
output AZURE_FUNCTION_APP_NAME string = app.outputs.name

@description('Name of the storage account.')
output STORAGE_ACCOUNT_NAME string = finalNames.storageAccount

@description('Resource ids of the system topics. Pass them to events.bicep.')
output SYSTEM_TOPIC_IDS string[] = [for (id, index) in watched: watchedSubscriptions[index].outputs.topicId]

@description('Whether the app patches Arc-enabled servers (PATCH_ARC=on). Pass it to events.bicep.')
output ARC_SERVERS bool = settings.?PATCH_ARC == 'on'

@description('Where Event Grid delivers events. Pass it to events.bicep.')
output EVENT_DELIVERY string = eventDelivery

@description('Object id of the identity of the app. Pass it to management-group/main.bicep.')
output IDENTITY_PRINCIPAL_ID string = identity.outputs.principalId

@description('Resource ids of the action groups that alerts notify. Pass them to management-group/main.bicep if dead letters should notify them too.')
output ACTION_GROUP_IDS string[] = monitoring.outputs.actionGroupIds

@description('Whom alerts notify.')
output ALERTS_NOTIFY string = empty(alertEmail) && empty(actionGroupIds)
  ? 'no recipient: set alertEmail (azd: PATCH_ALERT_EMAIL) or actionGroupIds, and deploy again'
  : 'the action groups of ACTION_GROUP_IDS'

@description('Name of the Log Analytics workspace.')
output WORKSPACE_NAME string = monitoring.outputs.workspaceName
