metadata name = 'Existing system topic'
metadata description = 'Looks up the identity of an existing system topic. Does not change the topic.'

@description('Name of the system topic. It needs a system-assigned identity.')
param name string

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = {
  name: name
}

@description('Object id of the identity of the topic.')
output principalId string = topic.identity.principalId
