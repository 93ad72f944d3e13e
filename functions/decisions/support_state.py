"""What follows from the support state of a machine that no other rule keeps: assess, install, wait or leave."""

from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from sys import intern

from functions.decisions.question import Question, Way, stale, too_new, wanted_count
from functions.decisions.retry import UNANSWERED_LIMIT, after_failures
from functions.decisions.runs import assessment_of_run, objection
from functions.model.machine import START_MARGIN, Machine, PatchAssessment, PatchOrchestration, SupportState
from functions.model.state import Assess, Cause, Install, Leave, OperationKind, State, Step, Wait
from functions.model.text import format_utc
from functions.policy.freshness import UNSUPPORTED_EVERY
from functions.policy.values import Mode, Reboot
from functions.policy.windows import HORIZON, Blackouts, Windows


def by_support_state(question: Question) -> Step:
    verdict = question.verdict
    if question.run and question.run.kind is OperationKind.ASSESS:
        return assessment_of_run(question, question.run)
    if question.machine.verdict is None and _assessed_lately(question):
        reason = "assessed already: the sweep asks Resource Graph what came of it"
        return Wait(State.GRAPH_BEHIND, reason, cause=Cause.TRANSIENT)
    step = _by_verdict(question, verdict)
    if not isinstance(step, Assess) or not _graph_is_behind(question):
        return step
    reason = "a finished assessment is not in Resource Graph yet"
    again = question.now + question.settings.first_retry
    return Wait(State.GRAPH_BEHIND, reason, cause=Cause.TRANSIENT, when=again)


def _by_verdict(question: Question, verdict: PatchAssessment) -> Step:
    if verdict.state is SupportState.SUPPORTED:
        return _supported(question)
    if is_answered_without_state(question.machine, verdict):
        return _with_plan(question) if question.machine.third_party_plan else _supported(question)
    if verdict.state is SupportState.UNSUPPORTED:
        return _unsupported(question)
    return _no_verdict(question)


def _no_verdict(question: Question) -> Step:
    """Absent, Unknown or UnableToDetermine: assess, with growing waits; the third is reported."""
    record, state = question.record, question.verdict.state
    if record and record.history.unanswered and record.hold and not record.due_again(question.now):
        return undetermined(record.history.unanswered, state, record.hold.when)
    return Assess(State.DUE, f"support state {state}")


def undetermined(unanswered: int, state: SupportState, when: datetime | None) -> Wait:
    """The wait of a machine whose assessments bring no verdict."""
    reason = f"{unanswered} assessments ended with support state {state}"
    if unanswered < UNANSWERED_LIMIT:
        return Wait(State.DUE, reason, when=when, cause=Cause.TRANSIENT)
    remedy = "Check power, VM agent and outbound network, then restart the machine: it is assessed again."
    return Wait(State.UNDETERMINED, reason, remedy, when, Cause.OWNER)


def _unsupported(question: Question) -> Step:
    if stale(question.verdict.assessed, question.now, UNSUPPORTED_EVERY):
        return Assess(State.DUE, "Unsupported a week ago: assessed again")
    remedy = "Patch it inside the guest, or rebuild it on an image that Azure can patch."
    return Leave(State.UNSUPPORTED, "Azure cannot patch this operating system or image", remedy, cause=Cause.NEVER)


def _supported(question: Question) -> Step:
    verdict = question.verdict
    total = sum(verdict.counts.values())
    wanted = wanted_count(question.machine, question.settings)
    if verdict.status.lower() == "failed":  # its empty counts are ignored: they do not mean that the machine is patched
        return Assess(State.DUE, "the last assessment failed")
    if _installed_since(question):
        return Assess(State.DUE, "the last assessment is older than the last installation")
    step = _by_counts(question, wanted, total)
    # What may go now is not delayed: its counts are fresh enough, and new ones come with the installation. Otherwise a
    # machine whose assessments reach Resource Graph late would never be installed. One that was held went nowhere.
    if question.install_run or not question.assessment_due(verdict.assessed):
        return step
    if isinstance(step, Install) and not (question.record and question.record.hold):
        return _assessed_meanwhile(step)
    return Assess(State.DUE, f"last assessed {format_utc(verdict.assessed)}")


def _by_counts(question: Question, wanted: int, total: int) -> Step:
    """What follows from an assessment that counts."""
    machine, settings, verdict, run = question.machine, question.settings, question.verdict, question.install_run
    installed = machine.installation
    if run and (step := objection(question, run)):
        return step
    if question.mode < Mode.INSTALL:
        return _assessed(question, wanted, total)
    lately = installed is not None and not stale(installed.started, question.now, settings.min_interval)
    if verdict.reboot_pending and installed and lately and not run:
        return _reboot_pending(question, wanted, installed.started)
    if not wanted:
        return _nothing_wanted(question, total)
    if step := may_install(question):
        return step  # before its freshness: what may not be installed now need not be assessed for it either
    if stale(verdict.assessed, question.now, settings.fresh):
        return Assess(State.DUE, f"the support state of {format_utc(verdict.assessed)} is too old to install on")
    only_canary = question.way is Way.CANARY_WINDOW
    return _install(run.text if run else "", wanted, _why_now(question), only_canary=only_canary)


# One value for all machines of which the same is to be said: a sweep holds every due one.
@lru_cache(maxsize=4096)
def _install(run: str, wanted: int, why_now: str, *, only_canary: bool) -> Install:
    reason = f"Supported, {_patches(wanted)}; {why_now}"
    reason = f"{run}; {reason}" if run else reason
    return Install(State.DUE, intern(reason), only_canary=only_canary)  # one text even where the cache is too small


@lru_cache(maxsize=4096)
def _assessed_meanwhile(step: Install) -> Install:
    return replace(step, assess_meanwhile=True)


def _patches(count: int) -> str:
    return "1 patch waits" if count == 1 else f"{count} patches wait"


def _reboot_pending(question: Question, wanted: int, installed: datetime | None = None) -> Wait:
    """Says who will reboot it. Only an installation does here, and none is ordered for the reboot alone."""
    reason = "a reboot is pending" + (f" since {format_utc(installed)}" if installed else "")
    if min(question.settings.reboot, question.overrides.reboot) is Reboot.NEVER:
        who = "the app may not reboot it (PATCH_REBOOT or the tag patch-reboot is Never)"
    elif wanted and installed:
        again = question.window.shown(installed + question.settings.min_interval)
        who = f"{_patches(wanted)}; the app reboots it with its next installation, not before {again}"
    else:
        who = "the app reboots a machine only at the end of an installation, and none is due"
    return Wait(State.REBOOT_PENDING, f"{reason}; {who}", "Restart the machine in a suitable window.")


def _why_now(question: Question) -> str:
    """The rule that lets the machine go, and until when."""
    if question.way is Way.RUN:
        return f"windows do not count for this run, reboot {question.reboot.wire}"
    if question.way is Way.FIRST_HOURS:
        hours, reboot = question.settings.first_span / timedelta(hours=1), question.reboot.wire
        return f"outside its window: first {hours:g} hours (PATCH_FIRST_HOURS), reboot {reboot}"
    which = "its window"
    if question.way is Way.CANARY_WINDOW:
        which = "outside its window, as a canary only: PATCH_CANARY_WINDOW"
    return _is_open(which, question.open_window, question.now, blackouts=question.settings.blackouts)


@lru_cache(maxsize=4096)  # the answer is the same for all machines of a window
def _is_open(which: str, window: Windows, now: datetime, *, blackouts: Blackouts) -> str:
    closes = window.closes(now, blackouts)
    until = f" until {window.shown(closes)}" if closes and closes < now + HORIZON else ""
    return f"{which} is open{until} ({window.text})"


def may_install(question: Question) -> Step | None:
    """The limits of this installation alone. Rollout, caps and the breaker are the fleet's: rollout.py and plan.py."""
    machine, settings = question.machine, question.settings
    if machine.patchers is PatchOrchestration.SCHEDULE and not (
        settings.include_scheduled or question.overrides.owned_by_us or _is_arc_without_schedule(machine)
    ):
        return _left_to_a_schedule(machine)
    if machine.patchers is PatchOrchestration.PLATFORM:
        remedy = "Set its patch mode to Manual to install it here."
        return Leave(State.SCHEDULED_ELSEWHERE, "the platform patches it (AutomaticByPlatform)", remedy)
    if step := too_new(question, settings.min_age, "PATCH_MIN_AGE_MINUTES"):
        return step
    last, lately = machine.installation, question.now - settings.min_interval
    if last and last.succeeded and last.started and last.started > lately and not question.install_run:
        again, reason = last.started + settings.min_interval, f"last installed {format_utc(last.started)}"
        remedy = f"To patch it sooner: patcher run install {machine.id.name} --reason … (docs/runs.md)."
        return Wait(State.RECENTLY_PATCHED, reason, remedy, again, Cause.TRANSIENT)
    failure = question.record.history.failure if question.record else ""
    alone = not machine.image.key
    if step := after_failures(_tries(question), failure, alone=alone, settings=settings, now=question.now):
        return step
    return None if question.way else window_wait(question)


def _tries(question: Question) -> tuple[datetime, ...]:
    """When the installations since the last good one began: what the row remembers, and what the machine shows."""
    tries = question.record.history.tries if question.record else ()
    last = question.machine.installation
    if question.machine.installed_well_since(tries):
        return ()
    if last is None or last.started is None or last.succeeded or last.in_progress:
        return tries
    known = bool(tries) and last.started < tries[-1] + START_MARGIN
    return tries if known else (*tries, last.started)


def _is_arc_without_schedule(machine: Machine) -> bool:
    """A schedule patches an Arc-enabled server whatever its patch settings say, so they leave it to none either."""
    return machine.id.is_arc and machine.schedule_assigned is False


def _left_to_a_schedule(machine: Machine) -> Step:
    """The flag that leaves a machine to a schedule is not a schedule: without one the machine stays unpatched.

    Only the sweep and the census ask for assignments. Until they did, as on an event, the flag alone keeps the machine
    from being installed.
    """
    here = "tag it patch-owner=image-patcher, or set PATCH_SCHEDULED=include, to install it here."
    if machine.schedule_assigned is False:
        reason = "its patch settings leave it to a schedule and none is assigned, so nothing patches it"
        return Leave(State.PATCHED_BY_NOBODY, reason, f"Assign a schedule; or {here}")
    if machine.schedule_assigned:
        reason = "a maintenance configuration patches it: assessed only"
        return Leave(State.SCHEDULED_ELSEWHERE, reason, f"T{here[1:]}")
    reason = "its patch settings leave it to a maintenance configuration, assigned or not is not known: assessed only"
    remedy = "Check that one is assigned, and that the app's identity may read configuration assignments"
    return Leave(State.SCHEDULED_ELSEWHERE, reason, f"{remedy}; or {here}")


def window_wait(question: Question) -> Wait:
    """The wait for the next opening of its window, or of that of canaries where it may be one."""
    blackouts, minutes = question.settings.blackouts, question.minutes_left
    return _window_wait(question.window, question.canary_window, minutes, now=question.now, blackouts=blackouts)


@lru_cache(maxsize=4096)  # the answer is the same for all machines of a window, and a sweep holds every waiting one
def _window_wait(own: Windows, canaries: Windows | None, minutes: int, *, now: datetime, blackouts: Blackouts) -> Wait:
    """`minutes`: what is left of the window that counts now, which is not enough."""
    opens, as_canary = own.opens(now, blackouts), canaries.opens(now, blackouts) if canaries else None
    next_one = f"opens {own.shown(opens)}" if opens else "it does not open within 400 days"
    reason = f"only {minutes} minutes of its window are left; {next_one}" if minutes else next_one
    reason = f"{reason} ({own.text})"
    if canaries and as_canary and (opens is None or as_canary < opens):
        reason = f"{reason}; as a canary it may go from {canaries.shown(as_canary)} (PATCH_CANARY_WINDOW)"
    remedy = "" if opens else "Correct PATCH_WINDOW, PATCH_BLACKOUT or the tag patch-window."
    first = min(filter(None, (opens, as_canary)), default=None)
    return Wait(State.WAITING_FOR_WINDOW, reason, remedy, first, Cause.TRANSIENT)


def _assessed(question: Question, wanted: int, total: int) -> Step:
    tagged = question.overrides.mode < question.setting_mode
    why = f"tag patch-mode={question.overrides.mode.name.lower()}" if tagged else "PATCH_MODE=assess"
    if question.machine.patchers is PatchOrchestration.NOBODY:
        reason = f"AutomaticByPlatform on a customized image: neither guest nor platform patches it; {wanted} wait"
        remedy = "Set PATCH_MODE=install, or give the machine another patch mode."
        return Leave(State.PATCHED_BY_NOBODY, reason, remedy)
    remedy = "Set PATCH_MODE=install to patch it." if wanted else ""
    return Leave(State.ASSESSED, f"Supported, {wanted} wanted of {total} patches wait; {why}", remedy)


def _nothing_wanted(question: Question, total: int) -> Step:
    if total and question.install_run and question.install_run.selection:
        reason = f"none of the {total} waiting patches is one that run {question.install_run.id} selects"
        return Leave(State.NOTHING_SELECTED, reason)
    if total:
        reason = f"none of the {total} waiting patches is of a wanted classification"
        remedy = "Widen PATCH_CLASSIFICATIONS, or name them in PATCH_PACKAGES_INCLUDE, to install them."
        return Leave(State.NOTHING_SELECTED, reason, remedy)
    if question.verdict.reboot_pending:
        return _reboot_pending(question, wanted=0)
    return Leave(State.PATCHED, f"nothing to install, assessed {format_utc(question.verdict.assessed)}")


def is_answered_without_state(machine: Machine, verdict: PatchAssessment) -> bool:
    """No support state, but a successful assessment, lets these be installed: Azure gives them none.

    They are marketplace machines, with PATCH_IMAGES=all, and Arc-enabled servers, with PATCH_ARC=on.
    """
    given_none = machine.id.is_arc or not machine.image.customized
    return given_none and verdict.state is SupportState.ABSENT and verdict.answered


def _with_plan(question: Question) -> Step:
    """A third-party plan: no support state is all that an assessment ever says, and it permits no installation."""
    if question.assessment_due(question.verdict.assessed):
        return Assess(State.DUE, f"last assessed {format_utc(question.verdict.assessed)}")
    reason = "a marketplace image with a third-party plan and no support state: assessed only"
    return Leave(State.ASSESSED, reason, cause=Cause.NEVER)


def _installed_since(question: Question) -> bool:
    """Whether an installation, ours or another one, ended after the assessment: its counts are then void."""
    installed, record, verdict = question.machine.installation, question.record, question.verdict
    if installed is None and record is None:
        return False
    ends = [(installed.operation_id, installed.modified or installed.started)] if installed else []
    if record and record.ending and record.kind is OperationKind.INSTALL:
        ends.append((record.operation_id, record.ending.at))
    if record and record.history.void_before:  # its claim for an assessment was released: the need for one stays
        ends.append(("", record.history.void_before))
    return any(
        end is not None and (verdict.assessed is None or end > verdict.assessed)
        for operation_id, end in ends
        if not operation_id or operation_id != verdict.assessment_id  # its closing assessment counted what is left
    )


def _assessed_lately(question: Question) -> bool:
    """An event brings no support state; a machine whose assessment is not due needs no other one for it.

    One from before its guest was re-created says nothing.
    """
    seen, record = question.machine.assessment, question.record
    at = (seen.modified or seen.started) if seen else None
    void = record.history.void_before if record else None
    return at is not None and not (void and at <= void) and not question.assessment_due(at)


def _graph_is_behind(question: Question) -> bool:
    """Only the instance view shows an assessment that ended after the one Graph has: the verdict is on its way.

    Not one inside an installation: nothing says that Graph ever shows it.
    """
    seen, verdict = question.machine.assessment_alone, question.verdict
    if (
        question.machine.verdict is None
        or seen is None
        or seen.in_progress
        or seen.operation_id == verdict.assessment_id
    ):
        return False
    newer = seen.started is not None and (verdict.assessed is None or seen.started > verdict.assessed)
    return newer and not stale(seen.modified or seen.started, question.now)
