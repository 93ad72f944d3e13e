"""What a cold start costs: importing the app, and the way to the first assessment, over TLS with a real token."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import processes
from benchmarks.processes import Figures
from benchmarks.rounds import Round, in_turns
from benchmarks.sizes import Sizes
from benchmarks.table import Result, compared
from simulator.azure import Limits
from simulator.embedded import Embedded
from simulator.tls import Tls
from tests.support.world import REAL_TIME, SUBSCRIPTION, vm_body

# An app that assesses a machine as soon as it is written.
SETTINGS = {
    "PATCH_MODE": "assess",
    "PATCH_CREATED_AFTER": "always",
    "PATCH_MIN_AGE_MINUTES": "0",
    "PATCH_ASSESS_AFTER_MINUTES": "0",
}
# A token spares it the Azure CLI; it calls nothing.
CUSTODIAN = {"AZURE_ACCESS_TOKEN": "none", "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION}


async def index(sizes: Sizes, tls: Tls) -> list[Result]:
    run = processes.run
    rounds = await in_turns(
        sizes.noisy * sizes.rounds, lambda: run("importing.app"), lambda: run("importing.host_library")
    )
    return [compared("index_cpu", rounds)]


async def first_event(sizes: Sizes, tls: Tls, custodian: Path | None = None) -> list[Result]:
    """With `custodian`, a Python that has c7n_azure, also against that."""
    async with Embedded(tls=tls, timings=REAL_TIME, limits=Limits()) as azure:
        settings = {name: str(value) for name, value in azure.settings(**SETTINGS).items()}
        numbers = itertools.count()

        async def ours() -> Figures:
            event = _written(azure, next(numbers))
            return await processes.run("first_event.ours", event, environ=settings)

        reference = partial(processes.run, "importing.host_library")
        rounds = await in_turns(sizes.noisy * sizes.rounds, ours, reference)
        packages = [await processes.run("importing.packages") for _ in rounds]
        results = [
            compared("first_event_cpu", rounds, note=_floor(rounds, packages, "cpu")),
            compared("first_event_rss", rounds, figure="peak_mb", note=_floor(rounds, packages, "peak_mb")),
        ]
        if custodian:
            ready = partial(processes.run, "importing.custodian", python=str(custodian), environ=CUSTODIAN)
            results.append(compared("first_event_vs_custodian", await in_turns(sizes.rounds, ours, ready)))
    return results


def _floor(rounds: Sequence[Round], packages: Sequence[Figures], figure: str) -> str:
    """What the packages that the first event uses cost by their imports alone, as a ratio to the same reference."""
    alone = median(each[figure] for each in packages) / median(each.reference[figure] for each in rounds)
    return f"importing the packages alone: {alone:.2f}"


def _written(azure: Embedded, number: int) -> dict[str, Any]:
    """The event of a machine that was just created and is ready."""
    machine = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-bench/providers/Microsoft.Compute/virtualMachines"
    azure.azure.create_machine(f"{machine}/vm-{number}", vm_body())
    written = [each for each in azure.azure.events if each["subject"].lower().endswith(f"/vm-{number}")]
    return dict(written[-1])
