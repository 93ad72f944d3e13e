"""Asks a command before each installation that Image Patcher announces, and holds the machine if the answer is no.

    python veto.py --queue <URL of a storage queue> --table <URL of the table service> -- <command> [arguments]

The queue gets the events of type ImagePatcher.InstallationPlanned (docs/notices.md). The command is called with the
machine's resource id as its last argument; it may snapshot or drain the machine first. If its exit code is not 0, the
first line of its output is the reason of a hold, which ends by itself. The app reads holds before every call.

An event may come twice: the command has to bear that, and a hold that exists stays as it is. An event that could not
be answered stays in the queue and is redelivered. Needs: pip install azure-data-tables azure-storage-queue
azure-identity aiohttp.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.exceptions import ResourceExistsError
from azure.data.tables.aio import TableClient
from azure.storage.queue.aio import QueueClient

PLANNED = "ImagePatcher.InstallationPlanned"
HELD_FOR = timedelta(hours=12)
MAX_SECONDS = 600  # for the command; a message stays hidden a little longer
WAIT_SECONDS = 10  # between two looks into an empty queue

Ask = Callable[[str], Awaitable[str]]


async def answer(event: Mapping[str, Any], ledger: TableClient, ask: Ask, *, now: datetime) -> bool:
    """Whether the machine of this event is held now. `ask` gives the reason of a no, and "" for a yes."""
    if event.get("type") != PLANNED:
        return False
    machine = str(event["data"]["machine"]).lower()
    reason = await ask(machine)
    if not reason:
        return False
    with suppress(ResourceExistsError):  # held already: by this program, or by a person
        await ledger.create_entity(hold(machine, reason, now))
    return True


def hold(machine: str, reason: str, now: datetime) -> dict[str, str]:
    """The row of a hold (docs/stop.md)."""
    digest = hashlib.sha256(f"machine {machine}".encode()).hexdigest()[:24]
    return {
        "PartitionKey": "app",
        "RowKey": f"hold-{digest}",
        "scope": "machine",
        "value": machine,
        "reason": reason[:500],
        "by": "veto.py",
        "since": now.isoformat(),
        "until": (now + HELD_FOR).isoformat(),
    }


def asking(command: Sequence[str]) -> Ask:
    """Asks this command. One that cannot be run, or does not end in time, says no."""

    async def ask(machine: str) -> str:
        try:
            process = await asyncio.create_subprocess_exec(*command, machine, stdout=asyncio.subprocess.PIPE)
        except OSError as error:
            return f"the command could not be run: {error.strerror}"
        try:
            output, _ = await asyncio.wait_for(process.communicate(), MAX_SECONDS)
        except TimeoutError:
            process.kill()
            return f"the command did not end within {MAX_SECONDS} seconds"
        if process.returncode == 0:
            return ""
        first, *_ = output.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
        return first

    return ask


def event_of(message: str) -> dict[str, Any]:
    """The event in a message: Event Grid writes its JSON in base64. Raises ValueError for anything else."""
    event = json.loads(base64.b64decode(message))
    if not isinstance(event, dict) or not isinstance(event.get("data"), dict):
        raise ValueError("no event")
    if event.get("type") == PLANNED and not isinstance(event["data"].get("machine"), str):
        raise ValueError("no machine")
    return event


async def take(queue: QueueClient, ledger: TableClient, ask: Ask, *, now: datetime) -> bool:
    """Answers the next event of the queue. False: there is none."""
    message = await queue.receive_message(visibility_timeout=MAX_SECONDS + 60)
    if message is None:
        return False
    try:
        event = event_of(message.content)
    except ValueError as error:
        print(f"this message is not a notice: {error}", flush=True)
    else:
        held = await answer(event, ledger, ask, now=now)
        print("held" if held else "may go", event.get("subject"), flush=True)
    await queue.delete_message(message)
    return True


async def run(queue_url: str, table_url: str, command: Sequence[str]) -> None:
    """Until it is stopped."""
    from azure.identity.aio import DefaultAzureCredential

    async with (
        DefaultAzureCredential() as credential,
        QueueClient.from_queue_url(queue_url, credential=credential) as queue,
        TableClient(table_url, "ledger", credential=credential) as ledger,
    ):
        while True:
            if not await take(queue, ledger, asking(command), now=datetime.now(UTC)):
                await asyncio.sleep(WAIT_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description="Holds machines that a command says no to.")
    parser.add_argument("--queue", required=True, help="https://<account>.queue.core.windows.net/<queue>")
    parser.add_argument("--table", required=True, help="https://<account of the app>.table.core.windows.net")
    parser.add_argument("command", nargs="+", help="what is asked, after --")
    given = parser.parse_args()
    if not os.access(given.command[0], os.X_OK) and os.sep in given.command[0]:
        sys.exit(f"{given.command[0]} is not a program that can be run")
    asyncio.run(run(given.queue, given.table, given.command))


if __name__ == "__main__":
    main()
