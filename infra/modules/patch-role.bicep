metadata name = 'Patch role'
metadata description = 'In one watched subscription: a role with only the actions that the app performs on machines, assigned to its identity.'

targetScope = 'subscription'

@description('Object id of the identity of the app.')
param principalId string

@description('Makes the name of the role unique in the tenant.')
param suffix string

@description('Id (GUID or resource id) of an existing role. Empty: the role is created.')
param existingRoleId string

@description('Whether the app patches members of scale sets: it then reads their scale sets.')
param scaleSets bool

@description('Whether the app patches Arc-enabled servers: it then reads them, and assesses and patches them.')
param arcServers bool

@description('Whether the app starts stopped machines to patch them: it then starts and deallocates machines.')
param startStopped bool

var roleId = empty(existingRoleId)
  ? role.id
  : subscriptionResourceId('Microsoft.Authorization/roleDefinitions', last(split(existingRoleId, '/')))

// Resource Graph needs no right of its own: it returns the rows that these rights allow to read.
resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (empty(existingRoleId)) {
  name: guid(subscription().id, 'image-patcher', suffix)
  properties: {
    roleName: 'Image Patcher (${uniqueString(subscription().id, suffix)})'
    description: 'Read virtual machines and their patch state, assess and install patches. Nothing else.'
    type: 'CustomRole'
    assignableScopes: [
      subscription().id
    ]
    permissions: [
      {
        actions: concat(
          loadJsonContent('../patch-actions.json'),
          scaleSets ? loadJsonContent('../scale-set-actions.json') : [],
          arcServers ? loadJsonContent('../arc-actions.json') : [],
          startStopped ? loadJsonContent('../start-stopped-actions.json') : []
        )
        notActions: []
      }
    ]
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subscription().id, principalId, roleId)
  properties: {
    roleDefinitionId: roleId
    principalId: principalId
    principalType: 'ServicePrincipal'
    description: 'Image Patcher'
  }
}
