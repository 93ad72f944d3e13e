"""Azure Resource Graph: lists machines, and is the only service that shows the support state.

Every page or an error: a query that fails, is cut short or repeats a token raises, and never reads as "no machines".
A row about one machine that cannot be read is reported and left out; the others count.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from functions import journal
from functions.cloud import queries
from functions.cloud.errors import Throttled, Unavailable
from functions.cloud.models import group_from_json, machine_from_graph, time_or_none
from functions.cloud.session import Session
from functions.model.machine import CLASSIFICATIONS, Group, Machine, MachineId, group_id
from functions.model.text import BadInput, Json, quoted
from functions.policy.settings import Mode

ROWS_PER_PAGE = 1000  # the most that Resource Graph gives


PATIENCE = 5  # pauses for one page


MAX_PAUSE_SECONDS = 10.0


IDS_PER_QUERY = 250  # it asks for fewer than 300 ids a query


Seen = TypeVar("Seen")


_KQL_NAMES = {"UpdateRollUp": "update_rollup", "FeaturePack": "feature_pack", "ServicePack": "service_pack"}


@dataclass(frozen=True)
class SeenInstallation:
    """One installation as Graph shows it."""

    operation_id: str
    status: str
    started: datetime | None


@dataclass(frozen=True)
class Member:
    """One machine of a patch-group."""

    machine: MachineId
    group: str
    running: bool


class ResourceGraph:
    """One per process. Every method raises the exceptions of cloud/errors.py only."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client: Any = None

    async def due_machines(self, created_after: datetime, now: datetime) -> AsyncIterator[Machine]:
        """The machines that may need something now: a superset of what decision.py will say."""
        settings = self._session.settings
        wanted = {name: name in settings.classifications for name in CLASSIFICATIONS}
        query = queries.fill(
            "due_machines",
            created_after=created_after,
            reassess_before=now - settings.min_interval,
            # A plan names those that wait for their window too.
            window_open=settings.mode is Mode.PLAN
            or settings.window is None
            or settings.window.closes(now, settings.blackouts) is not None,
            young_after=now - settings.first_span,
            all_images=settings.all_images,
            installs=settings.mode in (Mode.INSTALL, Mode.PLAN),
            any_class=bool(settings.packages_include),
            **{_KQL_NAMES.get(name, name.lower()): flag for name, flag in wanted.items()},
        )
        async for machine in self._machines(query):
            yield machine

    async def named_machines(self, ids: Iterable[str]) -> AsyncIterator[Machine]:
        """These machines as Graph shows them now. One that Graph does not show is missing from the answer."""
        for batch in batches(ids):
            async for machine in self._machines(queries.fill("named_machines", ids=batch)):
                yield machine

    async def census(self) -> AsyncIterator[Machine]:
        """Every machine in scope."""
        async for machine in self._machines(queries.fill("census")):
            yield machine

    async def oldest_patches(self) -> dict[str, datetime]:
        """When the oldest pending Critical or Security patch was published, by lower-cased machine id.

        Linux package managers publish no such time: their machines are missing.
        """
        return await self._times(queries.fill("oldest_patches"), min)

    async def last_installations(self) -> dict[str, datetime]:
        """When the newest installation that did not fail began, by lower-cased machine id; Graph keeps 30 days."""
        return await self._times(queries.fill("last_installations"), max)

    async def _times(self, query: str, pick: Callable[[datetime, datetime], datetime]) -> dict[str, datetime]:
        """One time a machine. Picked here: Resource Graph pages no summarize."""
        times: dict[str, datetime] = {}
        async for machine, at in self._readable(
            query, lambda row: (str(row.get("machine")), time_or_none(row.get("at")))
        ):
            if at:
                times[machine] = pick(times.get(machine, at), at)
        return times

    async def group_members(self, names: Collection[str]) -> AsyncIterator[Member]:
        """The machines of these patch-groups, tagged themselves or by their resource group.

        Raises BadInput: a member that cannot be read might be off, and its neighbours must not go then.
        """
        for batch in batches(names):
            tagged = {
                str(row.get("id")).lower(): str(row.get("patch_group"))
                async for row in self._rows(queries.fill("groups_tagged", names=batch))
            }
            for ids in list(batches(tagged)) or [batch]:  # no such group: the names, which are nobody's id
                async for row in self._rows(queries.fill("group_members", names=batch, group_ids=ids)):
                    machine = MachineId.parse(row.get("id"))
                    group = str(row.get("own_group") or "") or tagged.get(str(row.get("group_id")), "")
                    if not group:
                        raise BadInput(
                            f"a member of a patch-group names no group, and its own is {quoted(row.get('group_id'))}"
                        )
                    running = str(row.get("power_code")).lower() == "powerstate/running"
                    yield Member(machine, group, running)

    async def groups(self, ids: Iterable[str]) -> dict[str, Group]:
        """Resource groups by lower-cased id."""
        found: dict[str, Group] = {}
        for batch in batches(ids):
            query = queries.fill("groups_named", ids=batch)
            async for name, group in self._readable(query, lambda row: (group_id(row.get("id")), group_from_json(row))):
                found[name] = group
        return found

    async def installations(self, ids: Iterable[str]) -> dict[str, list[SeenInstallation]]:
        """The installations that Graph shows of these machines, by lower-cased machine id."""
        found: dict[str, list[SeenInstallation]] = {}
        for batch in batches(ids):
            async for machine, seen in self._readable(queries.fill("installations_of", ids=batch), _installation):
                found.setdefault(machine, []).append(seen)
        return found

    async def fleet_counts(self) -> list[Json]:
        """Machines by support state and image: rows of state_name, image_name, machines."""
        return [row async for row in self._rows(queries.fill("fleet_counts"))]

    async def _machines(self, query: str) -> AsyncIterator[Machine]:
        """One machine an id: rows come sorted by id, and of several assessments of a machine the newest counts."""
        last: Machine | None = None
        async for machine in self._readable(query, machine_from_graph):
            if last is not None and last.id != machine.id:
                yield last
            elif last is not None and _assessed(last) > _assessed(machine):
                machine = last
            last = machine
        if last is not None:
            yield last

    async def _readable(self, query: str, read: Callable[[Json], Seen]) -> AsyncIterator[Seen]:
        """What each row says. One that cannot be read is reported and left out."""
        async for row in self._rows(query):
            try:
                seen = read(row)
            except BadInput as error:
                name = quoted(row.get("id"))
                journal.write("machine.unreadable", where="Resource Graph", machine=name, problem=error)
                continue
            yield seen

    async def _rows(self, query: str) -> AsyncIterator[Json]:
        token: str | None = None
        tokens: set[str | None] = set()
        while True:
            page = await self._page(query, token)
            for row in page.data:
                if not isinstance(row, Mapping):
                    raise Unavailable("asking Resource Graph: a row is no JSON object")
                yield row
            token = page.skip_token
            if not token:
                if str(page.result_truncated).lower() == "true":
                    raise Unavailable("asking Resource Graph: the answer was cut short and names no next page")
                return
            if token in tokens:
                raise Unavailable("asking Resource Graph: its pages go round in a circle")
            tokens.add(token)

    async def _page(self, query: str, token: str | None) -> Any:
        from azure.mgmt.resourcegraph.models import QueryRequest, QueryRequestOptions

        settings = self._session.settings
        request = QueryRequest(
            query=query,
            subscriptions=list(settings.scope.subscriptions) or None,
            management_groups=list(settings.scope.management_groups) or None,
            options=QueryRequestOptions(top=ROWS_PER_PAGE, skip_token=token),
        )
        for _ in range(PATIENCE):
            try:
                return await self._ask(request)
            except Throttled as throttled:  # 15 queries in 5 s: a page is worth a few seconds, not a whole sweep
                if throttled.retry_after_seconds > MAX_PAUSE_SECONDS:
                    raise
                await self._session.sleep(max(throttled.retry_after_seconds, 1.0))
        return await self._ask(request)

    async def _ask(self, request: Any) -> Any:
        headers: dict[str, str] = {}
        async with self._session.call("asking Resource Graph"):
            page = await self._graph().resources(
                request,
                raw_response_hook=lambda response: headers.update(response.http_response.headers),
            )
        lowered = {name.lower(): value for name, value in headers.items()}
        if str(lowered.get("x-ms-tenant-subscription-limit-hit", "")).lower() == "true":
            raise Unavailable("asking Resource Graph: over 10,000 subscriptions; name management groups in PATCH_SCOPE")
        if page is None or not isinstance(page.data, list):
            raise Unavailable("asking Resource Graph: the answer holds no list of rows")
        return page

    def _graph(self) -> Any:
        if self._client is None:
            from azure.mgmt.resourcegraph.aio import ResourceGraphClient

            self._client = ResourceGraphClient(self._session.credential, **self._session.client_options())
        return self._client


def _installation(row: Json) -> tuple[str, SeenInstallation]:
    operation_id, status = str(row.get("operation_id") or "").lower(), str(row.get("status") or "")
    return str(row.get("machine") or "").lower(), SeenInstallation(
        operation_id, status, time_or_none(row.get("started"))
    )


def _assessed(machine: Machine) -> str:
    assessed = machine.verdict.assessed if machine.verdict else None
    return assessed.isoformat() if assessed else ""


def batches(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids without repetition, in lists short enough for one query."""
    rest = iter(dict.fromkeys(ids))
    while batch := list(islice(rest, IDS_PER_QUERY)):
        yield batch
