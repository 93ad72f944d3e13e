"""`pause`, `resume`, `hold`, `release`: the rows of functions/cloud/stops.py.

The sweep reports them, and deletes those that ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from functions.cloud.errors import CloudError
from functions.cloud.ledger import APP
from functions.cloud.stops import HOLDS, PAUSE, columns_of, key_of, stop_of_row
from functions.cloud.tables import Row
from functions.model.machine import MachineId
from functions.model.stop import Scope, Stop
from functions.model.text import GUID, format_utc, quoted
from patcher.acting import Action, Deed, Pen, advice, reason_of
from patcher.actions.selecting import Selector, Target, census, image_meant, needed, selected
from patcher.actions.times import end_of
from patcher.connection import App
from patcher.errors import BadRequest, NoAnswer
from patcher.output import Answer, clock_of, line
from patcher.questions.images import short

WRITES_AT_ONCE = 16  # rows that are written at the same time
NAMED = 20  # machines that a preview names
TRIES = 5  # a sweep may write the same row in between
NO_REASON = "its row could not be read"


@dataclass(frozen=True)
class Scoped:
    """What a pause is about: at most one of them, and none for everything."""

    subscription: str = ""
    image: str = ""
    owner: str = ""


@dataclass(frozen=True)
class Covered:
    """A scope with its value as the row has it. `machines`: how many it covers now; None: not counted."""

    scope: Scope
    value: str = ""
    machines: int | None = None

    @property
    def text(self) -> str:
        value = short(self.value) if self.scope is Scope.IMAGE else self.value
        count = "" if self.machines is None else f" ({_machines(self.machines)})"
        return f"{self.scope} {value}".rstrip() + count


def pause(scoped: Scoped, *, reason: str, until: str, lasting: str, replacing: bool) -> Action:
    """No new call in this scope. An existing pause of the same scope is an error, unless `replacing`."""

    async def prepare(app: App, pen: Pen) -> Deed:
        now = app.services.clock()
        why, end = reason_of(reason), end_of(until, lasting, now=now, zone=clock_of(app.settings).zone)
        covered = await _covered(app, scoped)
        stop = Stop(covered.scope, covered.value, why, pen.by, end, since=now)

        async def do() -> Answer:
            if not await _place(pen, stop, now, replacing=replacing):
                known = stop_of_row(await _row_of(pen, stop))
                raise BadRequest(
                    f"{covered.scope} is paused already: {_since(known)}; --replace puts this in its place"
                )
            return _paused(app, stop, covered)

        return Deed(f"{covered.text} is paused", do)

    return prepare


def resume(scoped: Scoped, *, reason: str) -> Action:
    """Ends the pause of this scope."""

    async def prepare(app: App, pen: Pen) -> Deed:
        why, covered = reason_of(reason) if reason else "", await _covered(app, scoped, to_end=True)

        async def do() -> Answer:
            ended = await _end(pen, covered.scope, covered.value, now=app.services.clock(), because=why)
            if ended is None:
                raise BadRequest(f"{covered.text} is not paused; {await _in_force(app, pen)}")
            result = {**_stop(ended), "ended_by": pen.by, "ended_because": why or None}
            lines = [line("resumed", covered.text, "green"), line("was paused", _since(ended))]
            if app.settings.paused:
                lines.append(line("still paused", "PATCH_PAUSE is on: patcher resume --by-setting", "bold yellow"))
            return Answer(result, lines)

        return Deed(f"{covered.text} is resumed", do)

    return prepare


def hold(selector: Selector, *, reason: str, until: str, lasting: str, replacing: bool) -> Action:
    """No new call for each of these machines. One that is held already stays as it is, unless `replacing`."""

    async def prepare(app: App, pen: Pen) -> Deed:
        now = app.services.clock()
        why, end = reason_of(reason), end_of(until, lasting, now=now, zone=clock_of(app.settings).zone)
        meant = selected(await census(app), selector, owner_tag=app.settings.owner_tag)
        known = await _holds(pen, now)
        fresh = [each for each in meant if replacing or each.machine not in known]
        if not fresh:
            raise BadRequest(f"held already, {_names(meant)}; the first: {_since(known[meant[0].machine])}")

        async def place(target: Target) -> bool:
            stop = Stop(Scope.MACHINE, str(target.machine), why, pen.by, end, since=now)
            return await _place(pen, stop, now, replacing=replacing)

        async def do() -> Answer:
            placed = await _each(fresh, place, "held")
            fresh_now = {each.machine for each in placed}
            already = [each.machine for each in meant if each.machine not in fresh_now]
            result = {"reason": why, "by": pen.by, "until": end, **_listed(placed), "already": list(map(str, already))}
            when = f" until {clock_of(app.settings)(end)}" if end else ""
            return Answer(result, [line("held", f"{_names(placed)}{when}", "yellow"), *_stayed(already)])

        stay = f"; {_machines(len(meant) - len(fresh))} held already" if len(fresh) < len(meant) else ""
        return Deed(f"hold {_names(fresh)}{stay}", do, ask_first=True)

    return prepare


def release(selector: Selector, *, reason: str) -> Action:
    """Ends the holds of these machines, also of one that Resource Graph no longer shows."""

    async def prepare(app: App, pen: Pen) -> Deed:
        why, now = reason_of(reason) if reason else "", app.services.clock()
        known = await _holds(pen, now)
        shown = await census(app)
        gone = [Target(each) for each in known.keys() - {target.machine for target in shown}]
        meant = selected([*shown, *gone], selector, owner_tag=app.settings.owner_tag)
        held = [each for each in meant if each.machine in known]
        if not held:
            raise BadRequest(f"no hold is in force on {_names(meant)}; nothing was done")

        async def end(target: Target) -> bool:
            return await _end(pen, Scope.MACHINE, str(target.machine), now=now, because=why) is not None

        async def do() -> Answer:
            ended = await _each(held, end, "released")
            result = {"ended_by": pen.by, "ended_because": why or None, **_listed(ended)}
            return Answer(result, [line("released", _names(ended), "green")])

        return Deed(f"release {_names(held)}", do, ask_first=True)

    return prepare


# -- what is covered


async def _covered(app: App, scoped: Scoped, *, to_end: bool = False) -> Covered:
    """Raises BadRequest: two scopes, or, but `to_end` one, a scope that covers no machine."""
    given = [name for name in ("subscription", "image", "owner") if getattr(scoped, name)]
    if len(given) > 1:
        raise BadRequest(f"{' and '.join(f'--{name}' for name in given)} are both given; one of them is right")
    if not given:
        return Covered(Scope.EVERYTHING)
    if scoped.subscription and not GUID.fullmatch(scoped.subscription.lower()):
        raise BadRequest(f"--subscription is {quoted(scoped.subscription)}; a subscription's id is right")
    if to_end and not scoped.image:  # also of a subscription or owner that has no machine any more
        scope = Scope.SUBSCRIPTION if scoped.subscription else Scope.OWNER
        return Covered(scope, scoped.subscription.lower() or scoped.owner)
    found = await _counted(app, scoped, to_end=to_end)
    if not found.machines and not to_end:
        raise BadRequest(f"no machine in the app's scope is of {found.scope} {quoted(found.value)}; nothing was done")
    return found


async def _counted(app: App, scoped: Scoped, *, to_end: bool) -> Covered:
    targets = await census(app)
    if scoped.subscription:
        value = scoped.subscription.lower()
        return Covered(Scope.SUBSCRIPTION, value, sum(each.machine.subscription == value for each in targets))
    if scoped.owner:
        tag = needed(app.settings.owner_tag)
        return Covered(Scope.OWNER, scoped.owner, sum(each.tags.get(tag) == scoped.owner for each in targets))
    known = {each.image for each in targets}
    if to_end:
        known |= {stop.value for stop in await app.services.ledger.stops() if stop.scope is Scope.IMAGE}
    key = image_meant(scoped.image, known)
    return Covered(Scope.IMAGE, key, sum(each.image == key for each in targets))


# -- rows


async def _place(pen: Pen, stop: Stop, now: datetime, *, replacing: bool) -> bool:
    """Writes the row; False where such a stop is in force already: another operator was first."""
    key, columns = key_of(stop.scope, stop.value), columns_of(stop)
    for _ in range(TRIES):
        row = await pen.table.get(APP, key)
        if row and not replacing and stop_of_row(row).in_force(now):
            return False
        written = await (pen.table.replace(row, columns) if row else pen.table.insert(APP, key, columns))
        if written:
            return True
    raise _contended()


async def _end(pen: Pen, scope: Scope, value: str, *, now: datetime, because: str) -> Stop | None:
    """Notes who ended the stop, and why; None where none is in force. Also of a row that cannot be read."""
    for _ in range(TRIES):
        row = await pen.table.get(APP, key_of(scope, value))
        stop = stop_of_row(row) if row else None
        if row is None or stop is None or not stop.in_force(now):
            return None
        readable = Stop(scope, value, NO_REASON, "") if stop.problem else stop
        ended = replace(readable, ended=now, ended_by=pen.by, ended_because=because)
        if await pen.table.replace(row, columns_of(ended)):
            return ended
    raise _contended()


def _contended() -> NoAnswer:
    return NoAnswer("others keep changing the same row, and nothing was written; look at it and try again")


async def _row_of(pen: Pen, stop: Stop) -> Row:
    """The row that was there a moment ago; an empty one where a sweep has just deleted it."""
    key = key_of(stop.scope, stop.value)
    return await pen.table.get(APP, key) or Row(APP, key, columns_of(stop), "")


async def _holds(pen: Pen, now: datetime) -> dict[MachineId, Stop]:
    stops = [stop_of_row(row) async for row in pen.table.keys(APP, HOLDS)]
    return {MachineId.parse(stop.value): stop for stop in stops if stop.in_force(now) and not stop.problem}


async def _in_force(app: App, pen: Pen) -> str:
    """The pauses that are in force, for the error that there is no such one."""
    now = app.services.clock()
    stops = [stop_of_row(row) async for row in pen.table.keys(APP, PAUSE)]
    pauses = [stop.problem or _named(stop) for stop in stops if stop.in_force(now)]
    if app.settings.paused:
        pauses.append("everything by PATCH_PAUSE (--by-setting)")
    return f"paused: {', '.join(pauses)}" if pauses else "nothing is"


async def _each(targets: Sequence[Target], write: Callable[[Target], Awaitable[bool]], done: str) -> list[Target]:
    """Those for which something was written. Raises NoAnswer that says how far it came."""
    written: list[Target] = []
    for first in range(0, len(targets), WRITES_AT_ONCE):
        batch = targets[first : first + WRITES_AT_ONCE]
        answers = await asyncio.gather(*map(write, batch), return_exceptions=True)
        written += [target for target, answer in zip(batch, answers, strict=True) if answer is True]
        for answer in answers:
            if isinstance(answer, CloudError | NoAnswer):
                count = f"{len(written)} of {len(targets)} machines are {done}, and the same command does the others"
                raise NoAnswer(f"{count}: {answer}{advice(answer) if isinstance(answer, CloudError) else ''}")
            if isinstance(answer, BaseException):
                raise answer
    return written


# -- what is said


def _paused(app: App, stop: Stop, covered: Covered) -> Answer:
    when = clock_of(app.settings)
    lines = [
        line("paused", covered.text, "bold yellow"),
        line("until", f"{when(stop.until)} ({when.zone})" if stop.until else "a person resumes"),
        line("effect", "nothing new starts from now on; operations in flight go on to their end"),
        line("to end it", stop.command, "green"),
    ]
    return Answer({**_stop(stop), "machines": covered.machines}, lines)


def _stop(stop: Stop) -> dict[str, Any]:
    return {
        "scope": stop.scope.value,
        "value": stop.value or None,
        "row": key_of(stop.scope, stop.value),
        "reason": stop.reason,
        "by": stop.by or None,
        "since": stop.since,
        "until": stop.until,
    }


def _named(stop: Stop) -> str:
    return f"{stop.scope} {stop.value}".strip()


def _since(stop: Stop) -> str:
    since = f", since {format_utc(stop.since)}" if stop.since else ""
    return f"{stop.text}{since}"


def _machines(count: int) -> str:
    return f"{count} machine{'' if count == 1 else 's'}"


def _names(targets: Sequence[Target]) -> str:
    """How many, and the first ones by name."""
    names = ", ".join(each.machine.name for each in targets[:NAMED])
    return f"{_machines(len(targets))}: {names}{' …' if len(targets) > NAMED else ''}"


def _listed(targets: Iterable[Target]) -> dict[str, list[str]]:
    return {"machines": [str(each.machine) for each in targets]}


def _stayed(already: Sequence[MachineId]) -> list[Any]:
    return [line("held already", _names([Target(each) for each in already]))] if already else []
