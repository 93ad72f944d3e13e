metadata name = 'PatchEvents'
metadata description = 'The function PatchEvents of a Log Analytics workspace: the journal of the app as a table.'

@description('Name of the workspace, which is in this resource group.')
param workspaceName string

@description('Text of the function.')
param query string

resource workspace 'Microsoft.OperationalInsights/workspaces@2026-03-01' existing = {
  name: workspaceName

  resource patchEvents 'savedSearches' = {
    name: 'patch-events'
    // Without an ETag Azure refuses a second deployment as a conflict with the first.
    etag: '*'
    properties: {
      category: 'Image Patcher'
      displayName: 'PatchEvents'
      functionAlias: 'PatchEvents'
      query: query
      version: 2
    }
  }
}
