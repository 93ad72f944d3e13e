"""The commands of the playground, from a terminal or line by line from a pipe."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TextIO

from simulator.azure import Machine, Refused
from simulator.demo.report import ReportFailed
from simulator.playground import app, fleet
from simulator.playground.ground import Ground

PROMPT = "> "
HELP = """\
+15min +3h +1d +2w   moves the clock on, and shows what happens until then
next opening         moves it to the next opening of PATCH_WINDOW
now                  the time
status               how many machines are in which state
behave NAME WHAT     from now on the guest of the machine NAME does WHAT
behaviours           what a guest can do
help                 this list
quit                 ends the simulator"""
_UNITS = {"m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MOVE = re.compile(r"\+\s*(\d{1,4})\s*(min|m|h|d|w)")
_MAX_MOVE = timedelta(days=400)


class Wrong(ValueError):
    """A command that cannot be meant. The text says what is right."""


def moment(now: datetime) -> str:
    return f"{now:%a %d %b %Y %H:%M} UTC"


def welcome(ground: Ground) -> str:
    """What runs, the settings that were chosen, and what to do."""
    plan, host = ground.plan, ground.host
    shown = {"RECONCILE_SCHEDULE": host.settings["RECONCILE_SCHEDULE"], **plan.settings}
    images = {json.dumps(each.body["properties"]["storageProfile"]["imageReference"]) for each in plan.members}
    return "\n".join(
        [
            f"Azure     {ground.embedded.endpoint}",
            f"machines  {len(plan.members)} of {len(images)} images; all are older than the app",
            f"clock     {moment(ground.clock())}; it stands still until you move it",
            "settings  those of the default deployment, and:",
            *(f"          {name}={value}" for name, value in sorted(shown.items())),
            "Ask in another terminal: python -m patcher --simulator status",
            "",
            HELP,
        ]
    )


@dataclass
class Prompt:
    """Carries commands out. `show` is for people: what it is given is not a line of the journal."""

    ground: Ground
    show: Callable[[str], None]

    async def follow(self, words: str) -> bool:
        """One command. False ends the playground. Raises Wrong: nothing was done."""
        words = " ".join(words.split())
        if words in ("quit", "exit"):
            return False
        if words.startswith("+"):
            await self._move(duration(words))
        elif words.startswith("behave "):
            self._behave(words.split()[1:])
        elif words:
            await self._named(words)()
        return True

    def _named(self, words: str) -> Callable[[], Awaitable[None]]:
        named: dict[str, Callable[[], Awaitable[None]]] = {
            "now": self._now,
            "status": self._status,
            "next opening": self._next_opening,
            "behaviours": self._behaviours,
            "help": self._help,
        }
        if words not in named:
            raise Wrong(f"'{words[:40]}' is not a command; one of: +1d, {', '.join(named)}, behave, quit")
        return named[words]

    async def _now(self) -> None:
        self.show(moment(self.ground.clock()))

    async def _help(self) -> None:
        self.show(HELP)

    async def _behaviours(self) -> None:
        self.show(behaviours())

    async def _move(self, by: timedelta) -> None:
        await self.ground.drive.move_to(self.ground.clock() + by)
        await self._now()

    async def _next_opening(self) -> None:
        settings, now = self.ground.report.services.settings, self.ground.clock()
        opens = app.next_opening(settings, now)
        if opens is None:
            raise Wrong("PATCH_WINDOW has no next opening: it is always open, or never again")
        await self._move(opens - now)

    async def _status(self) -> None:
        try:
            found = await self.ground.report.fleet()
        except ReportFailed as failed:
            raise Wrong(f"the fleet cannot be read: {failed}") from None
        counts = Counter(str(step.state) for step in found.steps.values())
        opens = app.next_opening(self.ground.report.services.settings, self.ground.clock())
        lines = [f"{count:6} {state}" for state, count in counts.most_common()] or ["no machine is to be seen"]
        if opens:
            lines.append(f"next opening: {moment(opens)}")
        self.show("\n".join([moment(self.ground.clock()), *lines]))

    def _behave(self, words: list[str]) -> None:
        if len(words) != 2:
            raise Wrong("'behave' needs a machine and what it does: behave web-001 fails")
        name, what = words
        try:
            machine = self.ground.embedded.azure.machine(name)
            self.ground.embedded.azure.behave(machine.id, fleet.behaviour_named(what))
            self._switch(machine, on=what != "off")
        except (LookupError, ValueError, Refused) as error:
            raise Wrong(str(error)) from None
        self.show(f"{machine.name}: {fleet.BEHAVIOURS[what][0]}")

    def _switch(self, machine: Machine, *, on: bool) -> None:
        """Raises Refused, such as of a machine that is still created."""
        is_on = machine.power_at(self.ground.clock()) == "running"
        if is_on is not on:
            self.ground.embedded.azure.start_operation(machine.id, "start" if on else "deallocate")


def behaviours() -> str:
    return "\n".join(f"{name:<12} {meaning}" for name, (meaning, _) in fleet.BEHAVIOURS.items())


def duration(text: str) -> timedelta:
    """Raises Wrong."""
    found = _MOVE.fullmatch(text)
    by = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if not timedelta() < by <= _MAX_MOVE:
        raise Wrong(f"'{text[:40]}' is not a move of the clock; +15min, +3h, +1d or +2w is right, up to 400 days")
    return by


async def run(prompt: Prompt, lines: TextIO) -> int:
    """Follows command after command to the end of `lines`. Returns the exit code.

    At a terminal a wrong command is explained, and the next one is asked for; from a pipe it ends all, with 2.
    """
    people = lines.isatty()
    incoming = _read(lines)
    while True:
        if people:
            print(PROMPT, end="", file=sys.stderr, flush=True)
        line = await incoming.get()
        if line is None:
            return 0
        try:
            if not await prompt.follow(line):
                return 0
        except Wrong as wrong:
            print(f"simulator: {wrong}", file=sys.stderr, flush=True)
            if not people:
                return 2


def _read(lines: TextIO) -> asyncio.Queue[str | None]:
    """The lines as they come, and None at the end. A thread reads them: Ctrl-C must not wait for a line."""
    incoming: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in iter(lines.readline, ""):
            loop.call_soon_threadsafe(incoming.put_nowait, line)
        loop.call_soon_threadsafe(incoming.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    return incoming
