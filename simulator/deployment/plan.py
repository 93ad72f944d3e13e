"""A deployment as values that the simulator can act on: its snapshots, with every expression resolved.

Pure: the same snapshots and addresses give the same plan. It refuses everything that Azure would refuse because of the
templates alone.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator import identity
from simulator.deployment import events, expressions, flex, known, roles, storage
from simulator.deployment.errors import DeploymentError, refused
from simulator.deployment.snapshots import Snapshots
from simulator.wire import Json

Addresses = Mapping[storage.Service, str]
"""The URLs of the storage account's services."""

_IDENTITY = "Microsoft.ManagedIdentity/userAssignedIdentities"
_SITE = "Microsoft.Web/sites"
_CONFIG = f"{_SITE}/config"
_COMPONENT = "Microsoft.Insights/components"
_TOPIC = "Microsoft.EventGrid/systemTopics"
_NAMESPACE = uuid.UUID("5117a7ed-0000-4000-8000-000000000000")
_SUBSCRIPTION = re.compile(r"/subscriptions/([0-9a-f-]{36})", re.IGNORECASE)


@dataclass(frozen=True)
class Principal:
    """An identity of the deployment. A topic's own has no client id: no simulated service reads its tokens."""

    resource_id: str
    object_id: str
    client_id: str = ""


@dataclass(frozen=True)
class Site:
    """The function app."""

    id: str
    settings: Mapping[str, str]
    identity: Principal
    package_container: str
    in_network: bool  # its calls come from inside the virtual network
    admits_event_grid: bool


@dataclass(frozen=True)
class Component:
    """Application Insights."""

    id: str
    connection_string: str
    takes_keys: bool


@dataclass(frozen=True)
class Plan:
    """One deployment, resolved."""

    name: str
    account: storage.Account
    site: Site
    component: Component
    topics: Mapping[str, events.Topic]
    subscriptions: tuple[events.PlannedSubscription, ...]
    assignments: tuple[roles.Assignment, ...]
    principals: Mapping[str, Principal]  # by lower-cased resource id

    def may(self, principal: Principal, action: str, scope: str) -> bool:
        """Whether an identity has this data action at the scope."""
        return bool(roles.allowing(self.assignments, roles.Use(principal.object_id, action, scope)))

    @property
    def watched(self) -> tuple[str, ...]:
        """The subscriptions that have a topic."""
        return tuple(each.source.rpartition("/")[2] for each in self.topics.values())


def read(snapshots: Snapshots, addresses: Addresses) -> Plan:
    """Resolves a deployment. Raises DeploymentError for what cannot be simulated, and for what Azure would refuse."""
    raw = _merged(snapshots)
    principals = _principals(raw)
    runtime = _Runtime(raw, principals, addresses)
    meant = [each for each in raw if each["type"] not in known.NOT_SIMULATED]
    resolved: list[Json] = [expressions.resolve(each, runtime.reference) for each in meant]
    resources = [each for each in resolved if each.pop("condition", True)]
    if snapshots.change:
        snapshots.change(resources)
    for each in resources:
        if each["type"] == _SITE:
            flex.require_properties(each)
        known.check(each)
    topics = events.read_topics(resources)
    account = storage.read_account(resources)
    objects = {each.object_id: each.resource_id for each in principals.values()}
    return Plan(
        snapshots.name,
        account,
        _site(resources, principals, addresses),
        _component(resources),
        topics,
        events.read_subscriptions(resources, topics),
        roles.read_assignments(resources, objects),
        principals,
    )


def _merged(snapshots: Snapshots) -> list[Json]:
    """Each resource once: where two phases deploy one, the later phase wins."""
    by_id: dict[str, Json] = {}
    for resource in snapshots.resources:
        by_id[resource["id"].lower()] = resource
    return list(by_id.values())


def _principals(raw: Sequence[Json]) -> dict[str, Principal]:
    """The identities that roles can be assigned to. A topic's object id is derived from its resource id."""
    found: dict[str, Principal] = {}
    for resource in raw:
        if resource["type"] == _IDENTITY:
            first = not any(each.client_id for each in found.values())
            object_id = identity.PRINCIPAL_ID if first else _guid("principal", resource["id"])
            client_id = identity.CLIENT_ID if first else _guid("client", resource["id"])
            found[resource["id"].lower()] = Principal(resource["id"], object_id, client_id)
        elif resource["type"] == _TOPIC and resource.get("identity", {}).get("type") == "SystemAssigned":
            found[resource["id"].lower()] = Principal(resource["id"], _guid("principal", resource["id"]))
    return found


def _guid(what: str, resource_id: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{what} {resource_id.lower()}"))


@dataclass(frozen=True)
class _Runtime:
    """The properties of a resource that only a running Azure knows."""

    raw: Sequence[Json]
    principals: Mapping[str, Principal]
    addresses: Addresses

    def reference(self, resource_id: str, full: bool) -> Any:
        found = [each for each in self.raw if each["id"].lower() == resource_id.lower()]
        if not found:
            raise refused(resource_id, "ResourceNotFound", "it is referred to but not deployed")
        properties = {**found[0].get("properties", {}), **self._known_when_it_runs(found[0])}
        if not full:
            return properties
        principal = self.principals.get(resource_id.lower())
        own = {"principalId": principal.object_id, "tenantId": identity.TENANT_ID} if principal else {}
        return {**found[0], "properties": properties, "identity": {**found[0].get("identity", {}), **own}}

    def _known_when_it_runs(self, resource: Json) -> Json:
        if resource["type"] == "Microsoft.Storage/storageAccounts":
            return {"primaryEndpoints": {service: f"{url}/" for service, url in self.addresses.items()}}
        if resource["type"] == _IDENTITY:
            mine = self.principals[resource["id"].lower()]
            return {"principalId": mine.object_id, "clientId": mine.client_id, "tenantId": identity.TENANT_ID}
        if resource["type"] == _COMPONENT:
            return {"ConnectionString": _connection_string(resource["id"]), "AppId": _guid("app", resource["id"])}
        return {}


def _connection_string(component_id: str) -> str:
    region = "https://westeurope-0.in.applicationinsights.azure.com/"
    return f"InstrumentationKey={_guid('key', component_id)};IngestionEndpoint={region}"


def _one(resources: Sequence[Json], kind: str) -> Json:
    found = [each for each in resources if each["type"] == kind]
    if len(found) != 1:
        raise DeploymentError(f"one resource of type {kind} is simulated, not {len(found)}")
    return found[0]


def _component(resources: Sequence[Json]) -> Component:
    resource = _one(resources, _COMPONENT)
    takes_keys = not resource["properties"].get("DisableLocalAuth", False)
    return Component(resource["id"], _connection_string(resource["id"]), takes_keys)


# -- the function app


def _site(resources: Sequence[Json], principals: Mapping[str, Principal], addresses: Addresses) -> Site:
    resource = _one(resources, _SITE)
    given = resource.get("identity", {})
    ids = list(given.get("userAssignedIdentities", {}))
    if given.get("type") != "UserAssigned" or len(ids) != 1:
        raise DeploymentError(f"{resource['name']}: one user-assigned identity is simulated")
    if ids[0].lower() not in principals:
        raise refused(resource["name"], "FailedIdentityOperation", f"its identity {ids[0]} is not deployed")
    config = resource["properties"]["functionAppConfig"]
    if config["runtime"]["name"] != "python":
        raise DeploymentError(f"{resource['name']}: the app is written in Python, not {config['runtime']['name']}")
    return Site(
        resource["id"],
        dict(_settings(resources, resource)),
        principals[ids[0].lower()],
        _package_container(resource["name"], config["deployment"]["storage"], identity_id=ids[0], addresses=addresses),
        bool(resource["properties"].get("virtualNetworkSubnetId")),
        _admits_event_grid(resource["properties"]),
    )


def _admits_event_grid(properties: Json) -> bool:
    """Event Grid calls from the internet: where the default is to deny, a rule may admit its service tag."""
    config = properties.get("siteConfig", {})
    denies = config.get("ipSecurityRestrictionsDefaultAction") == "Deny"
    rules = config.get("ipSecurityRestrictions") or []
    named = any(each["action"] == "Allow" and each["ipAddress"] == "AzureEventGrid" for each in rules)
    return properties.get("publicNetworkAccess") != "Disabled" and (named or not (denies or rules))


def _settings(resources: Sequence[Json], site: Json) -> Iterator[tuple[str, str]]:
    config = _one(resources, _CONFIG)
    if config["id"].lower() != f"{site['id']}/config/appsettings".lower():
        raise DeploymentError(f"{config['name']}: only the app settings of the site are simulated")
    for name, value in config["properties"].items():
        if not isinstance(value, str):
            raise refused(config["name"], "BadRequest", f"{name} is {value!r}, not a string")
        flex.require_setting(config["name"], name)
        yield name, value


def _package_container(name: str, given: Json, *, identity_id: str, addresses: Addresses) -> str:
    """The container from which the platform takes the code, by the app's identity."""
    entrance = given["authentication"]
    named = entrance.get("userAssignedIdentityResourceId", "").lower()
    if (given["type"], entrance["type"], named) != ("blobContainer", "UserAssignedIdentity", identity_id.lower()):
        raise DeploymentError(f"{name}: the simulator fetches the package from a container, by the app's identity only")
    base, _, container = given["value"].rpartition("/")
    if base.rstrip("/") != addresses["blob"]:
        raise DeploymentError(f"{name}: the package is in {given['value']}, not in the deployment's account")
    return str(container)
