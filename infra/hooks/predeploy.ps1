# At the first publication the roles of the app's identity are minutes old. Publishing before they take effect ends in
# a 403. An app without functions has not been published to yet.
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $false

$sees = Get-Command az -ErrorAction SilentlyContinue
if ($sees) { az account show --subscription $env:AZURE_SUBSCRIPTION_ID --output none 2>$null }
if (-not $sees -or $LASTEXITCODE -ne 0) {
    throw "az is missing or does not see the subscription $env:AZURE_SUBSCRIPTION_ID; azd's login is not az's: az login"
}

$functions = az functionapp function list --subscription $env:AZURE_SUBSCRIPTION_ID --resource-group $env:AZURE_RESOURCE_GROUP `
    --name $env:AZURE_FUNCTION_APP_NAME --query 'length(@)' --output tsv 2>$null
if (-not $functions -or $functions -eq '0') {
    $seconds = if ($env:ROLE_WAIT_SECONDS) { $env:ROLE_WAIT_SECONDS } else { 180 }
    Write-Output "First publication: waiting $seconds s for the new roles to take effect."
    Start-Sleep -Seconds $seconds
}
