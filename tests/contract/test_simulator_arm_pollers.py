"""Changes of a machine as the SDK's own pollers follow them, by the real clock.

Factors: the operation, the client (asynchronous, synchronous), whether the operation takes a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.mgmt.compute import ComputeManagementClient

from simulator import identity, server
from simulator.arm import shapes
from simulator.azure import Azure, Timings
from simulator.tls import Tls
from tests.contract.simulator_client import Arm, arm, install_order

VM = shapes.machine_id("vm-01")
AN_HOUR = 3600.0
PAUSE = 0.05  # seconds: 45 polls of a machine are too many in a minute
READY_AT_ONCE = Timings(create_seconds=0, agent_ready_seconds=0, extensions_seconds=0, reboot_seconds=0)
SHORT = replace(
    READY_AT_ONCE,
    start_seconds=0.2,
    deallocate_seconds=0.2,
    redeploy_seconds=0.2,
    reapply_seconds=0.2,
    delete_seconds=0.2,
    assess_seconds=0.2,
    install_seconds=0.2,
)
LARGER: Any = {"properties": {"hardwareProfile": {"vmSize": "Standard_D4s_v5"}}}


def real(timings: Timings) -> Azure:
    azure = Azure(lambda: datetime.now(UTC), timings)
    azure.create_machine(VM, shapes.machine())
    return azure


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_an_update_that_takes_a_while_says_so_in_its_answer(method: str) -> None:
    azure = real(replace(READY_AT_ONCE, start_seconds=AN_HOUR))
    body = shapes.machine(properties=LARGER["properties"]) if method == "PUT" else LARGER
    async with arm(azure) as client:
        answer = await client.call(method, VM, body)
        seen = (await client.call("GET", VM)).json()["properties"]["provisioningState"]
    assert (answer.status_code, answer.json()["properties"]["provisioningState"], seen) == (200, "Updating", "Updating")
    assert "azure-asyncoperation" in answer.headers


async def test_an_update_of_tags_is_over_in_its_answer() -> None:
    azure = real(SHORT)
    async with arm(azure) as client:
        answer = await client.call("PATCH", VM, {"tags": {"a": "b"}})
    assert (answer.status_code, answer.json()["properties"]["provisioningState"]) == (200, "Succeeded")
    assert "azure-asyncoperation" not in answer.headers


async def _update(client: Arm) -> Any:
    poller = await client.compute.virtual_machines.begin_update("rg-prod", "vm-01", LARGER, polling_interval=PAUSE)
    return (await poller.result()).provisioning_state


async def _assess(client: Arm) -> Any:
    poller = await client.compute.virtual_machines.begin_assess_patches("rg-prod", "vm-01", polling_interval=PAUSE)
    return (await poller.result()).status


async def _install(client: Arm) -> Any:
    machines = client.compute.virtual_machines
    poller = await machines.begin_install_patches("rg-prod", "vm-01", install_order(), polling_interval=PAUSE)
    return (await poller.result()).status


def _action(name: str) -> Callable[[Arm], Awaitable[Any]]:
    async def act(client: Arm) -> Any:
        begin = getattr(client.compute.virtual_machines, f"begin_{name}")
        return await (await begin("rg-prod", "vm-01", polling_interval=PAUSE)).result()

    return act


POLLED: dict[str, tuple[Callable[[Arm], Awaitable[Any]], str | None]] = {
    "update": (_update, "Succeeded"),
    "assess": (_assess, "Succeeded"),
    "install": (_install, "Succeeded"),
    "start": (_action("start"), None),
    "restart": (_action("restart"), None),
    "redeploy": (_action("redeploy"), None),
    "reapply": (_action("reapply"), None),
    "delete": (_action("delete"), None),
}


@pytest.mark.parametrize("kind", POLLED)
async def test_the_poller_ends_with_the_operation_and_not_before(kind: str) -> None:
    act, result = POLLED[kind]
    azure = real(SHORT)
    async with arm(azure) as client:
        assert await act(client) == result
        done = azure.now()
    (operation,) = [each for each in (*azure.operations, *azure.changes) if each.kind == kind]
    assert operation.ends is not None
    assert operation.ends <= done
    assert operation.status == "Succeeded"


class _Credential:
    """A TokenCredential of the real clock."""

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        return AccessToken(identity.mint(identity.ARM), int(time.time()) + 3600)


async def test_the_synchronous_client_carries_a_machine_through_its_life(tls: Tls) -> None:
    azure = Azure(lambda: datetime.now(UTC), SHORT)
    azure.create_group(VM.split("/providers/")[0])

    def life(endpoint: str) -> list[Any]:
        client = ComputeManagementClient(
            _Credential(),
            shapes.SUBSCRIPTION,
            base_url=endpoint,
            credential_scopes=[f"{endpoint}/.default"],
            connection_verify=str(tls.ca_path),
            use_env_settings=False,
            retry_total=0,
            polling_interval=PAUSE,
        )
        with client:
            machines: Any = client.virtual_machines
            name = ("rg-prod", "vm-01")
            created = machines.begin_create_or_update(*name, shapes.machine()).result()
            resized = machines.begin_update(*name, LARGER).result()
            installed = machines.begin_install_patches(*name, install_order()).result()
            machines.begin_deallocate(*name).result()
            machines.begin_delete(*name).result()
            return [created.provisioning_state, resized.provisioning_state, installed.status]

    async with server.serve(azure, tls) as endpoint:
        ends = await asyncio.to_thread(life, endpoint)
    assert ends == ["Succeeded"] * 3
    assert azure.world.machines == {}
