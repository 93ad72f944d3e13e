metadata name = 'Saved functions'
metadata description = 'The functions of a Log Analytics workspace that queries begin with: PatchEvents is the journal of the app as a table, PatchMachines is every machine as it is now.'

@description('Name of the workspace, which is in this resource group.')
param workspaceName string

@description('Text of PatchEvents.')
param patchEvents string

@description('Text of PatchMachines.')
param patchMachines string

resource workspace 'Microsoft.OperationalInsights/workspaces@2026-03-01' existing = {
  name: workspaceName

  // Without an ETag Azure refuses a second deployment as a conflict with the first.
  resource events 'savedSearches' = {
    name: 'patch-events'
    etag: '*'
    properties: {
      category: 'Image Patcher'
      displayName: 'PatchEvents'
      functionAlias: 'PatchEvents'
      query: patchEvents
      version: 2
    }
  }

  resource machines 'savedSearches' = {
    name: 'patch-machines'
    etag: '*'
    properties: {
      category: 'Image Patcher'
      displayName: 'PatchMachines'
      functionAlias: 'PatchMachines'
      query: patchMachines
      version: 2
    }
    dependsOn: [events]
  }
}
