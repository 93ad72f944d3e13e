"""What a run of a deployment lacked, and what it was given but did not need.

Each finding is one line that names the thing: an action, a queue, a setting, a value of a filter. Nothing here knows
what the app should do: a run with nothing missing and nothing unused shows that deployment and app fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from simulator.azure import Azure
from simulator.deployment import roles
from simulator.deployment.deployed import Deployed
from simulator.event_grid.delivery import EventGrid
from simulator.event_grid.subscriptions import Filter
from simulator.functions_host import FunctionsHost
from simulator.storage.azurite import StorageCall
from simulator.wire import Json

_HOSTS_OWN = ("azure-webjobs-hosts", "azure-webjobs-secrets")  # containers that the Functions host creates itself
_NO_NAME = ("Tables", "$batch")  # the list of tables; a transaction, whose body alone names its table


@dataclass(frozen=True)
class Usage:
    """Everything that recorded a run."""

    deployed: Deployed
    azure: Azure
    grid: EventGrid
    hosts: Sequence[FunctionsHost]
    calls: Mapping[StorageCall, int]

    def missing(self) -> list[str]:
        """What something needed and did not have. The app's own journal, which says more, is not read here."""
        parts = (
            self._permissions_missing,
            self._storage_missing,
            self._services_closed,
            self._hosts_failed,
            self._events_refused,
            self._dead_letters_lost,
        )
        return sorted({line for part in parts for line in part()})

    def unused(self) -> list[str]:
        """What nothing needed."""
        parts = (
            self._actions_unused,
            self._roles_unused,
            self._storage_unused,
            self._settings_unused,
            self._filters_unused,
        )
        return sorted({line for part in parts for line in part()})

    # --- missing ---

    def _permissions_missing(self) -> Iterator[str]:
        for check, granted in self.azure.permission_checks.items():
            if not granted and check.client_id in self.deployed.identities:
                yield f"no role of the app's identity has the action {check.action} at {check.scope}"

    def _storage_missing(self) -> Iterator[str]:
        names = {name for kind in self.deployed.plan.account.names.values() for name in kind}
        for call in self.calls:
            if call.name not in names and call.name not in (*_HOSTS_OWN, *_NO_NAME):
                yield f"{call.name} is used in the storage account and not deployed ({call.method}: {call.status})"

    def _services_closed(self) -> Iterator[str]:
        for each in self.deployed.closed:
            if each.requests:
                yield f"the {each.service} answered {each.code} to {each.requests[0]}"

    def _hosts_failed(self) -> Iterator[str]:
        for host in self.hosts:
            if host.telemetry_refused:
                yield f"Application Insights keeps nothing: {host.telemetry_refused}"
            if host.error:
                yield f"the host is {host.state}: {host.error}"
            for function in host.functions.values():
                if function.error:
                    yield f"the function {function.name} does not run: {function.error}"
            for each in host.invocations:
                if each.ok is False:
                    yield f"{each.function} failed: {each.error}"

    def _events_refused(self) -> Iterator[str]:
        for attempt in self.grid.attempts:
            if attempt.status == 403:
                yield f"Event Grid was refused (403) where {attempt.subscription} delivers"

    def _dead_letters_lost(self) -> Iterator[str]:
        for event in self.grid.dropped:
            yield f"no dead letter could be written of an event about {event['subject']}"

    # --- unused ---

    def _actions_unused(self) -> Iterator[str]:
        checks = [check for check, granted in self.azure.permission_checks.items() if granted]
        needed = {each.action.lower() for each in checks if each.client_id in self.deployed.identities}
        for assignment in self.deployed.plan.assignments:
            for pattern in assignment.role.actions:
                if not any(fnmatchcase(action, pattern.lower()) for action in needed):
                    yield f"nothing needed the action {pattern} of {assignment}"

    def _roles_unused(self) -> Iterator[str]:
        """A role for data is unused when no use depends on it alone."""
        assignments = self.deployed.plan.assignments
        depending = [roles.allowing(assignments, use) for use in self.deployed.data_uses]
        for assignment in assignments:
            if assignment.role.data_actions and [assignment] not in depending:
                yield f"nothing needed {assignment}"

    def _storage_unused(self) -> Iterator[str]:
        used = {call.name for call in self.calls if call.inside}
        for kind, names in self.deployed.plan.account.names.items():
            yield from (f"nothing used the {kind} {name}" for name in names if name not in used)

    def _settings_unused(self) -> Iterator[str]:
        read = {name for host in self.hosts for name in host.settings.read}
        for name in self.deployed.plan.site.settings:
            if name not in read:
                yield f"nothing read the setting {name}"

    def _filters_unused(self) -> Iterator[str]:
        for subscription in self.deployed.subscribed:
            passed = [event for event in self.azure.events if subscription.wants(event)]
            for kind in subscription.included_event_types:
                if not any(event["eventType"] == kind for event in passed):
                    yield f"no event of the type {kind} passed {subscription.name}"
            for each in subscription.filters:
                for value in _unused_values(each, passed):
                    yield f"no event passed {subscription.name} by {value}"


def _unused_values(each: Filter, passed: Sequence[Json]) -> list[str]:
    """The values by which no event passed. A filter with Not in its name passes events that have none of its values."""
    if each.operator.startswith("StringNot"):
        return []
    return [value for value in each.values if not any(each.matches(event, value) for event in passed)]
