"""`python -m simulator`: Azure on this machine, for a person to play with.

Prints where everything is, the app settings, and the very lines to create a machine and watch what becomes of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from simulator import shapes
from simulator.azurite import AzuriteUnavailable
from simulator.everything import Everything, azure_alone, everything
from simulator.identity import API_VERSION, ARM

_WATCH_SECONDS = 1.0


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    parser.add_argument("--speed", type=float, default=30.0, help="how many times faster than Azure (default: 30)")
    parser.add_argument("--port", type=int, default=8443, help="of the simulated Azure; 0 for any (default: 8443)")
    parser.add_argument("--azure-only", action="store_true", help="no storage, no Functions host: bring your own")
    return parser.parse_args(words)


async def run(options: argparse.Namespace) -> None:
    async with _stage(options) as stage:
        print(introduction(stage), flush=True)
        await watch(stage)


@asynccontextmanager
async def _stage(options: argparse.Namespace) -> AsyncIterator[Everything]:
    if options.azure_only:
        async with azure_alone(speed=options.speed, port=options.port) as stage:
            yield stage
    else:
        async with everything(speed=options.speed, port=options.port) as stage:
            yield stage


def introduction(stage: Everything) -> str:
    body = Path(stage.tls.ca_path).with_name("machine.json")
    body.write_text(json.dumps(shapes.machine(), indent=1), encoding="utf-8")
    group, machine = shapes.machine_id("web-01").split("/providers/")[0], shapes.machine_id("web-01")
    curl = f"curl -sS --cacert {stage.tls.ca_path}"
    token = f"{stage.endpoint}/msi/token?api-version={API_VERSION}&resource={ARM}"
    put = f'{curl} -X PUT -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json"'
    head = f"X-IDENTITY-HEADER: {stage.managed_identity.header}"
    take = "python3 -c 'import json,sys; print(json.load(sys.stdin)[\"access_token\"])'"
    view = f"{stage.endpoint}{machine}/instanceView?api-version=2024-11-01"
    parts = [f"Azure            {stage.endpoint}   (certificate authority: {stage.tls.ca_path})"]
    if stage.storage:
        parts += [f"queues           {stage.storage.queue_url}", f"tables           {stage.storage.table_url}"]
    if stage.host:
        names = ", ".join(sorted(stage.host.functions)) or f"none: {stage.host.error}"
        parts += [f"Functions host   {stage.host.url}", f"functions        {names}"]
    return "\n".join(
        [
            *parts,
            "",
            "App settings:",
            *(f"  {name}={value}" for name, value in sorted(stage.app_settings.items())),
            "",
            "Create a machine from a gallery image and watch it (in another terminal):",
            f'  TOKEN=$({curl} -H "{head}" "{token}" | {take})',
            f"  {put} -d '{{\"location\": \"westus\"}}' '{stage.endpoint}{group}?api-version=2024-11-01'",
            f"  {put} -d @{body} '{stage.endpoint}{machine}?api-version=2024-11-01'",
            f"  {curl} -H \"Authorization: Bearer $TOKEN\" '{view}'",
            "What a guest does, and what was done to it (no token, not Azure's):",
            f'  {curl} -X PUT -d \'{{"support_state": "Unsupported"}}\' {stage.endpoint}/simulator/behaviours/web-02',
            f"  {curl} {stage.endpoint}/simulator/operations",
            "",
            "Ctrl-C ends it. What happens:",
        ]
    )


async def watch(stage: Everything) -> None:
    """One line for every event, operation and line of the app's journal, until somebody stops it."""
    shown_events, shown_traces = 0, 0
    seen: dict[str, str] = {}
    while True:
        events = stage.azure.events
        for event in events[shown_events:]:
            print(f"event      {event['data']['operationName']}  {event['subject'].rsplit('/', 1)[-1]}", flush=True)
        shown_events = len(events)
        for operation in [*stage.azure.changes, *stage.azure.operations]:
            if seen.get(operation.operation_id) != operation.status:
                seen[operation.operation_id] = operation.status
                name = operation.machine.rsplit("/", 1)[-1]
                print(f"operation  {operation.kind} {name}: {operation.status}", flush=True)
        traces = stage.host.traces if stage.host else []
        for trace in traces[shown_traces:]:
            print(f"app        {trace.message}", flush=True)
        shown_traces = len(traces)
        await asyncio.sleep(_WATCH_SECONDS)


def main() -> int:
    try:
        asyncio.run(run(arguments(sys.argv[1:])))
    except KeyboardInterrupt:
        return 0
    except AzuriteUnavailable as error:
        print(f"{error}\nWithout it: python -m simulator --azure-only", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot listen: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
