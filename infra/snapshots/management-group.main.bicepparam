using '../main.bicep'

param environmentName = 'fleet'
param location = 'westeurope'
param mode = 'install'
param window = 'any'
param managementGroupNames = [
  'mg-fleet'
]
param alertEmail = ''
param operators = []
