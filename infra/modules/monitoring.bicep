metadata name = 'Monitoring'
metadata description = 'The destination of the journal of the app, and what is built on it: the function PatchEvents, a workbook and alerts.'

import { tagsType } from '../types.bicep'

@description('Part of every generated name.')
param token string

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

@description('Log retention in days.')
param retentionInDays int

@description('Object id of the identity of the app.')
param principalId string

@description('Whether to assign roles.')
param assignRoles bool

@description('Mail address for alerts. Empty: alerts appear in the portal only.')
param alertEmail string

@description('Resource ids of existing action groups.')
param actionGroupIds string[]

var monitoringMetricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'
var alerts = loadJsonContent('../results/alerts.json')
var groups = empty(alertEmail) ? actionGroupIds : concat(actionGroupIds, [mail.id])

resource workspace 'Microsoft.OperationalInsights/workspaces@2026-03-01' = {
  name: 'log-patch-${token}'
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: retentionInDays
    // No daily cap: once it was reached, the census and the alerts would be missing for the rest of the day.
    features: {
      disableLocalAuth: true
      enableLogAccessUsingOnlyResourcePermissions: true
    }
  }

  resource patchEvents 'savedSearches' = {
    name: 'patch-events'
    // Without an ETag Azure refuses a second deployment as a conflict with the first.
    etag: '*'
    properties: {
      category: 'Image Patcher'
      displayName: 'PatchEvents'
      functionAlias: 'PatchEvents'
      query: loadTextContent('../results/PatchEvents.kql')
      version: 2
    }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-patch-${token}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

resource publisher 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (assignRoles) {
  name: guid(insights.id, principalId, monitoringMetricsPublisher)
  scope: insights
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringMetricsPublisher)
    principalId: principalId
    principalType: 'ServicePrincipal'
    description: 'Image Patcher'
  }
}

resource mail 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(alertEmail)) {
  name: 'ag-patch-${token}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'patching'
    enabled: true
    emailReceivers: [
      {
        name: 'mail'
        emailAddress: alertEmail
        useCommonAlertSchema: true
      }
    ]
  }
}

resource rules 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for alert in alerts: {
    name: 'alert-patch-${alert.name}-${token}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: alert.displayName
      description: alert.description
      severity: alert.severity
      enabled: true
      autoMitigate: true
      scopes: [
        workspace.id
      ]
      evaluationFrequency: alert.frequency
      windowSize: alert.window
      // A new workspace has no table and no column yet that a query could be validated against.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: alert.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: alert.threshold
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      actions: {
        actionGroups: groups
      }
    }
    dependsOn: [
      workspace::patchEvents
    ]
  }
]

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'image-patcher', token)
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Image Patcher'
    category: 'workbook'
    sourceId: workspace.id
    serializedData: replace(loadTextContent('../results/workbook.json'), '__WORKSPACE_ID__', workspace.id)
  }
}

@description('Connection string of Application Insights.')
output connectionString string = insights.properties.ConnectionString

@description('Resource ids of the action groups that alerts notify.')
output actionGroupIds string[] = groups

@description('Name of the workspace.')
output workspaceName string = workspace.name
