"""One run of the demo: start everything, create the fleet, let people and guests act, watch, and compare.

The app is the real one, driven from outside alone: events come through the webhook, work through the queues. What is
seen of it is what anybody sees: its journal, its census, and the operations in Azure.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from functions.cloud.arm import ResourceManager
from functions.cloud.errors import CloudError
from functions.cloud.ledger import Ledger, Stored
from functions.cloud.queue import StorageQueues
from functions.cloud.resource_graph import ResourceGraph
from functions.cloud.session import Session
from functions.cloud.tables import StorageTable
from functions.model.state import Step
from functions.policy.settings import SETTINGS as APP_SETTINGS
from functions.policy.settings import read_settings
from functions.services import Services
from functions.steps import reconcile
from simulator import identity
from simulator.arm.shapes import SUBSCRIPTION
from simulator.azure import Azure, Operation, overlaps
from simulator.demo import screen
from simulator.demo.fleet import FLEET, GROUPS, REGIONS, Part
from simulator.demo.screen import Line, Numbers, Row, Verdict
from simulator.embedded import ArmAnswer, Embedded
from simulator.functions_host import FunctionsHost, Trace
from simulator.monitor import logs

SPEED = 100.0  # how much faster than Azure: durations, Resource Graph's lag, and the refill of quotas
HOST_SCALE = 0.02  # the Functions host's own waits (polling, visibility of messages), as a part of the real ones
LONGEST_SECONDS = 80.0  # then the demo ends, whatever state the machines are in
POLL_SECONDS = 0.4
PATCH_QUOTA = "VMGuestPatchOperationSubscriptionMaximum"

# The app's clock is the real one, so its own times are set shorter than in the deployment.
SHORTENED: Mapping[str, str] = {
    "RECONCILE_SCHEDULE": "*/2 * * * * *",
    "PATCH_MIN_AGE_MINUTES": "0.15",
    "PATCH_READY_MINUTES": "0.02",
    "PATCH_RETRY_MINUTES": "0.05",
    "PATCH_BAKE_MINUTES": "0.05",
}
SETTINGS: Mapping[str, str] = {"PATCH_MODE": "install", "PATCH_WINDOW": "any", **SHORTENED}

# Lines that would only fill the ticker: they say nothing about one machine.
_SILENT = {"event.ignored", "fleet.counted", "machine.counted", "fleet.limited", "sweep.finished", "sweep.skipped"}
_TOLD: Mapping[str, tuple[str, ...]] = {  # event → fields, and the unit of a number
    "assessment.started": (),
    "installation.started": (),
    "installation.seen": (),
    "installation.ended": ("status", "meaning", "installedPatchCount patches installed"),
    "support.detected": ("state", "patches patches wait"),
    "operation.refused": ("status", "code", "cause"),
    "operation.throttled": ("wait_seconds s to wait",),
    "machine.deferred": ("reason",),
    "machine.held": ("state", "reason"),
    "machine.waiting": ("state", "reason"),
    "rollout.opened": (),
}


async def run(kept: Path | None = None) -> bool:
    """The whole demo. True when every machine ended as it should. `kept`: the file that takes its telemetry."""
    console = Console()
    async with Embedded(speed=SPEED) as embedded:
        print(introduction(embedded), flush=True)
        settings = embedded.settings(**SETTINGS)
        host = await embedded.host(settings, time_scale=HOST_SCALE)
        embedded.event_grid.lost_subjects = frozenset(part.id for part in FLEET if part.event_lost)
        await embedded.subscribe(host)
        async with looking_in(settings) as services:
            stage = Stage(embedded, host, services)
            with screen.make(console) as picture:
                verdicts = await stage.play(picture)
            if kept:
                await stage.count()
                logs.write(logs.rows_of(host), kept)
    screen.conclude(console, verdicts)
    return not any(verdict.expected for verdict in verdicts)


def introduction(embedded: Embedded) -> str:
    """What is simulated and what is not, in a few lines."""
    real = {each.name: each.default for each in APP_SETTINGS} | dict(embedded.deployed.plan.site.settings)
    lines = ((f"{name}={value}", real[name]) for name, value in SHORTENED.items())
    shortened = "\n".join(f"{'':13}{short:<36}instead of {real}" for short, real in lines)
    return (
        f"Image Patcher at work on {len(FLEET)} machines, from their creation on.\n"
        "  simulated  Resource Manager, Compute and its quotas, Resource Graph, Event Grid, the managed\n"
        "             identity, the Functions host, and what is inside the machines\n"
        "  real       the app, the Azure SDKs, TLS, queues and tables (Azurite)\n"
        f"  deployed   {embedded.snapshots} of infra/snapshots: its storage, settings, rights, events, no more\n"
        f"  speed      Azure goes {SPEED:.0f} times faster: its durations, Resource Graph's lag, its quotas' refill\n"
        "  the app    goes by the real clock and installs at any time; these settings are shorter than deployed:\n"
        f"{shortened}\n"
    )


@asynccontextmanager
async def looking_in(settings: Mapping[str, str]) -> AsyncIterator[Services]:
    """For the census alone: somebody with an identity of their own looks at the app's ledger and at Resource Graph."""
    read = read_settings(settings)

    def clock() -> datetime:
        return datetime.now(UTC)

    access = Session(read, clock, credential=identity.StaticCredential(client_id=identity.OPERATOR))
    yield Services(
        read, ResourceManager(access), ResourceGraph(access), Ledger(StorageTable(access)), StorageQueues(access), clock
    )
    await access.close()


@dataclass
class Stage:
    """The run: what was started, who acts, and what was seen last."""

    embedded: Embedded
    host: FunctionsHost
    services: Services
    _started: float = field(default_factory=time.monotonic)
    _lives: list[asyncio.Task[None]] = field(default_factory=list)
    _steps: dict[str, Step] = field(default_factory=dict)
    _remembered: set[str] = field(default_factory=set)
    _seen: bool = False
    _traces_read: int = 0
    _least_quota: int = 10**9

    @property
    def azure(self) -> Azure:
        return self.embedded.azure

    # -- Hands: what people and guests do

    async def insist(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        while (answer := await self.embedded.arm(method, path, body)).status in (409, 429):  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # as somebody would
        _check(answer, method, path)

    async def seconds(self, seconds: float) -> None:
        await asyncio.sleep(seconds / SPEED)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110  (anything in the world, nobody signals it)
            await asyncio.sleep(0.02)

    # -- the run

    async def play(self, picture: screen.Screen) -> list[Verdict]:
        """Creates the fleet and watches it until every machine is where it should be, or time is up."""
        await self._create()
        calm_since: int | None = None
        while time.monotonic() - self._started < LONGEST_SECONDS:
            await self._look(picture)
            settled = self._seen and all(not verdict.expected for verdict in self._verdicts())
            sweeps = self._sweeps()
            if not settled:
                calm_since = None
            elif calm_since is None:
                calm_since = sweeps
            elif sweeps > calm_since + 1:  # a whole sweep found nothing more to do
                break
            await asyncio.sleep(POLL_SECONDS)
        await self._end()
        return self._verdicts()

    async def count(self) -> None:
        """Another census, as on the next day, and a whole sweep after it: the first one saw no machine yet."""
        await self.services.ledger.remember("census", {"day": "yesterday"})
        sweeps = self._sweeps()
        await self.until(lambda: self._sweeps() > sweeps + 1)

    async def _end(self) -> None:
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)

    async def _create(self) -> None:
        for name, more in GROUPS.items():
            body = {"location": "westeurope", **more}
            await self.insist("PUT", f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}", body)
        for part in FLEET:
            self.azure.behave(part.id, part.behaviour)
            if part.fault:
                self.azure.faults.add(part.fault)
        self._lives = [asyncio.create_task(self._live(part)) for part in FLEET]

    async def _live(self, part: Part) -> None:
        """From its creation to whatever somebody does to it."""
        await self.insist("PUT", part.id, part.body())
        if part.act:
            await part.act(self, part.id)

    async def _look(self, picture: screen.Screen) -> None:
        self._seen = False
        with suppress(CloudError):  # a look that fails shows the last one again, and ends nothing
            found = await reconcile.fleet_states(self.services)
            self._steps = {str(machine.id): step for machine, step in found}
            self._remembered = {
                str(row.record.machine) async for row in self.services.ledger.all() if isinstance(row, Stored)
            }
            self._seen = True
        verdicts = self._verdicts()
        picture.show([verdict.row for verdict in verdicts], self._numbers(verdicts), self._news())
        for life in self._lives:
            if life.done():
                life.result()  # raises what went wrong

    # -- what is seen

    def _verdicts(self) -> list[Verdict]:
        overlapping = {pair[0].machine.lower() for pair in overlaps(self.azure.operations)}
        return [_verdict(part, self._row(part), part.id.lower() in overlapping) for part in FLEET]

    def _row(self, part: Part) -> Row:
        step = self._steps.get(part.id.lower())
        operations = [each for each in self.azure.operations if each.machine.lower() == part.id.lower()]
        counted = Counter(each.kind for each in operations)
        state, reason = (str(step.state), step.reason) if step else self._without_step(part)
        return Row(
            part.name, part.story, state, reason, step.remedy if step else "", counted["assess"], counted["install"],
            _progress(operations),
        )  # fmt: skip

    def _without_step(self, part: Part) -> tuple[str, str]:
        """The census knows nothing of it: not yet, or not any more."""
        created = any(each.machine == part.id for each in self.azure.changes)
        if not created or part.id.lower() in self.azure.world.machines:
            return "creating", "Resource Graph does not show it yet"
        if part.id.lower() in self._remembered:
            return "deleting", "it was deleted, and the app still remembers it"
        return "gone", "it was deleted, and the app has forgotten it"

    def _numbers(self, verdicts: list[Verdict]) -> Numbers:
        operations = [each for each in self.azure.operations if each.kind in ("assess", "install")]
        now = self.azure.now()
        running = Counter(each.kind for each in operations if each.runs_at(now))
        posts = [seen for seen in self.azure.requests if seen.method == "POST" and seen.path.endswith("Patches")]
        return Numbers(
            seconds=time.monotonic() - self._started,
            settled=sum(not verdict.expected for verdict in verdicts),
            running=running,
            done=Counter(each.kind for each in operations) - running,
            cap=self.services.settings.max_in_flight,
            refused=sum(seen.status >= 400 for seen in posts),
            quota_left=self._quota_left(),
            quota=self.azure.limits.patch_subscription.maximum or 0,
            calls=len(self.azure.requests),
            sweeps=self._sweeps(),
        )

    def _quota_left(self) -> int:
        """The least that was seen, of any region's tokens: the refill is as fast as everything else."""
        rate = self.azure.limits.patch_subscription
        for region in REGIONS:
            bucket = self.azure.quotas.bucket(rate, PATCH_QUOTA, f"{SUBSCRIPTION}/{region}")
            self._least_quota = min(self._least_quota, bucket.tokens)
        return self._least_quota

    def _sweeps(self) -> int:
        return sum(each.function == "on_reconcile" and bool(each.ok) for each in self.host.invocations)

    def _news(self) -> list[Line]:
        fresh = self.host.traces[self._traces_read :]
        self._traces_read += len(fresh)
        seconds = time.monotonic() - self._started
        return [line for trace in fresh if (line := _line(trace, seconds))]


def _check(answer: ArmAnswer, method: str, path: str) -> None:
    if answer.status >= 400:
        raise RuntimeError(f"{method} {path}: {answer.status} {answer.body}")


def _progress(operations: list[Operation]) -> float | None:
    """How far the assessment or installation that runs now has come."""
    for each in operations:
        now = each._now()
        if each.kind in ("assess", "install") and each.ends and each.runs_at(now):
            return (now - each.started) / (each.ends - each.started)
    return None


def _verdict(part: Part, row: Row, overlapping: bool) -> Verdict:
    expected = part.expected
    if overlapping:
        return Verdict(row, "no operation beside another one")
    if expected.matches(row.state, row.assessments, row.installations):
        return Verdict(row)
    more = " or more" if expected.more_assessments else ""
    return Verdict(row, f"{expected.state}, {expected.assessments}{more} assessed, {expected.installations} installed")


def _line(trace: Trace, seconds: float) -> Line | None:
    """A line of the journal as the ticker shows it; None for the host's own line about a failed invocation."""
    try:
        fields: dict[str, Any] = json.loads(trace.message)
    except ValueError:
        return None
    event = str(fields.get("event", ""))
    if event in _SILENT:
        return None
    about = str(fields.get("machine", "")) or str(fields.get("image", "")).replace("/versions/", "/")
    name = about.rsplit("/", 1)[-1] if "/virtualmachines/" in about else "/".join(about.rsplit("/", 2)[-2:])
    return Line(seconds, name, event, ", ".join(_details(event, fields)), trace.level)


def _details(event: str, fields: Mapping[str, Any]) -> Iterator[str]:
    """The two or three fields that say most."""
    names = _TOLD.get(event, ("state", "status", "reason", "problem"))
    for name, unit in (name.partition(" ")[::2] for name in names):
        if name in fields:
            yield f"{fields[name]} {unit}".rstrip()
