#!/bin/sh
# At the first publication the roles of the app's identity are minutes old. Publishing before they take effect ends in
# a 403. An app without functions has not been published to yet.
set -eu

if ! az account show --subscription "$AZURE_SUBSCRIPTION_ID" --output none 2>/dev/null; then
    echo "error: az is missing or does not see the subscription $AZURE_SUBSCRIPTION_ID; azd's login is not az's: az login" >&2
    exit 1
fi

functions=$(az functionapp function list --subscription "$AZURE_SUBSCRIPTION_ID" --resource-group "$AZURE_RESOURCE_GROUP" \
    --name "$AZURE_FUNCTION_APP_NAME" --query 'length(@)' --output tsv 2>/dev/null || echo 0)
if [ "${functions:-0}" = 0 ]; then
    echo "First publication: waiting ${ROLE_WAIT_SECONDS:-180} s for the new roles to take effect."
    sleep "${ROLE_WAIT_SECONDS:-180}"
fi
