"""What to do with one machine now: next_step(question), pure, with reason, remedy and "when".

The rules are evaluated in order; the first rule that returns a step wins. The same function serves the sweep (a machine
as Graph shows it), the check before a POST (as its instance view shows it) and the census. What only the instance view
shows is None in a machine from Graph: the rule then returns nothing, and the check before the POST asks again.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from functions.decisions.ownership import foreign_manager
from functions.decisions.question import Question, is_under_way, too_new
from functions.decisions.support_state import by_support_state
from functions.model.machine import PowerState
from functions.model.record import GRAPH_PATIENCE, Record
from functions.model.state import POLICY_STATES, Cause, Leave, OperationKind, Phase, State, Step, Wait
from functions.model.text import format_utc
from functions.policy.grammar import ALWAYS
from functions.policy.values import Mode

GRAPH_SILENT = (
    "Check that the app's identity may read the machine's patch results; if Resource Graph is late, raise "
    "PATCH_FRESH_HOURS."
)


def next_step(question: Question) -> Step:
    """The answer for one machine. Its record counts earlier failures only: pending_step() says what is in flight."""
    for rule in RULES:
        if step := rule(question):
            return step
    return by_support_state(question)


def pending_step(record: Record | None, now: datetime) -> Step | None:
    """What the ledger alone says: an operation under way, or a hold that lasts. None: ask next_step()."""
    if record is None or (record.due_again(now) and not record.is_held(State.OVERDUE)):
        return None  # an overdue operation is pending until it was asked again: nothing starts beside it
    noun = record.kind.noun
    if record.phase is Phase.QUEUED:
        return Wait(State.QUEUED, f"claimed for an {noun}", when=record.due_at)
    if record.phase in (Phase.STARTING, Phase.RUNNING):
        busy = State.ASSESSING if record.kind is OperationKind.ASSESS else State.INSTALLING
        return Wait(busy, f"an {noun} is under way", when=record.flight.started_at if record.flight else None)
    if record.phase is Phase.ENDED and record.ending:
        ended = f"its {noun} ended {record.ending.outcome}; Resource Graph does not show it yet"
        late = now >= record.ending.at + GRAPH_PATIENCE
        return Wait(State.CONFIRMING, ended, GRAPH_SILENT if late else "", when=record.ending.at)
    return record.hold


def displayed_step(question: Question) -> Step:
    """What people see of a machine: what the ledger says, unless settings or tags have made its hold needless since."""
    record = question.record
    pending = pending_step(record, question.now)
    if pending is None or record is None or record.hold is None or record.is_held(State.OVERDUE):
        return pending or next_step(question)
    fresh = next_step(question)
    if (fresh.state, fresh.reason) == (pending.state, pending.reason):
        return fresh  # its hold ends at the next assessment at the latest; what it waits for may be further away
    unwanted = record.kind is OperationKind.INSTALL and fresh.state in (State.ASSESSED, State.PATCHED_BY_NOBODY)
    return fresh if unwanted or fresh.state in POLICY_STATES else pending


# -- the rules, in order: whose machine it is, what its owner said, whether it can be called at all


def _in_scope(question: Question) -> Step | None:
    machine = question.machine
    if not question.settings.covers(machine.id.subscription):
        return Leave(State.OUT_OF_SCOPE, "its subscription is not in PATCH_SCOPE", "Add it to PATCH_SCOPE.")
    if question.settings.mode is Mode.OFF:
        return Leave(State.SWITCHED_OFF, "PATCH_MODE is off", "Set PATCH_MODE to assess or install.")
    return None


def _arc_taken_in(question: Question) -> Step | None:
    if question.settings.include_arc or not question.machine.id.is_arc:
        return None
    return Leave(State.OUT_OF_SCOPE, "an Arc-enabled server, and PATCH_ARC is off", "Set PATCH_ARC=on to take it in.")


def _ours(question: Question) -> Step | None:
    manager = foreign_manager(question.machine, scale_sets=question.settings.include_scale_sets)
    if manager is None:
        return None
    # A group's tag speaks about its schedules: to take a lab's machine from its service, the machine itself is tagged.
    chosen = question.overrides.owned_by_us and "patch-owner" in question.machine.tags
    if manager.owner_may_choose and chosen:
        return None
    remedy = manager.remedy or "Leave it to the service that manages it, or patch its image."
    if manager.owner_may_choose:
        remedy = "Leave it to the service that manages it, or tag the machine patch-owner=image-patcher."
    return Leave(State.MANAGED_ELSEWHERE, manager.name, remedy)


def _image_in_scope(question: Question) -> Step | None:
    if question.machine.image.customized or question.settings.all_images:
        return None
    remedy = "Set PATCH_IMAGES=all to take marketplace images in."
    return Leave(State.MARKETPLACE, "a marketplace image: not assessed", remedy)


def _new_enough(question: Question) -> Step | None:
    created = question.machine.created
    limit = question.created_after
    if limit <= ALWAYS or (created is not None and created >= limit):
        return None
    if question.machine.id.is_arc:
        return None  # Azure shows no time of its creation; PATCH_ARC=on takes them in, whatever their age
    if created is None:
        reason = f"its creation time is not known; in scope are machines created after {format_utc(limit)}"
        return Leave(State.OUT_OF_SCOPE, reason, "Set PATCH_CREATED_AFTER to always.")
    remedy = "Set PATCH_CREATED_AFTER to an earlier time, or to always."
    return Leave(State.OUT_OF_SCOPE, f"created {format_utc(created)}, before {format_utc(limit)}", remedy)


def _tags_allow(question: Question) -> Step | None:
    overrides = question.overrides
    if overrides.problem:
        return Leave(State.BAD_TAG, overrides.problem, "Correct the tag on the machine or its resource group.")
    if overrides.mode is Mode.OFF:
        return Leave(State.OPTED_OUT, "tag patch-mode=off", "Remove the tag patch-mode to take the machine back in.")
    if overrides.mode is Mode.PLAN:
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
    if state == "failed" and question.machine.id.is_arc:
        return Wait(State.BUILDING, "its provisioning failed", "Connect the server to Azure again (azcmagent connect).")
    if state == "failed":
        remedy = "Repair or redeploy the machine; `az vm reapply` often suffices."
        return Wait(State.BUILDING, "its provisioning failed", remedy)
    return Wait(State.BUILDING, f"provisioning state {state or 'unknown'}", cause=Cause.TRANSIENT)


def _can_run(question: Question) -> Step | None:
    if not question.machine.generalized:
        return None
    reason = "it is generalized: prepared as an image, it cannot be started again"
    return Leave(State.UNSUPPORTED, reason, "Delete it, or make a new machine of its image.", cause=Cause.NEVER)


def _connected(question: Question) -> Step | None:
    """Azure reaches an Arc-enabled server through its agent only.

    Source: Azure Arc-enabled servers, agent overview: Expired follows on 45 days without a connection.
    """
    if not question.machine.id.is_arc:
        return None
    status = question.machine.agent_status
    if status.lower() == "connected":
        return None
    reason = f"its Connected Machine agent is {status or 'of no known status'}"
    if status.lower() == "expired":
        remedy = "Connect the server to Azure again (azcmagent connect), or delete its resource."
        return Wait(State.AGENT_NOT_READY, reason, remedy, cause=Cause.OWNER)
    remedy = "Check that the server runs and its agent reaches Azure (azcmagent check)."
    return Wait(State.AGENT_NOT_READY, reason, remedy, cause=Cause.TRANSIENT)


def _powered_on(question: Question) -> Step | None:
    power = question.machine.power
    if power is PowerState.RUNNING:
        return None
    if power is PowerState.STARTING:
        return Wait(State.BUILDING, "it is starting", cause=Cause.TRANSIENT)
    if power is PowerState.UNKNOWN:  # Azure leaves it out at times, also of machines that run
        return Wait(State.BUILDING, "Azure does not say at the moment whether it runs", cause=Cause.TRANSIENT)
    remedy = "Start the machine; it is checked when it starts."
    return Wait(State.POWERED_OFF, f"the machine is {power}", remedy)


def _no_operation_running(question: Question) -> Step | None:
    machine, now = question.machine, question.now
    if not is_under_way(machine.assessment, now) and not is_under_way(machine.installation, now):
        return None
    reason = "another assessment or installation is running on it"
    return Wait(State.BUSY, reason, cause=Cause.CONFLICT, when=now + question.settings.first_retry)


def _agent_answers(question: Question) -> Step | None:
    machine = question.machine
    if not machine.extensions_allowed:
        remedy = "Set allowExtensionOperations to true in the machine's OS profile."
        return Wait(State.EXTENSIONS_FORBIDDEN, "allowExtensionOperations is false", remedy)
    if machine.agent_ready is False and not machine.agent_reports:
        remedy = "Install the VM agent, or restart the machine if it has one."
        return Wait(State.AGENT_NOT_READY, "Azure shows no report of a VM agent", remedy)
    if machine.agent_ready is False:
        remedy = "Check that the VM agent runs and can reach Azure storage."
        reason = "the VM agent does not report ready"  # it comes and goes, so it is checked again soon
        return Wait(State.AGENT_NOT_READY, reason, remedy, cause=Cause.TRANSIENT)
    if machine.busy_extensions:
        names = ", ".join(machine.busy_extensions)
        return Wait(State.BUILDING, f"extensions at work: {names}", cause=Cause.TRANSIENT)
    return None


def _old_enough_to_assess(question: Question) -> Step | None:
    return too_new(question, question.settings.assess_after, "PATCH_ASSESS_AFTER_MINUTES")


RULES: tuple[Callable[[Question], Step | None], ...] = (
    _in_scope,
    _arc_taken_in,
    _ours,
    _image_in_scope,
    _new_enough,
    _tags_allow,
    _can_run,
    _provisioned,
    _connected,
    _powered_on,
    _no_operation_running,
    _agent_answers,
    _old_enough_to_assess,
)
