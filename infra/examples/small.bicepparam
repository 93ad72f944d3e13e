using '../main.bicep'

// One subscription, as a start: the app assesses machines created from now on and installs nothing.
param environmentName = 'patching'
param location = 'westeurope'
param mode = 'assess'
param alertEmail = 'patching@example.com'
param operators = []
