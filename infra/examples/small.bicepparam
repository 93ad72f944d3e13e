using '../main.bicep'

// One subscription, to begin with: machines created from now on are assessed, nothing is installed.
param environmentName = 'patching'
param location = 'westeurope'
param mode = 'assess'
param alertEmail = 'patching@example.com'
