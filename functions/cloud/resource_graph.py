"""Azure Resource Graph: lists machines, and is the only service that shows the support state.

Every page or an error: a query that fails, is cut short or repeats a token raises, and never reads as "no machines".
A row about one machine that cannot be read is reported and left out; the others count.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from functions import journal
from functions.cloud import queries
from functions.cloud.errors import Refused, Throttled, Unavailable
from functions.cloud.models import (
    arc_machine_from_graph,
    assignment_from_graph,
    image_size_from_graph,
    machine_from_graph,
    resource_group_from_json,
    scale_set_from_json,
    time_or_none,
    unknown_support_state,
)
from functions.cloud.session import Session
from functions.model.machine import (
    CLASSIFICATIONS,
    Assignment,
    Machine,
    MachineId,
    OldestPatches,
    PatchStatus,
    Provider,
    ResourceGroup,
    ScaleSet,
    SupportState,
    WaitingPatch,
    group_id,
    is_count,
    on_linux,
    subscription_in,
)
from functions.model.text import BadInput, Json, quoted
from functions.policy.freshness import UNSUPPORTED_EVERY, at_least_daily, slot_length
from functions.policy.grammar import ALWAYS
from functions.policy.settings import Settings
from functions.policy.values import Mode

if TYPE_CHECKING:
    from azure.mgmt.resourcegraph.aio import ResourceGraphClient

API_VERSION = "2021-03-01"
ROWS_PER_PAGE = 1000  # the most that Resource Graph returns
MAX_PAUSES_PER_PAGE = 5
MAX_PAUSE_SECONDS = 10.0
IDS_PER_QUERY = 250  # Resource Graph allows fewer than 300
_ID_SHOWN = 400  # characters of an id that cannot be read: its name comes last
CENSUS_SHARES = 256  # by the first two digits of the machines' VM ids
COUNTS_SHOWN = ROWS_PER_PAGE - 1  # one row more is asked for: it says that there are more
RowValue = TypeVar("RowValue")
_ARC = f"/{Provider.ARC}/"  # in an id
_TOO_LARGE = "ResponsePayloadTooLarge"
_KQL_NAMES = {"UpdateRollUp": "update_rollup", "FeaturePack": "feature_pack", "ServicePack": "service_pack"}


@dataclass(frozen=True)
class SeenInstallation:
    """One installation as Graph shows it."""

    operation_id: str
    status: str
    started: datetime | None


@dataclass(frozen=True)
class Member:
    """One machine of a patch-group. One that cannot be read may be off."""

    machine: MachineId | None
    group: str
    running: bool
    subscription: str  # "" where its id does not say: it may be of any


@dataclass(frozen=True)
class _Page:
    rows: list[object]
    next_token: str | None
    cut_short: bool


class ResourceGraph:
    """One per process. Every method raises only the exceptions of cloud/errors.py."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client: ResourceGraphClient | None = None
        self._reported: set[str] = set()  # support states that this app does not know

    async def due_machines(
        self, created_after: datetime, now: datetime, *, whatever_window: bool = False
    ) -> AsyncIterator[Machine]:
        """The machines that may need something now: a superset of those for which decision.py starts an operation.

        `whatever_window`: also those that only wait for their window.
        """
        settings = self._session.settings
        asked = {*settings.classifications, *on_linux(settings.classifications)}
        wanted = {name: name in asked for name in CLASSIFICATIONS}
        every = _time_between(settings, now)
        common: dict[str, queries.Value] = {
            "assessed_before": now - every,
            "next_slot_before": now - every + slot_length(every),
            "unsupported_before": now - UNSUPPORTED_EVERY,
            "window_open": whatever_window or settings.some_window_open(now),
            "installs": settings.mode in (Mode.INSTALL, Mode.PLAN),
            "any_class": bool(settings.packages_include),
            **{_KQL_NAMES.get(name, name.lower()): flag for name, flag in wanted.items()},
        }
        query = queries.fill(
            "due_machines",
            **common,
            created_after=created_after,
            any_age=created_after <= ALWAYS,
            young_after=now - settings.first_span,
            all_images=settings.all_images,
        )
        async for machine in self._machines(query):
            yield machine
        if settings.include_arc:
            async for machine in self._machines(queries.fill("arc_due", **common)):
                yield machine

    def stopped_machines(self, created_after: datetime) -> AsyncIterator[Machine]:
        """The deallocated machines that may be started to patch them: a superset of those that are."""
        query = queries.fill(
            "stopped_machines",
            created_after=created_after,
            any_age=created_after <= ALWAYS,
            all_images=self._session.settings.all_images,
        )
        return self._machines(query)

    async def named_machines(self, ids: Iterable[str]) -> AsyncIterator[Machine]:
        """These machines as Graph shows them now, without those that Graph does not show."""
        named = list(ids)
        for query, wanted in (("named_machines", False), ("arc_named", True)):
            for batch in batches(each for each in named if (_ARC in each.lower()) is wanted):
                async for machine in self._machines(queries.fill(query, ids=batch)):
                    yield machine

    async def census(self, shares: Iterable[int] = range(CENSUS_SHARES)) -> AsyncIterator[Machine]:
        """The machines in scope, or these shares of them, each about 1/256 of a fleet."""
        for batch in batches(f"{share:02x}" for share in shares):
            for query in ("census", "arc_census") if self._session.settings.include_arc else ("census",):
                async for machine in self._machines(queries.fill(query, shares=batch)):
                    yield machine

    async def oldest_patches(self, ids: Iterable[str]) -> dict[str, OldestPatches]:
        """When the oldest pending Critical and Security patches were published, by lower-cased machine id.

        Linux package managers publish no such time: their machines are missing.
        """
        oldest: dict[str, OldestPatches] = {}
        for batch in batches(ids):
            async for machine, at in self._values(queries.fill("oldest_patches", ids=batch), _published):
                oldest[machine] = oldest.get(machine, OldestPatches()).with_older(at)
        return oldest

    async def last_installations(self, ids: Iterable[str]) -> dict[str, datetime]:
        """When the newest installation that did not fail began, by lower-cased machine id. Graph keeps them 30 days.

        It is picked here because Resource Graph does not page a summarize.
        """
        times: dict[str, datetime] = {}
        for batch in batches(ids):
            async for machine, at in self._values(queries.fill("last_installations", ids=batch), _machine_time):
                if at:
                    times[machine] = max(times.get(machine, at), at)
        return times

    async def group_members(self, names: Collection[str]) -> AsyncIterator[Member]:
        """The machines of these patch-groups; a machine without the tag inherits it from its resource group.

        A row that cannot be read is reported, and counts as a member that is off: no other member may start beside it.
        """
        arc = self._session.settings.include_arc
        for batch in batches(names):
            tagged: dict[str, str] = {}
            async for row in self.rows(queries.fill("groups_tagged", names=batch)):
                try:
                    tagged[group_id(row.get("id"))] = str(row.get("patch_group"))
                except BadInput as error:
                    for member in _unreadable_members(row, str(row.get("patch_group") or ""), batch, error=error):
                        yield member
            # No resource group has the tag: the query still needs a list of ids, and the names match no id.
            for ids in list(batches(tagged)) or [batch]:
                async for row in self.rows(queries.fill("group_members", names=batch, group_ids=ids, arc=arc)):
                    try:
                        yield _member(row, tagged)
                    except BadInput as error:
                        for member in _unreadable_members(row, _group_of(row, tagged), batch, error=error):
                            yield member

    async def resource_groups(self, ids: Iterable[str]) -> dict[str, ResourceGroup]:
        """Resource groups by lower-cased id."""
        found: dict[str, ResourceGroup] = {}
        for batch in batches(ids):
            async for name, group in self._values(queries.fill("groups_named", ids=batch), _group):
                found[name] = group
        return found

    async def scale_sets(self, ids: Iterable[str]) -> dict[str, ScaleSet]:
        """The rules of these scale sets, by lower-cased id. One that the identity may not read is missing."""
        found: dict[str, ScaleSet] = {}
        for batch in batches(ids):
            async for name, rules in self._values(queries.fill("scale_sets_named", ids=batch), scale_set_from_json):
                found[name] = rules
        return found

    async def installations(self, ids: Iterable[str]) -> dict[str, list[SeenInstallation]]:
        """The installations on these machines that Graph shows, by lower-cased machine id."""
        found: dict[str, list[SeenInstallation]] = {}
        for batch in batches(ids):
            async for machine, seen in self._values(queries.fill("installations_of", ids=batch), _installation):
                found.setdefault(machine, []).append(seen)
        return found

    async def with_results(self, machine: Machine) -> Machine:
        """An Arc-enabled server with its newest assessment and installation: only Graph shows them."""
        found = [each async for each in self.named_machines([str(machine.id)])]
        verdict = found[0].verdict if found else None
        seen = [each for each in (await self.installations([str(machine.id)])).get(str(machine.id), []) if each.started]
        newest = max(seen, key=lambda each: each.started or ALWAYS, default=None)
        assessment = installation = None
        if verdict and verdict.assessment_id:
            assessment = PatchStatus(verdict.assessment_id, verdict.status, verdict.assessed, None)
        if newest:
            installation = PatchStatus(newest.operation_id, newest.status, newest.started, None)
        return replace(machine, assessment=assessment, installation=installation)

    async def schedules_of(self, ids: Iterable[str]) -> list[Assignment]:
        """The maintenance configurations assigned to these ids: machines, resource groups and subscriptions.

        Rows that the identity may not read are left out without a word: see ResourceManager.reads_schedules().
        """
        return [
            assignment_from_graph(row)
            for batch in batches(ids)
            async for row in self.rows(queries.fill("schedules_of", ids=batch))
        ]

    async def schedule_runs(self, ids: Iterable[str]) -> set[str]:
        """Those of these machines, lower-cased ids, that a maintenance configuration installed in the last 30 days."""
        return {
            machine
            for batch in batches(ids)
            async for machine in self._values(queries.fill("schedule_runs_of", ids=batch), _machine_of)
        }

    async def patches_of(self, ids: Iterable[str]) -> dict[str, list[WaitingPatch]]:
        """The patches that wait on these machines, by lower-cased machine id."""
        found: dict[str, list[WaitingPatch]] = {}
        for batch in batches(ids):
            async for machine, patch in self._values(queries.fill("patches_of", ids=batch), _patch):
                found.setdefault(machine, []).append(patch)
        return found

    async def fleet_counts(self) -> tuple[list[Json], bool]:
        """Machines by support state and image: rows of state_name, image_name, machines, the largest first.

        At most COUNTS_SHOWN, and whether there are more: Resource Graph gives one page of a summarize. Arc-enabled
        servers come after them, where they are taken in, by their system.
        """
        page, _ = await self._page(queries.fill("fleet_counts"), None)
        rows: list[Json] = [row for row in page.rows[:COUNTS_SHOWN] if isinstance(row, dict)]
        cut = page.cut_short or len(page.rows) > COUNTS_SHOWN
        if self._session.settings.include_arc:
            servers, _ = await self._page(queries.fill("arc_counts"), None)
            rows += [row for row in servers.rows if isinstance(row, dict)]
        return rows, cut

    async def image_sizes(self, created_after: datetime) -> dict[str, int]:
        """How many machines are in scope, by the key of their image; "" has those without one.

        At most ROWS_PER_PAGE rows, the largest: Resource Graph gives one page of a summarize. What is left out counts
        as no machine, so a cap in percent is narrower there, never wider.
        """
        sizes: dict[str, int] = {}
        query = queries.fill(
            "image_sizes",
            created_after=created_after,
            any_age=created_after <= ALWAYS,
            all_images=self._session.settings.all_images,
            arc=self._session.settings.include_arc,
        )
        async for key, machines in self._values(query, image_size_from_graph):
            sizes[key] = sizes.get(key, 0) + machines
        return sizes

    async def arc_servers(self) -> tuple[int, int]:
        """How many Arc-enabled servers there are, and how many are connected, whether PATCH_ARC is on or off."""
        page, _ = await self._page(queries.fill("arc_servers"), None)
        row = next((row for row in page.rows if isinstance(row, dict)), {})
        servers, connected = row.get("servers"), row.get("connected")
        return (servers if is_count(servers) else 0), (connected if is_count(connected) else 0)

    async def unseen(self, subscriptions: Iterable[str]) -> list[str]:
        """Which of these subscriptions show no resource group: the identity may not read them, or they are empty."""
        missing: list[str] = []
        for batch in batches(subscriptions):
            seen = {
                str(row.get("subscription"))
                async for row in self.rows(queries.fill("subscriptions_seen", subscriptions=batch))
            }
            missing += [each for each in batch if each not in seen]
        return missing

    async def rows(self, query: str) -> AsyncIterator[Json]:
        """The rows of every page of a query, as Graph has them."""
        async for rows in self._pages(query):
            for row in rows:
                yield row

    async def _machines(self, query: str) -> AsyncIterator[Machine]:
        """One machine per id. Rows arrive sorted by id; of several assessments of a machine the newest counts."""
        newest: Machine | None = None
        async for rows in self._pages(query):
            for machine in _readable(rows, self._machine):
                if newest is None or newest.id != machine.id:
                    if newest is not None:
                        yield newest
                    newest = machine
                elif _assessed(machine) >= _assessed(newest):
                    newest = machine
        if newest is not None:
            yield newest

    def _machine(self, row: Json) -> Machine:
        """The machine of a row. A support state that only a later Azure knows is reported once."""
        machine = (arc_machine_from_graph if _ARC in str(row.get("id")).lower() else machine_from_graph)(row)
        if machine.verdict and machine.verdict.state is SupportState.UNKNOWN:
            self._report_unknown(machine.id, unknown_support_state(row))
        return machine

    def _report_unknown(self, machine: MachineId, state: str) -> None:
        if state and state not in self._reported:
            self._reported.add(state)
            problem = f"support state {quoted(state)} is not known; it is read as Unknown"
            journal.write("machine.unreadable", where="Resource Graph", machine=machine, problem=problem)

    async def _values(self, query: str, read: Callable[[Json], RowValue]) -> AsyncIterator[RowValue]:
        """The value of each row that can be read."""
        async for rows in self._pages(query):
            for value in _readable(rows, read):
                yield value

    async def _pages(self, query: str) -> AsyncIterator[Iterator[Json]]:
        """The rows of each page. One that is not a JSON object comes as an empty one, which no reader can read."""
        token: str | None = None
        tokens: set[str] = set()
        size = ROWS_PER_PAGE
        while True:
            page, size = await self._page(query, token, size)
            size = min(2 * size, ROWS_PER_PAGE)
            yield (row if isinstance(row, dict) else {} for row in page.rows)
            token = page.next_token
            if not token:
                if page.cut_short:
                    raise Unavailable("querying Resource Graph: the answer was cut short and names no next page")
                return
            if token in tokens:
                raise Unavailable("querying Resource Graph: a page repeats the token of an earlier one")
            tokens.add(token)

    async def _page(self, query: str, token: str | None, size: int = ROWS_PER_PAGE) -> tuple[_Page, int]:
        """One page. Waits out short throttling: 15 queries in 5 s are allowed, and a page is worth a few seconds.

        An answer over Resource Graph's limit of 16 MiB is asked for again in smaller pages. Returns how many rows were
        asked for, too: the next page of the query asks for twice as many again.
        """
        pauses = 0
        while True:
            try:
                return await self._send(self._request(query, token, size)), size
            except Throttled as throttled:
                pauses += 1
                if pauses > MAX_PAUSES_PER_PAGE or throttled.retry_after_seconds > MAX_PAUSE_SECONDS:
                    raise
                await self._session.sleep(max(throttled.retry_after_seconds, 1.0))
            except Refused as refused:
                if _TOO_LARGE not in refused.codes or size == 1:
                    raise
                size //= 2

    def _request(self, query: str, token: str | None, size: int) -> Json:
        """The body that asks for one page of a query, over the scope of the settings."""
        scope = self._session.settings.scope
        where = {"subscriptions": scope.subscriptions, "managementGroups": scope.management_groups}
        options = {"$top": size, "$skipToken": token, "resultFormat": "objectArray"}
        return {
            "query": query,
            **{name: list(ids) for name, ids in where.items() if ids},
            "options": {name: value for name, value in options.items() if value is not None},
        }

    async def _send(self, body: Json) -> _Page:
        """One page, through the pipeline of the SDK's client but past its method `resources()`.

        That one builds a model of every value of every row, which takes five times the rest of a sweep's reading.
        """
        from azure.core.rest import HttpRequest

        url, version = "/providers/Microsoft.ResourceGraph/resources", {"api-version": API_VERSION}
        async with self._session.call("querying Resource Graph"):
            answer = await self._graph()._send_request(HttpRequest("POST", url, params=version, json=body))
            answer.raise_for_status()
            content = answer.json() if answer.status_code == 200 else None  # a redirect is not followed
        if (answer.headers.get("x-ms-tenant-subscription-limit-hit") or "").lower() == "true":
            raise Unavailable(
                "querying Resource Graph: over 10,000 subscriptions; name management groups in PATCH_SCOPE"
            )
        return _page_of(content)

    def _graph(self) -> ResourceGraphClient:
        if self._client is None:
            from azure.mgmt.resourcegraph.aio import ResourceGraphClient

            self._client = ResourceGraphClient(self._session.credential, **self._session.arm_options())
        return self._client


def _page_of(content: object) -> _Page:
    """Raises Unavailable for an answer that is not a page, or names its next one in a way that cannot be read."""
    if not isinstance(content, dict) or not isinstance(rows := content.get("data"), list):
        raise Unavailable("querying Resource Graph: the answer has no list of rows")
    token = content.get("$skipToken")
    if not isinstance(token, str | None):
        raise Unavailable("querying Resource Graph: the token of the next page is not a text")
    return _Page(rows, token or None, cut_short=str(content.get("resultTruncated")).lower() == "true")


def _time_between(settings: Settings, now: datetime) -> timedelta:
    """The least time between assessments of any machine, slots apart: a tag only narrows a window."""
    if settings.mode not in (Mode.INSTALL, Mode.PLAN):
        return settings.assess_every
    return at_least_daily(settings.assess_every, settings.windows, settings.blackouts, now=now)


def _machine_of(row: Json) -> str:
    return str(MachineId.parse(row.get("machine")))


def _machine_time(row: Json) -> tuple[str, datetime | None]:
    return _machine_of(row), time_or_none(row.get("at"))


def _published(row: Json) -> tuple[str, OldestPatches]:
    at = time_or_none(row.get("at"))
    return _machine_of(row), OldestPatches(critical=at) if row.get("critical") is True else OldestPatches(security=at)


def _group(row: Json) -> tuple[str, ResourceGroup]:
    return group_id(row.get("id")), resource_group_from_json(row)


def _group_of(row: Json, tagged: Mapping[str, str]) -> str:
    """The patch-group of a member; "" where it cannot be read. `tagged`: that of each tagged resource group, by id."""
    with suppress(BadInput):
        return str(row.get("own_group") or "") or tagged.get(group_id(row.get("group_id")), "")
    return ""


def _unreadable_members(row: Json, group: str, asked: Iterable[str], *, error: BadInput) -> list[Member]:
    """A member that cannot be read, of its patch-group; of each that was asked for where it does not say which."""
    _report_unreadable(row, error)
    subscription = subscription_in(row.get("id"))
    return [Member(None, name, running=False, subscription=subscription) for name in ([group] if group else asked)]


def _readable(rows: Iterable[Json], read: Callable[[Json], RowValue]) -> Iterator[RowValue]:
    """The value of each row. A row that cannot be read is reported and left out."""
    for row in rows:
        try:
            value = read(row)
        except BadInput as error:
            _report_unreadable(row, error)
            continue
        yield value


def _report_unreadable(row: Json, error: BadInput) -> None:
    name = quoted(row.get("id"), limit=_ID_SHOWN)
    journal.write("machine.unreadable", where="Resource Graph", machine=name, problem=error)


def _member(row: Json, tagged: Mapping[str, str]) -> Member:
    """Raises BadInput."""
    group = _group_of(row, tagged)
    if not group:
        raise BadInput(f"a member of a patch-group names no group, and its own is {quoted(row.get('group_id'))}")
    running = str(row.get("power_code")).lower() == "powerstate/running"
    machine = MachineId.parse(row.get("id"))
    return Member(machine, group, running, machine.subscription)


def _installation(row: Json) -> tuple[str, SeenInstallation]:
    operation_id, status = str(row.get("operation_id") or "").lower(), str(row.get("status") or "")
    seen = SeenInstallation(operation_id, status, time_or_none(row.get("started")))
    return _machine_of(row), seen


def _patch(row: Json) -> tuple[str, WaitingPatch]:
    listed = row.get("classes")
    classes = tuple(str(each).lower() for each in (listed if isinstance(listed, list) else [listed]))
    name, kb, version = (str(row.get(part) or "") for part in ("name", "kb", "version"))
    return _machine_of(row), WaitingPatch(name, kb, version, classes)


def _assessed(machine: Machine) -> str:
    assessed = machine.verdict.assessed if machine.verdict else None
    return assessed.isoformat() if assessed else ""


def batches(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids without duplicates, in lists short enough for one query."""
    rest = iter(dict.fromkeys(ids))
    while batch := list(islice(rest, IDS_PER_QUERY)):
        yield batch
