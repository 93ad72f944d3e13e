# Checks, before anything is created, what would stop the deployment halfway: az, its login, rights, region.
# Each line that it prints says what to type. PATCH_CHECKS=off skips all of it.
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $false

if ($env:PATCH_CHECKS -eq 'off') { exit 0 }
$script:missing = 0

function Say([string]$What, [string]$Remedy) {
    [Console]::Error.WriteLine("error: $What")
    [Console]::Error.WriteLine("       $Remedy")
    $script:missing = 1
}

# A variable that is not a parameter is read by no template, and an ignored limit is not a limit.
$parameters = Get-Content -Raw "$PSScriptRoot/../main.parameters.json"
foreach ($name in (Get-ChildItem env:PATCH_* | Where-Object Value).Name) {
    if ("$parameters {PATCH_CHECKS} {PATCH_PARAMETERS}" -notmatch "{$name[}=]") {
        Say "$name is not a variable of the deployment" `
            "put app settings into PATCH_SETTINGS (docs/deploy.md), and unset it: azd env set $name ''"
    }
}

if (-not (Get-Command az -ErrorAction SilentlyContinue)) {
    Say 'the Azure CLI (az) is missing; the hooks need it beside azd' 'install it: https://aka.ms/azure-cli'
    exit 1
}
if (-not $env:AZURE_SUBSCRIPTION_ID) {
    Write-Output 'No subscription is chosen yet, so rights and region are not checked.'
    exit $script:missing
}
az account show --subscription $env:AZURE_SUBSCRIPTION_ID --output none 2>$null
if ($LASTEXITCODE -ne 0) {
    $tenant = if ($env:AZURE_TENANT_ID) { " --tenant $env:AZURE_TENANT_ID" } else { '' }
    Say "az does not see the subscription $env:AZURE_SUBSCRIPTION_ID; azd's login is not az's" "az login$tenant"
    exit 1
}

# One line per role that you have: + its actions - the exceptions. Empty if they cannot be read.
function Get-Permissions([string]$Subscription) {
    @(az rest --method get --url "/subscriptions/$Subscription/providers/Microsoft.Authorization/permissions?api-version=2022-04-01" `
            --query "value[].join(' ', ['+', join(' ', actions), '-', join(' ', notActions)])" --output tsv 2>$null)
}

function Test-Allowed([string[]]$Permissions, [string]$Action) {
    foreach ($line in $Permissions) {
        $list = '+'; $yes = $false; $no = $false
        foreach ($pattern in -split $line) {
            if ($pattern -in '+', '-') { $list = $pattern }
            elseif ($Action -like $pattern) { if ($list -eq '+') { $yes = $true } else { $no = $true } }
        }
        if ($yes -and -not $no) { return $true }
    }
    return $false
}

function Confirm-Right([string]$Subscription, [string[]]$Permissions, [string]$Action, [string]$Remedy) {
    if (-not (Test-Allowed $Permissions $Action)) { Say "you lack $Action on the subscription $Subscription" $Remedy }
}

function Confirm-Subscription([string]$Subscription) {
    $given = Get-Permissions $Subscription
    if (-not $given) {
        Write-Output "Your rights on the subscription $Subscription cannot be read, so they are not checked."
        return
    }
    Confirm-Right $Subscription $given 'Microsoft.Resources/deployments/write' 'ask for the role Contributor'
    Confirm-Right $Subscription $given 'Microsoft.Resources/subscriptions/resourceGroups/write' 'ask for the role Contributor'
    if ($env:PATCH_ASSIGN_ROLES -in $null, '', 'true') {
        Confirm-Right $Subscription $given 'Microsoft.Authorization/roleAssignments/write' `
            'ask for User Access Administrator, or let an administrator assign the roles: azd env set PATCH_ASSIGN_ROLES false'
        if (-not $env:PATCH_ROLE_ID -and -not $env:PATCH_MANAGEMENT_GROUPS) {
            Confirm-Right $Subscription $given 'Microsoft.Authorization/roleDefinitions/write' `
                'ask for User Access Administrator, or use a role that an administrator created: azd env set PATCH_ROLE_ID <id>'
        }
    }
    if ($env:PATCH_LOCK -notin $null, '', 'None') {
        Confirm-Right $Subscription $given 'Microsoft.Authorization/locks/write' 'azd env set PATCH_LOCK None'
    }
}

# Nothing is said if the list cannot be read.
function Confirm-Region([string[]]$Names, [string]$What, [string]$Remedy) {
    if ($Names -and $env:AZURE_LOCATION -notin ($Names -replace ' ')) { Say "$env:AZURE_LOCATION has no $What" $Remedy }
}

if ("$env:AZURE_ENV_NAME".Length -gt 40) {
    Say "the environment's name is longer than 40 characters" 'azd env new <a shorter name>'
}
$others = if ($env:PATCH_SUBSCRIPTION_IDS) { $env:PATCH_SUBSCRIPTION_IDS | ConvertFrom-Json } else { @() }
foreach ($each in @($env:AZURE_SUBSCRIPTION_ID) + @($others) | Sort-Object -Unique) {
    Confirm-Subscription $each
}

if ($env:AZURE_LOCATION) {
    Confirm-Region @(az functionapp list-flexconsumption-locations --query '[].name' --output tsv 2>$null) `
        'Flex Consumption' 'choose a region of: az functionapp list-flexconsumption-locations --output table'
    $sku = if ($env:PATCH_STORAGE_SKU) { $env:PATCH_STORAGE_SKU } else { 'Standard_ZRS' }
    Confirm-Region @(az storage sku list --subscription $env:AZURE_SUBSCRIPTION_ID `
            --query "[?name=='$sku' && kind=='StorageV2'].locations[]" --output tsv 2>$null) `
        $sku 'azd env set PATCH_STORAGE_SKU Standard_LRS'
}

if ($env:PATCH_OPERATORS -in $null, '', '[]') {
    Write-Output 'No operator is named yet; an operator may pause the app and close a breaker. To name yourself:'
    Write-Output '  azd env set PATCH_OPERATORS (''[{"principalId":"'' + (az ad signed-in-user show --query id --output tsv) + ''","principalType":"User"}]'')'
}
if (-not $env:PATCH_ALERT_EMAIL -and $env:PATCH_ACTION_GROUP_IDS -in $null, '', '[]') {
    Write-Output 'Alerts have no recipient yet. To receive them by mail, answer the question for alertEmail, or:'
    Write-Output '  azd env set PATCH_ALERT_EMAIL <address>'
}
exit $script:missing
