"""POST /providers/Microsoft.ResourceGraph/resources: the query API over what the world was a while ago.

Simulated: the tables resources, resourcecontainers, patchassessmentresources and patchinstallationresources; lag;
retention; letter case of ids; paging and its traps; quota; missing rights. Not simulated: facets, history, other tables
(maintenanceresources is there and empty), the full scans that repair lost notifications, and what the evaluator in
simulator/resource_graph/kql leaves out. The text of refusals is inferred: Azure's is documented for none of them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from simulator.arm import machines, patching
from simulator.identity.tokens import TENANT_ID
from simulator.wire import Json, Refused, Request, Response, milliseconds
from simulator.world import LINUX_CLASSES, WINDOWS_CLASSES, Group, Machine, Operation, Patch, World

ASSESSMENTS_KEPT = timedelta(days=7)
INSTALLATIONS_KEPT = timedelta(days=30)
PAGE_ROWS = 100  # by default
PAGE_ROWS_AT_MOST = 1000
PATCH_ROWS_SHOWN = 3  # child rows per machine; Azure has one for every update

_MACHINE_READ = "Microsoft.Compute/virtualMachines/read"
_ASSESSMENT_READ = "Microsoft.Compute/virtualMachines/patchAssessmentResults/read"
_INSTALLATION_READ = "Microsoft.Compute/virtualMachines/patchInstallationResults/read"
_GROUP_READ = "Microsoft.Resources/subscriptions/resourceGroups/read"
_ORDERED = re.compile(r"\|\s*(order|sort)\s+by\b", re.IGNORECASE)
_LIMITED = re.compile(r"\|\s*(take|limit|sample)\b", re.IGNORECASE)
_COUNTS = ("notSelected", "excluded", "pending", "installed", "failed")


class Rights(Protocol):
    """What the caller of a query may read."""

    def permits(self, action: str, scope: str) -> bool:
        """Whether the caller has the permission."""
        ...

    def record(self, action: str, scope: str, shown: bool) -> None:
        """A row of a subscription was shown thanks to this permission, or hidden because it is missing."""
        ...


@dataclass
class Graph:
    """Resource Graph's own state. `lag_seconds` and `frozen_at` may be changed while it runs."""

    world: World
    lag_seconds: float
    frozen_at: datetime | None = None
    orphans_stay: bool = False  # patch rows of a deleted machine stay until they expire (Azure's way is not documented)
    queries: int = 0

    def __post_init__(self) -> None:
        self._finished: dict[str, list[Json]] = {}  # rows of assessments that are over: they never change again

    def freeze(self, at: datetime | None = None) -> None:
        """From now on every answer shows the world as it was at `at`."""
        self.frozen_at = at or self.seen_at

    def thaw(self) -> None:
        self.frozen_at = None

    @contextmanager
    def behind(self, seconds: float) -> Iterator[None]:
        """What is asked here is answered by a replica that is so far behind the others."""
        before = self.frozen_at
        self.frozen_at = self.seen_at - timedelta(seconds=seconds) if seconds else before
        try:
            yield
        finally:
            self.frozen_at = before

    @property
    def seen_at(self) -> datetime:
        """The moment that answers show."""
        return self.frozen_at or self.world.now() - timedelta(seconds=self.lag_seconds)

    def answer(self, request: Request, rights: Rights) -> Response:
        self.queries += 1
        asked = _Asked.read(request.json())
        scope = self._scope(asked, rights)
        columns, rows = self._evaluate(asked, scope, rights)
        return Response(200, _page(asked, columns, rows, self._shuffler(asked)))

    def _scope(self, asked: _Asked, rights: Rights) -> set[str]:
        """The subscriptions that are looked at: those asked for and readable, and no word about the others."""
        wanted = {each.lower() for each in asked.subscriptions}
        for group in asked.management_groups:
            wanted |= {each.lower() for each in self.world.management_groups.get(group, ())}
        if not asked.subscriptions and not asked.management_groups:
            wanted = set(self.world.subscriptions)
        readable = {each for each in wanted if self._reads_something(each, rights)}
        if not readable:
            text = "The caller does not have access to any of the subscriptions or management groups asked for."
            raise Refused(403, "AccessDenied", text)
        return readable

    def _reads_something(self, subscription: str, rights: Rights) -> bool:
        """A right on the subscription or on anything in it will do."""
        if any(rights.permits(action, f"/subscriptions/{subscription}") for action in (_MACHINE_READ, _GROUP_READ)):
            return True
        inside = [each for each in self.world.groups.values() if each.subscription.lower() == subscription]
        machines_inside = (each for each in self.world.machines.values() if each.subscription.lower() == subscription)
        return any(rights.permits(_GROUP_READ, each.id) for each in inside) or any(
            rights.permits(_MACHINE_READ, each.id) for each in machines_inside
        )

    def _evaluate(self, asked: _Asked, scope: set[str], rights: Rights) -> tuple[list[tuple[str, str]], list[Json]]:
        from simulator.resource_graph.kql import KqlError, Unsupported, evaluate

        try:
            result = evaluate(asked.query, Tables(self, scope, rights), now=self.world.now())
        except (KqlError, Unsupported) as error:
            text = "Please provide below info when asking for support: timestamp, correlationId."
            details = [{"code": "InvalidQuery", "message": f"Query is invalid. {error}"}]
            body = {"error": {"code": "BadRequest", "message": text, "details": details}}
            raise Refused(400, "BadRequest", str(error), body=body) from error
        return list(result.columns), result.rows

    def assessment_rows(self, machine: Machine, operation: Operation, when: datetime) -> list[Json]:
        """The row of an assessment, and those of a few of the updates that it found."""
        known = None if operation.runs_at(when) else self._finished.get(operation.operation_id)
        if known is not None:
            return known
        rows = [assessment_row(machine, operation, when), *_patch_rows(machine, operation, when)]
        if not operation.runs_at(when):
            self._finished[operation.operation_id] = rows
        return rows

    def _shuffler(self, asked: _Asked) -> random.Random | None:
        """Without an order each page is cut from another order: rows come twice or never, as documented."""
        return None if _ORDERED.search(asked.query) else random.Random(f"{asked.digest} {self.queries}")


@dataclass(frozen=True)
class _Asked:
    """A request, checked."""

    query: str
    subscriptions: tuple[str, ...]
    management_groups: tuple[str, ...]
    top: int
    skip: int
    token: str | None
    as_table: bool

    @classmethod
    def read(cls, body: Json) -> _Asked:
        query, options = body.get("query"), body.get("options") or {}
        if not isinstance(query, str) or not query.strip():
            raise Refused(400, "BadRequest", "The query is missing.")
        top = options.get("$top", PAGE_ROWS)
        if not isinstance(top, int) or not 1 <= top <= PAGE_ROWS_AT_MOST:
            raise Refused(400, "BadRequest", f"$top is {top}; it must be between 1 and {PAGE_ROWS_AT_MOST}.")
        form = options.get("resultFormat", "objectArray")
        if form not in ("objectArray", "table"):
            raise Refused(400, "BadRequest", f"resultFormat {form} is not known.")
        return cls(
            query,
            tuple(body.get("subscriptions") or ()),
            tuple(body.get("managementGroups") or ()),
            top,
            int(options.get("$skip") or 0),
            options.get("$skipToken") or None,
            form == "table",
        )

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr((self.query, self.subscriptions, self.management_groups)).encode()).hexdigest()

    def first(self) -> int:
        """The number of the first row wanted. A token is good for the query that it came from only."""
        if self.token is None:
            return self.skip
        try:
            token = json.loads(base64.urlsafe_b64decode(self.token))
            first, digest = int(token["first"]), token["query"]
        except (ValueError, KeyError, TypeError):
            raise Refused(400, "BadRequest", "The $skipToken is malformed.") from None
        if digest != self.digest:
            raise Refused(400, "BadRequest", "The $skipToken belongs to another query.")
        return first

    def token_for(self, first: int) -> str:
        return base64.urlsafe_b64encode(json.dumps({"first": first, "query": self.digest}).encode()).decode()


def _page(asked: _Asked, columns: list[tuple[str, str]], rows: list[Json], shuffler: random.Random | None) -> Json:
    first = asked.first()
    if shuffler and len(rows) > asked.top:
        shuffler.shuffle(rows)
    page = rows[first : first + asked.top]
    more = first + len(page) < len(rows)
    body: Json = {
        "totalRecords": len(rows),
        "count": len(page),
        "data": _as_table(columns, page) if asked.as_table else page,
        "facets": [],
        "resultTruncated": "true" if more else "false",
    }
    if more and any(name == "id" for name, _ in columns) and not _LIMITED.search(asked.query):
        body["$skipToken"] = asked.token_for(first + len(page))
    return body


def _as_table(columns: list[tuple[str, str]], rows: list[Json]) -> Json:
    names = [name for name, _ in columns]
    return {
        "columns": [{"name": name, "type": "object" if kind == "dynamic" else kind} for name, kind in columns],
        "rows": [[row[name] for name in names] for row in rows],
    }


def quota_headers(left: int, seconds: float) -> dict[str, str]:
    wait = max(0, math.ceil(seconds))
    clock = f"{wait // 3600:02d}:{wait // 60 % 60:02d}:{wait % 60:02d}"
    return {"x-ms-user-quota-remaining": str(left), "x-ms-user-quota-resets-after": clock}


# --- the tables ----------------------------------------------------------------------------------------------------


_Thing = TypeVar("_Thing", Machine, Group)


class _Rows(Sequence[Json]):
    """Rows that are made when somebody iterates over them, and not before: most queries look at one table of five."""

    def __init__(self, make: Callable[[], Iterable[Json]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Json]:
        return iter(self._make())

    def __len__(self) -> int:
        return sum(1 for _ in self._make())

    def __getitem__(self, index: Any) -> Any:
        return list(self._make())[index]


class Tables(Mapping[str, Sequence[Mapping[str, object]]]):
    """The rows that the caller may read."""

    def __init__(self, graph: Graph, scope: set[str], rights: Rights) -> None:
        self._when = graph.seen_at
        self._graph, self._world, self._scope, self._rights = graph, graph.world, scope, rights
        self._makers: dict[str, Callable[[], Iterable[Json]]] = {
            "resources": self._resources,
            "resourcecontainers": self._containers,
            "patchassessmentresources": self._assessments,
            "patchinstallationresources": self._installations,
            "maintenanceresources": lambda: (),
        }

    def __getitem__(self, table: str) -> Sequence[Json]:
        return _Rows(self._makers[table])

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def _resources(self) -> Iterator[Json]:
        for machine in self._readable(self._world.machines_at(self._when), _MACHINE_READ):
            yield machine_row(machine, self._when)

    def _containers(self) -> Iterator[Json]:
        for subscription in sorted(self._scope):
            yield _subscription_row(subscription, self._world.subscriptions.get(subscription, subscription))
        for group in self._readable(self._world.groups_at(self._when), _GROUP_READ):
            yield _group_row(group, self._when)

    def _assessments(self) -> Iterator[Json]:
        newest = {each: found for each in self._with_orphans() if (found := self._assessment(each))}
        for machine in self._readable(newest, _ASSESSMENT_READ):
            yield from self._graph.assessment_rows(machine, newest[machine], self._when)

    def _assessment(self, machine: Machine) -> Operation | None:
        """The one that there is a row of."""
        operation = machine.newest("assess", self._when)
        if operation is None or self._world.behaviour(machine).rows_missing:
            return None
        return operation if self._world.now() - _modified(operation, self._when) < ASSESSMENTS_KEPT else None

    def _installations(self) -> Iterator[Json]:
        kept = {each: found for each in self._with_orphans() if (found := self._installations_of(each))}
        for machine in self._readable(kept, _INSTALLATION_READ):
            for operation in kept[machine]:
                yield installation_row(machine, operation, self._when)

    def _installations_of(self, machine: Machine) -> list[Operation]:
        begun = (each for each in machine.operations if each.kind == "install" and each.started <= self._when)
        return [each for each in begun if self._world.now() - _modified(each, self._when) < INSTALLATIONS_KEPT]

    def _with_orphans(self) -> list[Machine]:
        if not self._graph.orphans_stay:
            return self._world.machines_at(self._when)
        every = [*self._world.gone, *self._world.machines.values()]
        return [each for each in every if each.created <= self._when]

    def _readable(self, found: Iterable[_Thing], action: str) -> Iterator[_Thing]:
        """Those that the caller may read. A right at the subscription is looked up once, whatever lies in it."""
        whole = {each: self._rights.permits(action, f"/subscriptions/{each}") for each in self._scope}
        counted: set[tuple[str, bool]] = set()
        for thing in found:
            subscription = thing.subscription.lower()
            if subscription not in self._scope:
                continue
            shown = whole[subscription] or self._rights.permits(action, thing.id)
            if (subscription, shown) not in counted:
                counted.add((subscription, shown))
                self._rights.record(action, f"/subscriptions/{subscription}", shown)
            if shown:
                yield thing


def _row(full_id: str, name: str, kind: str, location: str, **more: Any) -> Json:
    parts = full_id.split("/")
    return {
        "id": full_id,
        "name": name,
        "type": kind,
        "tenantId": TENANT_ID,
        "kind": "",
        "location": location,
        "resourceGroup": parts[4].lower() if len(parts) > 4 else "",
        "subscriptionId": parts[2],
        "managedBy": "",
        "sku": None,
        "plan": None,
        "properties": {},
        "tags": None,
        "identity": None,
        "zones": None,
        "extendedLocation": None,
    } | more


def machine_row(machine: Machine, when: datetime) -> Json:
    body = machines.document(machine, when, copied=False)
    shown = {name: body.get(name) for name in ("tags", "plan", "identity", "zones", "extendedLocation")}
    power = machines.power_state(machine, when)
    view = {"hyperVGeneration": "V2", "powerState": power, **machines.guest(machine)}
    return _row(
        machine.id,
        machine.name,
        "microsoft.compute/virtualmachines",
        str(body["location"]),
        **shown,
        managedBy=body.get("managedBy") or "",
        properties=body["properties"] | {"extended": {"instanceView": view}},
    )


def _group_row(group: Group, when: datetime) -> Json:
    body = group.body.at(when) or {}
    return _row(
        group.id,
        group.name,
        "microsoft.resources/subscriptions/resourcegroups",
        str(body.get("location", "")),
        tags=body.get("tags"),
        managedBy=body.get("managedBy") or "",
        properties={"provisioningState": "Succeeded"},
    )


def _subscription_row(subscription: str, name: str) -> Json:
    properties = {"state": "Enabled"}
    return _row(f"/subscriptions/{subscription}", name, "microsoft.resources/subscriptions", "", properties=properties)


def _patch_table_id(machine: Machine) -> str:
    """The machine part in another letter case than the machine's own id: what these tables are known for."""
    return machine.id.lower()


def _modified(operation: Operation, when: datetime) -> datetime:
    return operation.started if operation.runs_at(when) or operation.ends is None else operation.ends


def _common(operation: Operation, when: datetime) -> Json:
    return {
        "status": operation.status_at(when),
        "startedBy": operation.started_by,
        "startDateTime": milliseconds(operation.started),
        "lastModifiedDateTime": milliseconds(_modified(operation, when)),
        "osType": "Windows" if operation.windows else "Linux",
        "patchServiceUsed": "WU" if operation.windows else "APT",
        "errorDetails": None if operation.runs_at(when) else _error_details(operation),
    }


def _error_details(operation: Operation) -> Json | None:
    error = patching.result(operation)["error"]
    return None if not error["details"] else error


def assessment_row(machine: Machine, operation: Operation, when: datetime) -> Json:
    runs = operation.runs_at(when)
    result = patching.result(operation)
    found = [] if runs else result["availablePatches"]
    classes = WINDOWS_CLASSES if operation.windows else LINUX_CLASSES
    counts = {key: sum(patch["classifications"] == [name] for patch in found) for key, name in classes.items()}
    properties = _common(operation, when) | {
        "assessmentActivityId": operation.operation_id,
        "rebootPending": False if runs else result["rebootPending"],
        "availablePatchCountByClassification": counts,
    }
    state = _support_state(operation, runs)
    if state is not None:
        properties["configurationStatus"] = {"vmGuestPatchReadiness": {"detectedVMGuestPatchSupportState": state}}
    kind = "microsoft.compute/virtualmachines/patchassessmentresults"
    full_id = f"{_patch_table_id(machine)}/patchAssessmentResults/latest"
    return _row(full_id, operation.operation_id, kind, machine.region, properties=properties)


def _support_state(operation: Operation, runs: bool) -> str | None:
    """No verdict before the assessment is over, and none from one that something else ended (inferred)."""
    state = operation.behaviour.support_state
    if state is None:
        return None
    return "Unknown" if runs or operation.ended_by else state


def _patch_rows(machine: Machine, operation: Operation, when: datetime) -> Iterator[Json]:
    if operation.runs_at(when) or not patching.result(operation)["availablePatches"]:
        return
    kind = "microsoft.compute/virtualmachines/patchassessmentresults/softwarepatches"
    for patch in operation.waiting[:PATCH_ROWS_SHOWN]:
        full_id = f"{_patch_table_id(machine)}/patchAssessmentResults/latest/softwarePatches/{patch.id}"
        properties = _patch_properties(patch, operation)
        yield _row(full_id, patch.id, kind, machine.region, properties=properties)


def _patch_properties(patch: Patch, operation: Operation) -> Json:
    return {
        "lastModifiedDateTime": milliseconds(operation.ends or operation.started),
        "publishedDateTime": "2024-11-12T00:00:00.000Z" if operation.windows else None,
        "classifications": [patch.classification],
        "rebootRequired": False,
        "rebootBehavior": "CanRequestReboot" if operation.behaviour.needs_reboot else "NeverReboots",
        "patchName": patch.name,
        "patchId": patch.id,
        "kbId": patch.kb or None,
        "version": patch.version or None,
        "msrcSeverity": None,
    }


def installation_row(machine: Machine, operation: Operation, when: datetime) -> Json:
    runs, result = operation.runs_at(when), patching.result(operation)
    properties = _common(operation, when) | {
        "installationActivityId": operation.operation_id,
        "maintenanceWindowExceeded": False if runs else result["maintenanceWindowExceeded"],
        "rebootStatus": "NotNeeded" if runs else result["rebootStatus"],
        "maintenanceRunId": "",
    }
    properties |= {f"{name}PatchCount": 0 if runs else result[f"{name}PatchCount"] for name in _COUNTS}
    kind = "microsoft.compute/virtualmachines/patchinstallationresults"
    full_id = f"{_patch_table_id(machine)}/patchInstallationResults/{operation.operation_id}"
    return _row(full_id, operation.operation_id, kind, machine.region, properties=properties)
