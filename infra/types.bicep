metadata name = 'Types'
metadata description = 'Types that parameters of several files share.'

@export()
@description('Resource tags.')
type tagsType = {
  @description('The value of the tag with this name.')
  *: string
}

@export()
@sealed()
@description('Address ranges of the virtual network that is created for the app: all three, or none.')
type networkType = {
  @description('Address range of the whole network.')
  addressPrefix: string?

  @description('Address range of the app subnet, which is delegated to Microsoft.App/environments. At least a /27.')
  appSubnetPrefix: string?

  @description('Address range of the subnet for the private endpoints of the storage account.')
  endpointSubnetPrefix: string?
}

@export()
@sealed()
@description('Resource ids of existing private DNS zones for the storage account. Without one, something else, such as a policy, registers the name of that endpoint.')
type dnsZoneIdsType = {
  @description('Zone privatelink.blob.<suffix>.')
  blob: string?

  @description('Zone privatelink.queue.<suffix>.')
  queue: string?

  @description('Zone privatelink.table.<suffix>.')
  table: string?
}

@export()
@sealed()
@description('Names of resources, where a naming policy asks for other names than the generated ones.')
type namesType = {
  @description('Function app. It is part of a host name, so it must be unique in Azure.')
  functionApp: string?

  @description('Plan of the function app.')
  plan: string?

  @description('Storage account: 3 to 24 lower-case letters and digits, unique in Azure.')
  storageAccount: string?

  @description('Identity of the app.')
  identity: string?

  @description('Log Analytics workspace.')
  workspace: string?

  @description('Application Insights.')
  applicationInsights: string?

  @description('Action group.')
  actionGroup: string?

  @description('Virtual network.')
  virtualNetwork: string?

  @description('System topics.')
  systemTopic: string?
}

@export()
@description('Where the logs of the storage account, the app and the system topics go. Azure wants at least one destination.')
type diagnosticSettingType = {
  @description('Name of the setting.')
  name: string?

  @description('Resource id of a Log Analytics workspace.')
  workspaceResourceId: string?

  @description('Resource id of a storage account.')
  storageAccountResourceId: string?

  @description('Resource id of an authorization rule of an event hub namespace.')
  eventHubAuthorizationRuleResourceId: string?

  @description('Name of the event hub.')
  eventHubName: string?
}

@export()
@description('A principal that may read dead letters and messages, pause the app and close a breaker (docs/stop.md).')
type operatorType = {
  @description('Object id.')
  principalId: string

  @description('Kind of the principal.')
  principalType: 'Group' | 'ServicePrincipal' | 'User'
}

@export()
@sealed()
@description('''App settings that have no parameter of their own. docs/settings.md explains each and its default. A setting that is not
given is omitted, and the app uses its default.''')
type settingsType = {
  @description('Customized images only, or marketplace images too.')
  PATCH_IMAGES: ('custom' | 'all')?

  @description('Whether the app patches members of Flexible scale sets, where their set neither repairs nor upgrades them.')
  PATCH_SCALE_SETS: ('leave' | 'include')?

  @description('Whether the app assesses and patches Arc-enabled servers. Azure charges for each one that is assessed.')
  PATCH_ARC: ('on' | 'off')?

  @description('How many stopped machines the app may have running at once: started in their window, patched, stopped again. The role then has the two actions for it.')
  PATCH_START_STOPPED: string?

  @description('Whether the app also installs on machines that a maintenance configuration patches.')
  PATCH_SCHEDULED: ('leave' | 'include')?

  @description('Which patches to install, separated by commas.')
  PATCH_CLASSIFICATIONS: string?

  @description('KB numbers or package masks to install in addition to the classifications, separated by commas.')
  PATCH_PACKAGES_INCLUDE: string?

  @description('KB numbers or package masks that are never installed, separated by commas.')
  PATCH_PACKAGES_EXCLUDE: string?

  @description('The reboot setting of every installation.')
  PATCH_REBOOT: ('IfRequired' | 'Never' | 'Always')?

  @description('How long an installation may take, PT30M to PT3H55M.')
  PATCH_MAX_DURATION: string?

  @description('Days on which no installation runs (docs/windows.md).')
  PATCH_BLACKOUT: string?

  @description('When canaries may be installed instead of in PATCH_WINDOW (docs/windows.md).')
  PATCH_CANARY_WINDOW: string?

  @minValue(0)
  @maxValue(720)
  @description('The first installation on a machine of at most this age, in hours, does not wait for the window.')
  PATCH_FIRST_HOURS: int?

  @description('The reboot setting of an installation outside the window, by PATCH_FIRST_HOURS.')
  PATCH_FIRST_REBOOT: ('Never' | 'IfRequired')?

  @minValue(0)
  @maxValue(10080)
  @description('Minimum age of a machine before an installation, in minutes.')
  PATCH_MIN_AGE_MINUTES: int?

  @minValue(0)
  @maxValue(10080)
  @description('Minimum age of a machine before an assessment, in minutes.')
  PATCH_ASSESS_AFTER_MINUTES: int?

  @minValue(1)
  @maxValue(160)
  @description('Every machine is assessed at least this often, in hours; to be installed, at least daily while its window is open or opens within a day.')
  PATCH_ASSESS_HOURS: int?

  @minValue(1)
  @maxValue(160)
  @description('Maximum age of a support state at an installation, in hours.')
  PATCH_FRESH_HOURS: int?

  @minValue(1)
  @maxValue(160)
  @description('At most one installation of a machine in this time, in hours; while they fail, two more.')
  PATCH_MIN_INTERVAL_HOURS: int?

  @description('Installations in flight at once in the fleet: a count, or percent of the machines, such as 10%.')
  PATCH_MAX_IN_FLIGHT: string?

  @description('Installations in flight at once on machines of one image version: a count, or percent of the machines, such as 10%.')
  PATCH_MAX_PER_IMAGE: string?

  @description('How far a member of a patch-group that is off or unhealthy holds back the others.')
  PATCH_GROUP_SCOPE: ('resource-group' | 'subscription')?

  @minValue(0)
  @maxValue(100)
  @description('How many machines of an image go first in each rollout.')
  PATCH_CANARIES: int?

  @description('The machines that may be canaries: resource ids of machines or resource groups, or masks of names, by commas.')
  PATCH_CANARY_MACHINES: string?

  @description('Whose machines prove and stop an image for each other.')
  PATCH_ROLLOUT_SCOPE: ('subscription' | 'owner' | 'fleet')?

  @minValue(0)
  @maxValue(43200)
  @description('How long canaries, and then each ring, are watched before the next ring starts, in minutes.')
  PATCH_BAKE_MINUTES: int?

  @minValue(0)
  @maxValue(100)
  @description('How many installations of the previous rings must have succeeded, in percent.')
  PATCH_SUCCESS_PERCENT: int?

  @description('The number of machines of one image whose failures stop its installations, such as 3 in 7 days.')
  PATCH_BREAKER: string?

  @minValue(1)
  @maxValue(90)
  @description('How long a rollout lasts at least, in days. It ends when every ring has had its turn.')
  PATCH_ROLLOUT_DAYS: int?

  @description('While on, the app starts nothing new.')
  PATCH_PAUSE: ('off' | 'on')?

  @minValue(1)
  @maxValue(100)
  @description('The share of the quota of patch calls that sweeps may use, in percent.')
  PATCH_PACE_PERCENT: int?

  @minValue(1)
  @maxValue(1440)
  @description('The first wait after a transient failure, in minutes.')
  PATCH_RETRY_MINUTES: int?

  @minValue(1)
  @maxValue(60)
  @description('The first wait for a machine that is still being built, in minutes.')
  PATCH_READY_MINUTES: int?

  @description('Within how many days a Critical or Security patch should be installed, for the compliance report.')
  PATCH_SLA_DAYS: string?

  @description('The tag that names the owner of a machine, for the compliance report.')
  PATCH_OWNER_TAG: string?

  @description('Endpoint of an Event Grid topic that gets notices. The parameter noticesTopicId sets it and assigns the role.')
  PATCH_NOTICES: string?

  @minValue(0)
  @maxValue(1440)
  @description('How long before its call an installation is announced to the topic of notices, in minutes; 0: it is not announced.')
  PATCH_NOTICE_MINUTES: int?

  @description('Address of Azure Resource Manager in a sovereign cloud, without a slash at the end.')
  ARM_ENDPOINT: string?

  @description('Version of the interface of Microsoft.Compute, in a cloud that does not have the usual one yet.')
  ARM_COMPUTE_VERSION: string?

  @description('What the app accepts as ARM_ENDPOINT and PATCH_NOTICES: Azure\'s own clouds, or any address. Its tokens go there.')
  ARM_ENDPOINT_ALLOW: ('known' | 'custom')?

  @description('Whether the app uses HTTP(S)_PROXY.')
  PATCH_USE_PROXY: ('off' | 'on')?
}

@export()
@description('The properties of a diagnostic setting: all logs to these destinations.')
func diagnosticProperties(setting diagnosticSettingType) resourceInput<'Microsoft.Insights/diagnosticSettings@2021-05-01-preview'>.properties => {
  workspaceId: setting.?workspaceResourceId
  storageAccountId: setting.?storageAccountResourceId
  eventHubAuthorizationRuleId: setting.?eventHubAuthorizationRuleResourceId
  eventHubName: setting.?eventHubName
  logs: [
    {
      categoryGroup: 'allLogs'
      enabled: true
    }
  ]
}
