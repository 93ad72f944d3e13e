# The first time, the roles of the app's identity are minutes old, and publishing before they are in force ends in a 403.
# An app without functions is one that nobody has published to yet.
$ErrorActionPreference = 'Stop'

$functions = az functionapp function list --subscription $env:AZURE_SUBSCRIPTION_ID --resource-group $env:AZURE_RESOURCE_GROUP `
    --name $env:AZURE_FUNCTION_APP_NAME --query 'length(@)' --output tsv 2>$null
if (-not $functions -or $functions -eq '0') {
    $seconds = if ($env:ROLE_WAIT_SECONDS) { $env:ROLE_WAIT_SECONDS } else { 180 }
    Write-Output "First publication: waiting $seconds s for the new roles to be in force."
    Start-Sleep -Seconds $seconds
}
