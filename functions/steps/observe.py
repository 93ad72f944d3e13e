"""How a step sees a machine, and decides: read it once, get one of five answers, ask the decision.

Event, message, sweep and tracking all see a machine through observe(), so that "is it still the same VM?" and the
meaning of ARM's answers stand in one place. Unavailable is not an answer: it is raised, and the caller is retried.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

from functions import journal
from functions.cloud import errors
from functions.decisions.decision import next_step
from functions.decisions.question import Question, named_count, question_of
from functions.decisions.schedules import covered
from functions.model.machine import Machine, MachineId, PatchOrchestration
from functions.model.record import Record
from functions.model.run import Run
from functions.model.state import Step
from functions.model.text import BadInput
from functions.policy.settings import Settings
from functions.services import Services

READS_AT_ONCE = 200  # Resource Manager allows 250, per subscription and caller; others read, too
Item = TypeVar("Item")


def in_turn(items: Sequence[Item], jitter: Callable[[], float], most: int = READS_AT_ONCE) -> list[Item]:
    """So many of them, from a random place on: those without an answer must not keep the others waiting."""
    if len(items) <= most:
        return list(items)
    first = int(jitter() * len(items))
    return [*items[first:], *items[:first]][:most]


@dataclass(frozen=True)
class Seen:
    """The machine as its instance view shows it."""

    machine: Machine


@dataclass(frozen=True)
class Gone:
    """ARM does not know the machine or is deleting it, or another VM has its id by now."""

    error: errors.Gone


@dataclass(frozen=True)
class Unreadable:
    """ARM's answer cannot be read. `what` was asked for: "ARM" or "resource group"."""

    error: BadInput
    what: str


@dataclass(frozen=True)
class Refused:
    """Azure refuses the read."""

    error: errors.Refused


@dataclass(frozen=True)
class Throttled:
    """The quota of reads is used up. It says nothing about the machine."""

    error: errors.Throttled


Observation = Seen | Gone | Unreadable | Refused | Throttled


async def observe(services: Services, machine_id: MachineId, *, vm_id: str | None = None) -> Observation:
    """Reads the machine; with `vm_id`, only that VM counts as the same machine. Raises Unavailable."""
    try:
        machine = await services.compute.machine(machine_id)
    except (errors.Gone, errors.Refused, errors.Throttled, BadInput) as error:
        return _unseen(error, "ARM")
    if vm_id is not None and machine.vm_id != vm_id:
        return Gone(errors.Gone("reading a machine: another one has its id"))
    if machine.being_deleted:  # Azure refuses all but its deletion
        return Gone(errors.Gone("reading a machine: it is being deleted"))
    return Seen(machine)


async def observe_resource_group(services: Services, machine: Machine) -> Observation:
    """The same machine with its resource group. Raises Unavailable."""
    try:
        return Seen(machine.in_resource_group(await services.compute.resource_group(machine.id)))
    except (errors.Gone, errors.Refused, errors.Throttled, BadInput) as error:
        return _unseen(error, "resource group")


async def observe_scale_set(services: Services, machine: Machine) -> Observation:
    """The same machine with the rules of its scale set, where they matter and may be read. Raises Unavailable."""
    if not machine.scale_set or not services.settings.include_scale_sets:
        return Seen(machine)
    try:
        return Seen(replace(machine, scale_set_rules=await services.compute.scale_set(machine)))
    except errors.Throttled as throttled:
        return Throttled(throttled)
    except (errors.Gone, errors.Refused, BadInput):
        return Seen(machine)  # whose rules are not known is left alone


async def observe_results(services: Services, machine: Machine) -> Observation:
    """The same machine with its newest operations, and whether a schedule patches it. Raises Unavailable.

    A virtual machine shows both by itself. Of an Arc-enabled server only Resource Graph tells them.
    """
    if not machine.id.is_arc:
        return Seen(machine)
    try:
        machine = await services.graph.with_results(machine)
        return Seen((await _with_schedules(services, [machine]))[0])
    except (errors.Refused, errors.Throttled) as error:
        return _unseen(error, "Resource Graph")


def _unseen(error: errors.Gone | errors.Refused | errors.Throttled | BadInput, what: str) -> Observation:
    if isinstance(error, errors.Gone):
        return Gone(error)
    if isinstance(error, errors.Refused):
        return Refused(error)
    return Throttled(error) if isinstance(error, errors.Throttled) else Unreadable(error, what)


class UsedUp(set[str]):
    """The subscriptions whose quota of reads is used up: they are asked nothing more in this sweep."""

    def note(self, subscription: str, throttled: errors.Throttled) -> None:
        if subscription not in self:
            self.add(subscription)
            log_used_up(throttled, subscription=subscription)


def log_used_up(throttled: errors.Throttled, **place: str) -> None:
    """One line of information about a 429: where it came, and for how long. It is not a failure of any machine."""
    wait = timedelta(seconds=throttled.retry_after_seconds)
    journal.write("quota.exhausted", **place, problem=throttled, wait_seconds=wait)


def log_unreadable(machine: MachineId, what: str, problem: Exception, *, remedy: str = "") -> None:
    """One line about a machine that is left alone because it cannot be read."""
    journal.write("machine.unreadable", where=what, machine=machine, problem=problem, remedy=remedy)


async def with_named_patches(
    services: Services, machines: list[Machine], settings: Settings | None = None
) -> list[Machine]:
    """The machines, with how many of their patches PATCH_PACKAGES_INCLUDE names. Raises CloudError.

    Where Graph shows fewer patches than it counts (it is behind, or the guest cut its list) that stays unknown.
    """
    settings = settings or services.settings
    asked = [machine for machine in machines if settings.packages_include and machine.verdict]
    found = await services.graph.patches_of(str(machine.id) for machine in asked if machine.pending_at_all)
    named = {
        machine.id: named_count(machine, settings, patches)
        for machine in asked
        if machine.verdict and len(patches := found.get(str(machine.id), [])) >= sum(machine.verdict.counts.values())
    }
    return [
        replace(machine, verdict=replace(machine.verdict, named=named[machine.id]))
        if machine.verdict and machine.id in named
        else machine
        for machine in machines
    ]


async def with_managers(services: Services, machines: list[Machine]) -> list[Machine]:
    """The machines, with what others do with them: their scale sets and schedules. Raises CloudError."""
    return await _with_schedules(services, await _with_scale_sets(services, machines))


async def _with_scale_sets(services: Services, machines: list[Machine]) -> list[Machine]:
    """The machines, members of scale sets with the rules of their set by Resource Graph. Raises CloudError."""
    if not services.settings.include_scale_sets:
        return machines
    rules = await services.graph.scale_sets(each.scale_set for each in machines if each.scale_set)
    return [replace(each, scale_set_rules=rules.get(each.scale_set)) if each.scale_set else each for each in machines]


async def _with_schedules(services: Services, machines: list[Machine]) -> list[Machine]:
    """The machines, those left to a schedule with whether one is assigned. Raises CloudError.

    Without a schedule it stays unpatched. Resource Graph is asked once for all of them, and Resource Manager
    where no row covers one: no row of an identity that may not read them says nothing. There a run of one tells.
    """
    left = [each for each in machines if each.patchers is PatchOrchestration.SCHEDULE]
    if services.settings.include_scheduled or not left:
        return machines
    scopes = [scope for each in left for scope in (str(each.id), each.id.group_id, each.id.subscription_id)]
    assigned = await services.graph.schedules_of(scopes)
    alone = {each.id.subscription for each in left if not covered(each, assigned, readable=True)}
    readable = {each for each in sorted(alone) if await services.compute.reads_schedules(each)}
    answers = {each.id: covered(each, assigned, readable=each.id.subscription in readable) for each in left}
    unknown = [str(each) for each, answer in answers.items() if answer is None]
    ran = await services.graph.schedule_runs(unknown) if unknown else set()
    answers |= {each: True for each in answers if str(each) in ran}
    return [replace(each, schedule_assigned=answers[each.id]) if each.id in answers else each for each in machines]


async def ask(services: Services, machine: Machine, record: Record | None, *, run: Run | None = None) -> Question:
    """The question of this moment: settings, tags, clock and the first deployment included. `run`: on demand."""
    return question_of(
        machine,
        record,
        services.settings,
        created_after=await services.created_after(),
        now=services.clock(),
        run=run,
    )


async def decide(services: Services, machine: Machine, record: Record | None, *, run: Run | None = None) -> Step:
    """What follows for the machine now."""
    return next_step(await ask(services, machine, record, run=run))
