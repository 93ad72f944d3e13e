"""What the simulator's contract tests share: a clock moved by hand, and one client for both ways into one Azure."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from azure.core.rest import HttpRequest
from azure.mgmt.compute.aio import ComputeManagementClient
from azure.mgmt.resourcegraph.aio import ResourceGraphClient

from simulator import server
from simulator.arm import shapes
from simulator.arm.shapes import SUBSCRIPTION
from simulator.azure import Azure
from simulator.identity import ClockCredential
from simulator.tls import Tls
from simulator.transport import AzureTransport

PAYLOADS = Path(__file__).parent.parent / "recordings"
WayIn = Literal["in process", "TLS port"]
API_VERSION = "2024-11-01"
PROVIDER_VERSIONS = {
    "microsoft.resourcegraph": "2024-04-01",
    "microsoft.maintenance": "2023-04-01",
    "microsoft.hybridcompute": "2024-07-10",
}
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-prod"
READY_SECONDS = 60 + 45 + 90  # of the default timings: created, agent ready, extensions done


@dataclass
class Clock:
    """Begins at a time that is not a whole second, as clocks do."""

    time: datetime = field(default_factory=lambda: datetime(2026, 11, 25, 8, 0, 0, 123456, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.time

    def go(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Arm:
    """Plain calls through the SDK's own pipeline, without its retries."""

    azure: Azure
    compute: Any
    graph: Any
    endpoint: str

    async def call(
        self,
        method: str,
        url: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        url = url if url.startswith("https:") else f"{self.endpoint}{url}"
        named = (version for provider, version in PROVIDER_VERSIONS.items() if f"/{provider}/" in url.lower())
        version = next(named, API_VERSION)
        params = {} if "api-version=" in url else {"api-version": version, **(query or {})}
        return await self.compute.send_request(
            HttpRequest(method, url, params=params, json=body, headers=dict(headers or {}))
        )

    async def ask(self, query: str, *, subscriptions: tuple[str, ...] = (SUBSCRIPTION,), **options: Any) -> Any:
        """One page of Resource Graph, as the raw answer."""
        body = {
            "query": query,
            "subscriptions": list(subscriptions),
            "options": {f"${name}": value for name, value in options.items()},
        }
        return await self.call("POST", "/providers/Microsoft.ResourceGraph/resources", body)

    async def rows(self, query: str) -> list[dict[str, Any]]:
        answer = await self.ask(query, top=1000)
        answer.raise_for_status()
        return list(answer.json()["data"])


@asynccontextmanager
async def arm(azure: Azure, way_in: WayIn = "in process", tls: Tls | None = None) -> AsyncIterator[Arm]:
    """The SDK clients at one of the services."""
    if way_in == "in process":
        async with _clients(azure, "https://management.azure.com", {"transport": AzureTransport(azure)}) as clients:
            yield clients
        return
    assert tls is not None
    async with server.serve(azure, tls) as endpoint, _clients(azure, endpoint, {}) as clients:
        yield clients


@asynccontextmanager
async def _clients(azure: Azure, endpoint: str, options: dict[str, Any]) -> AsyncIterator[Arm]:
    options = {"base_url": endpoint, "credential_scopes": [f"{endpoint}/.default"], "retry_total": 0, **options}
    options["use_env_settings"] = False
    async with (
        ComputeManagementClient(ClockCredential(azure.now), SUBSCRIPTION, **options) as compute,
        ResourceGraphClient(ClockCredential(azure.now), **options) as graph,
    ):
        yield Arm(azure, compute, graph, endpoint)


def payload(name: str) -> Any:
    return json.loads((PAYLOADS / name).read_text(encoding="utf-8"))


def ready_machine(azure: Azure, clock: Clock, name: str = "vm-01", **shape: Any) -> str:
    """A machine that is through with its creation; gives its id."""
    full_id = shapes.machine_id(name)
    azure.create_machine(full_id, shapes.machine(**shape))
    clock.go(READY_SECONDS)
    return full_id


def install_order(**changes: Any) -> dict[str, Any]:
    """The body of the recorded Linux run."""
    order = payload("recorded_vm_installPatches_linux_LRO.json")["1_POST"]["body"]
    return {**order, "windowsParameters": {"classificationsToInclude": ["Critical", "Security"]}, **changes}
