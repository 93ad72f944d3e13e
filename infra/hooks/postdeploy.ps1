# Phase 2: waits until the function exists, then deploys infra/events.bicep. It retries a few times, because the role
# that allows writing dead letters may not be in effect yet.
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $false

$sees = Get-Command az -ErrorAction SilentlyContinue
if ($sees) { az account show --subscription $env:AZURE_SUBSCRIPTION_ID --output none 2>$null }
if (-not $sees -or $LASTEXITCODE -ne 0) {
    throw "az is missing or does not see the subscription $env:AZURE_SUBSCRIPTION_ID; azd's login is not az's: az login"
}
Set-Location (Join-Path $PSScriptRoot '..')

if ($env:SYSTEM_TOPIC_IDS -notlike '*systemTopics*') {
    Write-Output 'This deployment has no system topic. With a management group, deploy infra/management-group/main.bicep and then infra/events.bicep.'
    exit 0
}

function Invoke-Attempts([string]$What, [scriptblock]$Command) {
    $tries = if ($env:TRIES) { [int]$env:TRIES } else { 20 }
    $seconds = if ($env:RETRY_SECONDS) { [int]$env:RETRY_SECONDS } else { 30 }
    while ($true) {
        & $Command
        if ($LASTEXITCODE -eq 0) { return }
        $tries--
        if ($tries -eq 0) { throw "${What}: given up; run 'azd hooks run postdeploy' to try again" }
        Write-Output "${What}: not yet"
        Start-Sleep -Seconds $seconds
    }
}

$parameters = New-TemporaryFile
try {
    @{
        '$schema'      = 'https://schema.management.azure.com/schemas/2019-04-01/deploymentParameters.json#'
        contentVersion = '1.0.0.0'
        parameters     = @{
            resourceGroupName  = @{ value = $env:AZURE_RESOURCE_GROUP }
            functionAppName    = @{ value = $env:AZURE_FUNCTION_APP_NAME }
            storageAccountName = @{ value = $env:STORAGE_ACCOUNT_NAME }
            eventDelivery      = @{ value = if ($env:EVENT_DELIVERY) { $env:EVENT_DELIVERY } else { 'function' } }
            systemTopicIds     = @{ value = @($env:SYSTEM_TOPIC_IDS | ConvertFrom-Json) }
            arcServers         = @{ value = $env:ARC_SERVERS -eq 'true' }
        }
    } | ConvertTo-Json -Depth 5 | Set-Content $parameters

    Invoke-Attempts 'the function on_machine_written' {
        az functionapp function show --subscription $env:AZURE_SUBSCRIPTION_ID --resource-group $env:AZURE_RESOURCE_GROUP `
            --name $env:AZURE_FUNCTION_APP_NAME --function-name on_machine_written --output none
    }
    Invoke-Attempts 'infra/events.bicep' {
        az deployment sub create --subscription $env:AZURE_SUBSCRIPTION_ID --location $env:AZURE_LOCATION `
            --name "image-patcher-events-$($env:AZURE_ENV_NAME)" --template-file events.bicep --parameters "@$parameters" --output none
    }
}
finally {
    Remove-Item $parameters
}
