metadata name = 'Storage'
metadata description = 'The one storage account of the app, reached by identity only: package, queues, ledger and dead letters.'

import { diagnosticProperties, diagnosticSettingType, operatorType, tagsType } from '../types.bicep'

@minLength(3)
@maxLength(24)
@description('Name of the account.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

@description('Redundancy.')
param skuName string

@description('Object id of the identity of the app.')
param principalId string

@description('Principals that may read dead letters and messages, pause the app and close a breaker.')
param operators operatorType[]

@description('Whether to assign roles.')
param assignRoles bool

@description('Subnet of the private endpoints. Empty: the account is reachable over the internet.')
param endpointSubnetId string

@description('The services, of blob, queue and table, whose endpoint gets a name in a private DNS zone.')
param dnsServices string[]

@description('Resource ids of the private DNS zones, by service.')
param dnsZoneIds { *: string }

@minValue(1)
@description('Retention of dead letters in days. They contain names and addresses of people, because Azure includes those in events.')
param deadLetterDays int

@description('Name of the container that the code is deployed to.')
param packageContainerName string

@description('Name of the container for dead letters.')
param deadLetterContainerName string

@description('Resource id of the workspace that keeps who changed what in the account, and who read its blobs. diagnosticSettings replace it.')
param auditWorkspaceId string

@description('Diagnostic settings of the blob, queue and table services.')
param diagnosticSettings diagnosticSettingType[]

var isPrivate = !empty(endpointSubnetId)
var workQueues = [
  'assess-requests'
  'install-requests'
  'machine-events'
]
// The Functions host moves a message that failed five times into the queue of this name.
var queues = flatten(map(workQueues, queue => [queue, '${queue}-poison']))

var roles = {
  blobDataOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  queueDataContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  tableDataContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
}
var blobDataReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
var queueDataReader = '19e7f393-937e-4f77-808e-94535e297925'
// Empty polls and reads of the ledger would be most lines, and say nothing.
var audited = {
  blob: ['StorageRead', 'StorageWrite', 'StorageDelete']
  other: ['StorageWrite', 'StorageDelete']
}
var audits = empty(diagnosticSettings)

resource account 'Microsoft.Storage/storageAccounts@2026-04-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: skuName
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowedCopyScope: 'AAD'
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    encryption: {
      keySource: 'Microsoft.Storage'
      requireInfrastructureEncryption: true
    }
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: isPrivate ? 'Disabled' : 'Enabled'
    networkAcls: {
      // Event Grid writes dead letters, and events to their queue, with its identity, as a trusted service.
      bypass: 'AzureServices'
      defaultAction: isPrivate ? 'Deny' : 'Allow'
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2026-04-01' = {
  parent: account
  name: 'default'
  properties: {
    deleteRetentionPolicy: {
      enabled: true
      days: 7
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: 7
    }
    // A package that was overwritten can be compared and restored.
    isVersioningEnabled: true
  }
}

resource containers 'Microsoft.Storage/storageAccounts/blobServices/containers@2026-04-01' = [
  for container in [packageContainerName, deadLetterContainerName]: {
    parent: blobs
    name: container
    properties: {
      publicAccess: 'None'
    }
  }
]

resource deletion 'Microsoft.Storage/storageAccounts/managementPolicies@2026-04-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'old-dead-letters'
          enabled: true
          type: 'Lifecycle'
          definition: {
            filters: {
              blobTypes: [
                'blockBlob'
              ]
              prefixMatch: [
                '${deadLetterContainerName}/'
              ]
            }
            actions: {
              baseBlob: {
                delete: {
                  daysAfterCreationGreaterThan: deadLetterDays
                }
              }
              // What is deleted becomes a version of its own first.
              version: {
                delete: {
                  daysAfterCreationGreaterThan: deadLetterDays
                }
              }
            }
          }
        }
        {
          name: 'old-versions'
          enabled: true
          type: 'Lifecycle'
          definition: {
            filters: {
              blobTypes: [
                'blockBlob'
              ]
              prefixMatch: [
                '${packageContainerName}/'
                'azure-webjobs-'
              ]
            }
            actions: {
              version: {
                delete: {
                  daysAfterCreationGreaterThan: 90
                }
              }
            }
          }
        }
      ]
    }
  }
  dependsOn: [
    blobs
  ]
}

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2026-04-01' = {
  parent: account
  name: 'default'

  resource queue 'queues' = [for queue in queues: { name: queue }]
}

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2026-04-01' = {
  parent: account
  name: 'default'

  resource ledger 'tables' = {
    name: 'ledger'
  }
}

resource appRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in items(roles): if (assignRoles) {
    name: guid(account.id, principalId, role.value)
    scope: account
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.value)
      principalId: principalId
      principalType: 'ServicePrincipal'
      description: 'Image Patcher'
    }
  }
]

// An operator pauses the app with a row of the ledger.
resource operatorOfLedger 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for who in operators: if (assignRoles) {
    name: guid(tableService::ledger.id, who.principalId, roles.tableDataContributor)
    scope: tableService::ledger
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableDataContributor)
      principalId: who.principalId
      principalType: who.principalType
      description: 'Operator of Image Patcher'
    }
  }
]

resource operatorOfDeadLetters 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for who in operators: if (assignRoles) {
    name: guid(containers[1].id, who.principalId, blobDataReader)
    scope: containers[1]
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataReader)
      principalId: who.principalId
      principalType: who.principalType
      description: 'Operator of Image Patcher'
    }
  }
]

resource operatorOfQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for who in operators: if (assignRoles) {
    name: guid(account.id, who.principalId, queueDataReader)
    scope: account
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', queueDataReader)
      principalId: who.principalId
      principalType: who.principalType
      description: 'Operator of Image Patcher'
    }
  }
]

// One after another, and after what is written to the account: Azure ends an endpoint with
// StorageAccountOperationInProgress while something else changes the account (bicep-registry-modules#6001).
@batchSize(1)
resource endpoints 'Microsoft.Network/privateEndpoints@2026-03-01' = [
  for service in (isPrivate ? ['blob', 'queue', 'table'] : []): {
    name: 'pep-${name}-${service}'
    location: location
    tags: tags
    properties: {
      subnet: {
        id: endpointSubnetId
      }
      privateLinkServiceConnections: [
        {
          name: service
          properties: {
            privateLinkServiceId: account.id
            groupIds: [
              service
            ]
          }
        }
      ]
    }
    dependsOn: [
      containers
      deletion
      queueService::queue
      tableService::ledger
    ]
  }
]

resource endpointNames 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2026-03-01' = [
  for (service, index) in (isPrivate ? ['blob', 'queue', 'table'] : []): if (contains(dnsServices, service)) {
    parent: endpoints[index]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: service
          properties: {
            privateDnsZoneId: dnsZoneIds[service]
          }
        }
      ]
    }
  }
]

#disable-next-line use-recent-api-versions // the only one with categoryGroup
resource blobsDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = [
  for (setting, index) in diagnosticSettings: {
    name: setting.?name ?? 'image-patcher-${index}'
    scope: blobs
    properties: diagnosticProperties(setting)
  }
]

#disable-next-line use-recent-api-versions // the only one with categoryGroup
resource queueServiceDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = [
  for (setting, index) in diagnosticSettings: {
    name: setting.?name ?? 'image-patcher-${index}'
    scope: queueService
    properties: diagnosticProperties(setting)
  }
]

#disable-next-line use-recent-api-versions // the only one with categoryGroup
resource tableServiceDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = [
  for (setting, index) in diagnosticSettings: {
    name: setting.?name ?? 'image-patcher-${index}'
    scope: tableService
    properties: diagnosticProperties(setting)
  }
]

#disable-next-line use-recent-api-versions // the version of the settings above
resource blobsAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (audits) {
  name: 'image-patcher-audit'
  scope: blobs
  properties: {
    workspaceId: auditWorkspaceId
    logs: map(audited.blob, category => { category: category, enabled: true })
  }
}

#disable-next-line use-recent-api-versions // the version of the settings above
resource queueServiceAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (audits) {
  name: 'image-patcher-audit'
  scope: queueService
  properties: {
    workspaceId: auditWorkspaceId
    logs: map(audited.other, category => { category: category, enabled: true })
  }
}

#disable-next-line use-recent-api-versions // the version of the settings above
resource tableServiceAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (audits) {
  name: 'image-patcher-audit'
  scope: tableService
  properties: {
    workspaceId: auditWorkspaceId
    logs: map(audited.other, category => { category: category, enabled: true })
  }
}
