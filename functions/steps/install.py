"""Install Patches: from a claim to an installation under way, after one more check of everything that must be fresh."""

from datetime import datetime, timedelta

from functions.cloud.arm import install_order
from functions.cloud.ledger import Stored
from functions.cloud.queue import Message
from functions.decisions import rollout
from functions.decisions.question import Question, wanted_classifications
from functions.decisions.support_state import window_wait
from functions.model.machine import Machine, OsType
from functions.model.record import Record
from functions.model.run import Run
from functions.model.state import Assess, Install, OperationKind
from functions.model.text import Json
from functions.policy.settings import Settings
from functions.policy.tags import tag_overrides
from functions.services import Services
from functions.steps.holds import hold_step
from functions.steps.observe import ask
from functions.steps.start import current_claim, give_back, new_claim, recheck, send, start_operation


async def on_message(services: Services, message: Message) -> None:
    """A claim for an installation. Raises CloudError only while its row is queued."""
    stored = await current_claim(services, message, OperationKind.INSTALL)
    seen = await recheck(services, stored) if stored else None
    if not stored or not seen:
        return
    machine, step, run = seen
    if isinstance(step, Install):
        await _install(services, stored, machine, step=step, run=run)
    elif isinstance(step, Assess):  # what Graph said no longer holds: back to an assessment, under a claim of its own
        again = new_claim(services, machine, OperationKind.ASSESS, previous=stored.record)
        await send(services, stored, again, delay=timedelta(0))
    else:
        await hold_step(services, stored, step)


async def _install(services: Services, stored: Stored, machine: Machine, *, step: Install, run: Run | None) -> None:
    """The image has the last word: its breaker, and its rollout, which a run on demand passes."""
    if _tags_changed(stored.record, machine, services.settings):
        await give_back(services, stored, "its ring, its group or its rollout is not the one that it was admitted to")
        return
    image = (await services.ledger.image(machine.image.key, stored.record.boundary)).record
    question = await ask(services, machine, stored.record, run=run)
    if question.install_run:
        wait = rollout.breaker_wait(image) if image.breaker_open else None
    else:
        wait = rollout.objection(machine, image, services.settings, now=services.clock())
    proved = step.only_canary and image.canaries >= services.settings.canaries  # a canary is no longer wanted
    if wait is None and (proved or question.way is None):  # None: too little is left of its window by now
        wait = window_wait(question)
    if wait:
        await hold_step(services, stored, wait)
        return
    await start_operation(
        services,
        stored,
        stored.record,
        machine=machine,
        order=order_for(question, None if question.install_run else image.opened),
        limit=timedelta(minutes=question.minutes_left),
    )


def _tags_changed(record: Record, machine: Machine, settings: Settings) -> bool:
    """Whether what the plan went by is another by now: the slot that the machine holds is then not the right one."""
    tags = tag_overrides(machine)
    now = tags.ring, tags.group, rollout.boundary(machine, settings), machine.one_at_a_time
    return now != (record.ring, record.group, record.boundary, record.availability_set)


def order_for(question: Question, cutoff: datetime | None) -> Json:
    """The body of the call: settings, narrowed by the machine's tags and by what is left of its window.

    Outside its window a machine's first hours order no reboot, unless PATCH_FIRST_REBOOT says so.

    `cutoff` is the rollout's: on Windows every ring gets the patches that its canary got. Linux has no such limit.
    """
    machine, settings = question.machine, question.settings
    return install_order(
        windows=machine.os_type is OsType.WINDOWS,
        classifications=wanted_classifications(machine, settings),
        include=settings.packages_include,
        exclude=settings.packages_exclude,
        reboot=question.reboot.wire,
        minutes=question.minutes_left,
        published_before=cutoff,
    )
