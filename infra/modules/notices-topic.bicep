metadata name = 'Topic of notices'
metadata description = 'Lets the app send events to an existing Event Grid topic, and looks up its endpoint. Does not change the topic.'

@description('Name of the topic. Its input schema is CloudEventSchemaV1_0.')
param name string

@description('Object id of the identity of the app.')
param principalId string

@description('Whether to assign the role.')
param assignRole bool

var eventGridDataSender = 'd5a91429-5739-47e2-a06b-3470a27159e7'

resource topic 'Microsoft.EventGrid/topics@2025-02-15' existing = {
  name: name
}

resource sender 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (assignRole) {
  name: guid(topic.id, principalId, eventGridDataSender)
  scope: topic
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', eventGridDataSender)
    principalId: principalId
    principalType: 'ServicePrincipal'
    description: 'Image Patcher: sends notices'
  }
}

@description('Where the app sends events to.')
output endpoint string = topic.properties.endpoint
