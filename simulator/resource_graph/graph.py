"""Resource Graph: the query API over what the world was a while ago.

Simulated: the tables resources, resourcecontainers, patchassessmentresources, patchinstallationresources, and of
maintenanceresources the assignments; lag; retention; letter case of ids; paging and its traps; the size of an answer;
what one query may ask for (limits.py); quota; missing rights.

Not simulated: facets, history, other tables, the full scans that correct lost
notifications, and what the evaluator in simulator/resource_graph/kql leaves out. Who asks for these is answered 501 and
SimulatorUnsupported, a code of the simulator's own, since Azure might well answer. The texts of refusals are inferred,
but for the form of a wrong query's.
"""

from __future__ import annotations

import random
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from simulator.resource_graph import kql, limits
from simulator.resource_graph.query import GraphQuery, page, unsupported
from simulator.resource_graph.rows import OperationRows, assessment_rows, installation_rows
from simulator.resource_graph.tables import GROUP_READ, HYBRID_READ, MACHINE_READ, Rights, Tables
from simulator.wire import Json, Refused, Request, Response, ticks_z
from simulator.world import World

# microsoft/ARI issue 199 and dolevshor/azure-orphan-resources issue 46 (2024).
MAX_ANSWER_BYTES = 16_777_216
# guidance-for-throttled-requests.md; a public report of 2024 names 18,000.
MAX_SUBSCRIPTIONS = 10_000
_CHAINS_HELD = 4  # of pages: those that were read last

Columns = list[tuple[str, str]]


@dataclass
class Graph:
    """Resource Graph's own state. `lag_seconds` and `stopped_at` may be changed while it runs."""

    world: World
    lag_seconds: float
    stopped_at: datetime | None = None  # None: it goes on indexing
    # Whether all pages of a chain of tokens are cut from one evaluation, or each from one of its own. Azure does not
    # say: its page about paging (Microsoft Learn, "Paging results in Azure Resource Graph") mentions rows that change
    # places between two pages where an order leaves them equal.
    pages_held: bool = True
    max_subscriptions: int = MAX_SUBSCRIPTIONS  # under the tenant or a management group
    orphans_stay: bool = False  # patch rows of a deleted machine stay until they expire (Azure's way is not documented)
    queries: int = 0
    assessment_rows: OperationRows = field(default_factory=assessment_rows)
    installation_rows: OperationRows = field(default_factory=installation_rows)
    _held: OrderedDict[str, tuple[Columns, list[Json]]] = field(default_factory=OrderedDict)  # by chain

    def stop_indexing(self, at: datetime | None = None) -> None:
        """From now on every answer shows the world as it was at `at`, by default as the last answer did."""
        self.stopped_at = at or self.as_of

    def resume_indexing(self) -> None:
        self.stopped_at = None

    @contextmanager
    def behind(self, seconds: float) -> Iterator[None]:
        """Inside the block a replica answers that is so far behind the others."""
        before = self.stopped_at
        self.stopped_at = self.as_of - timedelta(seconds=seconds) if seconds else before
        try:
            yield
        finally:
            self.stopped_at = before

    @property
    def as_of(self) -> datetime:
        """The time whose state answers show."""
        return self.stopped_at or self.world.now() - timedelta(seconds=self.lag_seconds)

    def answer(self, request: Request, rights: Rights) -> Response:
        """The answer to a query. Raises Refused."""
        self.queries += 1
        query = GraphQuery.read(request.json())
        scope = self.scope(query, rights)
        query.first()  # refuses a token of another query
        chain = query.chain or str(self.queries)
        held = self._held.pop(chain) if chain in self._held else None
        columns, rows = held or self.evaluate(query, scope, rights)
        body = page(query, columns, rows, shuffler=self.shuffler(query), chain=chain)
        if self.pages_held and (held or "$skipToken" in body):
            self._hold(chain, columns, rows)
        response = Response(200, body, {"x-ms-tenant-subscription-limit-hit": "true"} if self._cuts(query) else {})
        self._check_size(response)
        return response

    def _hold(self, chain: str, columns: Columns, rows: list[Json]) -> None:
        """The rows stay for the other pages, and for this one where it is asked for again."""
        self._held[chain] = columns, rows
        if len(self._held) > _CHAINS_HELD:
            self._held.popitem(last=False)

    def _check_size(self, response: Response) -> None:
        """Raises Refused (400) for an answer that is larger than Resource Graph gives."""
        size = len(response.content)
        if size > MAX_ANSWER_BYTES:
            text = f"The answer has {size} bytes, the limit is {MAX_ANSWER_BYTES}. Ask for less or page."
            raise self._bad_request("ResponsePayloadTooLarge", text)

    def _bad_request(self, code: str, message: str) -> Refused:
        """In the form of recorded traffic: what went wrong is in the details."""
        now = self.world.now()
        correlation = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.queries} {now}")
        info = f"timestamp = {ticks_z(now)}, correlationId = {correlation}"
        text = f"Please provide below info when asking for support: {info}."
        body = {"error": {"code": "BadRequest", "message": text, "details": [{"code": code, "message": message}]}}
        return Refused(400, "BadRequest", message, body=body)

    def _named(self, query: GraphQuery) -> list[str]:
        """The subscriptions that a query asks about: by default every one."""
        if not query.subscriptions and not query.management_groups:
            return sorted(self.world.subscriptions)
        below = (each for group in query.management_groups for each in self.world.management_groups.get(group, ()))
        return sorted({each.lower() for each in (*query.subscriptions, *below)})

    def _cuts(self, query: GraphQuery) -> bool:
        """Whether only some subscriptions under the scope are searched. Raises Refused (400) unless that is allowed."""
        named = 0 if query.subscriptions else len(self._named(query))
        if named > self.max_subscriptions and not query.allows_partial_scopes:
            text = f"{named} subscriptions are under the scope; {self.max_subscriptions} are searched."
            raise self._bad_request("TooManySubscriptionsUnderScope", text)
        return named > self.max_subscriptions

    def scope(self, query: GraphQuery, rights: Rights) -> set[str]:
        """The subscriptions that are searched: those named and readable. The others are left out without a word."""
        named = self._named(query)[: self.max_subscriptions if self._cuts(query) else None]
        readable = {each for each in named if self._reads_something(each, rights)}
        if not readable:
            text = "The caller does not have access to any of the subscriptions or management groups asked for."
            raise Refused(403, "AccessDenied", text)
        return readable

    def _reads_something(self, subscription: str, rights: Rights) -> bool:
        """Whether the caller has a right on the subscription or on anything in it."""
        if any(
            rights.permits(action, f"/subscriptions/{subscription}")
            for action in (MACHINE_READ, GROUP_READ, HYBRID_READ)
        ):
            return True
        groups = (each for each in self.world.groups.values() if each.subscription.lower() == subscription)
        machines = (each for each in self.world.machines.values() if each.subscription.lower() == subscription)
        return any(rights.permits(GROUP_READ, each.id) for each in groups) or any(
            rights.permits(MACHINE_READ, each.id) for each in machines
        )

    def tables(self, scope: set[str], rights: Rights) -> Tables:
        """The rows of these subscriptions that the caller may read, as of now."""
        return Tables(
            self.world,
            self.as_of,
            scope=scope,
            rights=rights,
            orphans_stay=self.orphans_stay,
            assessment_rows=self.assessment_rows,
            installation_rows=self.installation_rows,
        )

    def evaluate(self, query: GraphQuery, scope: set[str], rights: Rights) -> tuple[Columns, list[Json]]:
        """Columns (name and type) and rows of the whole answer.

        Raises Refused: 400 for a query that is wrong, 501 for one that the evaluator does not implement.
        """
        try:
            limits.check(query.text)
            result = kql.evaluate(query.text, self.tables(scope, rights), now=self.world.now())
        except kql.Unsupported as error:
            raise unsupported(f"the query: {error}") from error
        except kql.KqlError as error:
            raise self._bad_request("InvalidQuery", f"Query is invalid. {error}") from error
        return list(result.columns), result.rows

    def shuffler(self, query: GraphQuery) -> random.Random | None:
        """Without an order each page is cut from another order: rows come twice or never, as documented."""
        return None if query.is_ordered else random.Random(f"{query.digest} {self.queries}")
