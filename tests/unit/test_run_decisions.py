"""What a run on demand passes, and what it never passes, rule by rule; and who of a run goes first."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from functions.decisions import runs
from functions.decisions.decision import next_step
from functions.decisions.plan import Candidate, Fleet, make_plan
from functions.decisions.question import Question, question_of
from functions.model.image_record import ImageRecord, place
from functions.model.machine import (
    Image,
    ImageKind,
    Machine,
    OsType,
    PatchOrchestration,
    PowerState,
    ResourceGroup,
    SupportState,
)
from functions.model.record import Record
from functions.model.run import CANARY_FAILED, STOPPED, Item, Progress, Run, RunOutcome, Selection
from functions.model.state import Assess, Cause, Install, Leave, OperationKind, Phase, State, Step, Wait
from functions.policy.values import Reboot
from functions.steps.install import order_for
from tests.support import (
    DAY,
    GALLERY_IMAGE,
    HOUR,
    MINUTE,
    NOW,
    SUBSCRIPTION,
    a_machine,
    a_record,
    a_status,
    a_verdict,
    machine_id,
    settings,
)

CLOSED = "Sun 02:00-06:00 UTC"  # NOW is a Wednesday at noon
BLACKOUT = {"PATCH_BLACKOUT": "2026-11-25"}
INSTALL, ASSESS = OperationKind.INSTALL, OperationKind.ASSESS
MARKETPLACE = Image(ImageKind.MARKETPLACE, "canonical:ubuntu-24_04-lts:server:24.04.1")
STALE = a_verdict(assessed=NOW - 30 * HOUR)
INSTALLED = a_status(operation_id="another", started=NOW - 2 * HOUR, modified=NOW - 90 * MINUTE)


def a_run(kind: OperationKind = INSTALL, **changes: Any) -> Run:
    run = Run(
        "1", kind, (machine_id(),), "a CVE", "Jane", opened=NOW - MINUTE, until=NOW + DAY, ignore_window=kind is INSTALL
    )
    return replace(run, **changes)


def ask(machine: Machine, run: Run | None, **environ: str) -> Question:
    return question_of(machine, None, settings(**environ), created_after=NOW - 10 * DAY, now=NOW, run=run)


def decide(machine: Machine, run: Run | None, **environ: str) -> Step:
    return next_step(ask(machine, run, **environ))


# What keeps the machine without a run, and no longer with one: machine, settings, the state without it.
PASSED: dict[str, tuple[dict[str, Any], dict[str, str], State]] = {
    "nothing kept it": ({}, {}, State.DUE),
    "PATCH_WINDOW": ({}, {"PATCH_WINDOW": CLOSED}, State.WAITING_FOR_WINDOW),
    "the tag patch-window": ({"tags": {"patch-window": CLOSED}}, {}, State.WAITING_FOR_WINDOW),
    "PATCH_BLACKOUT": ({}, BLACKOUT, State.WAITING_FOR_WINDOW),
    "PATCH_MIN_INTERVAL_HOURS": ({"installation": INSTALLED}, {}, State.RECENTLY_PATCHED),
    "a reboot that is pending since the last installation": (
        {"installation": INSTALLED, "verdict": a_verdict(reboot_pending=True)},
        {},
        State.REBOOT_PENDING,
    ),
}


@pytest.mark.parametrize(("changes", "environ", "state"), PASSED.values(), ids=PASSED)
def test_a_run_passes(changes: dict[str, Any], environ: dict[str, str], state: State) -> None:
    machine = a_machine(**changes)
    assert decide(machine, None, **environ).state is state
    step = decide(machine, a_run(), **environ)
    assert isinstance(step, Install)
    assert "run 1: a CVE (by Jane)" in step.reason


def test_a_run_does_not_wait_for_a_daily_assessment() -> None:
    machine = a_machine(verdict=STALE)
    without = decide(machine, None)
    assert isinstance(without, Install)
    assert without.assess_meanwhile
    assert not getattr(decide(machine, a_run()), "assess_meanwhile", True)


NEVER: dict[str, tuple[dict[str, Any], dict[str, str], type[Step], State]] = {
    "PATCH_MODE=off": ({}, {"PATCH_MODE": "off"}, Leave, State.SWITCHED_OFF),
    "PATCH_MODE=assess": ({}, {"PATCH_MODE": "assess"}, Wait, State.ASSESSED),
    "PATCH_SCOPE": ({}, {"PATCH_SCOPE": "11111111-0000-0000-0000-000000000001"}, Leave, State.OUT_OF_SCOPE),
    "PATCH_IMAGES": ({"image": MARKETPLACE}, {}, Leave, State.MARKETPLACE),
    "PATCH_CREATED_AFTER": ({"created": NOW - 11 * DAY}, {}, Leave, State.OUT_OF_SCOPE),
    "PATCH_MIN_AGE_MINUTES": ({"created": NOW - HOUR}, {"PATCH_MIN_AGE_MINUTES": "120"}, Wait, State.TOO_NEW),
    "the tag patch-mode=off": ({"tags": {"patch-mode": "off"}}, {}, Leave, State.OPTED_OUT),
    "the tag patch-mode=plan": ({"tags": {"patch-mode": "plan"}}, {}, Leave, State.OPTED_OUT),
    "the tag patch-mode=assess": ({"tags": {"patch-mode": "assess"}}, {}, Leave, State.ASSESSED),
    "the tag patch-hold-until": ({"tags": {"patch-hold-until": "2026-12-24"}}, {}, Wait, State.ON_HOLD),
    "a tag of its resource group": (
        {"resource_group": ResourceGroup({"patch-mode": "off"})},
        {},
        Leave,
        State.OPTED_OUT,
    ),
    "a wrong tag": ({"tags": {"patch-mod": "install"}}, {}, Leave, State.BAD_TAG),
    "Unsupported": ({"verdict": a_verdict(state=SupportState.UNSUPPORTED)}, {}, Leave, State.UNSUPPORTED),
    "Unknown": ({"verdict": a_verdict(state=SupportState.UNKNOWN)}, {}, Assess, State.DUE),
    "UnableToDetermine": ({"verdict": a_verdict(state=SupportState.UNABLE_TO_DETERMINE)}, {}, Assess, State.DUE),
    "no support state": ({"verdict": a_verdict(state=SupportState.ABSENT)}, {}, Assess, State.DUE),
    "no support state of a marketplace image, and no assessment that succeeded": (
        {"image": MARKETPLACE, "verdict": a_verdict(state=SupportState.ABSENT, status="Failed")},
        {"PATCH_IMAGES": "all"},
        Assess,
        State.DUE,
    ),
    "a support state too old to install on": ({"verdict": a_verdict(assessed=NOW - 3 * DAY)}, {}, Assess, State.DUE),
    "a failed assessment": ({"verdict": a_verdict(status="Failed")}, {}, Assess, State.DUE),
    "a schedule": ({"patchers": PatchOrchestration.SCHEDULE}, {}, Leave, State.SCHEDULED_ELSEWHERE),
    "the platform": ({"patchers": PatchOrchestration.PLATFORM}, {}, Leave, State.SCHEDULED_ELSEWHERE),
    "an operation in flight": ({"assessment": a_status(status="InProgress")}, {}, Wait, State.BUSY),
    "powered off": ({"power": PowerState.DEALLOCATED}, {}, Wait, State.POWERED_OFF),
    "no agent": ({"agent_ready": False, "agent_reports": True}, {}, Wait, State.AGENT_NOT_READY),
    "being built": ({"provisioning_state": "Updating"}, {}, Wait, State.BUILDING),
    "extensions that are forbidden": ({"extensions_allowed": False}, {}, Wait, State.EXTENSIONS_FORBIDDEN),
    "nothing that waits": ({"verdict": a_verdict(counts={})}, {}, Leave, State.PATCHED),
    "failures of the machine": (
        {"installation": replace(INSTALLED, status="Failed", started=NOW - 5 * MINUTE, modified=NOW - 2 * HOUR)},
        {},
        Wait,
        State.FAILED,
    ),
}


@pytest.mark.parametrize(("changes", "environ", "verb", "state"), NEVER.values(), ids=NEVER)
def test_a_run_never_passes(changes: dict[str, Any], environ: dict[str, str], verb: type[Step], state: State) -> None:
    step = decide(a_machine(**changes), a_run(), **environ)
    assert (type(step), step.state) == (verb, state), step


def test_only_a_run_that_says_so_passes_the_window() -> None:
    step = decide(a_machine(), a_run(ignore_window=False), PATCH_WINDOW=CLOSED)
    assert step.state is State.WAITING_FOR_WINDOW


def test_no_run_makes_a_machine_a_canary_of_the_rollout() -> None:
    """Its own window is closed, that of canaries is open."""
    environ = {"PATCH_WINDOW": CLOSED, "PATCH_CANARY_WINDOW": "any", "PATCH_CANARIES": "1"}
    assert isinstance(decide(a_machine(), None, **environ), Install)
    assert decide(a_machine(), a_run(ignore_window=False), **environ).state is State.WAITING_FOR_WINDOW


NOT_WANTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "before its time": ({"at": NOW + MINUTE}, {}),
    "after its time": ({"until": NOW}, {}),
    "stopped": ({"stopped": NOW - MINUTE}, {}),
    "that cannot be read": ({"problem": "its row cannot be read"}, {}),
    "of other machines": ({"machines": (machine_id("vm-02"),)}, {}),
    "of the machine that had its name before": ({}, {"created": NOW}),
}


@pytest.mark.parametrize(("run", "machine"), NOT_WANTED.values(), ids=NOT_WANTED)
def test_a_run_that_does_not_want_the_machine_changes_nothing(run: dict[str, Any], machine: dict[str, Any]) -> None:
    seen = a_machine(**machine)
    assert decide(seen, a_run(**run), PATCH_WINDOW=CLOSED) == decide(seen, None, PATCH_WINDOW=CLOSED)


def test_a_run_never_installs_a_machine_that_was_installed_since_it_began() -> None:
    """By any client: what the row of the machine proves may be lost."""
    since = replace(INSTALLED, started=NOW - MINUTE, modified=NOW - MINUTE)
    machine = a_machine(installation=since, verdict=a_verdict(assessed=NOW))
    step = decide(machine, a_run(opened=NOW - 5 * MINUTE))
    assert (type(step), step.state) == (Leave, State.RECENTLY_PATCHED)


ASSESSED: dict[str, tuple[dict[str, Any], type[Step], State]] = {
    "a moment before": ({"verdict": a_verdict(assessed=NOW - 2 * MINUTE)}, Assess, State.DUE),
    "never": ({"verdict": None}, Assess, State.DUE),
    "Unsupported": ({"verdict": a_verdict(state=SupportState.UNSUPPORTED)}, Assess, State.DUE),
    "since it began": ({"verdict": a_verdict(assessed=NOW)}, Leave, State.ASSESSED),
    "since it began, as the machine shows": ({"assessment": a_status(started=NOW)}, Leave, State.ASSESSED),
    "opted out": ({"tags": {"patch-mode": "off"}}, Leave, State.OPTED_OUT),
    "powered off": ({"power": PowerState.STOPPED}, Wait, State.POWERED_OFF),
}


@pytest.mark.parametrize(("changes", "verb", "state"), ASSESSED.values(), ids=ASSESSED)
def test_an_assessment_run_assesses_once(changes: dict[str, Any], verb: type[Step], state: State) -> None:
    step = decide(a_machine(**changes), a_run(ASSESS))
    assert (type(step), step.state) == (verb, state), step


# -- what it orders


def body(machine: Machine, run: Run, **environ: str) -> dict[str, Any]:
    return dict(order_for(ask(machine, run, **environ), None))


def test_a_run_without_a_selection_orders_what_the_settings_select() -> None:
    parameters = body(a_machine(), a_run(), PATCH_PACKAGES_INCLUDE="vim*")["linuxParameters"]
    assert parameters == {"classificationsToInclude": ["Critical", "Security"], "packageNameMasksToInclude": ["vim*"]}


SELECTIONS: dict[str, tuple[OsType, Selection, dict[str, Any]]] = {
    "packages of Linux": (
        OsType.LINUX,
        Selection(packages=("openssl*",)),
        {"packageNameMasksToInclude": ["openssl*"], "packageNameMasksToExclude": ["kernel*"]},
    ),
    "another classification": (
        OsType.LINUX,
        Selection(("Other",)),
        {"classificationsToInclude": ["Other"], "packageNameMasksToExclude": ["kernel*"]},
    ),
    "a KB of Windows": (
        OsType.WINDOWS,
        Selection(packages=("kb5031364",)),
        {"kbNumbersToInclude": ["5031364"], "patchNameMasksToExclude": ["kernel*"]},
    ),
}


@pytest.mark.parametrize(("system", "selection", "expected"), SELECTIONS.values(), ids=SELECTIONS)
def test_a_run_orders_what_it_selects_and_nothing_that_is_excluded(
    system: OsType, selection: Selection, expected: dict[str, Any]
) -> None:
    machine = a_machine(os_type=system)
    ordered = body(machine, a_run(selection=selection), PATCH_PACKAGES_EXCLUDE="kernel*")
    assert ordered["windowsParameters" if system is OsType.WINDOWS else "linuxParameters"] == expected


def test_the_reboot_setting_holds_outside_windows() -> None:
    machine = a_machine(tags={"patch-reboot": "Never"})
    assert ask(machine, a_run(), PATCH_WINDOW=CLOSED).reboot is Reboot.NEVER
    assert body(machine, a_run(), PATCH_WINDOW=CLOSED)["maximumDuration"] == "PT2H"


def test_a_run_that_selects_nothing_that_waits_leaves_the_machine() -> None:
    named = a_machine(verdict=a_verdict(named=0))
    step = decide(named, a_run(selection=Selection(packages=("openssl",))))
    assert (type(step), step.state) == (Leave, State.NOTHING_SELECTED)
    windows = a_machine(os_type=OsType.WINDOWS)
    step = decide(windows, a_run(selection=Selection(packages=("lib.so",))))
    assert (type(step), step.state) == (Leave, State.NOTHING_SELECTED)


HOLDS = [
    (INSTALL, State.WAITING_FOR_WINDOW, 0, True),
    (INSTALL, State.RECENTLY_PATCHED, 0, True),
    (INSTALL, State.WAITING_FOR_RING, 0, True),
    (INSTALL, State.FAILED, 0, False),
    (INSTALL, State.BUSY, 0, False),
    (INSTALL, State.OVERDUE, 0, False),
    (INSTALL, State.UNSUPPORTED, 0, False),
    (INSTALL, State.DUE, 2, False),
    (ASSESS, State.DUE, 2, True),
    (ASSESS, State.UNDETERMINED, 3, True),
    (ASSESS, State.FAILED, 0, False),
]


@pytest.mark.parametrize(("kind", "state", "unanswered", "passes"), HOLDS)
def test_a_run_ends_a_hold_that_waits_for_a_turn_and_no_failure(
    kind: OperationKind, state: State, unanswered: int, passes: bool
) -> None:
    record = a_record(phase=Phase.HELD, state=state, reason="x", not_before=NOW + HOUR, unanswered=unanswered)
    assert runs.passes_hold(a_run(kind), record) is passes


# -- the fleet's limits


def plan(
    run: Run, *machines: Machine, fleet: Fleet | None = None, **environ: str
) -> tuple[list[str], dict[str, State]]:
    """Who goes, and what keeps the others."""
    configured = settings(PATCH_CANARIES="1", **environ)
    images = {place(GALLERY_IMAGE, f"subscription {SUBSCRIPTION}"): ImageRecord(GALLERY_IMAGE, opened=NOW - HOUR)}
    candidates = [Candidate(machine, Install(State.DUE, "x"), run=run) for machine in machines]
    made = make_plan(candidates, fleet or Fleet(images=images), configured, now=NOW)
    assert made.rollouts == {}
    waits = {machine.name: step.state for machine, step in made.waits.items()}
    return [each.machine.name for each in made.dispatches], waits


def members(count: int, **changes: Any) -> list[Machine]:
    return [a_machine(id=machine_id(f"vm-{number:02d}"), **changes) for number in range(count)]


def test_a_run_passes_a_rollout_that_waits_for_its_canary() -> None:
    assert plan(a_run(), *members(3)) == (["vm-00", "vm-01", "vm-02"], {})


def in_flight(name: str, **changes: Any) -> Record:
    return a_record(machine=machine_id(name), kind=INSTALL, phase=Phase.RUNNING, started_at=NOW, **changes)


LIMITS: dict[str, tuple[dict[str, Any], Fleet, dict[str, str], State]] = {
    "PATCH_MAX_IN_FLIGHT": ({}, Fleet([in_flight("a")]), {"PATCH_MAX_IN_FLIGHT": "1"}, State.WAITING_FOR_SLOT),
    "PATCH_MAX_PER_IMAGE": ({}, Fleet([in_flight("a")]), {"PATCH_MAX_PER_IMAGE": "1"}, State.WAITING_FOR_SLOT),
    "its availability set": (
        {"availability_set": "/set"},
        Fleet([in_flight("a", availability_set="/set")]),
        {},
        State.WAITING_FOR_GROUP,
    ),
    "its patch-group": (
        {"tags": {"patch-group": "quorum"}},
        Fleet([in_flight("a", group="quorum")]),
        {},
        State.WAITING_FOR_GROUP,
    ),
    "a member of its patch-group that is off": (
        {"tags": {"patch-group": "quorum"}},
        Fleet(troubled_groups={(SUBSCRIPTION, "quorum"): "vm-9"}),
        {},
        State.WAITING_FOR_GROUP,
    ),
    "the breaker": (
        {},
        Fleet(
            images={
                place(GALLERY_IMAGE, f"subscription {SUBSCRIPTION}"): ImageRecord(
                    GALLERY_IMAGE, opening="20261125T080000"
                )
            }
        ),
        {},
        State.BREAKER_OPEN,
    ),
}


@pytest.mark.parametrize(("changes", "fleet", "environ", "state"), LIMITS.values(), ids=LIMITS)
def test_a_run_never_passes_a_limit_of_the_fleet(
    changes: dict[str, Any], fleet: Fleet, environ: dict[str, str], state: State
) -> None:
    assert plan(a_run(), *members(1, **changes), fleet=fleet, **environ) == ([], {"vm-00": state})


# -- canaries of the run

GOOD = Item(RunOutcome.SUCCEEDED, started=NOW - 2 * HOUR, ended=NOW - HOUR, image=GALLERY_IMAGE)
UNDER_WAY = Item(RunOutcome.IN_FLIGHT, started=NOW - HOUR, image=GALLERY_IMAGE)
AT_FAULT = replace(GOOD, outcome=RunOutcome.FAILED, at_fault=True)
PROVES_NOTHING = replace(GOOD, outcome=RunOutcome.FAILED)
LATER = replace(AT_FAULT, started=NOW - HOUR)

CANARIES: dict[str, tuple[int, timedelta, list[Item], list[str], type[Step] | None]] = {
    "none are asked for": (0, HOUR, [], ["a", "b", "c"], None),
    "the first goes": (1, HOUR, [], ["a"], Wait),
    "two go": (2, HOUR, [], ["a", "b"], Wait),
    "one is under way": (1, HOUR, [UNDER_WAY], [], Wait),
    "one of two is under way": (2, HOUR, [UNDER_WAY], ["a"], Wait),
    "it is watched": (1, 2 * HOUR, [GOOD], [], Wait),
    "it was watched": (1, HOUR, [GOOD], ["a", "b", "c"], None),
    "it failed": (1, HOUR, [AT_FAULT], [], Leave),
    "one of two failed": (2, HOUR, [GOOD, AT_FAULT], [], Leave),
    "its end proves nothing": (1, HOUR, [PROVES_NOTHING], ["a"], Wait),
    "one behind the canary failed": (1, HOUR, [GOOD, LATER], ["a", "b", "c"], None),
    "it is of another image": (1, HOUR, [replace(AT_FAULT, image="another")], ["a"], Wait),
}


@pytest.mark.parametrize(("canaries", "bake", "begun", "going", "verb"), CANARIES.values(), ids=CANARIES)
def test_canaries_of_a_run_go_first(
    canaries: int, bake: timedelta, begun: list[Item], going: list[str], verb: type[Step] | None
) -> None:
    progress = Progress({machine_id(f"z{number}"): item for number, item in enumerate(begun)})
    machines = [a_machine(id=machine_id(name)) for name in "abc"]
    run = a_run(canaries=canaries, bake=bake)
    went, waits = runs.admit(run, progress, machines, now=NOW)
    assert [machine.name for machine in went] == going
    assert {type(step) for step in waits.values()} == ({verb} if verb else set())


# -- how far it has come

FLIGHT = {"run": "1", "started_at": NOW - HOUR}
WELL = {**FLIGHT, "outcome": "Succeeded", "ended_at": NOW}
FAILED_BY_PATCHES = Item(
    RunOutcome.FAILED,
    "failed",
    "a patch failed",
    started=NOW - HOUR,
    ended=NOW,
    at_fault=True,
    image=GALLERY_IMAGE,
)
SHOWN: dict[str, tuple[Record | None, Item | None]] = {
    "no row": (None, None),
    "a row of something else": (a_record(phase=Phase.RUNNING), None),
    "claimed": (a_record(kind=INSTALL, run="1"), Item(RunOutcome.IN_FLIGHT, image=GALLERY_IMAGE)),
    "under way": (
        a_record(kind=INSTALL, phase=Phase.RUNNING, **FLIGHT),
        Item(RunOutcome.IN_FLIGHT, started=NOW - HOUR, image=GALLERY_IMAGE),
    ),
    "ended, and not confirmed": (
        a_record(kind=INSTALL, phase=Phase.ENDED, **WELL),
        Item(RunOutcome.IN_FLIGHT, started=NOW - HOUR, image=GALLERY_IMAGE),
    ),
    "ended well": (
        a_record(kind=INSTALL, phase=Phase.HELD, state=State.DUE, **WELL),
        Item(RunOutcome.SUCCEEDED, started=NOW - HOUR, ended=NOW, image=GALLERY_IMAGE),
    ),
    "an assessment that ended": (
        a_record(phase=Phase.ENDED, **WELL),
        Item(RunOutcome.SUCCEEDED, started=NOW - HOUR, ended=NOW, image=GALLERY_IMAGE),
    ),
    "failed by its patches": (
        a_record(kind=INSTALL, phase=Phase.HELD, reason="a patch failed", at_fault=True, **WELL),
        FAILED_BY_PATCHES,
    ),
    "failed by its patches, and released since": (
        a_record(
            kind=INSTALL, phase=Phase.HELD, state=State.DUE, failures=1, failure="a patch failed", at_fault=True, **WELL
        ),
        FAILED_BY_PATCHES,
    ),
    "left its machine unwell, and released since": (
        a_record(
            kind=INSTALL, phase=Phase.HELD, state=State.DUE, failures=1, failure="it is off", unwell_since=NOW, **WELL
        ),
        Item(
            RunOutcome.FAILED, "failed", "it is off", started=NOW - HOUR, ended=NOW, at_fault=True, image=GALLERY_IMAGE
        ),
    ),
    "ended well on a machine that failed before, and assessed": (
        a_record(phase=Phase.ENDED, failures=1, failure="a patch failed", **WELL),
        Item(RunOutcome.SUCCEEDED, started=NOW - HOUR, ended=NOW, image=GALLERY_IMAGE),
    ),
    "overdue": (
        a_record(
            kind=INSTALL, phase=Phase.HELD, state=State.OVERDUE, reason="x", operation_id="o", begun_at=NOW, run="1"
        ),
        Item(RunOutcome.FAILED, "overdue", "x", started=NOW, ended=NOW, image=GALLERY_IMAGE),
    ),
    "refused for good": (
        a_record(kind=INSTALL, phase=Phase.HELD, reason="no", cause=Cause.OWNER, begun_at=NOW, run="1"),
        Item(RunOutcome.FAILED, "failed", "no", started=NOW, ended=NOW, image=GALLERY_IMAGE),
    ),
    "refused for now": (
        a_record(kind=INSTALL, phase=Phase.HELD, state=State.BUSY, reason="no", begun_at=NOW, run="1"),
        Item(state="busy", reason="no"),
    ),
    "given back": (a_record(kind=INSTALL, phase=Phase.HELD, state=State.DUE, run="1"), Item()),
}


@pytest.mark.parametrize(("record", "item"), SHOWN.values(), ids=SHOWN)
def test_a_row_shows_how_far_the_run_has_come_with_its_machine(record: Record | None, item: Item | None) -> None:
    assert runs.by_record(a_run(), Item(), record) == item


@pytest.mark.parametrize(("kind", "state"), [(ASSESS, State.ASSESSED), (INSTALL, State.RECENTLY_PATCHED)])
def test_what_another_client_did_since_the_run_began_is_left_and_not_claimed_again(
    kind: OperationKind, state: State
) -> None:
    """The claim's own check saw it in the instance view; Resource Graph, which claims, shows it later."""
    record = a_record(kind=kind, phase=Phase.HELD, state=state, reason="since run 1 began", run="1")
    assert runs.by_record(a_run(kind), Item(), record) == Item(RunOutcome.LEFT, state, "since run 1 began")


def test_a_final_outcome_stays() -> None:
    done, machine = Item(RunOutcome.FAILED, "failed", "first"), machine_id()
    progress = Progress({machine: done}).noted({machine: Item(RunOutcome.SUCCEEDED)})
    assert progress.of(machine) == done
    assert runs.by_record(a_run(), done, a_record(kind=INSTALL, phase=Phase.RUNNING, **FLIGHT)) is None


LEFT: dict[str, tuple[Run, Item, str]] = {
    "stopped": (a_run(stopped=NOW), Item(state="too-new", reason="x"), STOPPED),
    "its time passed while it waited": (a_run(), Item(state="too-new", reason="x"), "too-new"),
    "its time passed": (a_run(), Item(), "not-sent"),
}


@pytest.mark.parametrize(("run", "item", "state"), LEFT.values(), ids=LEFT)
def test_a_run_that_is_over_leaves_what_it_did_not_begin(run: Run, item: Item, state: str) -> None:
    machine = machine_id()
    progress = Progress({machine: item})
    left = runs.left_at_its_end(run, progress)
    assert {each: found.state for each, found in left.items()} == {machine: state}
    assert not runs.has_ended(run, progress)
    assert runs.has_ended(run, progress.noted(left))


def test_what_a_decision_leaves_is_left_and_what_waits_is_to_do() -> None:
    assert runs.by_step(Leave(State.OPTED_OUT, "tag")) == Item(RunOutcome.LEFT, "opted-out", "tag")
    assert runs.by_step(Wait(State.POWERED_OFF, "off")) == Item(state="powered-off", reason="off")
    assert runs.by_step(Install(State.DUE, "")) is None
    failed = runs.admit(a_run(canaries=1), Progress({machine_id("z"): AT_FAULT}), [a_machine()], now=NOW)[1][
        machine_id()
    ]
    assert getattr(runs.by_step(failed), "state", "") == CANARY_FAILED
