"""One run of the demo: start everything, create the fleet, let people and guests act, watch, and compare.

The app is the real one, driven from outside only: events come through the webhook, messages through the queues. The run
sees what an operator sees: the app's log, its report, and the operations in Azure.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from simulator.arm.shapes import SUBSCRIPTION
from simulator.azure import Azure, Operation, overlaps
from simulator.demo import notices, screen
from simulator.demo.fleet import FLEET, GROUPS, REGIONS, SCALE_SETS, Part
from simulator.demo.report import (
    COMPLETE_AFTER,
    AppReport,
    Fleet,
    ReportFailed,
    default_settings,
    notices_at_once,
    open_report,
)
from simulator.demo.screen import Line, Numbers, Row, Verdict
from simulator.demo.ticker import line_of
from simulator.embedded import ArmAnswer, Embedded
from simulator.functions_host import FunctionsHost
from simulator.monitor import logs
from simulator.wire import Json

DEPLOYMENT = "estate"  # of infra/snapshots: every optional right, and events by a queue
SPEED = 100.0  # how much faster than Azure: durations, Resource Graph's lag, and the refill of quotas
HOST_SCALE = 0.02  # the factor of the Functions host's own waits (polling, visibility of messages)
MAX_SECONDS = 180.0  # then the demo ends, whatever state the machines are in
POLL_SECONDS = 0.4
PATCH_QUOTA = "VMGuestPatchOperationSubscriptionMaximum"
PATCHING = ("assess", "install")

SLOWER = 2.5  # so much longer a demo lasts for an audience, in every part of it


def shortened(slower: float = 1.0) -> dict[str, str]:
    """The app's clock is the real one, so its own times are shorter than in the deployment."""
    return {
        "RECONCILE_SCHEDULE": f"*/{2 * slower:.0f} * * * * *",
        "PATCH_MIN_AGE_MINUTES": f"{0.15 * slower:g}",
        "PATCH_ASSESS_AFTER_MINUTES": "0",
        "PATCH_READY_MINUTES": f"{0.02 * slower:g}",
        "PATCH_RETRY_MINUTES": f"{0.05 * slower:g}",
        "PATCH_BAKE_MINUTES": f"{0.05 * slower:g}",
    }


INSTALLING: Mapping[str, str] = {"PATCH_MODE": "install", "PATCH_WINDOW": "any"}
SETTINGS: Mapping[str, str] = {**INSTALLING, **shortened()}


async def run(logs_file: Path | None = None, *, slow: bool = False) -> bool:
    """The whole demo. True when every machine ended as expected. `logs_file` receives its telemetry."""
    console, slower = Console(), SLOWER if slow else 1.0
    print("Starting the embedded Azure and deploying the app …\n", flush=True)
    async with Embedded(speed=SPEED / slower, deployment=DEPLOYMENT) as embedded:
        print(introduction(embedded, slower), flush=True)
        settings = embedded.settings(**INSTALLING, **shortened(slower), **embedded.topic_of_notices())
        host = await embedded.host(settings, time_scale=HOST_SCALE * slower)
        embedded.event_grid.lost_subjects = frozenset(part.id for part in FLEET if part.event_lost)
        await embedded.subscribe(host)
        async with open_report(settings) as report:
            stage = Stage(embedded, host, report, slower)
            with screen.make(console) as shown, notices_at_once():
                verdicts = await stage.run(shown)
            if logs_file:
                await stage.take_census()
                logs.write(logs.rows_of(host), logs_file)
    screen.conclude(console, verdicts, notices.counted(stage.notices))
    print(what_next(), flush=True)
    return not any(verdict.expected for verdict in verdicts)


def introduction(embedded: Embedded, slower: float = 1.0) -> str:
    """What is simulated and what is not, in a few lines."""
    usual = default_settings() | dict(embedded.deployed.plan.site.settings)
    lines = ((f"{name}={value}", usual[name]) for name, value in shortened(slower).items())
    shorter = "\n".join(f"{'':13}{short:<36}instead of {value}" for short, value in lines)
    return (
        f"Image Patcher at work on {len(FLEET)} machines, from their creation on.\n"
        "  simulated  Resource Manager, Compute and its quotas, Resource Graph,\n"
        "             Event Grid, the managed identity, the Functions host, and the\n"
        "             guests of the machines\n"
        "  real       the app, the Azure SDKs, TLS, queues and tables (Azurite)\n"
        f"  deployed   {embedded.snapshots} of infra/snapshots:\n"
        "             its storage, settings, rights and events (by a queue) only, and\n"
        "             a topic that takes what the app tells other programs\n"
        "             (docs/notices.md)\n"
        f"  speed      Azure runs {SPEED / slower:.0f} times faster: its durations, Resource Graph's lag,\n"
        "             its quotas' refill\n"
        "  the app    uses the real clock and installs at any time;\n"
        "             these settings are shorter than deployed:\n"
        f"{shorter}\n"
        f"{'':13}{'notices are sent at once':<36}instead of {COMPLETE_AFTER.seconds // 60} minutes later\n"
    )


def what_next() -> str:
    """Three commands to go on with, as they work in this folder: the simulator, and the operator's tool beside it."""
    python = shlex.quote(os.path.relpath(sys.executable))
    return (
        "Go on by yourself (docs/try.md): a fleet, and questions in a second terminal\n"
        f"  {python} -m simulator\n"
        f"  {python} -m patcher --simulator status\n"
        f"  {python} -m patcher --simulator why web-001"
    )


@dataclass
class Stage:
    """The run: what was started, who acts, and what was seen last. It is also the fleet's Operator."""

    embedded: Embedded
    host: FunctionsHost
    report: AppReport
    slower: float = 1.0
    _started: float = field(default_factory=time.monotonic)
    _lives: list[asyncio.Task[None]] = field(default_factory=list)
    _fleet: Fleet | None = None
    _traces_read: int = 0
    _least_quota: int = 10**9

    @property
    def azure(self) -> Azure:
        return self.embedded.azure

    @property
    def notices(self) -> Sequence[Json]:
        """What the topic took."""
        return self.azure.topic.events if self.azure.topic else ()

    # --- fleet.Operator: what people and guests do ---

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        while (answer := await self.embedded.arm(method, path, body)).status in (409, 429):  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # as a person would
        _check(answer, method, path)

    async def seconds(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.slower / SPEED)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Raises TimeoutError for what does not come about in the time of a whole demo."""
        async with asyncio.timeout(MAX_SECONDS * self.slower):
            while not condition():  # noqa: ASYNC110  (any condition of the world: nothing signals it)
                await asyncio.sleep(0.02)

    # --- the run ---

    async def run(self, shown: screen.Screen) -> list[Verdict]:
        """Creates the fleet and watches it until every machine is as expected, or the time is up."""
        await self._create()
        calm_since: int | None = None
        while time.monotonic() - self._started < MAX_SECONDS * self.slower:
            fresh = await self._look(shown)
            as_expected = fresh and all(not verdict.expected for verdict in self._verdicts())
            sweeps = self._sweeps()
            if not as_expected:
                calm_since = None
            elif calm_since is None:
                calm_since = sweeps
            elif sweeps > calm_since + 1:  # a whole sweep found nothing more to do
                break
            await asyncio.sleep(POLL_SECONDS)
        await self._end()
        return self._verdicts()

    async def take_census(self) -> None:
        """Another census and a whole sweep after it: the first one saw no machine yet."""
        await self.report.make_census_due()
        sweeps = self._sweeps()
        await self.until(lambda: self._sweeps() > sweeps + 1)

    async def _end(self) -> None:
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)

    async def _create(self) -> None:
        for name, more in GROUPS.items():
            body = {"location": "westeurope", **more}
            await self.call("PUT", f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}", body)
        for scale_set, properties in SCALE_SETS.items():
            await self.call("PUT", scale_set, {"location": REGIONS[0], "properties": dict(properties)})
        for part in FLEET:
            self.azure.behave(part.id, part.behaviour)
            if part.scheduled:
                self.azure.assign(part.id)
            if part.fault:
                self.azure.faults.add(part.fault)
        self._lives = [asyncio.create_task(self._live(part)) for part in FLEET]

    async def _live(self, part: Part) -> None:
        """One machine's life: its creation, and what people and its guest do later."""
        await self.call("PUT", part.id, part.body())
        if part.act:
            await part.act(self, part.id)

    async def _look(self, shown: screen.Screen) -> bool:
        """Shows the fleet. False if the report could not be read: then the last one is shown again."""
        fresh = False
        with suppress(ReportFailed):
            self._fleet = await self.report.fleet()
            fresh = True
        verdicts = self._verdicts()
        shown.show([verdict.row for verdict in verdicts], self._numbers(verdicts), self._news())
        for life in self._lives:
            if life.done():
                life.result()  # raises what went wrong
        return fresh

    # --- what is seen ---

    def _verdicts(self) -> list[Verdict]:
        overlapping = {pair[0].machine.lower() for pair in overlaps(self.azure.operations)}
        return [_verdict(part, self._row(part), overlapping=part.id.lower() in overlapping) for part in FLEET]

    def _row(self, part: Part) -> Row:
        step = self._fleet.steps.get(part.id.lower()) if self._fleet else None
        operations = [each for each in self.azure.operations if each.machine.lower() == part.id.lower()]
        counted = Counter(each.kind for each in operations)
        state, reason = (str(step.state), step.reason) if step else self._unreported(part)
        return Row(
            name=part.name,
            description=part.description,
            state=state,
            reason=reason,
            remedy=step.remedy if step else "",
            assessments=counted["assess"],
            installations=counted["install"],
            progress=_progress(operations, self.azure.now()),
        )

    def _unreported(self, part: Part) -> tuple[str, str]:
        """State and reason of a machine that the app's report does not have: not yet, or no longer."""
        created = any(each.machine == part.id for each in self.azure.changes)
        if not created or part.id.lower() in self.azure.world.machines:
            return "creating", "Resource Graph does not show it yet"
        if self._fleet and part.id.lower() in self._fleet.rows:
            return "deleting", "it was deleted, and the app still has its row"
        return "gone", "it was deleted, and the app has deleted its row"

    def _numbers(self, verdicts: list[Verdict]) -> Numbers:
        operations = [each for each in self.azure.operations if each.kind in PATCHING]
        now = self.azure.now()
        running = Counter(each.kind for each in operations if each.runs_at(now))
        posts = [each for each in self.azure.requests if each.method == "POST" and each.path.endswith("Patches")]
        return Numbers(
            seconds=time.monotonic() - self._started,
            as_expected=sum(not verdict.expected for verdict in verdicts),
            running=running,
            done=Counter(each.kind for each in operations) - running,
            cap=self.report.most_in_flight,
            refused=sum(each.status >= 400 for each in posts),
            quota_left=self._quota_left(),
            quota=self.azure.limits.patch_subscription.maximum or 0,
            calls=len(self.azure.requests),
            sweeps=self._sweeps(),
            notices=len(self.notices),
        )

    def _quota_left(self) -> int:
        """The lowest count of tokens so far, of any region: the refill is as fast as everything else."""
        rate = self.azure.limits.patch_subscription
        for region in REGIONS:
            bucket = self.azure.quotas.bucket(rate, PATCH_QUOTA, f"{SUBSCRIPTION}/{region}")
            self._least_quota = min(self._least_quota, bucket.tokens)
        return self._least_quota

    def _sweeps(self) -> int:
        return sum(each.function == "on_reconcile" and bool(each.ok) for each in self.host.invocations)

    def _news(self) -> list[Line]:
        fresh = self.host.app_lines[self._traces_read :]
        self._traces_read += len(fresh)
        seconds = time.monotonic() - self._started
        return [line for trace in fresh if (line := line_of(trace, seconds))]


def _check(answer: ArmAnswer, method: str, path: str) -> None:
    if answer.status >= 400:
        raise RuntimeError(f"{method} {path}: {answer.status} {answer.body}")


def _progress(operations: list[Operation], now: datetime) -> float | None:
    """How much of the running assessment or installation is done, 0 to 1; None if none runs."""
    for each in operations:
        if each.kind in PATCHING and each.ends and each.runs_at(now):
            return (now - each.started) / (each.ends - each.started)
    return None


def _verdict(part: Part, row: Row, *, overlapping: bool) -> Verdict:
    expected = part.expected
    if overlapping:
        return Verdict(row, "no two operations at once")
    if expected.matches(row.state, row.assessments, row.installations):
        return Verdict(row)
    more = " or more" if expected.more_assessments else ""
    return Verdict(row, f"{expected.state}, {expected.assessments}{more} assessed, {expected.installations} installed")
