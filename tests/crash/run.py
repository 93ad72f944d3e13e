"""Hosts are killed again and again while a fleet is created and patched; then the state of the world is judged.

The parent, this process, holds what does not die: the simulated Azure over TLS, Event Grid, the identity, Azurite, the
default deployment of infra/. The Functions hosts with the real app are processes of their own (host_program.py says how
their time is made faster). Azure lets a second operation kill a running one, so that a doubled one cannot hide.

The seed decides who is killed when, and how many hosts run; how the processes interleave is the machine's own doing, so
a seed gives the same plan and not the same history. Each round ends with one host dead or, now and then, told to stop.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import aiohttp

from functions.cloud.arm import ResourceManager
from functions.cloud.ledger import APP, Ledger, Stored
from functions.cloud.queue import QUEUES, StorageQueues
from functions.cloud.resource_graph import ResourceGraph
from functions.cloud.rows import LeftAlone
from functions.cloud.session import Session
from functions.cloud.tables import StorageTable
from functions.model.state import Phase
from functions.policy.settings import read_settings
from functions.services import Services
from functions.steps import reconcile
from simulator import identity
from simulator.azure import Limits, overlaps
from simulator.embedded import APP_FOLDER, Embedded
from simulator.functions_host.process import HostProcess, Order
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.crash import moments
from tests.crash.clock import FastClock
from tests.crash.fleet import Judgement, Member, World, fleet, judge, machines_in
from tests.crash.front_end import EVENT_FUNCTION, FrontEnd

# 15 minutes to adoption are 6 s, a claim's hour 24 s, the sweep's lease 2 s, 60 s to the POST 0.4 s. An installation
# with its reboot takes 18 minutes, so 7 s: it still runs when its row is checked.
SPEED = 150.0
PROGRAM = "tests.crash.host_program"
MONTH_SECONDS = 30 * 24 * 3600
HOST_ID = "crash"
HOST_LEASE_SECONDS = 60.0  # the product's lease on a timer, in Azure's time
MAX_ROUND_SECONDS = 3.0  # without its moment having come, a host is killed then
AT_REST_WITHIN_SECONDS = 600.0  # far beyond what a busy machine needs
SECOND_HOST = 0.3  # the share of rounds with two hosts
STOP_EVERY = 6  # of so many rounds one ends with SIGTERM, and is not a kill
FIRST_MACHINES = 4

SETTINGS = {
    # The deployment says: install, at any time, machines created from now on. No waiting for others of an image:
    "PATCH_CANARIES": "0",
    "PATCH_BAKE_MINUTES": "0",
    "PATCH_MIN_AGE_MINUTES": "0",
    "PATCH_ASSESS_AFTER_MINUTES": "0",
    "PATCH_PACE_PERCENT": "100",
    "PATCH_MAX_IN_FLIGHT": "1000",
    "PATCH_MAX_PER_IMAGE": "1000",
    "PATCH_RETRY_MINUTES": "5",
    "PATCH_ASSESS_HOURS": "160",  # this clock is fast: daily, some machine would always be at it
    "PATCH_BREAKER": "1 in 90 days",  # one failed installation, and its image has no second one
    "RECONCILE_SCHEDULE": f"*/{round(300 / SPEED)} * * * * *",  # of this machine's seconds: 5 minutes
    "AzureFunctionsWebHost__hostid": HOST_ID,
}


@dataclass
class Host:
    """One process of the app, and the name by which Azure sees its calls."""

    agent: str
    process: HostProcess
    starting_before: set[str]  # claims that others left between decision and answer
    alone: bool  # no other host lived beside it


@dataclass(frozen=True)
class Result:
    """What a run was, and how the world looks after it."""

    judgement: Judgement
    kills: int
    stops: int
    machines: int
    assessments: int
    installations: int
    lines: int
    seconds: float
    by_event: dict[str, int] = field(default_factory=dict)

    def summary(self) -> str:
        lost, twice = (len(machines_in(problems)) for problems in (self.judgement.lost, self.judgement.twice))
        return f"crash: {self.kills} kills, {lost} machines lost, {twice} patched twice"


Say = Callable[[str], None]


class Run:
    """One run, from the first host to the last look."""

    def __init__(
        self, embedded: Embedded, clock: FastClock, front_end: FrontEnd, *, seed: int, size: int, say: Say
    ) -> None:
        self._embedded, self._clock, self._front_end, self._say = embedded, clock, front_end, say
        self._chance = random.Random(seed)
        self._trap = moments.Trap(embedded.azure)
        self._members = fleet(size)
        self._created: list[Member] = []
        self._hosts: list[Host] = []
        self._ended: list[Host] = []
        self._problems: list[str] = []
        self._services = _services_of(embedded, clock)
        self._number = self._kills = self._stops = 0
        embedded.event_grid.lost_subjects = frozenset(each.id for each in self._members if each.script.event_lost)

    async def play(self, kills: int) -> Result:
        began = time.monotonic()
        try:
            await self._embedded.deployed.publish()
            await self._start_host()
            await self._embedded.subscribe(self._front_end)
            await self._first_sweep()
            while self._kills < kills:
                self._create(self._due(kills))
                await self._round()
            self._create(len(self._members))
            judgement = await self._come_to_rest()
            await self._stop_all()
            judgement = judge(self._members, await self._world()) if judgement else judgement
        finally:
            for host in self._hosts:
                await host.process.kill()
        judgement = replace(judgement, left_over=(*judgement.left_over, *self._problems))
        return self._result(judgement, time.monotonic() - began)

    async def _first_sweep(self) -> None:
        """The default scope is machines created from now on, and the app's first sweep writes down when that is: who
        creates machines before an app has ever run cannot expect them to be in it."""
        async with asyncio.timeout(AT_REST_WITHIN_SECONDS):
            while await self._services.ledger.table.get(APP, "first-deployment") is None:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    # -- rounds

    async def _round(self) -> None:
        while len(self._hosts) < (2 if self._chance.random() < SECOND_HOST else 1):
            await self._start_host()
        victim = self._chance.choice(self._hosts)
        if (self._kills + self._stops) % STOP_EVERY == STOP_EVERY - 1:
            await asyncio.sleep(self._chance.uniform(0.5, MAX_ROUND_SECONDS))
            await self._stop(victim)
        else:
            await self._kill(victim, moments.choose(self._chance, MAX_ROUND_SECONDS))

    async def _kill(self, victim: Host, moment: moments.Moment) -> None:
        if moment.pattern:
            self._trap.lay(moment, victim.agent, victim.process.kill)
            try:
                await asyncio.wait_for(self._trap.sprung.wait(), MAX_ROUND_SECONDS)
            except TimeoutError:
                self._trap.take_away()
                moment = moments.Moment(seconds=MAX_ROUND_SECONDS)
        else:
            await asyncio.sleep(moment.seconds)
        if victim.process.returncode is not None and victim.process.returncode >= 0:
            self._problems.append(f"{victim.agent} ended by itself: {victim.process.returncode}")
        await victim.process.kill()
        self._gone(victim)
        self._kills += 1
        self._tell(f"kill {self._kills}: {victim.agent} {moment}")
        await self._let_its_lease_end()

    async def _stop(self, host: Host) -> None:
        """SIGTERM: what runs is finished. Nothing that this host began may lie without its answer."""
        if (code := await host.process.terminate()) != 0:
            self._problems.append(f"{host.agent} ended with {code} when it was asked to stop")
        self._gone(host)
        self._stops += 1
        left = await self._starting() - host.starting_before
        if left and host.alone:
            self._problems.append(f"{host.agent} was asked to stop and left without an answer: {sorted(left)}")
        self._tell(f"stop {self._stops}: {host.agent}")

    async def _start_host(self) -> None:
        self._number += 1
        agent = f"host-{self._number:03}."
        tls = self._embedded.tls
        order = Order(
            str(APP_FOLDER),
            self._embedded.settings(**SETTINGS, AZURE_HTTP_USER_AGENT=agent),
            (str(tls.ca_path), str(tls.certificate_path), str(tls.key_path)),
            self._front_end.system_key,
            self._clock.real_seconds(1),
            {"clock": self._clock.as_json()},
        )
        before = await self._starting()
        process = await HostProcess.start(order, PROGRAM)
        for other in self._hosts:
            other.alone = False
        self._hosts.append(Host(agent, process, before, alone=not self._hosts))
        self._front_end.instances.append(process)

    def _gone(self, host: Host) -> None:
        self._hosts.remove(host)
        self._front_end.instances.remove(host.process)
        self._ended.append(host)

    async def _stop_all(self) -> None:
        for host in list(self._hosts):
            await self._stop(host)

    async def _let_its_lease_end(self) -> None:
        """A dead host's lease on the timer ends after a minute. The blob service knows no shorter one than 15 s of this
        machine, so what is left of it then is broken; a living holder notices, and takes it again."""
        await asyncio.sleep(self._clock.real_seconds(HOST_LEASE_SECONDS))
        blob = f"azure-webjobs-hosts/locks/{HOST_ID}/Host.Functions.on_reconcile.Listener"
        headers = {
            "Authorization": f"Bearer {identity.mint(identity.STORAGE)}",
            "x-ms-version": "2021-12-02",
            "x-ms-lease-action": "break",
            "x-ms-lease-break-period": "0",
        }
        connector = aiohttp.TCPConnector(ssl=self._embedded.tls.client_context())
        url = f"{self._embedded.account.blob_url}/{blob}?comp=lease"
        async with aiohttp.ClientSession(connector=connector) as session, session.put(url, headers=headers) as answer:
            assert answer.status in (202, 404, 409), answer.status  # broken; or no client has ever had one

    # -- the fleet

    def _due(self, kills: int) -> int:
        """How many machines should be there by now: the last ones come with the last kills."""
        return FIRST_MACHINES + round(self._kills / kills * (len(self._members) - FIRST_MACHINES))

    def _create(self, count: int) -> None:
        for member in self._members[len(self._created) : count]:
            self._embedded.azure.behave(member.id, member.script.behaviour)
            self._embedded.azure.create_machine(member.id, member.body())
            self._created.append(member)

    # -- looking

    async def _come_to_rest(self) -> Judgement:
        """No host is killed any more: the fleet comes to rest, or the time for it is over."""
        deadline = time.monotonic() + AT_REST_WITHIN_SECONDS
        if not self._hosts:
            await self._start_host()
        while not (judgement := judge(self._members, await self._world())) and time.monotonic() < deadline:
            if overlaps(self._embedded.azure.operations):
                break  # nothing repairs that
            await asyncio.sleep(0.5)
        return judgement

    async def _world(self) -> World:
        shown = await reconcile.fleet_states(self._services)
        return World(
            tuple(self._embedded.azure.operations),
            {machine.id.name: (str(step.state), step.reason) for machine, step in shown},
            await self._rows(),
            await self._messages(),
            self._clock(),
        )

    async def _rows(self) -> list[Stored | LeftAlone]:
        return [row async for row in self._services.ledger.all()]

    async def _starting(self) -> set[str]:
        rows = [row.record for row in await self._rows() if isinstance(row, Stored)]
        return {f"{row.machine.name} {row.token}" for row in rows if row.phase is Phase.STARTING}

    async def _messages(self) -> dict[str, int]:
        from azure.storage.queue.aio import QueueServiceClient

        names = [name for queue in QUEUES.values() for name in (queue, f"{queue}-poison")]
        credential = identity.StaticCredential(identity.STORAGE)
        counts: dict[str, int] = {}
        url = self._embedded.account.queue_url
        async with QueueServiceClient(url, credential=credential, use_env_settings=False) as service:
            for name in names:
                properties: Any = await service.get_queue_client(name).get_queue_properties()
                counts[name] = properties.approximate_message_count
        return counts

    def _tell(self, what: str) -> None:
        running = len([each for each in self._embedded.azure.operations if each.status == "InProgress"])
        done = len(self._embedded.azure.operations)
        self._say(f"{what}; {len(self._created)} machines, {done} operations, {running} running")

    def _result(self, judgement: Judgement, seconds: float) -> Result:
        operations = self._embedded.azure.operations
        lines = [line for host in (*self._ended, *self._hosts) for line in host.process.lines]
        return Result(
            judgement,
            self._kills,
            self._stops,
            len(self._created),
            len([each for each in operations if each.kind == "assess"]),
            len([each for each in operations if each.kind == "install"]),
            len(lines),
            seconds,
            _counted(lines),
        )


def _counted(lines: list[str]) -> dict[str, int]:
    return dict(Counter(str(json.loads(line)["event"]) for line in lines).most_common())


def _services_of(embedded: Embedded, clock: FastClock) -> Services:
    """Another client's look into ledger and Graph, with a token that outlives the run."""
    settings = read_settings(embedded.settings(**SETTINGS))
    credential = identity.StaticCredential(lifetime_seconds=MONTH_SECONDS, client_id=identity.OPERATOR)
    access = Session(settings, clock, credential=credential)
    return Services(
        settings,
        ResourceManager(access),
        ResourceGraph(access),
        Ledger(StorageTable(access)),
        StorageQueues(access),
        clock,
    )


@asynccontextmanager
async def stage(
    *, seed: int, size: int, say: Say, tls: Tls | None = None, azurite: Azurite | None = None
) -> AsyncIterator[Run]:
    """Everything that does not die."""
    clock = FastClock(SPEED, datetime.now(UTC))
    embedded = Embedded(
        SPEED,
        clock=clock,
        limits=replace(Limits(), conflict="supersede"),
        tls=tls,
        azurite=azurite,
        seed=seed,
    )
    embedded.identity.lifetime_seconds = (
        MONTH_SECONDS  # tokens are made by this machine's clock, and read by the fast one
    )
    async with embedded, FrontEnd().open(embedded.tls) as front_end:
        assert EVENT_FUNCTION in front_end.functions
        yield Run(embedded, clock, front_end, seed=seed, size=size, say=say)


async def crash(
    kills: int, *, seed: int, size: int, say: Say = print, tls: Tls | None = None, azurite: Azurite | None = None
) -> Result:
    async with stage(seed=seed, size=size, say=say, tls=tls, azurite=azurite) as run:
        return await run.play(kills)
