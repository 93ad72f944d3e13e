"""A fleet read from Resource Graph and decided on, page by page: by the app, and by a script written in an hour."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.fleet import NOW
from benchmarks.programs import cpu_seconds, tell
from benchmarks.programs.connected import raw, services
from functions.decisions.decision import next_step
from functions.decisions.question import question_of
from functions.model.machine import Machine, ResourceGroup
from functions.model.state import Install
from functions.policy.settings import Settings

PAGE = 1000
_QUERY = "resources | where type == 'microsoft.compute/virtualmachines' | extend due_before = now() | order by id asc"


def ours(endpoint: str) -> None:
    """Tells `read` and `decide`, seconds of CPU, and `rows`. Machines are kept for one page."""
    asyncio.run(_ours(endpoint))


async def _ours(endpoint: str) -> None:
    import azure.mgmt.resourcegraph.aio  # noqa: F401
    from azure.core.pipeline.transport import AioHttpTransport  # noqa: F401  (imports are first_event_cpu's)

    given = services(endpoint, lambda: NOW)
    created_after = await given.created_after()
    rows, deciding, batch, began = 0, 0.0, list[Machine](), cpu_seconds()
    async for machine in given.graph.due_machines(created_after, NOW):
        batch.append(machine)
        if len(batch) == PAGE:
            deciding += _decided(batch, given.settings, created_after)
            rows, batch = rows + len(batch), []
    deciding += _decided(batch, given.settings, created_after)
    tell(read=cpu_seconds() - began - deciding, decide=deciding, rows=rows + len(batch))


def _decided(machines: list[Machine], settings: Settings, created_after: datetime) -> float:
    """The seconds of CPU it takes to decide on these machines, all of which are to be installed."""
    began = cpu_seconds()
    for machine in machines:
        known = machine.in_resource_group(ResourceGroup())
        question = question_of(known, None, settings, created_after=created_after, now=NOW)
        step = next_step(question)
        assert isinstance(step, Install) or "patch-window" in machine.tags, step
    return cpu_seconds() - began


@dataclass
class Vm:
    """A row as it comes; two of its columns are read."""

    id: str
    location: str
    tags: dict[str, str]
    managedBy: str
    plan: Any
    image: dict[str, str]
    is_marketplace: bool
    vm_id: str
    created: str
    provisioning_state: str
    power_code: str
    os_type: str
    create_option: str
    scale_set: str
    availability_set: str
    has_os_profile: bool
    allow_extensions: bool
    windows: Any
    linux: Any
    assessment_id: str
    assessment_status: str
    assessment_started: str
    assessment_modified: str
    support_state: str
    reboot_pending: bool
    counts: dict[str, int]

    @property
    def due(self) -> bool:
        """Supported, with critical patches, in a window that is open."""
        assessed = datetime.fromisoformat(self.assessment_started)
        return self.support_state == "Supported" and self.counts["critical"] > 0 and assessed <= NOW


def reference(endpoint: str) -> None:
    """Tells `cpu` and `rows`: aiohttp, json and a dataclass per row, with a decision of one line."""
    asyncio.run(_reference(endpoint))


async def _reference(endpoint: str) -> None:
    async with raw(endpoint) as client:
        rows, due, token, began = 0, 0, "", cpu_seconds()
        while True:
            options = {"$top": PAGE, "resultFormat": "objectArray"} | ({"$skipToken": token} if token else {})
            body = {"query": _QUERY, "options": options}
            async with client.post("/providers/Microsoft.ResourceGraph/resources", json=body) as answer:
                page = json.loads(await answer.read())
            machines = [Vm(**row) for row in page["data"]]
            rows, due = rows + len(machines), due + sum(machine.due for machine in machines)
            token = page.get("$skipToken", "")
            if not token:
                break
        assert due == rows
        tell(cpu=cpu_seconds() - began, rows=rows)
