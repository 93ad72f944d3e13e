"""`patcher late`, and the compliance of each machine for `patcher export`."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rich.console import RenderableType

from functions.decisions.compliance import Compliance, compliance, sla_of
from functions.model.machine import Machine, OldestPatches, OsType
from functions.model.state import Step
from functions.policy.values import Sla
from patcher.connection import App
from patcher.fleet import Fleet, look
from patcher.output import Answer, Clock, clock_of, line, table

NO_LIMIT = timedelta.max
NO_OWNER = "no owner"
COUNTS = ("machines", "critical", "security")


@dataclass(frozen=True)
class Judged:
    """A machine, and whether it is patched in time: by the app's own rule, and by each severity alone."""

    machine: Machine
    step: Step
    oldest: OldestPatches
    installed: datetime | None
    compliance: Compliance
    late_critical: bool
    late_security: bool
    sla: Sla  # its own


async def judge(fleet: Fleet) -> list[Judged]:
    """Every machine in scope, sorted by id."""
    graph, now = fleet.app.services.graph, fleet.now
    ids = [str(machine.id) for machine, _ in fleet.states]
    windows = [str(machine.id) for machine, _ in fleet.states if machine.os_type is OsType.WINDOWS]
    oldest, installed = await graph.oldest_patches(windows), await graph.last_installations(ids)
    judged = []
    for machine, step in sorted(fleet.states, key=lambda each: str(each[0].id)):
        since, last = oldest.get(str(machine.id), OldestPatches()), installed.get(str(machine.id))
        sla = sla_of(machine, fleet.app.settings)
        whole, critical, security = (
            compliance(machine, step, oldest=since, last_installed=last, sla=limit, now=now)
            for limit in (sla, Sla(sla.critical, NO_LIMIT), Sla(NO_LIMIT, sla.security))
        )
        late_critical, late_security = critical is Compliance.LATE, security is Compliance.LATE
        judged.append(
            Judged(
                machine,
                step,
                oldest=since,
                installed=last,
                compliance=whole,
                late_critical=late_critical,
                late_security=late_security,
                sla=sla,
            )
        )
    return judged


async def ask_late(app: App) -> Answer:
    judged = await judge(await look(app))
    late = [each for each in judged if each.compliance is Compliance.LATE]
    owner = app.settings.owner_tag
    result = {
        "sla_days": in_days(app.settings.sla.everyone),
        "compliance": {each.value: 0 for each in Compliance} | Counter(each.compliance.value for each in judged),
        "by_owner": _by_owner(late, owner),
        "late": [_late(each, owner) for each in late],
    }
    return Answer(result, _shown(result, clock_of(app.settings)), needs_a_person=bool(late))


def in_days(sla: Sla) -> dict[str, float]:
    """By severity."""
    return {name: limit / timedelta(days=1) for name, limit in sla._asdict().items()}


def _by_owner(late: Iterable[Judged], tag: str) -> list[dict[str, Any]]:
    found: dict[str, list[Judged]] = {}
    for each in late:
        found.setdefault(each.machine.tag(tag), []).append(each)
    return [
        {
            "owner": owner or None,
            "machines": len(items),
            "critical": sum(each.late_critical for each in items),
            "security": sum(each.late_security for each in items),
        }
        for owner, items in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _late(judged: Judged, tag: str) -> dict[str, Any]:
    machine, pending = judged.machine, judged.machine.pending
    late = {"critical": judged.late_critical, "security": judged.late_security}
    return {
        "machine": str(machine.id),
        "owner": machine.tag(tag) or None,
        "image": machine.image.key or None,
        "late": [name for name, is_late in late.items() if is_late],
        "sla_days": in_days(judged.sla),
        "pending_critical": pending.critical,
        "pending_security": pending.security,
        "oldest": judged.oldest.first,
        "last_installed": judged.installed,
        "state": judged.step.state.value,
        "reason": judged.step.reason,
        "remedy": judged.step.remedy or None,
    }


def _shown(result: Mapping[str, Any], when: Clock) -> list[RenderableType]:
    limits = ", ".join(f"{name} {days:g} days" for name, days in result["sla_days"].items())
    counts = ", ".join(f"{count} {name}" for name, count in result["compliance"].items())
    owners = [(each["owner"] or NO_OWNER, *map(each.get, COUNTS)) for each in result["by_owner"]]
    return [
        line("limits", f"{limits} (PATCH_SLA_DAYS), less by owner or tag"),
        line("machines", counts),
        table("Late, by owner", ("owner", *COUNTS), owners),
        table(
            "Late",
            ("machine", "owner", "late in", "critical + security", f"oldest ({when.zone})", "state", "why"),
            [
                (
                    each["machine"].rsplit("/", 1)[-1],
                    each["owner"] or NO_OWNER,
                    ", ".join(each["late"]),
                    f"{each['pending_critical']} + {each['pending_security']}",
                    when(each["oldest"]),
                    each["state"],
                    each["reason"],
                )
                for each in result["late"]
            ],
        ),
    ]
