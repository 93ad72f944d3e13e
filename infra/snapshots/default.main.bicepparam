using '../main.bicep'

// Every parameter that has a default keeps it; location would be that of the command.
param environmentName = 'patching'
param location = 'westeurope'
param mode = 'install'
param window = 'any'
