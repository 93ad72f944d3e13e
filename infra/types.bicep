metadata name = 'Types'
metadata description = 'The types that parameters of several files share.'

@export()
@description('Resource tags.')
type tagsType = {
  @description('The value of the tag of this name.')
  *: string
}

@export()
@description('Address ranges of the virtual network that is made for the app.')
type networkType = {
  @description('Of the whole network.')
  addressPrefix: string

  @description('Of the subnet that the app works from; it is delegated to Microsoft.App/environments. At least a /27.')
  appSubnetPrefix: string

  @description('Of the subnet with the private endpoints of the storage account.')
  endpointSubnetPrefix: string
}

@export()
@description('Somebody who may look into the storage account, pause the app and close a breaker (docs/stop.md).')
type operatorType = {
  @description('Object id.')
  principalId: string

  @description('What the object id is of.')
  principalType: 'Group' | 'ServicePrincipal' | 'User'
}

@export()
@sealed()
@description('''App settings that have no parameter of their own, by the names of docs/settings.md, which says what each means and
its default. One that is not given is left out, and the app takes its default.''')
type settingsType = {
  @description('Customized images only, or marketplace images too.')
  PATCH_IMAGES: ('custom' | 'all')?

  @description('Whether machines that a maintenance configuration patches are installed here too.')
  PATCH_SCHEDULED: ('leave' | 'include')?

  @description('Which patches to install, separated by commas.')
  PATCH_CLASSIFICATIONS: string?

  @description('KB numbers or package masks that are installed besides the classifications, separated by commas.')
  PATCH_PACKAGES_INCLUDE: string?

  @description('KB numbers or package masks that are never installed, separated by commas.')
  PATCH_PACKAGES_EXCLUDE: string?

  @description('The reboot setting of every installation.')
  PATCH_REBOOT: ('IfRequired' | 'Never' | 'Always')?

  @description('How long an installation may take, PT30M to PT3H55M.')
  PATCH_MAX_DURATION: string?

  @description('Days on which no installation runs (docs/windows.md).')
  PATCH_BLACKOUT: string?

  @minValue(0)
  @maxValue(720)
  @description('The first patching of a machine of at most so many hours need not wait for the window.')
  PATCH_FIRST_HOURS: int?

  @minValue(0)
  @maxValue(10080)
  @description('No installation before a machine has this age, in minutes.')
  PATCH_MIN_AGE_MINUTES: int?

  @minValue(0)
  @maxValue(10080)
  @description('No assessment before a machine has this age, in minutes.')
  PATCH_ASSESS_AFTER_MINUTES: int?

  @minValue(1)
  @maxValue(160)
  @description('How old a support state may be at an installation, in hours.')
  PATCH_FRESH_HOURS: int?

  @minValue(1)
  @maxValue(160)
  @description('At most one installation, and at least one assessment, of a machine in so many hours.')
  PATCH_MIN_INTERVAL_HOURS: int?

  @minValue(0)
  @maxValue(10000)
  @description('Installations under way at once in the fleet.')
  PATCH_MAX_IN_FLIGHT: int?

  @minValue(1)
  @maxValue(10000)
  @description('Installations under way at once on machines of one image version.')
  PATCH_MAX_PER_IMAGE: int?

  @minValue(0)
  @maxValue(100)
  @description('How many machines of an image prove each round before the others.')
  PATCH_CANARIES: int?

  @minValue(0)
  @maxValue(43200)
  @description('How long canaries, and then each ring, are watched before the next goes, in minutes.')
  PATCH_BAKE_MINUTES: int?

  @minValue(0)
  @maxValue(100)
  @description('How many installations of the rings before must have succeeded, in percent.')
  PATCH_SUCCESS_PERCENT: int?

  @description('So many failures of one image stop its installations, such as 3 in 7 days.')
  PATCH_BREAKER: string?

  @minValue(1)
  @maxValue(90)
  @description('How long what canaries and rings proved holds, in days.')
  PATCH_ROLLOUT_DAYS: int?

  @description('No new call while on.')
  PATCH_PAUSE: ('off' | 'on')?

  @minValue(1)
  @maxValue(100)
  @description('The share of the quota of patch calls that sweeps may use, in percent.')
  PATCH_PACE_PERCENT: int?

  @minValue(1)
  @maxValue(1440)
  @description('The first wait after a passing failure, in minutes.')
  PATCH_RETRY_MINUTES: int?

  @minValue(1)
  @maxValue(60)
  @description('The first wait for a machine that is still being built, in minutes.')
  PATCH_READY_MINUTES: int?

  @minValue(1)
  @maxValue(3650)
  @description('Within how many days a machine should be patched, for the compliance report.')
  PATCH_SLA_DAYS: int?

  @description('The tag that names the owner of a machine, for the compliance report.')
  PATCH_OWNER_TAG: string?

  @description('Address of Azure Resource Manager in a sovereign cloud, without a slash at the end.')
  ARM_ENDPOINT: string?

  @description('Whether HTTP(S)_PROXY is honoured.')
  PATCH_USE_PROXY: ('off' | 'on')?
}
