metadata name = 'Network'
metadata description = 'A virtual network for the app, and the private DNS zones that resolve its storage account.'

import { networkType, tagsType } from '../types.bicep'

@description('Part of every generated name.')
param token string

@description('Name of the network.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

@description('Address ranges.')
param network networkType

@description('DNS suffix of storage in this cloud.')
param storageSuffix string

var services = [
  'blob'
  'queue'
  'table'
]

resource securityGroup 'Microsoft.Network/networkSecurityGroups@2026-03-01' = {
  name: 'nsg-patch-${token}'
  location: location
  tags: tags
  properties: {
    // Only the private endpoints listen here, and only the app connects to them.
    securityRules: [
      {
        name: 'app-to-storage'
        properties: {
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: network.appSubnetPrefix!
          sourcePortRange: '*'
          destinationAddressPrefix: network.endpointSubnetPrefix!
          destinationPortRange: '443'
        }
      }
      {
        name: 'nothing-else'
        properties: {
          priority: 4096
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

// Nothing connects to the app here: its events come through the front end. So Azure's own rules suffice: in from the
// network, out to everywhere.
resource appSecurityGroup 'Microsoft.Network/networkSecurityGroups@2026-03-01' = {
  name: 'nsg-patch-app-${token}'
  location: location
  tags: tags
}

resource virtualNetwork 'Microsoft.Network/virtualNetworks@2026-03-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        network.addressPrefix!
      ]
    }
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: network.appSubnetPrefix!
          // The app reaches Resource Manager, Resource Graph and Application Insights over the internet.
          defaultOutboundAccess: true
          networkSecurityGroup: {
            id: appSecurityGroup.id
          }
          delegations: [
            {
              name: 'flex-consumption'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: network.endpointSubnetPrefix!
          defaultOutboundAccess: false
          // Without this a network security group does not apply to private endpoints.
          privateEndpointNetworkPolicies: 'Enabled'
          networkSecurityGroup: {
            id: securityGroup.id
          }
        }
      }
    ]
  }

  resource appSubnet 'subnets' existing = {
    name: 'app'
  }

  resource endpointSubnet 'subnets' existing = {
    name: 'endpoints'
  }
}

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for service in services: {
    name: 'privatelink.${service}.${storageSuffix}'
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (service, index) in services: {
    parent: zones[index]
    name: name
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: {
        id: virtualNetwork.id
      }
    }
  }
]

@description('Resource id of the subnet of the app.')
output appSubnetId string = virtualNetwork::appSubnet.id

@description('Resource id of the subnet of the private endpoints.')
output endpointSubnetId string = virtualNetwork::endpointSubnet.id

@description('Resource ids of the private DNS zones, by service.')
output dnsZoneIds { *: string } = {
  blob: zones[0].id
  queue: zones[1].id
  table: zones[2].id
}
