"""Install Patches: from a claim to an installation under way, after one more check of everything that must be fresh."""

from datetime import datetime, timedelta

from functions import journal
from functions.cloud.arm import install_order
from functions.cloud.queue import Message
from functions.cloud.rows import LeftAlone
from functions.decisions.decision import Question, question_of, wanted_classifications
from functions.decisions.rollout import breaker_wait, installed_in_rollout
from functions.model.machine import OsType
from functions.model.state import Assess, Install, OperationKind
from functions.model.text import Json
from functions.services import Services
from functions.steps.holds import hold_step
from functions.steps.start import current_claim, new_claim, recheck, send, start_operation


async def on_message(services: Services, message: Message) -> None:
    """A claim for an installation. Raises CloudError only while its row is queued."""
    stored = await current_claim(services, message, OperationKind.INSTALL)
    seen = await recheck(services, stored) if stored else None
    if not stored or not seen:
        return
    machine, step = seen
    if isinstance(step, Install):
        try:
            image = (await services.ledger.image(machine.image.key)).record
        except LeftAlone as newer:  # left alone: the claim expires, and a sweep of the newer app goes on
            journal.write("ledger.newer", machine=machine.id, problem=newer)
            return
        if image.breaker_open:
            await hold_step(services, stored, breaker_wait(image))
            return
        if wait := installed_in_rollout(machine, image, services.settings):
            await hold_step(services, stored, wait)
            return
        question = question_of(
            machine, stored.record, services.settings, await services.created_after(), services.clock()
        )
        limit = timedelta(minutes=question.minutes_left)
        await start_operation(services, stored, stored.record, machine, order_for(question, image.opened), limit)
    elif isinstance(step, Assess):  # what Graph said no longer holds: back to an assessment, under a claim of its own
        again = new_claim(services, machine, OperationKind.ASSESS, previous=stored.record)
        await send(services, stored, again, timedelta(0))
    else:
        await hold_step(services, stored, step)


def order_for(question: Question, cutoff: datetime | None) -> Json:
    """The body of the call: settings, narrowed by the machine's tags and by what is left of its window.

    `cutoff` is the round's: on Windows every ring gets the patches its canary got. Linux has no such limit.
    """
    machine, settings = question.machine, question.settings
    return install_order(
        windows=machine.os_type is OsType.WINDOWS,
        classifications=wanted_classifications(machine, settings),
        include=settings.packages_include,
        exclude=settings.packages_exclude,
        reboot=min(settings.reboot, question.overrides.reboot).wire,
        minutes=question.minutes_left,
        published_before=cutoff,
    )
