metadata name = 'Monitoring'
metadata description = 'The destination of the journal of the app, and what is built on it: the functions PatchEvents and PatchMachines, a workbook and alerts.'

import { tagsType } from '../types.bicep'

@description('Part of every generated name.')
param token string

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

@description('Resource id of an existing workspace. Empty: one is created.')
param workspaceId string

@description('Name of the workspace, if one is created.')
param workspaceName string

@description('Name of Application Insights.')
param insightsName string

@description('Name of the action group.')
param actionGroupName string

@description('Name of the function app. In an existing workspace only its rows count.')
param functionAppName string

@description('Log retention in days, if a workspace is created.')
param retentionInDays int

@description('Object id of the identity of the app.')
param principalId string

@description('Whether to assign roles.')
param assignRoles bool

@description('Mail address for alerts. Empty: alerts appear in the portal only.')
param alertEmail string

@description('Resource ids of existing action groups.')
param actionGroupIds string[]

@description('Address of the folder docs, to which the workbook links. Empty: no links.')
param documentsUrl string

@description('How many percent of the machines may be late before an alert fires.')
param latePercent int

var monitoringMetricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'
var alerts = loadJsonContent('../results/alerts.json')
var ownWorkspace = empty(workspaceId)
var workspaceResourceId = ownWorkspace ? workspace.id : workspaceId
var workspaceParts = split(workspaceResourceId, '/')
// Other apps may write to an existing workspace.
var onlyApp = ownWorkspace ? '' : functionAppName
var groups = empty(alertEmail) ? actionGroupIds : concat(actionGroupIds, [mail.id])

// The query with only the rows of this app; all rows if none is named.
func rowsOf(app string, query string) string =>
  empty(app)
    ? query
    : reduce(
        ['AppTraces', 'AppExceptions', 'AppRequests'],
        query,
        (text, table) => replace(string(text), string(table), '(${table} | where AppRoleName == \'${app}\')')
      )

resource workspace 'Microsoft.OperationalInsights/workspaces@2026-03-01' = if (ownWorkspace) {
  name: workspaceName
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
}

module savedFunctions 'saved-functions.bicep' = {
  name: 'saved-functions-${token}'
  scope: resourceGroup(workspaceParts[2], workspaceParts[4])
  params: {
    workspaceName: last(workspaceParts)
    patchEvents: rowsOf(onlyApp, loadTextContent('../results/PatchEvents.kql'))
    patchMachines: loadTextContent('../results/PatchMachines.kql')
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: insightsName
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspaceResourceId
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
  name: actionGroupName
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
        workspaceResourceId
      ]
      evaluationFrequency: alert.frequency
      windowSize: alert.window
      // A new workspace has no column yet that a query could be validated against. Each query holds the text of
      // PatchEvents, since Azure may not know that function in its first minutes.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: replace(rowsOf(onlyApp, alert.query), 'most_percent = 10', 'most_percent = ${latePercent}')
            timeAggregation: 'Count'
            // A rule that fired stays silent until its condition is over. So it fires for each of these values by itself.
            dimensions: map(alert.dimensions, name => { name: name, operator: 'Include', values: ['*'] })
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
  }
]

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'image-patcher', token)
  location: location
  // Lists of resources show this instead of the GUID.
  tags: union(tags, { 'hidden-title': 'Image Patcher' })
  kind: 'shared'
  properties: {
    displayName: 'Image Patcher'
    category: 'workbook'
    sourceId: workspaceResourceId
    serializedData: rowsOf(
      onlyApp,
      replace(
        replace(loadTextContent('../results/workbook.json'), '__WORKSPACE_ID__', workspaceResourceId),
        '__DOCUMENTS__',
        documentsUrl
      )
    )
  }
}

@description('Connection string of Application Insights.')
output connectionString string = insights.properties.ConnectionString

@description('Resource ids of the action groups that alerts notify.')
output actionGroupIds string[] = groups

@description('Resource id of the workspace.')
output workspaceId string = workspaceResourceId

@description('Name of the workspace.')
output workspaceName string = last(workspaceParts)
