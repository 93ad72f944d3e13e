#!/bin/sh
# Checks, before anything is created, what would stop the deployment halfway: az, its login, rights, region.
# Each line that it prints says what to type. PATCH_CHECKS=off skips all of it.
set -eu

if [ "${PATCH_CHECKS:-on}" = off ]; then exit 0; fi
missing=0

say() { # WHAT REMEDY
    echo "error: $1" >&2
    echo "       $2" >&2
    missing=1
}

# A variable that is not a parameter is read by no template, and an ignored limit is not a limit.
parameters=$(cat "${0%/*}/../main.parameters.json")
for name in $(env | sed -n 's/^\(PATCH_[A-Za-z0-9_]*\)=..*/\1/p'); do
    case "$parameters {PATCH_CHECKS} {PATCH_PARAMETERS}" in
    *"{$name}"* | *"{$name="*) ;;
    *) say "$name is not a variable of the deployment" \
        "put app settings into PATCH_SETTINGS (docs/deploy.md), and unset it: azd env set $name ''" ;;
    esac
done

if ! command -v az >/dev/null; then
    say "the Azure CLI (az) is missing; the hooks need it beside azd" "install it: https://aka.ms/azure-cli"
    exit 1
fi
if [ -z "${AZURE_SUBSCRIPTION_ID:-}" ]; then
    echo "No subscription is chosen yet, so rights and region are not checked."
    exit "$missing"
fi
if ! az account show --subscription "$AZURE_SUBSCRIPTION_ID" --output none 2>/dev/null; then
    say "az does not see the subscription $AZURE_SUBSCRIPTION_ID; azd's login is not az's" \
        "az login${AZURE_TENANT_ID:+ --tenant $AZURE_TENANT_ID}"
    exit 1
fi

# One line per role that you have: + its actions - the exceptions. Empty if they cannot be read.
permissions() { # SUBSCRIPTION
    az rest --method get --url "/subscriptions/$1/providers/Microsoft.Authorization/permissions?api-version=2022-04-01" \
        --query "value[].join(' ', ['+', join(' ', actions), '-', join(' ', notActions)])" --output tsv 2>/dev/null |
        tr '[:upper:]' '[:lower:]' || true
}

allowed() { # PERMISSIONS ACTION: whether a role allows it
    wanted=$(echo "$2" | tr '[:upper:]' '[:lower:]')
    echo "$1" | while read -r line; do
        list=+ yes=0 no=0
        set -f
        for pattern in $line; do
            # shellcheck disable=SC2254 # the action of a role is a pattern
            case $pattern in
            + | -) list=$pattern ;;
            *) case $wanted in $pattern) if [ "$list" = + ]; then yes=1; else no=1; fi ;; esac ;;
            esac
        done
        if [ "$yes$no" = 10 ]; then echo yes; fi
    done
}

check_right() { # SUBSCRIPTION PERMISSIONS ACTION REMEDY
    case $(allowed "$2" "$3") in *yes*) ;; *) say "you lack $3 on the subscription $1" "$4" ;; esac
}

check_subscription() { # SUBSCRIPTION
    given=$(permissions "$1")
    if [ -z "$given" ]; then
        echo "Your rights on the subscription $1 cannot be read, so they are not checked."
        return
    fi
    check_right "$1" "$given" Microsoft.Resources/deployments/write "ask for the role Contributor"
    check_right "$1" "$given" Microsoft.Resources/subscriptions/resourceGroups/write "ask for the role Contributor"
    if [ "${PATCH_ASSIGN_ROLES:-true}" = true ]; then
        check_right "$1" "$given" Microsoft.Authorization/roleAssignments/write \
            "ask for User Access Administrator, or let an administrator assign the roles: azd env set PATCH_ASSIGN_ROLES false"
        if [ -z "${PATCH_ROLE_ID:-}" ] && [ -z "${PATCH_MANAGEMENT_GROUPS:-}" ]; then
            check_right "$1" "$given" Microsoft.Authorization/roleDefinitions/write \
                "ask for User Access Administrator, or use a role that an administrator created: azd env set PATCH_ROLE_ID <id>"
        fi
    fi
    if [ "${PATCH_LOCK:-None}" != None ]; then
        check_right "$1" "$given" Microsoft.Authorization/locks/write "azd env set PATCH_LOCK None"
    fi
}

check_region() { # NAMES WHAT REMEDY: nothing is said if the list cannot be read
    if [ -n "$1" ] && ! echo "$1" | tr -d ' ' | grep -qix "$AZURE_LOCATION"; then say "$AZURE_LOCATION has no $2" "$3"; fi
}

name=${AZURE_ENV_NAME:-}
if [ "${#name}" -gt 40 ]; then
    say "the environment's name is longer than 40 characters" "azd env new <a shorter name>"
fi
others=$(echo "${PATCH_SUBSCRIPTION_IDS:-}" | tr -d '[]" ' | tr ',' ' ')
for each in $(printf '%s\n' "$AZURE_SUBSCRIPTION_ID" $others | sort -u); do
    check_subscription "$each"
done

if [ -n "${AZURE_LOCATION:-}" ]; then
    check_region "$(az functionapp list-flexconsumption-locations --query '[].name' --output tsv 2>/dev/null || true)" \
        "Flex Consumption" "choose a region of: az functionapp list-flexconsumption-locations --output table"
    sku=${PATCH_STORAGE_SKU:-Standard_ZRS}
    check_region "$(az storage sku list --subscription "$AZURE_SUBSCRIPTION_ID" \
        --query "[?name=='$sku' && kind=='StorageV2'].locations[]" --output tsv 2>/dev/null || true)" \
        "$sku" "azd env set PATCH_STORAGE_SKU Standard_LRS"
fi

if [ -z "${PATCH_OPERATORS:-}" ] || [ "$PATCH_OPERATORS" = "[]" ]; then
    echo "No operator is named yet; an operator may pause the app and close a breaker. To name yourself:"
    echo "  azd env set PATCH_OPERATORS \"[{\\\"principalId\\\":\\\"\$(az ad signed-in-user show --query id --output tsv)\\\",\\\"principalType\\\":\\\"User\\\"}]\""
fi
if [ -z "${PATCH_ALERT_EMAIL:-}" ] && [ "${PATCH_ACTION_GROUP_IDS:-[]}" = "[]" ]; then
    echo "Alerts have no recipient yet. To receive them by mail, answer the question for alertEmail, or:"
    echo "  azd env set PATCH_ALERT_EMAIL <address>"
fi
exit "$missing"
