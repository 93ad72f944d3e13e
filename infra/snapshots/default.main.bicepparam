using '../main.bicep'

// Every parameter with a default keeps it, except location, which would be that of the command.
param environmentName = 'patching'
param location = 'westeurope'
param mode = 'install'
param window = 'any'
param alertEmail = ''
param operators = []
