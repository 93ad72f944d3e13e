"""The closed table of what a snapshot may hold: every type and every property, and whether it is simulated.

A type that is in neither table, or a property of a simulated type that its row does not name, is an error: nothing that
has a meaning in Azure may pass here unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from simulator.deployment.errors import DeploymentError
from simulator.wire import Json

# These types are neither simulated nor resolved: the app behaves the same with or without them.
NOT_SIMULATED: Mapping[str, str] = {
    "Microsoft.Authorization/locks": "nothing here is deleted",
    "Microsoft.Insights/actionGroups": "no mail is sent",
    "Microsoft.Insights/metricAlerts": "alerts on Azure's own metrics",
    "Microsoft.Insights/diagnosticSettings": "logs of the resources themselves",
    "Microsoft.Insights/scheduledQueryRules": "alerts: their queries run in a test of their own",
    "Microsoft.Insights/workbooks": "its queries run in a test of their own",
    "Microsoft.Network/privateDnsZones": "endpoints are found without DNS",
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": "the same",
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups": "the same",
    "Microsoft.Network/networkSecurityGroups": "no packet passes a network here",
    "Microsoft.Network/virtualNetworks": "no packet passes a network here",
    "Microsoft.Network/virtualNetworks/subnets": "no packet passes a network here",
    "Microsoft.OperationalInsights/workspaces": "rows are made from what the host logged, without a workspace",
    "Microsoft.OperationalInsights/workspaces/savedSearches": "the saved function runs in a test of its own",
    "Microsoft.Resources/deployments": "its resources are in the snapshot themselves",
    "Microsoft.Storage/storageAccounts/managementPolicies": "nothing here grows old enough",
    "Microsoft.Web/serverfarms": "the host runs in this process",
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": "publishing uses no password",
}

# Each property of these types has an effect here, or is listed in _WITHOUT_EFFECT below.
SIMULATED: Mapping[str, tuple[str, ...]] = {
    "Microsoft.Authorization/roleAssignments": (
        "scope",
        "properties.roleDefinitionId",
        "properties.principalId",
        "properties.principalType",
    ),
    "Microsoft.Authorization/roleDefinitions": (
        "properties.type",
        "properties.assignableScopes",
        "properties.permissions.actions",
        "properties.permissions.notActions",
        "properties.permissions.dataActions",
        "properties.permissions.notDataActions",
    ),
    "Microsoft.EventGrid/systemTopics": ("identity.type", "properties.source", "properties.topicType"),
    "Microsoft.EventGrid/systemTopics/eventSubscriptions": (
        "properties.eventDeliverySchema",
        "properties.destination.endpointType",
        "properties.destination.properties.resourceId",
        "properties.destination.properties.maxEventsPerBatch",
        "properties.deliveryWithResourceIdentity.identity.type",
        "properties.deliveryWithResourceIdentity.destination.endpointType",
        "properties.deliveryWithResourceIdentity.destination.properties.resourceId",
        "properties.deliveryWithResourceIdentity.destination.properties.queueName",
        "properties.deliveryWithResourceIdentity.destination.properties.queueMessageTimeToLiveInSeconds",
        "properties.filter.includedEventTypes",
        "properties.filter.subjectBeginsWith",
        "properties.filter.subjectEndsWith",
        "properties.filter.isSubjectCaseSensitive",
        "properties.filter.advancedFilters.operatorType",
        "properties.filter.advancedFilters.key",
        "properties.filter.advancedFilters.values",
        "properties.retryPolicy.maxDeliveryAttempts",
        "properties.retryPolicy.eventTimeToLiveInMinutes",
        "properties.deadLetterWithResourceIdentity.identity.type",
        "properties.deadLetterWithResourceIdentity.deadLetterDestination.endpointType",
        "properties.deadLetterWithResourceIdentity.deadLetterDestination.properties.resourceId",
        "properties.deadLetterWithResourceIdentity.deadLetterDestination.properties.blobContainerName",
    ),
    "Microsoft.Insights/components": ("properties.DisableLocalAuth",),
    "Microsoft.ManagedIdentity/userAssignedIdentities": (),
    "Microsoft.Network/privateEndpoints": (
        "properties.privateLinkServiceConnections.properties.privateLinkServiceId",
        "properties.privateLinkServiceConnections.properties.groupIds",
    ),
    "Microsoft.Resources/resourceGroups": (),
    "Microsoft.Storage/storageAccounts": ("properties.publicNetworkAccess", "properties.networkAcls.*"),
    "Microsoft.Storage/storageAccounts/blobServices": (),
    "Microsoft.Storage/storageAccounts/blobServices/containers": (),
    "Microsoft.Storage/storageAccounts/queueServices": (),
    "Microsoft.Storage/storageAccounts/queueServices/queues": (),
    "Microsoft.Storage/storageAccounts/tableServices": (),
    "Microsoft.Storage/storageAccounts/tableServices/tables": (),
    "Microsoft.Web/sites": (
        "identity.type",
        "identity.userAssignedIdentities.*",
        "properties.virtualNetworkSubnetId",
        "properties.publicNetworkAccess",
        "properties.siteConfig.ipSecurityRestrictionsDefaultAction",
        "properties.siteConfig.ipSecurityRestrictions",
        "properties.siteConfig.ipSecurityRestrictions.action",
        "properties.siteConfig.ipSecurityRestrictions.ipAddress",
        "properties.siteConfig.ipSecurityRestrictions.tag",
        "properties.functionAppConfig.deployment.storage.type",
        "properties.functionAppConfig.deployment.storage.value",
        "properties.functionAppConfig.deployment.storage.authentication.type",
        "properties.functionAppConfig.deployment.storage.authentication.userAssignedIdentityResourceId",
        "properties.functionAppConfig.runtime.name",
    ),
    "Microsoft.Web/sites/config": ("properties.*",),
}

_NAMED = ("id", "type", "name", "apiVersion", "location", "tags", "tags.*", "kind", "zones")
_WITHOUT_EFFECT: Mapping[str, tuple[str, ...]] = {
    "Microsoft.Authorization/roleAssignments": ("properties.description",),
    "Microsoft.Authorization/roleDefinitions": ("properties.roleName", "properties.description"),
    # No event here holds an array, and a batch of small events never reaches the size limit.
    "Microsoft.EventGrid/systemTopics/eventSubscriptions": (
        "properties.filter.enableAdvancedFilteringOnArrays",
        "properties.destination.properties.preferredBatchSizeInKilobytes",
        "properties.labels",
    ),
    "Microsoft.Insights/components": (
        "properties.Application_Type",
        "properties.WorkspaceResourceId",
        "properties.IngestionMode",
        "properties.Flow_Type",
        "properties.Request_Source",
        "properties.RetentionInDays",
        "properties.DisableIpMasking",
        "properties.publicNetworkAccessFor*",
    ),
    "Microsoft.ManagedIdentity/userAssignedIdentities": ("properties.isolationScope", "properties"),
    "Microsoft.Network/privateEndpoints": (
        "properties.subnet.id",
        "properties.customNetworkInterfaceName",
        "properties.privateLinkServiceConnections.name",
    ),
    # Encryption, retention, redundancy and other kinds of access: the app uses TLS and an identity, whatever these say.
    "Microsoft.Storage/storageAccounts": (
        "sku.name",
        "properties.accessTier",
        "properties.allowBlobPublicAccess",
        "properties.allowCrossTenantReplication",
        "properties.allowSharedKeyAccess",
        "properties.allowedCopyScope",
        "properties.defaultToOAuthAuthentication",
        "properties.dnsEndpointType",
        "properties.encryption.*",
        "properties.isHnsEnabled",
        "properties.isLocalUserEnabled",
        "properties.isNfsV3Enabled",
        "properties.isSftpEnabled",
        "properties.largeFileSharesState",
        "properties.minimumTlsVersion",
        "properties.sasPolicy.*",
        "properties.supportsHttpsTrafficOnly",
    ),
    "Microsoft.Storage/storageAccounts/blobServices": ("properties", "properties.*"),
    "Microsoft.Storage/storageAccounts/blobServices/containers": (
        "properties",
        "properties.publicAccess",
        "properties.metadata",
        "properties.metadata.*",
    ),
    "Microsoft.Storage/storageAccounts/queueServices": ("properties", "properties.*"),
    "Microsoft.Storage/storageAccounts/queueServices/queues": ("properties", "properties.metadata*"),
    "Microsoft.Storage/storageAccounts/tableServices": ("properties", "properties.*"),
    "Microsoft.Storage/storageAccounts/tableServices/tables": ("properties",),
    "Microsoft.Web/sites": (
        "properties.serverFarmId",
        "properties.httpsOnly",
        "properties.keyVaultReferenceIdentity",
        "properties.clientAffinityEnabled",
        "properties.clientCertEnabled",
        "properties.outboundVnetRouting.*",
        "properties.siteConfig.minTlsVersion",
        "properties.siteConfig.scmMinTlsVersion",
        "properties.siteConfig.http20Enabled",
        "properties.siteConfig.minTlsCipherSuite",
        "properties.siteConfig.remoteDebuggingEnabled",
        "properties.siteConfig.cors.*",
        "properties.siteConfig.ipSecurityRestrictions.description",
        "properties.siteConfig.ipSecurityRestrictions.name",
        "properties.siteConfig.ipSecurityRestrictions.priority",
        "properties.siteConfig.scmIpSecurityRestrictions*",
        "properties.functionAppConfig.runtime.version",
        "properties.functionAppConfig.scaleAndConcurrency.*",
        "properties.functionAppConfig.siteUpdateStrategy.type",
    ),
}


def check(resource: Json) -> None:
    """Raises DeploymentError for a type or a property that is not in the table."""
    kind = resource["type"]
    if kind not in SIMULATED:
        raise DeploymentError(f"{resource['name']}: the simulator does not know the type {kind}")
    known = (*_NAMED, *SIMULATED[kind], *_WITHOUT_EFFECT.get(kind, ()))
    for path in _paths(resource):
        if not any(fnmatchcase(path, each) for each in known):
            raise DeploymentError(f"{resource['name']} ({kind}): the simulator does not know the property {path}")


def _paths(value: Any, above: str = "") -> Iterator[str]:
    """The dotted path of every leaf; elements of a list share their list's path."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _paths(each, f"{above}.{key}" if above else key)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for each in value:
            yield from _paths(each, above)
    else:
        yield above
