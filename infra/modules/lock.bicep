metadata name = 'Lock'
metadata description = 'Protects the resource group of the app against deletion.'

@description('Kind of the lock.')
param kind string

resource lock 'Microsoft.Authorization/locks@2020-05-01' = {
  name: 'image-patcher'
  properties: {
    level: kind
    notes: 'Image Patcher: remove this lock before you remove the installation.'
  }
}
