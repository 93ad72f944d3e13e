"""`python -m simulator`: Azure on this machine, for a person to try out.

A playground: a fleet, the app, and a clock that you move by typed commands (docs/try.md). With --speed, --host or
--azure-only it goes by this machine's clock, has no machine, and prints commands that create one and show it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import NoReturn

import aiohttp

from simulator.arm import shapes
from simulator.azure import Timings
from simulator.deployment import DeploymentError
from simulator.deployment.events import Function
from simulator.embedded import Embedded
from simulator.event_grid.handshake import HandshakeFailed
from simulator.functions_host import elsewhere
from simulator.playground import ground as playground
from simulator.playground import prompt
from simulator.playground.app import chosen
from simulator.playground.drive import HostEnded
from simulator.playground.fleet import members
from simulator.playground.ground import Plan
from simulator.playground.log import Log, wrapped
from simulator.storage.azurite import AzuriteUnavailable
from simulator.wire import Json

MACHINES, IMAGES, SPEED = 20, 3, 30.0
_FIRST_YEAR, _LAST_YEAR = 2020, 2090
_WATCH_SECONDS = 1.0
_MIN_SCALE = 0.1  # of the host's own times: polling more often than once per second gains nothing

# Settings for a person who watches; all others are those of the default deployment.
WATCHING: Mapping[str, str] = {
    "PATCH_MODE": "install",
    "PATCH_WINDOW": "any",
    "PATCH_MIN_AGE_MINUTES": "0",
    "PATCH_ASSESS_AFTER_MINUTES": "0",
    "PATCH_BAKE_MINUTES": "0",  # by default the canary is watched for a day
    "RECONCILE_SCHEDULE": "*/10 * * * * *",
}
# A machine is ready when its creation ends: the app would first wait two minutes of real time for a slow agent.
READY_AT_ONCE = replace(Timings(), agent_ready_seconds=0, extensions_seconds=0)


class _OneLine(argparse.ArgumentParser):
    """Refuses in one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"simulator: {message}\n")


def arguments(words: list[str]) -> argparse.Namespace:
    """Raises SystemExit."""
    parser = _OneLine(
        prog="python -m simulator",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=8443, help="of the simulated Azure; 0 for any (default: 8443)")
    parser.add_argument(
        "--set", dest="changes", metavar="NAME=VALUE", action="append", default=[], help="an app setting; repeated"
    )
    ours = parser.add_argument_group("the playground")
    ours.add_argument("--machines", type=int, metavar="N", help=f"how many there are (default: {MACHINES})")
    ours.add_argument("--images", type=int, metavar="M", help=f"of how many images (default: {IMAGES})")
    ours.add_argument("--day", metavar="DAY", help="where the clock begins, in UTC: 2026-12-08, 2026-12-08T20:00")
    ours.add_argument(
        "--behaviour", metavar="NAME[=N]", action="append", default=[], help="what the guests of N machines do"
    )
    ours.add_argument("--behaviours", action="store_true", help="list what guests can do, and end")
    ours.add_argument("--json", dest="as_json", action="store_true", help="the journal's lines on stdout, as they are")
    others = parser.add_argument_group("by this machine's clock, without a fleet")
    others.add_argument(
        "--speed", type=float, help=f"Azure goes so many times faster (with --host or --azure-only: {SPEED:.0f})"
    )
    others.add_argument("--azure-only", action="store_true", help="neither storage nor a Functions host")
    others.add_argument(
        "--host", metavar="URL", help="deliver events to this Functions host, and start none (docs/develop.md)"
    )
    others.add_argument("--key", default="", help="the host's key for Event Grid, if it asks for one")
    others.add_argument(
        "--handshake", action="store_true", help="prove the host first, as Event Grid does for a webhook"
    )
    others.add_argument(
        "--settings", type=Path, default=Path("local.settings.json"), help="with --host: where its settings are written"
    )
    options = parser.parse_args(words)
    try:
        _understand(options)
    except ValueError as error:
        parser.error(str(error))
    return options


def _understand(options: argparse.Namespace) -> None:
    """Reads every option, and refuses those that do not go together. Raises ValueError."""
    if options.host and options.azure_only:
        raise ValueError("--host needs the storage that --azure-only leaves out; choose one of them")
    if options.changes and options.azure_only:
        raise ValueError("--set needs the app that --azure-only leaves out")
    if options.speed is not None and options.speed <= 0:
        raise ValueError(f"--speed is {options.speed:g}; a number above 0 is right")
    options.play = options.speed is None and not options.host and not options.azure_only
    if not options.play:
        _refuse_what_plays(options)
    options.speed = options.speed or SPEED
    options.start = _start(options.day)
    usual = playground.USUAL if options.play else WATCHING
    options.values = chosen(dict(map(_name_and_value, options.changes)), usual, options.start)
    named = dict(map(_behaviour, options.behaviour))
    number = MACHINES if options.machines is None else options.machines
    options.members = members(number, IMAGES if options.images is None else options.images, named)


def _refuse_what_plays(options: argparse.Namespace) -> None:
    given = {
        "--machines": options.machines is not None,
        "--images": options.images is not None,
        "--day": options.day is not None,
        "--behaviour": bool(options.behaviour),
        "--json": options.as_json,
    }
    if wrong := [name for name, is_given in given.items() if is_given]:
        raise ValueError(f"{wrong[0]} is the playground's; leave out --speed, --host and --azure-only")


def _start(day: str | None) -> datetime:
    if day is None:
        return datetime.now(UTC).replace(second=0, microsecond=0)
    try:
        found: datetime | None = datetime.fromisoformat(day)
    except ValueError:
        found = None
    if not found or found.tzinfo or not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        raise ValueError(f"--day is '{day}'; a day in UTC is right, such as 2026-12-08 or 2026-12-08T20:00")
    return found.replace(second=0, microsecond=0, tzinfo=UTC)


def _name_and_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text}: NAME=VALUE is right, such as PATCH_WINDOW='Sat 22:00-02:00 Europe/Paris'")
    return name.strip(), value


def _behaviour(text: str) -> tuple[str, int]:
    name, _, count = text.partition("=")
    if not re.fullmatch(r"[1-9]\d{0,3}", count or "1"):
        raise ValueError(f"--behaviour {text}: the number of machines is right after =, such as {name}=3")
    return name, int(count or 1)


async def run(options: argparse.Namespace) -> int:
    """The exit code."""
    if options.play:
        return await play(options)
    deployment = None if options.azure_only else "default"
    embedded = Embedded(options.speed, deployment=deployment, timings=READY_AT_ONCE, port=options.port)
    async with embedded:
        if options.host:
            await serve_a_host_elsewhere(embedded, options)
        elif deployment:
            await run_the_app(embedded, options.speed, **options.values)
        print(introduction(embedded), flush=True)
        async with told_to_patcher(embedded, values=options.values) if deployment else nullcontext():
            await watch(embedded)
    return 0


async def play(options: argparse.Namespace) -> int:
    """The playground, to the end of its commands."""
    people, log = sys.stderr if options.as_json else sys.stdout, Log()

    def show(text: str) -> None:
        print(text, file=people, flush=True)

    def say(lines: list[str], told: list[Json], now: datetime) -> None:
        for text in lines if options.as_json else chain.from_iterable(map(wrapped, log.lines(lines, now, told))):
            print(text, flush=True)

    show("Starting Azure, storage and the app …")
    plan = Plan(options.start, tuple(options.members), options.values, options.port)
    async with playground.opened(plan, say) as ground, told_to_patcher(ground.embedded):
        show(prompt.welcome(ground))
        return await prompt.run(prompt.Prompt(ground, show), sys.stdin)


async def run_the_app(embedded: Embedded, speed: float, **changes: str) -> None:
    """Runs the app in a host that is started again whenever it ends itself, and subscribes it to events."""
    settings = embedded.settings(**{**WATCHING, **changes})
    instance = await embedded.instance(settings, time_scale=max(1 / speed, _MIN_SCALE))
    await embedded.subscribe(instance.hosts[0])


@asynccontextmanager
async def told_to_patcher(
    embedded: Embedded, settings: Mapping[str, str] | None = None, *, values: Mapping[str, str] = WATCHING
) -> AsyncIterator[None]:
    """Inside the block, `patcher --simulator` finds this simulator: by a file beside its own (patcher/profile.py).

    `settings`: of the app where no host of this process runs it; or `values`, those that differ from the deployment.
    """
    values = dict(settings or (embedded.hosts[0].settings if embedded.hosts else embedded.settings(**values)))
    site = embedded.deployed.plan.site
    group = site.id.partition("/providers/")[0]
    told = {"settings": values, "principal": site.identity.object_id, "group": group}
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "image-patcher"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "simulator.json"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    text = json.dumps(told, indent=1)
    path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        if path.exists() and path.read_text(encoding="utf-8") == text:  # no newer simulator's
            path.unlink()


async def serve_a_host_elsewhere(embedded: Embedded, options: argparse.Namespace) -> None:
    """Writes the host's settings and subscribes it to events; with a handshake it waits until the host answers.

    Raises ValueError and FileExistsError.
    """
    destinations = [each.destination for each in embedded.deployed.plan.subscriptions]
    functions = [each.name for each in destinations if isinstance(each, Function)]
    host = elsewhere.at(options.host, options.key, functions)
    elsewhere.write_local_settings(options.settings, embedded.settings(**options.values))
    start = f"SSL_CERT_FILE={embedded.tls.ca_path} func start"
    print(f"Start the host in the folder of {options.settings}:\n  {start}\n", flush=True)
    while True:
        try:
            await embedded.subscribe(host, handshake=options.handshake)
        except (HandshakeFailed, aiohttp.ClientError) as error:
            print(f"waiting for {options.host}: {error}", flush=True)
            await asyncio.sleep(_WATCH_SECONDS)
        else:
            return


def introduction(stage: Embedded) -> str:
    endpoint = stage.endpoint
    body = Path(stage.tls.ca_path).with_name("machine.json")
    body.write_text(json.dumps(shapes.machine(), indent=1), encoding="utf-8")
    group, machine = shapes.machine_id("web-01").split("/providers/")[0], shapes.machine_id("web-01")
    curl = f"curl -sS --cacert {stage.tls.ca_path}"
    put = f'{curl} -X PUT -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json"'
    view = f"{endpoint}{machine}/instanceView?api-version=2024-11-01"
    parts = [f"Azure            {endpoint}   (certificate authority: {stage.tls.ca_path})"]
    settings, changed = stage.platform_settings(), ""
    for host in stage.hosts[:1]:
        settings, changed = host.settings, f", of which these differ from the deployment: {', '.join(WATCHING)}"
        names = ", ".join(sorted(host.functions)) or f"none: {host.error}"
        parts += [
            f"deployment       {stage.snapshots}, of infra/snapshots",
            f"queues           {stage.account.queue_url}",
            f"tables           {stage.account.table_url}",
            f"Functions host   {host.url}",
            f"functions        {names}",
        ]
    return "\n".join(
        [
            *parts,
            "",
            f"App settings{changed}",
            *(f"  {name}={value}" for name, value in sorted(settings.items())),
            "",
            "Create a machine from a gallery image and watch it (in another terminal):",
            f"  TOKEN=$({curl} {endpoint}/simulator/token)",
            f"  {put} -d '{{\"location\": \"westus\"}}' '{endpoint}{group}?api-version=2024-11-01'",
            f"  {put} -d @{body} '{endpoint}{machine}?api-version=2024-11-01'",
            f"  {curl} -H \"Authorization: Bearer $TOKEN\" '{view}'",
            "Ask about it as an operator does (docs/patcher.md):",
            "  python -m patcher --simulator status",
            "Choose what a guest does, assign a schedule, list the operations (the simulator's own routes, no token):",
            f'  {curl} -X PUT -d \'{{"support_state": "Unsupported"}}\' {endpoint}/simulator/behaviours/web-02',
            f'  {curl} -X PUT -d \'{{"scope": "{machine}"}}\' {endpoint}/simulator/assignments/weekly',
            f"  {curl} {endpoint}/simulator/operations",
            "",
            "Ctrl-C ends it. Events, operations and the app's log lines:",
        ]
    )


async def watch(stage: Embedded) -> None:
    """Prints one line per event, operation and line of the app's journal, until it is cancelled."""
    shown_events, shown_traces, shown_hosts = 0, 0, len(stage.hosts[:1])
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
        for host in stage.hosts[shown_hosts:]:
            print(f"host       started at {host.url}", flush=True)
        shown_hosts = len(stage.hosts)
        traces = [line for host in stage.hosts for line in host.app_lines]
        for trace in traces[shown_traces:]:
            print(f"app        {trace.message}", flush=True)
        shown_traces = len(traces)
        await asyncio.sleep(_WATCH_SECONDS)


def main() -> int:
    try:
        options = arguments(sys.argv[1:])
        if options.behaviours:
            print(prompt.behaviours())
            return 0
        return asyncio.run(run(options))
    except KeyboardInterrupt:
        return 0
    except (ValueError, FileExistsError, HostEnded) as error:
        print(error, file=sys.stderr)
        return 1
    except (AzuriteUnavailable, DeploymentError) as error:
        print(f"{error}\nWithout it: python -m simulator --azure-only", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot listen: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
