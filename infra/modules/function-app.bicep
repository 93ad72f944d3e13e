metadata name = 'Function app'
metadata description = 'The app on Flex Consumption, with its settings. Its identity already has all its roles.'

import { diagnosticProperties, diagnosticSettingType, tagsType } from '../types.bicep'

@maxLength(60)
@description('Name of the app; it is part of its host name.')
param name string

@description('Name of the plan.')
param planName string

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

@description('Memory of an instance, in MB.')
param instanceMemoryMB int

@description('Maximum number of on-demand instances of each function.')
param maximumInstanceCount int

@description('Whether instances are spread over availability zones.')
param zoneRedundant bool

@description('How a deployment replaces instances.')
param siteUpdateStrategy string

@description('Diagnostic settings of the app.')
param diagnosticSettings diagnosticSettingType[]

@description('Resource id of the identity of the app.')
param identityId string

@description('Client id of the identity of the app.')
param identityClientId string

@description('Name of the storage account of the app.')
param storageAccountName string

@description('Name of the container that the code is deployed to.')
param packageContainerName string

@description('Connection string of Application Insights. It contains no secret: Application Insights accepts no keys.')
param insightsConnectionString string

@description('Subnet of the app. Empty: no subnet, and the event endpoint, which requires a key, is reachable from every address.')
param subnetId string

@description('Address ranges that may publish code, if the app has a subnet.')
param publishFrom string[]

@description('Where Event Grid delivers events. With queue, no address may call the app.')
param eventDelivery 'function' | 'queue'

@description('The settings of the app itself, by name.')
param settings { *: string }

var isPrivate = !empty(subnetId)
var isClosed = isPrivate || eventDelivery == 'queue'

resource account 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: storageAccountName
}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
    zoneRedundant: zoneRedundant
  }
}

resource site 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  tags: union(tags, {
    'azd-service-name': 'patcher'
  })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    // Event Grid, and who publishes code, connect from the internet, also with a private network.
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: isPrivate ? subnetId : null
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      http20Enabled: true
      ipSecurityRestrictionsDefaultAction: isClosed ? 'Deny' : 'Allow'
      ipSecurityRestrictions: isPrivate && eventDelivery == 'function'
        ? [
            {
              name: 'event-grid'
              description: 'The app has no other endpoint'
              priority: 100
              action: 'Allow'
              tag: 'ServiceTag'
              ipAddress: 'AzureEventGrid'
            }
          ]
        : []
      scmIpSecurityRestrictionsUseMain: false
      scmIpSecurityRestrictionsDefaultAction: isPrivate ? 'Deny' : 'Allow'
      scmIpSecurityRestrictions: map(isPrivate ? publishFrom : [], (range, index) => {
        name: 'publish-${index}'
        priority: 100 + index
        action: 'Allow'
        ipAddress: range
      })
    }
    #disable-next-line BCP037 // the compiler's types do not know siteUpdateStrategy yet
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${account.properties.primaryEndpoints.blob}${packageContainerName}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
      }
      ...(siteUpdateStrategy == 'Recreate' ? {} : { siteUpdateStrategy: { type: siteUpdateStrategy } })
    }
  }

  resource appSettings 'config' = {
    name: 'appsettings'
    properties: union(
      {
        AzureWebJobsStorage__blobServiceUri: account.properties.primaryEndpoints.blob
        AzureWebJobsStorage__queueServiceUri: account.properties.primaryEndpoints.queue
        AzureWebJobsStorage__tableServiceUri: account.properties.primaryEndpoints.table
        AzureWebJobsStorage__credential: 'managedidentity'
        AzureWebJobsStorage__clientId: identityClientId
        APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnectionString
        APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
      },
      settings
    )
  }

  // One after another: a second change of a site while the first is under way ends in a conflict (azure-dev#3125).
  resource ftp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: {
      allow: false
    }
    dependsOn: [appSettings]
  }

  resource scm 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: {
      allow: false
    }
    dependsOn: [ftp]
  }
}

#disable-next-line use-recent-api-versions // the only one with categoryGroup
resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = [
  for (setting, index) in diagnosticSettings: {
    name: setting.?name ?? 'image-patcher-${index}'
    scope: site
    properties: diagnosticProperties(setting)
  }
]

@description('Name of the app.')
output name string = site.name
