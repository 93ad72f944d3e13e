metadata name = 'System topic'
metadata description = 'The system topic of one subscription, and an alert on events that could not be delivered.'

import { diagnosticProperties, diagnosticSettingType, tagsType } from '../types.bicep'

@description('Name of the system topic.')
param name string

@description('Tags.')
param tags tagsType

@description('Resource ids of the action groups to notify of dead letters.')
param actionGroupIds string[]

@description('Diagnostic settings. The delivery failures say why Event Grid could not deliver an event.')
param diagnosticSettings diagnosticSettingType[]

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: name
  location: 'global'
  tags: tags
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    source: subscription().id
    topicType: 'Microsoft.Resources.Subscriptions'
  }
}

resource deadLettered 'Microsoft.Insights/metricAlerts@2026-01-01' = {
  name: 'alert-${name}-dead-letters'
  location: 'global'
  tags: tags
  properties: {
    description: 'Events of machines could not be delivered to the app. The sweep finds these machines; the dead letters contain the reason.'
    severity: 2
    enabled: true
    scopes: [
      topic.id
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT1H'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'dead-letters'
          metricName: 'DeadLetteredCount'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
        }
      ]
    }
    #disable-next-line use-resource-id-functions // each id comes from a parameter
    actions: map(actionGroupIds, id => { actionGroupId: id })
  }
}

#disable-next-line use-recent-api-versions // the only one with categoryGroup
resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = [
  for (setting, index) in diagnosticSettings: {
    name: setting.?name ?? 'image-patcher-${index}'
    scope: topic
    properties: diagnosticProperties(setting)
  }
]

@description('Resource id.')
output id string = topic.id

@description('Object id of the identity of the topic.')
output principalId string = topic.identity.principalId
