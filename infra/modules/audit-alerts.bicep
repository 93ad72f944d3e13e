metadata name = 'Audit alerts'
metadata description = 'Alerts on the log itself: a principal other than the app changed its package, and the log grows too fast.'

import { tagsType } from '../types.bicep'

@description('Part of every generated name.')
param token string

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

@description('Resource id of the workspace.')
param workspaceId string

@description('Whether the workspace is of this app alone. Of another one the growth says nothing.')
param ownWorkspace bool

@description('Name of the storage account of the app.')
param storageAccountName string

@description('Name of the container that the code is deployed to.')
param packageContainerName string

@description('Object id of the identity of the app. Publishing writes the package with it.')
param principalId string

@description('Resource ids of the action groups that alerts notify.')
param actionGroupIds string[]

var packageWritten = {
  name: 'package-written'
  title: 'a principal other than the app changed its package'
  meaning: 'Publishing writes the package with the identity of the app. Another principal wrote or deleted it directly. If that was not you, follow SECURITY.md.'
  severity: 1
  frequency: 'PT15M'
  window: 'PT30M' // lines of storage are some minutes late
  query: replace(
    replace(
      replace(loadTextContent('../audit/package-written.kql'), '__ACCOUNT__', storageAccountName),
      '__CONTAINER__',
      packageContainerName
    ),
    '__IDENTITY__',
    principalId
  )
}
var logGrows = {
  name: 'log-grows'
  title: 'the log grew by more than 1 GB in a day'
  meaning: 'A fleet of 10,000 machines writes less than 2 GB in a month. A person or program may be causing events without end, or another app writes to this workspace. See docs/costs.md.'
  severity: 2
  frequency: 'PT6H'
  window: 'P1D'
  query: loadTextContent('../audit/log-grows.kql')
}

resource rules 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for alert in (ownWorkspace ? [packageWritten, logGrows] : [packageWritten]): {
    name: 'alert-patch-${alert.name}-${token}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: 'Image Patcher: ${alert.title}'
      description: alert.meaning
      severity: alert.severity
      enabled: true
      autoMitigate: true
      scopes: [
        workspaceId
      ]
      evaluationFrequency: alert.frequency
      windowSize: alert.window
      // A new workspace has no row of these tables yet.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: alert.query
            timeAggregation: 'Count'
            dimensions: []
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      actions: {
        actionGroups: actionGroupIds
      }
    }
  }
]
