#!/bin/sh
# Phase 2: waits until the function exists, then deploys infra/events.bicep. It retries a few times, because the role
# that allows writing dead letters may not be in effect yet.
set -eu

if ! az account show --subscription "$AZURE_SUBSCRIPTION_ID" --output none 2>/dev/null; then
    echo "error: az is missing or does not see the subscription $AZURE_SUBSCRIPTION_ID; azd's login is not az's: az login" >&2
    exit 1
fi
cd "$(dirname "$0")/.."

case ${SYSTEM_TOPIC_IDS:-} in
*systemTopics*) ;;
*)
    echo "This deployment has no system topic. With a management group, deploy infra/management-group/main.bicep and then infra/events.bicep."
    exit 0
    ;;
esac

attempt() { # WHAT COMMAND...: repeats the command until it succeeds, at most TRIES times
    what=$1
    shift
    tries=${TRIES:-20}
    until "$@"; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ]; then
            echo "error: $what: given up; run 'azd hooks run postdeploy' to try again" >&2
            exit 1
        fi
        echo "$what: not yet"
        sleep "${RETRY_SECONDS:-30}"
    done
}

function_exists() {
    az functionapp function show --subscription "$AZURE_SUBSCRIPTION_ID" --resource-group "$AZURE_RESOURCE_GROUP" \
        --name "$AZURE_FUNCTION_APP_NAME" --function-name on_machine_written --output none
}

deploy_events() {
    az deployment sub create --subscription "$AZURE_SUBSCRIPTION_ID" --location "$AZURE_LOCATION" \
        --name "image-patcher-events-$AZURE_ENV_NAME" --template-file events.bicep --parameters "@$parameters" --output none
}

parameters=$(mktemp)
trap 'rm -f "$parameters"' EXIT
cat >"$parameters" <<END
{
  "\$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentParameters.json#",
  "contentVersion": "1.0.0.0",
  "parameters": {
    "resourceGroupName": { "value": "$AZURE_RESOURCE_GROUP" },
    "functionAppName": { "value": "$AZURE_FUNCTION_APP_NAME" },
    "storageAccountName": { "value": "$STORAGE_ACCOUNT_NAME" },
    "systemTopicIds": { "value": $SYSTEM_TOPIC_IDS },
    "arcServers": { "value": ${ARC_SERVERS:-false} },
    "eventDelivery": { "value": "${EVENT_DELIVERY:-function}" }
  }
}
END
attempt "the function on_machine_written" function_exists
attempt "infra/events.bicep" deploy_events
