"""The oracle: what is true of a machine, worked out from the simulated world alone, independent of the app's decisions.

Nothing of functions/decisions or functions/policy is used. The settings and tags of a seed come from small sets
whose meaning is written here by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from simulator.world import HybridMachine, Machine, Operation

if TYPE_CHECKING:
    from tests.simulation.world import SeededWorld

# A window by its text: whether an installation may begin then. All in UTC, none over midnight of a week.
WINDOWS: Mapping[str, Callable[[datetime], bool]] = {
    "any": lambda at: True,
    "Mon-Sun 00:00-06:00 UTC": lambda at: at.hour < 6,
    "Mon-Sun 20:00-23:30 UTC": lambda at: (20, 0) <= (at.hour, at.minute) < (23, 30),
    "Wed 08:00-20:00 UTC; Fri 08:00-20:00 UTC": lambda at: at.weekday() in (2, 4) and 8 <= at.hour < 20,
}
# What a neighbour may have that cannot be read: the end of its name, its resource group, its tags, and its image ("":
# one of the fleet's).
HOSTILE: Mapping[str, tuple[str, str, Mapping[str, str], str]] = {
    "a group of one letter that lowers to two": ("", "rg-web", {"patch-group": "\u0130"}, ""),
    "a group that lowers to another": ("", "rg-web", {"patch-group": "\u212aorum-0"}, ""),
    "a group in other digits": ("", "rg-web", {"patch-group": "quorum-\uff10"}, ""),
    "a group with a quote": ("", "rg-web", {"patch-group": "quorum-0'"}, ""),
    "a group over lines": ("", "rg-web", {"patch-group": "quorum-0\u2028x"}, ""),
    "a window of no kind": ("", "rg-\u0130zmir", {"patch-window": "any\u202e"}, ""),
    "a mode in other letters": ("", "rg-web", {"patch-mode": "\u043eff", "patch-group": "quorum-0"}, ""),
    "a name beyond all limits": ("x" * 90, "rg-web", {"patch-group": "theirs"}, ""),
    "a resource group that names another": ("", "rg-wee\u212a", {"patch-group": "theirs"}, ""),
    "an image with a quote": ("", "rg-web", {}, "/images/it's"),
    "an image with half a letter": ("", "rg-web", {}, "/images/\ud800"),
}
# Arc-enabled servers: their system as their agent says it → the system's kind, and the key that stands for an image
# (docs/arc.md).
ARC_SYSTEMS: Mapping[str, tuple[Literal["linux", "windows"], str]] = {
    "Ubuntu 22.04.3 LTS": ("linux", "arc/linux/ubuntu-22-lts"),
    "Windows Server 2022 Datacenter": ("windows", "arc/windows/windows-server-2022-datacenter"),
}
HOSTILE_NAME = "evil-"
WATCHED = timedelta(hours=2)  # PATCH_BAKE_MINUTES, from when a sweep saw the end
PATCHED = ("Succeeded", "CompletedWithWarnings")
TRIES = 3  # installations of one machine within PATCH_MIN_INTERVAL_HOURS, while they fail
FIRST_RETRY, LAST_RETRY = timedelta(minutes=15), timedelta(days=7)  # the waits between them double


def hostile(machine: Machine) -> bool:
    return machine.name.startswith(HOSTILE_NAME)


def unreadable(machine: Machine) -> bool:
    """Whether even its id or its image cannot be read: then it has no state, but a line."""
    image = image_of(machine, machine.created)
    return hostile(machine) and (len(machine.name) > 80 or "\u212a" in machine.group or image.startswith("/images/"))


def tags_of(world: SeededWorld, machine: Machine, when: datetime) -> dict[str, str]:
    return dict((machine.body.at(when) or {}).get("tags") or {})


def image_of(machine: Machine, when: datetime) -> str:
    """The key of its image as the ledger writes it."""
    properties: dict[str, Any] = (machine.body.at(when) or {}).get("properties", {})
    if isinstance(machine, HybridMachine):
        return ARC_SYSTEMS[properties["osSku"]][1]
    reference = properties.get("storageProfile", {}).get("imageReference") or {}
    return str(reference.get("id") or "").lower()


def place_of(machine: Machine, when: datetime) -> str:
    """What proves and stops its image, as the ledger writes it: the machines of that image in its own subscription."""
    return f"{image_of(machine, when)} in subscription {machine.subscription.lower()}"


def marketplace(machine: Machine, when: datetime) -> bool:
    properties: dict[str, Any] = (machine.body.at(when) or {}).get("properties", {})
    return bool((properties.get("storageProfile", {}).get("imageReference") or {}).get("publisher"))


def machine_of(world: SeededWorld, operation: Operation) -> Machine:
    found = world.machine_there(operation.machine)
    if found is not None and found.vm_id == operation.vm_id:
        return found
    return next(each for each in world.azure.world.gone if each.vm_id == operation.vm_id)


def image_at(world: SeededWorld, operation: Operation) -> str:
    return image_of(machine_of(world, operation), operation.started)


def group_of(world: SeededWorld, machine: Machine, when: datetime) -> tuple[str, str]:
    return machine.subscription.lower(), tags_of(world, machine, when).get("patch-group", "")


def group_at(world: SeededWorld, operation: Operation) -> tuple[str, str]:
    return group_of(world, machine_of(world, operation), operation.started)


def against_installing(
    world: SeededWorld, machine: Machine, *, begun: datetime, read: datetime, at: datetime
) -> Iterator[str]:
    """Every reason why this machine must not be installed at `at`, by what could be read at `read`.

    The settings are those of the step's process, which may have had others since the step has `begun`.
    """
    if hostile(machine):
        yield "its tags cannot be read"
        return
    settings_since = min(begun, at - timedelta(minutes=5))
    tags = tags_of(world, machine, read)
    if machine.subscription not in world.covered:
        yield "its subscription is out of scope"
    if marketplace(machine, read):
        yield "its image is the marketplace's"
    if tags.get("patch-mode") in ("off", "assess"):
        yield f"its tag says patch-mode={tags['patch-mode']}"
    if "patch-hold-until" in tags and at.date().isoformat() < tags["patch-hold-until"]:
        yield "its owner holds it"
    if isinstance(machine, HybridMachine) and machine.status_at(read) != "Connected":
        yield f"its agent was {machine.status_at(read)}"
    if not supported(world, machine, at):
        yield "no assessment of it said Supported lately"
    if not any(world.orders.excusing_window(machine, at)):
        yield from _window_closed(tags, at, world.windows_at(settings_since, at))
    if world.modes_at(settings_since, at).isdisjoint({"install"}):
        yield "PATCH_MODE is not install"


def supported(world: SeededWorld, machine: Machine, at: datetime) -> bool:
    """Whether an assessment within PATCH_FRESH_HOURS (and the two hours that a claim may take) said so."""
    since = at - timedelta(hours=world.fresh_hours + 2)
    return any(
        each.kind == "assess" and _says_supported(machine, each) and not each.runs_at(at) and each.started >= since
        for each in machine.operations
    )


def _says_supported(machine: Machine, assessment: Operation) -> bool:
    """Azure gives an Arc-enabled server no support state: its assessment itself shows that it can be patched."""
    if isinstance(machine, HybridMachine):
        return assessment.final_status in PATCHED
    return assessment.behaviour.support_state == "Supported"


def _window_closed(tags: Mapping[str, str], at: datetime, texts: set[str]) -> Iterator[str]:
    """A tag narrows the setting."""
    latest, earliest = at, at - timedelta(minutes=5)
    if (text := tags.get("patch-window")) and not any(WINDOWS[text](moment) for moment in (earliest, latest)):
        yield f"its own window {text} is closed"
    if not any(WINDOWS[each](moment) for each in texts for moment in (earliest, latest)):
        yield f"the window {', '.join(sorted(texts))} is closed"


# -- a machine that keeps failing


def ran(operation: Operation) -> bool:
    """Whether Azure ran the installation: none where another operation took its place."""
    superseded = operation.ended_by is not None and operation.ended_by[0] == "NEWER_OPERATION_SUPERSEDED"
    return operation.kind == "install" and not superseded


def within(operations: Sequence[Operation], machine: Machine, *, at: datetime, hours: float) -> list[Operation]:
    """The installations of this machine among these that began in the hours before `at`."""
    since = at - timedelta(hours=hours) + timedelta(minutes=5)  # what the app recorded may be that much earlier
    return [each for each in operations if each.vm_id == machine.vm_id and each.started > since and ran(each)]


def reboots(operations: Sequence[Operation]) -> int:
    return sum(each.output.get("rebootStatus") == "Completed" for each in operations)


def waits_after_failures(world: SeededWorld, machine: Machine, now: datetime) -> bool:
    """Whether its last installations failed, so many or so lately that the next one waits."""
    failed: list[Operation] = []
    for each in filter(ran, machine.operations):
        failed = [] if each.final_status in PATCHED else [*failed, each]
    if not failed:
        return False
    interval, number = timedelta(hours=world.interval_hours), len(failed)
    if number >= TRIES and (not image_of(machine, now) or now < failed[-TRIES].started + interval):
        return True
    wait: timedelta = FIRST_RETRY * 2 ** (number - 1)
    return now < failed[-1].started + min(wait, LAST_RETRY)


# -- the right end


def right_end(world: SeededWorld, machine: Machine, now: datetime) -> set[str]:
    """The states that a machine may be in when all faults are over, its windows open and time has passed."""
    if hostile(machine):
        return {"bad-tag"}
    tags = tags_of(world, machine, now)
    behaviour = world.azure.world.behaviour(machine)
    if marketplace(machine, now):
        return {"marketplace"}
    endless = {"overdue"} if machine.running_at(now) else set()  # an operation that never ends, whatever its owner says
    if tags.get("patch-mode") == "off":
        return {"opted-out", *endless}
    if "patch-hold-until" in tags and now.date().isoformat() < tags["patch-hold-until"]:
        return {"on-hold", *endless}
    arc = isinstance(machine, HybridMachine)  # it has neither power nor support state, and its agent is connected
    if machine.power_at(now) != "running" and not arc:
        return {"powered-off", "undetermined", "unsupported", "failed"}  # a weekly hold outlives the power
    if endless:
        return {"overdue", "busy", "assessing", "installing", "assessed", "patched", "due", "queued"}
    if behaviour.agent_never_ready:
        return {"agent-not-ready", "building", "undetermined", "due"}
    if behaviour.support_state == "Unsupported" and not arc:
        return {"unsupported"}
    if behaviour.support_state != "Supported" and not arc:
        return {"undetermined", "due", "failed"}
    if arc and not assessed_well(machine, now):
        return {"undetermined", "due", "failed"}  # as a machine without a support state: checked again weekly
    if "install" not in (world.mode, tags.get("patch-mode", "install")) or world.mode != "install":
        return {"assessed"}
    if tags.get("patch-mode") == "assess":
        return {"assessed"}
    if not wanted_left(world, machine) or found_nothing_lately(world, machine, now):
        return {"patched", "nothing-selected", "recently-patched"}
    failing = {"failed"} if waits_after_failures(world, machine, now) else set()
    if neighbour_off(world, machine, now):
        group = {"waiting-for-window"} if "patch-window" in tags else set()
        return {"waiting-for-group", "recently-patched", *group, *failing}
    ring = {"waiting-for-ring", *failing} if earlier_rings_hold(world, machine, now) else failing
    if "patch-window" in tags:
        return {"waiting-for-window", "recently-patched", *ring}  # the machine's own narrows the setting
    if installed_lately(machine, now, max(world.interval_hours, world.rollout_hours)):
        return {"recently-patched", *ring}
    return ring


def neighbour_off(world: SeededWorld, machine: Machine, now: datetime) -> bool:
    """Whether another member of its patch-group does not run."""
    group = group_of(world, machine, now)
    others = (each for each in world.azure.world.machines.values() if each is not machine)
    return bool(group[1]) and any(
        group_of(world, each, now) == group and each.power_at(now) != "running" for each in others
    )


def earlier_rings_hold(world: SeededWorld, machine: Machine, now: datetime) -> bool:
    """Whether an installation on its image failed in a round that may still be open, or is watched since it ended."""
    place, since = place_of(machine, now), now - timedelta(hours=world.rollout_hours)
    known = (*world.everything(), *world.azure.world.gone)
    alike = (each for each in known if place_of(each, now) == place)
    return any(
        each.kind == "install"
        and each.started >= since
        and (each.final_status not in PATCHED or each.ends is None or each.ends >= now - WATCHED)
        for other in alike
        for each in other.operations
    )


def wanted_left(world: SeededWorld, machine: Machine) -> bool:
    return any(each.classification in ("Critical", "Security") for each in world.azure.world.waiting(machine))


def assessed_well(machine: Machine, now: datetime) -> bool:
    """Whether its last assessment that ended succeeded."""
    assessed = [each for each in machine.operations if each.kind == "assess" and not each.runs_at(now)]
    return bool(assessed) and assessed[-1].final_status in PATCHED


def found_nothing_lately(world: SeededWorld, machine: Machine, now: datetime) -> bool:
    """Whether its last assessment found nothing wanted and is not due again: what came since is not known yet."""
    assessed = [each for each in machine.operations if each.kind == "assess" and not each.runs_at(now)]
    if not assessed or now - assessed[-1].started >= timedelta(hours=world.interval_hours):
        return False
    return not any(each.classification in ("Critical", "Security") for each in assessed[-1].waiting)


def installed_lately(machine: Machine, now: datetime, hours: float) -> bool:
    return any(
        each.kind == "install" and each.final_status in PATCHED and now - each.started < timedelta(hours=hours)
        for each in machine.operations
    )
