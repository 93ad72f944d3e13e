"""What to do with one machine now: next_step(machine, record, settings, now), pure, with reason, remedy and "when".

The rules are evaluated in order; the first rule that returns a step wins. The same function serves the sweep (a machine
as Graph shows it), the check before a POST (as its instance view shows it) and the census. What only the instance view
shows is None in a machine from Graph: the rule then returns nothing, and the check before the POST asks again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from functions.decisions.ownership import foreign_manager
from functions.decisions.retry import A_WEEK, UNANSWERED_LIMIT
from functions.model.machine import (
    LINUX_CLASSIFICATIONS,
    Machine,
    OsType,
    PatchAssessment,
    PatchOrchestration,
    PowerState,
    SupportState,
)
from functions.model.record import STALE_SUMMARY, Record
from functions.model.state import (
    OVERDUE,
    POLICY_STATES,
    Assess,
    Cause,
    Install,
    Leave,
    OperationKind,
    Phase,
    State,
    Step,
    Wait,
)
from functions.model.text import format_utc
from functions.policy.settings import Mode, Settings
from functions.policy.tags import TagOverrides, tag_overrides
from functions.policy.windows import ANY, Windows, both


@dataclass(frozen=True)
class Question:
    """One question: everything a rule may look at."""

    machine: Machine
    record: Record | None
    settings: Settings
    overrides: TagOverrides
    created_after: datetime
    now: datetime

    @property
    def mode(self) -> Mode:
        """What may be done to this machine. A plan answers as installing would; whoever asks then calls nothing."""
        return min(self.setting_mode, self.overrides.mode)

    @property
    def setting_mode(self) -> Mode:
        return Mode.INSTALL if self.settings.mode is Mode.PLAN else self.settings.mode

    @property
    def window(self) -> Windows:
        """When this machine may be installed. A tag narrows the setting; a machine this young need not wait for it."""
        setting = self.settings.window or ANY  # only PATCH_MODE=plan gets here without one
        if self.overrides.window:
            return both(setting, self.overrides.window)
        created = self.machine.created
        young = created is not None and self.now < created + self.settings.first_span
        return ANY if young and self.machine.installation is None else setting

    @property
    def minutes_left(self) -> int:
        """How long an installation may take from now: the setting, or less where the window closes; 0 when closed."""
        closes = self.window.closes(self.now, self.settings.blackouts)
        left = int((closes - self.now).total_seconds() // 60) if closes else 0
        return min(self.settings.max_duration_minutes, left)

    @property
    def verdict(self) -> PatchAssessment:
        return self.machine.verdict or PatchAssessment(SupportState.ABSENT)


def next_step(
    machine: Machine, record: Record | None, settings: Settings, created_after: datetime, now: datetime
) -> Step:
    """The answer for one machine. `record` counts earlier failures only: see standing() for what is in flight."""
    question = question_of(machine, record, settings, created_after, now)
    for rule in RULES:
        if step := rule(question):
            return step
    return _by_support_state(question)


def question_of(
    machine: Machine, record: Record | None, settings: Settings, created_after: datetime, now: datetime
) -> Question:
    return Question(machine, record, settings, tag_overrides(machine), created_after, now)


def pending_step(record: Record | None, now: datetime) -> Step | None:
    """What the ledger alone says: an operation under way, or a hold that lasts. None: ask next_step()."""
    if record is None or (record.due_again(now) and record.state != OVERDUE):
        return None  # an overdue operation stands until it was asked again: nothing starts beside it
    busy = State.ASSESSING if record.kind is OperationKind.ASSESS else State.INSTALLING
    if record.phase is Phase.QUEUED:
        return Wait(State.QUEUED, f"claimed for an {noun(record.kind)}", when=record.due_at)
    if record.phase in (Phase.STARTING, Phase.RUNNING):
        return Wait(busy, f"an {noun(record.kind)} is under way", when=record.started_at)
    if record.phase is Phase.ENDED:
        ended = f"its {noun(record.kind)} ended {record.outcome}; Resource Graph does not show it yet"
        return Wait(State.CONFIRMING, ended, when=record.ended_at)
    state = State(record.state) if record.state in set(State) else State.HELD  # a later app may know more
    return Wait(state, record.reason, record.remedy, record.not_before, record.cause)


def displayed_step(
    machine: Machine, record: Record | None, settings: Settings, created_after: datetime, now: datetime
) -> Step:
    """What people see of a machine: what the ledger says, unless its owner's word has made a hold needless since."""
    kept = pending_step(record, now)
    if kept is None or record is None or record.phase is not Phase.HELD or record.state == OVERDUE:
        return kept or next_step(machine, record, settings, created_after, now)
    fresh = next_step(machine, record, settings, created_after, now)
    unwanted = record.kind is OperationKind.INSTALL and fresh.state in (State.ASSESSED, State.PATCHED_BY_NOBODY)
    return fresh if unwanted or fresh.state in POLICY_STATES else kept


def wanted_count(machine: Machine, settings: Settings) -> int:
    """How many patches of the wanted classifications wait, by Graph's newest assessment."""
    counts = (machine.verdict or PatchAssessment(SupportState.ABSENT)).counts
    if settings.packages_include:
        return sum(counts.values())  # a mask may name a patch of any class
    return sum(counts.get(name.lower(), 0) for name in wanted_classifications(machine, settings))


def wanted_classifications(machine: Machine, settings: Settings) -> tuple[str, ...]:
    if machine.os_type is OsType.LINUX:
        return tuple(name for name in settings.classifications if name in LINUX_CLASSIFICATIONS)
    return tuple(name for name in settings.classifications if name != "Other")


def _in_scope(question: Question) -> Step | None:
    machine = question.machine
    if not question.settings.covers(machine.id.subscription):
        return Leave(State.OUT_OF_SCOPE, "its subscription is not in PATCH_SCOPE", "Add it to PATCH_SCOPE.")
    if question.settings.mode is Mode.OFF:
        return Leave(State.SWITCHED_OFF, "PATCH_MODE is off", "Set PATCH_MODE to assess or install.")
    return None


def _ours(question: Question) -> Step | None:
    manager = foreign_manager(question.machine)
    remedy = "Leave it to the service that manages it, or patch its image."
    return Leave(State.MANAGED_ELSEWHERE, manager, remedy) if manager else None


def _image_in_scope(question: Question) -> Step | None:
    if question.machine.image.customized or question.settings.all_images:
        return None
    remedy = "Set PATCH_IMAGES=all to take marketplace images in."
    return Leave(State.MARKETPLACE, "a marketplace image: not looked at", remedy)


def _new_enough(question: Question) -> Step | None:
    created = question.machine.created
    if created is not None and created >= question.created_after:
        return None
    age = f"created {format_utc(created)}" if created else "its creation time is not known"
    remedy = "Set PATCH_CREATED_AFTER to an earlier time, or to always."
    return Leave(State.OUT_OF_SCOPE, f"{age}, before {format_utc(question.created_after)}", remedy)


def _tags_allow(question: Question) -> Step | None:
    overrides = question.overrides
    if overrides.problem:
        return Leave(State.BAD_TAG, overrides.problem, "Correct the tag on the machine or its resource group.")
    if overrides.mode is Mode.OFF:
        return Leave(State.OPTED_OUT, "tag patch-mode=off", "Remove the tag patch-mode to take the machine back in.")
    if overrides.mode is Mode.PLAN and question.settings.mode is not Mode.PLAN:
        return Leave(State.OPTED_OUT, "tag patch-mode=plan: nothing is called", "Remove the tag patch-mode.")
    if overrides.hold_until and question.now.date() < overrides.hold_until:
        until = datetime.combine(overrides.hold_until, datetime.min.time(), UTC)
        reason = f"tag patch-hold-until={overrides.hold_until.isoformat()}"
        return Wait(State.ON_HOLD, reason, "Remove the tag to end the hold earlier.", until)
    return None


def _provisioned(question: Question) -> Step | None:
    state = question.machine.provisioning_state.lower()
    if state == "succeeded":
        return None
    if state == "failed":
        return Wait(State.BUILDING, "its provisioning failed", "Repair or redeploy the machine.")
    return Wait(State.BUILDING, f"provisioning state {state or 'unknown'}", cause=Cause.TRANSIENT)


def _powered_on(question: Question) -> Step | None:
    power = question.machine.power
    if power is PowerState.RUNNING:
        return None
    if power is PowerState.STARTING:
        return Wait(State.BUILDING, "it is starting", cause=Cause.TRANSIENT)
    reason = "its power state is not known" if power is PowerState.UNKNOWN else f"the machine is {power}"
    return Wait(State.POWERED_OFF, reason, "Start the machine; it is looked at when it starts.")


def _no_operation_running(question: Question) -> Step | None:
    for summary in question.machine.summaries:
        touched = summary.modified or summary.started  # without a time it may have been touched just now
        if summary.in_progress and (touched is None or not _stale(touched, question.now)):
            reason = "another assessment or installation is running on it"
            return Wait(State.BUSY, reason, cause=Cause.CONFLICT, when=question.now + question.settings.first_retry)
    return None


def _agent_answers(question: Question) -> Step | None:
    machine = question.machine
    if not machine.extensions_allowed:
        remedy = "Set allowExtensionOperations to true in the machine's OS profile."
        return Wait(State.EXTENSIONS_FORBIDDEN, "allowExtensionOperations is false", remedy)
    if machine.agent_ready is False:
        remedy = "Check that the VM agent runs and can reach Azure storage."
        return Wait(State.AGENT_NOT_READY, "the VM agent does not report ready", remedy)
    if machine.busy_extensions:
        names = ", ".join(machine.busy_extensions)
        return Wait(State.BUILDING, f"extensions at work: {names}", cause=Cause.TRANSIENT)
    return None


def _old_enough_to_assess(question: Question) -> Step | None:
    return _settled(question, question.settings.assess_after, "PATCH_ASSESS_AFTER_MINUTES")


RULES: tuple[Callable[[Question], Step | None], ...] = (
    _in_scope,
    _ours,
    _image_in_scope,
    _new_enough,
    _tags_allow,
    _provisioned,
    _powered_on,
    _no_operation_running,
    _agent_answers,
    _old_enough_to_assess,
)


def _by_support_state(question: Question) -> Step:
    verdict = question.verdict
    if question.machine.verdict is None and _assessed_lately(question):
        reason = "assessed already: the sweep asks Resource Graph what came of it"
        return Wait(State.GRAPH_BEHIND, reason, cause=Cause.TRANSIENT)
    if _graph_is_behind(question):
        reason = "a finished assessment is not in Resource Graph yet"
        return Wait(
            State.GRAPH_BEHIND, reason, cause=Cause.TRANSIENT, when=question.now + question.settings.first_retry
        )
    if _answered_marketplace(question) and question.machine.third_party_plan:
        return _with_plan(question)
    if verdict.state is SupportState.SUPPORTED or _answered_marketplace(question):
        return _supported(question)
    if verdict.state is SupportState.UNSUPPORTED:
        return _unsupported(question)
    return _no_verdict(question)


def _no_verdict(question: Question) -> Step:
    """Absent, Unknown or UnableToDetermine: assess, with growing waits; the third silence is reported."""
    record, state = question.record, question.verdict.state
    unanswered = record.unanswered if record else 0
    if unanswered and record and not record.due_again(question.now) and record.phase is Phase.HELD:
        return undetermined(unanswered, state, record.not_before)
    return Assess(State.DUE, f"support state {state}")


def undetermined(unanswered: int, state: SupportState, when: datetime | None) -> Wait:
    """The wait of a machine whose assessments bring no verdict."""
    reason = f"{unanswered} assessments ended with support state {state}"
    if unanswered < UNANSWERED_LIMIT:
        return Wait(State.DUE, reason, when=when, cause=Cause.TRANSIENT)
    remedy = "Check power, VM agent and outbound network, then restart the machine: it is assessed again."
    return Wait(State.UNDETERMINED, reason, remedy, when, Cause.OWNER)


def _unsupported(question: Question) -> Step:
    if _stale(question.verdict.assessed, question.now, A_WEEK):
        return Assess(State.DUE, "Unsupported a week ago: looked at again")
    remedy = "Patch it inside the guest, or rebuild it on an image that Azure can patch."
    return Leave(State.UNSUPPORTED, "Azure cannot patch this operating system or image", remedy, cause=Cause.NEVER)


def _supported(question: Question) -> Step:
    machine, settings, verdict = question.machine, question.settings, question.verdict
    wanted, total = wanted_count(machine, settings), sum(verdict.counts.values())
    installed = machine.installation
    if verdict.status.lower() == "failed":  # its empty counts are no news: the machine is not patched for it
        return Assess(State.DUE, "the last assessment failed")
    if _installed_since(question):
        return Assess(State.DUE, "the last assessment is older than the last installation")
    if _stale(verdict.assessed, question.now, settings.min_interval):
        return Assess(State.DUE, f"last assessed {format_utc(verdict.assessed)}")
    if question.mode < Mode.INSTALL:
        return _assessed(question, wanted, total)
    if verdict.reboot_pending and installed and not _stale(installed.started, question.now, settings.min_interval):
        remedy = "Restart the machine in a suitable window."
        return Wait(
            State.REBOOT_PENDING,
            f"a reboot is pending since {format_utc(installed.started)}; {wanted} patches wait",
            remedy,
        )
    if not wanted:
        return _nothing_wanted(question, total)
    if step := _may_install(question):
        return step  # before its freshness: what may not be installed now need not be assessed for it either
    if _stale(verdict.assessed, question.now, settings.fresh):
        return Assess(State.DUE, f"the support state of {format_utc(verdict.assessed)} is too old to install on")
    return Install(State.DUE, f"Supported, {wanted} patches wait")


def _may_install(question: Question) -> Step | None:
    """The limits of an installation alone. Rounds, caps and the breaker are the fleet's: rounds.py and plan.py."""
    machine, settings = question.machine, question.settings
    if machine.patchers is PatchOrchestration.SCHEDULE and not (
        settings.include_scheduled or question.overrides.owned_by_us
    ):
        remedy = "Tag it patch-owner=image-patcher, or set PATCH_SCHEDULED=include, to install it here."
        return Leave(State.SCHEDULED_ELSEWHERE, "a maintenance configuration patches it: assessed only", remedy)
    if machine.patchers is PatchOrchestration.PLATFORM:
        remedy = "Set its patch mode to Manual to install it here."
        return Leave(State.SCHEDULED_ELSEWHERE, "the platform patches it (AutomaticByPlatform)", remedy)
    if step := _settled(question, settings.settle, "PATCH_SETTLE_MINUTES"):
        return step
    last = machine.installation
    if last and last.succeeded and last.started and not _stale(last.started, question.now, settings.min_interval):
        again = last.started + settings.min_interval
        return Wait(
            State.RECENTLY_PATCHED, f"last installed {format_utc(last.started)}", when=again, cause=Cause.TRANSIENT
        )
    return _in_window(question)


def _in_window(question: Question) -> Step | None:
    minutes = question.minutes_left
    if minutes >= least_minutes(question.machine, question.settings):
        return None
    opens = question.window.opens(question.now, question.settings.blackouts)
    next_one = f"opens {format_utc(opens)}" if opens else "it does not open within 400 days"
    reason = f"only {minutes} minutes of its window are left; {next_one}" if minutes else next_one
    remedy = "" if opens else "Correct PATCH_WINDOW, PATCH_BLACKOUT or the tag patch-window."
    return Wait(State.WAITING_FOR_WINDOW, f"{reason} ({question.window.text})", remedy, opens, Cause.TRANSIENT)


def least_minutes(machine: Machine, settings: Settings) -> int:
    """The time an installation needs at least, or it installs nothing: a step and the reserve for its reboot.

    Windows 15 + 10, service packs 20 + 10 (Update Manager's troubleshooting page); Linux 5 for a package + 15
    (Azure/LinuxPatchExtension).
    """
    if machine.os_type is OsType.LINUX:
        return 20
    return 30 if "ServicePack" in settings.classifications else 25


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
    if total:
        reason = f"none of the {total} waiting patches is of a wanted classification"
        return Leave(State.NOTHING_SELECTED, reason, "Widen PATCH_CLASSIFICATIONS to install them.")
    if question.verdict.reboot_pending:
        return Wait(State.REBOOT_PENDING, "a reboot is pending", "Restart the machine in a suitable window.")
    return Leave(State.PATCHED, f"nothing to install, assessed {format_utc(question.verdict.assessed)}")


def _answered_marketplace(question: Question) -> bool:
    """With PATCH_IMAGES=all: no support state, but a successful assessment, lets a marketplace machine be installed."""
    return (
        not question.machine.image.customized
        and question.verdict.state is SupportState.ABSENT
        and question.verdict.status.lower() == "succeeded"
    )


def _with_plan(question: Question) -> Step:
    """A third-party plan: no support state is all that an assessment ever says, and it permits no installation."""
    if _stale(question.verdict.assessed, question.now, question.settings.min_interval):
        return Assess(State.DUE, f"last assessed {format_utc(question.verdict.assessed)}")
    reason = "a marketplace image with a third-party plan and no support state: assessed only"
    return Leave(State.ASSESSED, reason, cause=Cause.NEVER)


def _installed_since(question: Question) -> bool:
    """Whether an installation, ours or anyone's, ended after the assessment: its counts are then void."""
    installed, record, assessed = question.machine.installation, question.record, question.verdict.assessed
    ends = [installed.modified or installed.started] if installed else []
    ends += [record.ended_at] if record and record.kind is OperationKind.INSTALL else []
    return any(end is not None and (assessed is None or end > assessed) for end in ends)


def _assessed_lately(question: Question) -> bool:
    """An event knows no verdict; a machine assessed within the interval needs no other assessment for it."""
    seen = question.machine.assessment
    return seen is not None and not _stale(seen.modified or seen.started, question.now, question.settings.min_interval)


def _graph_is_behind(question: Question) -> bool:
    """Only the instance view shows an assessment that ended after the one Graph has: the verdict is on its way."""
    seen, verdict = question.machine.assessment, question.verdict
    if (
        question.machine.verdict is None
        or seen is None
        or seen.in_progress
        or seen.operation_id == verdict.assessment_id
    ):
        return False
    newer = seen.started is not None and (verdict.assessed is None or seen.started > verdict.assessed)
    return newer and not _stale(seen.modified or seen.started, question.now)


def _settled(question: Question, age: timedelta, setting: str) -> Step | None:
    created = question.machine.created
    if created is None or question.now >= created + age:
        return None
    reason = f"younger than {setting} allows"
    return Wait(State.SETTLING, reason, when=created + age, cause=Cause.TRANSIENT)


def _stale(moment: datetime | None, now: datetime, age: timedelta = STALE_SUMMARY) -> bool:
    return moment is None or now - moment >= age


def noun(kind: OperationKind) -> str:
    return "assessment" if kind is OperationKind.ASSESS else "installation"
