#!/bin/sh
# At the first publication the roles of the app's identity are minutes old. Publishing before they take effect ends in
# a 403. An app without functions has not been published to yet.
set -eu

functions=$(az functionapp function list --subscription "$AZURE_SUBSCRIPTION_ID" --resource-group "$AZURE_RESOURCE_GROUP" \
    --name "$AZURE_FUNCTION_APP_NAME" --query 'length(@)' --output tsv 2>/dev/null || echo 0)
if [ "${functions:-0}" = 0 ]; then
    echo "First publication: waiting ${ROLE_WAIT_SECONDS:-180} s for the new roles to take effect."
    sleep "${ROLE_WAIT_SECONDS:-180}"
fi
