"""How long to wait before the next try."""

from datetime import datetime, timedelta

from functions.model.machine import SupportState
from functions.model.record import Record
from functions.model.state import Cause, State, Wait
from functions.model.text import format_utc
from functions.policy.settings import Settings
from functions.policy.windows import WEEK

MAX_RETRY = timedelta(hours=24)


def backoff(first: timedelta, attempts: int, jitter: float) -> timedelta:
    """The wait after failure number `attempts` (from 1): first × 2^(attempts-1), at most a day, plus 0-20 % of jitter.

    `jitter` is a random number from 0 to 1: machines that failed together do not come back together.
    """
    doubled: timedelta = first * 2 ** min(attempts - 1, 20)
    return min(doubled, MAX_RETRY) * (1 + jitter / 5)


# Installations of one machine within PATCH_MIN_INTERVAL_HOURS: one, and two more while it fails. A lock of the package
# manager or a source that does not answer is over by the second or third; what fails a third time fails for a reason.
TRIES_IN_INTERVAL = 3


def tried_lately(record: Record, settings: Settings, now: datetime) -> bool:
    """Whether an installation that did not succeed began within the interval."""
    return bool(record.history.tries) and now < record.history.tries[-1] + settings.min_interval


def after_failures(
    tries: tuple[datetime, ...], failure: str, *, alone: bool, settings: Settings, now: datetime
) -> Wait | None:
    """The wait of a machine whose last installations, begun at these times, did not succeed; None: it may try again.

    `failure` is what the last one said. The wait doubles from try to try, up to a week, and an interval has
    TRIES_IN_INTERVAL of them. `alone`: the machine has no image whose breaker could stop it, so that it has one of its
    own.
    """
    if not tries:
        return None
    number = f"{len(tries)} installations in a row" if len(tries) > 1 else "an installation"
    what = f"{number} failed, the last of {format_utc(tries[-1])}" + (f" ({failure})" if failure else "")
    if alone and len(tries) >= TRIES_IN_INTERVAL:
        remedy = "Find what fails; then release the machine (docs/stop.md)."
        return Wait(State.FAILED, f"{what}: stopped until a person releases it", remedy)
    again = tries[-1] + min(settings.first_retry * 2 ** (len(tries) - 1), WEEK)
    if len(tries) >= TRIES_IN_INTERVAL:
        again = max(again, tries[-TRIES_IN_INTERVAL] + settings.min_interval)
    if now >= again:
        return None
    reason = f"{what}; the next may begin {format_utc(again)} (PATCH_MIN_INTERVAL_HOURS)"
    remedy = "Find what fails; to have it tried sooner, release the machine (docs/stop.md)."
    return Wait(State.FAILED, reason, remedy, again, Cause.TRANSIENT)


UNANSWERED_LIMIT = 3  # assessments in a row without a verdict before a machine is reported as undetermined


def wait_after_no_verdict(unanswered: int, state: SupportState, settings: Settings, *, jitter: float) -> timedelta:
    """How long to wait after an assessment without a verdict: growing to a day; weekly after the third."""
    if unanswered >= UNANSWERED_LIMIT and state is not SupportState.UNABLE_TO_DETERMINE:
        return WEEK
    return backoff(settings.first_retry, unanswered, jitter)
