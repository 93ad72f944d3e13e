"""Arc-enabled servers: with PATCH_ARC=on they are assessed and patched as virtual machines are, by their agent.

Factors: the setting; the system; the agent's status; how an installation ends; a schedule; what others prove.
Azure shows no operation, support state or creation time on such a server: Resource Graph and the order's answer do.
"""

import json
import subprocess
import sys
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import pytest
from azure.mgmt.hybridcompute.aio import HybridComputeManagementClient

from functions.cloud.ledger import APP
from functions.cloud.runs import columns_of, run_key
from functions.cloud.stops import columns_of as stop_columns
from functions.cloud.stops import key_of
from functions.model.machine import MachineId
from functions.model.record import Record, known_as
from functions.model.run import Run
from functions.model.state import Cause, OperationKind, Phase, State
from functions.model.stop import Scope, Stop
from simulator.arm import hybrid, shapes
from simulator.azure import Behaviour, Fault, Grant, Timings
from tests.support import REPOSITORY
from tests.support.journaled import Told
from tests.support.world import BOUNDARY, SUBSCRIPTION, World

ON = {"PATCH_ARC": "on"}
UBUNTU, WINDOWS = "Ubuntu 22.04.3 LTS", "Windows Server 2022 Datacenter"
WAITING = Behaviour(pending={"security": 3})
Os = Literal["windows", "linux"]


def quick(settings: dict[str, str] = ON, timings: Timings | None = None) -> World:
    """A world in which Python answers the queries: most tests ask the same few hundreds of times."""
    world = World(settings, timings)
    world.in_steps(world.tick, timedelta(minutes=10))
    return world


def server(
    world: World, name: str = "srv-01", behaviour: Behaviour = WAITING, os: Os = "linux", **more: Any
) -> MachineId:
    """A server whose agent connects it now."""
    full_id = shapes.hybrid_id(name, subscription=SUBSCRIPTION)
    world.azure.behave(name, behaviour)
    body: dict[str, Any] = dict(shapes.hybrid_machine(os, location="westeurope", tags=more.get("tags")))
    sku = more.get("sku", UBUNTU if os == "linux" else WINDOWS)
    body["properties"] = {**body["properties"], "osSku": sku, **more.get("properties", {})}
    world.azure.connect_machine(full_id, body)
    return MachineId.parse(full_id)


def agent(world: World, machine: MachineId, status: str) -> None:
    world.azure.world.hybrid[str(machine)].status.set(world.now, status)


def calls_about_servers(world: World) -> list[str]:
    return [each.path for each in world.azure.requests if "hybridcompute" in each.path.lower()]


@pytest.mark.parametrize("os", ["windows", "linux"])
async def test_from_its_event_to_patched(os: Os, told: Told) -> None:
    world = World(ON)
    machine = server(world, os=os)
    await world.pass_time(minutes=2)
    assert [each.kind for each in world.operations(machine)] == ["assess"]  # its event, before any sweep
    await world.pass_time(hours=6)
    assert (await world.states())["srv-01"].state is State.PATCHED
    (installation,) = world.operations(machine, "install")
    assert installation.status_at(world.now) == "Succeeded"
    assert [each["machine"] for each in told("installation.seen")] == [str(machine)]
    assert world.errors == []


async def test_off_by_default_nothing_is_asked_of_a_server() -> None:
    world = quick({})
    server(world)
    vm = world.create("web-01", WAITING)
    await world.pass_time(hours=12)
    assert calls_about_servers(world) == []
    assert [each.machine.lower() for each in world.operations(kind="install")] == [str(vm)]
    assert set(await world.states()) == {"web-01"}


def test_off_by_default_its_client_is_not_even_loaded() -> None:
    code = (
        "import asyncio, sys; from tests.scenario import test_arc as t; "
        "sys.modules.pop('azure.mgmt.hybridcompute.aio'); "
        "w = t.World(); t.server(w); w.create('web-01', t.WAITING); asyncio.run(w.pass_time(hours=1)); "
        "assert w.operations(kind='assess'); sys.exit('azure.mgmt.hybridcompute.aio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_message_from_before_it_was_switched_off_is_refused(told: Told) -> None:
    world = quick()
    machine = server(world)
    await world.until_queued(OperationKind.INSTALL)
    world.set(PATCH_ARC="off")
    before = len(calls_about_servers(world))
    await world.pass_time(hours=2)
    assert world.operations(machine, "install") == []
    assert len(calls_about_servers(world)) == before
    reasons = [str(each["reason"]) for each in told("operation.postponed")]
    assert any("PATCH_ARC is off" in each for each in reasons)


async def test_an_operation_that_runs_when_it_is_switched_off_is_followed_to_its_end() -> None:
    world = quick()
    machine = server(world)
    await world.until(lambda: bool(world.installing()), hours=6)
    world.set(PATCH_ARC="off")
    await world.pass_time(hours=6)
    record = await world.record(machine)
    assert record is None or record.phase is Phase.HELD
    assert len(world.operations(machine, "install")) == 1


# the agent's status → the cause, and a word of the remedy
AWAY: dict[str, tuple[str, Cause, str]] = {
    "disconnected": ("Disconnected", Cause.TRANSIENT, "azcmagent check"),
    "expired": ("Expired", Cause.OWNER, "azcmagent connect"),
    "in error": ("Error", Cause.TRANSIENT, "azcmagent check"),
}


@pytest.mark.parametrize(("status", "cause", "remedy"), AWAY.values(), ids=AWAY)
async def test_a_server_that_azure_does_not_reach_is_left_alone_and_checked_again(
    status: str, cause: Cause, remedy: str
) -> None:
    world = quick()
    machine = server(world)
    agent(world, machine, status)
    await world.pass_time(hours=2)
    step = (await world.states())["srv-01"]
    assert (step.state, step.cause) == (State.AGENT_NOT_READY, cause)
    assert status in step.reason
    assert remedy in step.remedy
    assert world.posts() == []
    agent(world, machine, "Connected")
    world.in_steps(timedelta(minutes=15))
    await world.pass_time(hours=30)
    assert (await world.states())["srv-01"].state is State.PATCHED


async def test_an_agent_that_goes_away_between_claim_and_call_stops_the_call() -> None:
    world = quick()
    machine = server(world)
    await world.until_queued(OperationKind.INSTALL)
    agent(world, machine, "Disconnected")
    await world.pass_time(hours=1)
    assert world.operations(machine, "install") == []
    agent(world, machine, "Connected")
    await world.pass_time(hours=6)
    assert len(world.operations(machine, "install")) == 1


BROKEN = Behaviour(
    pending={"security": 2}, install_status="Failed", errors=(("PACKAGE_INSTALL_FAILURE", "dpkg was interrupted."),)
)


async def test_what_an_installation_says_in_its_error_details_is_reported() -> None:
    """The same failure as a virtual machine's, without the names of patches: a server's answer lists none."""
    after = Behaviour(
        pending={"security": 2},
        install_status="Failed",
        failed_patches=0,
        errors=(("ERROR", "Installation failed due to assessment failure. See the assessment substatus"),),
    )
    world = quick()
    machines = [server(world, "srv-01", BROKEN), server(world, "srv-02", after), world.create("web-01", after)]
    for machine in machines:
        await world.until(partial(_held, world, machine), hours=8)
    broken, closing, twin = [record.hold for each in machines if (record := await world.record(each)) and record.hold]
    assert broken.reason == "some patches failed"
    assert (closing.reason, closing.remedy, closing.cause) == (twin.reason, twin.remedy, twin.cause)
    assert closing.reason != broken.reason


async def _held(world: World, machine: MachineId) -> bool:
    record: Record | None = await world.record(machine)
    return bool(record and record.hold and record.hold.state is State.FAILED)


async def test_a_failed_one_stops_those_of_its_own_system_only() -> None:
    """Canaries are off: three servers that fail open a breaker. Each group is a system by name and main version."""
    world = quick(ON | {"PATCH_BREAKER": "1 in 7 days"})
    broken = server(world, "srv-01", BROKEN)
    await world.until(lambda: bool(world.operations(broken, "install")), hours=6)
    await world.pass_time(hours=3)
    later = server(world, "srv-02", sku="Ubuntu 22.04.4 LTS")  # the same main version
    others = [
        server(world, "srv-03", sku="Ubuntu 24.04 LTS"),
        server(world, "srv-04", os="windows"),
        world.create("web-01", WAITING),
    ]
    await world.pass_time(hours=8)
    assert (await world.states())["srv-02"].state is State.BREAKER_OPEN
    assert world.operations(later, "install") == []
    assert all(world.operations(each, "install") for each in others)
    assert (await world.image("arc/linux/ubuntu-22-lts", BOUNDARY)).breaker_open


async def test_a_post_whose_answer_was_lost_is_found_in_resource_graph() -> None:
    world = quick()
    machine = server(world)
    world.azure.faults.add(Fault("POST", r".*/installPatches", times=1, drop="after"))
    await world.pass_time(hours=12)
    assert len(world.operations(machine, "install")) == 1
    assert (await world.states())["srv-01"].state is State.PATCHED


@pytest.mark.parametrize("kind", ["assess", "install"])
async def test_an_operation_that_resource_graph_shows_late_is_not_begun_again_while_it_may_run(kind: str) -> None:
    """Its answer was lost, and it takes longer than until the first look. A second one would end it."""
    world = quick(timings=Timings(assess_seconds=5400, install_seconds=5400))
    machine = server(world)
    if kind == "install":
        await world.until_queued(OperationKind.INSTALL)
    world.azure.graph.lag_seconds = 3 * 3600
    world.azure.faults.add(Fault("POST", f".*/{kind}Patches", times=1, drop="after"))
    await world.pass_time(hours=16)
    assert world.operations(machine, "install")
    assert {each.status_at(world.now) for each in world.operations(machine)} == {"Succeeded"}


@pytest.mark.parametrize("shown_as", ["", "99999999-0000-0000-0000-000000000009"], ids=["its id", "another id"])
async def test_an_operation_whose_own_answer_is_gone_ends_as_resource_graph_shows_it(shown_as: str, told: Told) -> None:
    world = quick(ON | {"PATCH_MAX_IN_FLIGHT": "1"}, timings=Timings(install_seconds=5400))
    machine = server(world)
    world.azure.faults.add(Fault("GET", "updateCenterOperationResults", times=None, status=404))
    world.azure.graph.lag_seconds = 3600
    await world.until(lambda: bool(world.installing()), hours=8)
    await world.pass_time(minutes=1)
    stored = await world.services.ledger.read(machine)
    assert stored
    if shown_as:
        await world.services.ledger.replace(stored, known_as(stored.record, shown_as))
    while world.installing():
        await world.pass_time(minutes=5)
        record = await world.record(machine)
        assert record
        assert record.phase is Phase.RUNNING or not world.installing()
    await world.pass_time(hours=6)
    assert len(world.operations(machine, "install")) == 1
    assert (await world.states())["srv-01"].state is State.PATCHED
    assert told("machine.held") == []


async def test_a_claim_whose_call_never_arrived_is_given_back_once_it_could_not_run_any_more() -> None:
    world = quick()
    machine = server(world)
    await world.until_queued(OperationKind.INSTALL)
    world.azure.faults.add(Fault("POST", r".*/installPatches", times=1, drop="before"))
    await world.pass_time(hours=8)
    assert len(world.operations(machine, "install")) == 1
    assert (await world.states())["srv-01"].state is State.PATCHED


async def test_an_agent_that_stays_away_after_an_installation_is_a_failure() -> None:
    world = quick()
    machine = server(world)
    await world.until(lambda: bool(world.installing()), hours=6)
    await world.until(lambda: not world.installing(), hours=2)
    agent(world, machine, "Disconnected")
    await world.pass_time(minutes=50)
    assert not await _held(world, machine)  # as long as a slow reboot may take
    await world.pass_time(hours=2)
    record = await world.record(machine)
    assert record
    assert record.hold
    assert "its Connected Machine agent is Disconnected after its installation" in record.hold.reason


async def test_a_run_on_demand_takes_servers_and_machines_of_one_name() -> None:
    world = quick(ON | {"PATCH_WINDOW": "Sun 02:00-06:00"})
    machines = server(world, "web-01"), world.create("web-01", WAITING)
    await world.pass_time(hours=2)
    assert world.operations(kind="install") == []
    until = world.now + timedelta(hours=12)
    order = Run(
        "1", OperationKind.INSTALL, machines, "a CVE", "Jane", opened=world.now, until=until, ignore_window=True
    )
    world.table.put(APP, run_key(order.id), columns_of(order))
    await world.pass_time(hours=4)
    assert [len(world.operations(each, "install")) for each in machines] == [1, 1]


async def test_a_held_server_is_not_patched_and_a_machine_of_its_name_is() -> None:
    world = quick()
    held, other = server(world, "web-01"), world.create("web-01", WAITING)
    stop = Stop(Scope.MACHINE, str(held), reason="month-end", by="Jane")
    world.table.put(APP, key_of(stop.scope, stop.value), stop_columns(stop))
    await world.pass_time(hours=6)
    assert world.operations(held, "install") == []
    assert len(world.operations(other, "install")) == 1


async def test_a_server_that_is_gone_is_forgotten() -> None:
    world = quick()
    machine = server(world)
    await world.until_queued(OperationKind.INSTALL)
    hybrid.remove(world.azure.world, world.azure.world.hybrid[str(machine)])
    await world.pass_time(hours=1)
    assert await world.record(machine) is None
    assert world.operations(machine, "install") == []


async def test_a_server_that_a_schedule_patches_is_assessed_only() -> None:
    """No patch setting of a server says that a schedule patches it: the assignment alone does."""
    world = quick()
    machine = server(world)
    world.azure.assign(str(machine))
    await world.pass_time(hours=8)
    step = (await world.states())["srv-01"]
    assert step.state is State.SCHEDULED_ELSEWHERE
    assert {each.kind for each in world.operations(machine)} == {"assess"}


# tags and properties of a server → its state
LEFT: dict[str, tuple[dict[str, Any], State]] = {
    "by its tag": ({"tags": {"patch-mode": "off"}}, State.OPTED_OUT),
    "a node of Azure Local": ({"properties": {"parentClusterResourceId": "/x/clusters/c"}}, State.MANAGED_ELSEWHERE),
    "a Windows client": ({"os": "windows", "sku": "Windows 11 Enterprise"}, State.MANAGED_ELSEWHERE),
}


@pytest.mark.parametrize(("more", "state"), LEFT.values(), ids=LEFT)
async def test_what_leaves_a_machine_alone_leaves_a_server_alone(more: dict[str, Any], state: State) -> None:
    world = quick()
    server(world, **more)
    await world.pass_time(hours=6)
    assert (await world.states())["srv-01"].state is state
    assert world.posts() == []


async def test_caps_windows_and_pauses_hold_for_servers() -> None:
    world = quick(ON | {"PATCH_MAX_IN_FLIGHT": "1", "PATCH_WINDOW": "Wed 10:00-18:00"})
    servers = [server(world, f"srv-0{number}") for number in range(3)]
    vm = world.create("web-01", WAITING)
    await world.pass_time(hours=1.5)
    assert world.operations(kind="install") == []
    await world.pause("a freeze")
    await world.pass_time(hours=2)
    assert world.operations(kind="install") == []
    await world.resume()
    most = 0
    while len(world.operations(kind="install")) < 4:
        await world.pass_time(minutes=1)
        most = max(most, len(world.installing()))
    assert most == 1
    assert {each.machine.lower() for each in world.operations(kind="install")} == {str(each) for each in (*servers, vm)}


async def test_a_plan_says_what_assessing_servers_costs(told: Told) -> None:
    """List price: $5 per server and month (Azure Update Manager FAQ). One that is not connected costs nothing."""
    world = quick(ON | {"PATCH_MODE": "plan"})
    servers = [server(world, f"srv-0{number}") for number in range(3)]
    agent(world, servers[0], "Expired")
    await world.pass_time(hours=2)
    lines = [each for each in told("settings.advised") if each.get("setting") == "PATCH_ARC"]
    assert {each["machines"] for each in lines} == {2}
    assert "up to $10 a month ($0.16 per server and day)" in lines[0]["reason"]


@pytest.mark.parametrize("settings", [{}, ON], ids=["off", "in mode install"])
async def test_who_makes_no_plan_sees_no_price(settings: dict[str, str], told: Told) -> None:
    world = quick(settings)
    server(world)
    await world.pass_time(hours=2)
    assert [each for each in told("settings.advised") if each.get("setting") == "PATCH_ARC"] == []


ROLE = [
    action
    for name in ("patch-actions.json", "arc-actions.json")
    for action in json.loads((REPOSITORY / "infra" / name).read_text(encoding="utf-8"))
]
# Those of a server without which it is not patched. The rows of single patches only say how old patches are,
# and Resource Graph shows how an operation ended where its own answer may not be read.
NEEDED = [
    each for each in ROLE if "HybridCompute" in each and "softwarePatches" not in each and "locations" not in each
]


@pytest.mark.parametrize("missing", ["", *NEEDED])
async def test_the_role_of_the_deployment_is_enough_and_nothing_of_it_is_spare(missing: str) -> None:
    world = World(ON)
    world.in_steps(timedelta(minutes=15))
    machine = server(world)
    world.azure.grants = [Grant(actions=tuple(ROLE), not_actions=(missing,) if missing else ())]
    await world.pass_time(hours=6)
    world.azure.grants = [Grant()]
    patched = (await world.states())["srv-01"].state is State.PATCHED and world.operations(machine, "install")
    assert bool(patched) is not bool(missing)


async def test_the_sdks_own_client_reads_a_simulated_server() -> None:
    world = World()
    server(world)
    async with HybridComputeManagementClient(world.credential, SUBSCRIPTION, transport=world.transport) as client:
        found = await client.machines.get("rg-arc", "srv-01")
    assert found.properties
    assert (found.properties.status, found.properties.os_sku) == ("Connected", UBUNTU)
