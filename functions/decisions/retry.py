"""How long to wait before the next try."""

from datetime import timedelta

from functions.model.machine import SupportState
from functions.policy.settings import Settings

MAX_RETRY = timedelta(hours=24)


A_WEEK = timedelta(days=7)


def backoff(first: timedelta, attempts: int, jitter: float) -> timedelta:
    """The wait after failure number `attempts` (from 1): first × 2^(attempts-1), at most a day, plus 0-20 % of jitter.

    `jitter` is a random number from 0 to 1: machines that failed together do not come back together.
    """
    doubled: timedelta = first * 2 ** min(attempts - 1, 20)
    return min(doubled, MAX_RETRY) * (1 + jitter / 5)


UNANSWERED_LIMIT = 3  # assessments in a row without a verdict before a machine is reported as undetermined


def wait_after_no_verdict(unanswered: int, state: SupportState, settings: Settings, *, jitter: float) -> timedelta:
    """How long to wait after an assessment without a verdict: growing to a day; weekly after the third."""
    if unanswered >= UNANSWERED_LIMIT and state is not SupportState.UNABLE_TO_DETERMINE:
        return A_WEEK
    return backoff(settings.first_retry, unanswered, jitter)
