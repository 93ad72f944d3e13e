"""Why a command has no answer: one line each, and an exit code of its own."""

OK, NEEDS_A_PERSON, BAD_INPUT, NO_ANSWER = range(4)  # exit codes


class PatcherError(Exception):
    """The text is one line for stderr."""

    exit_code = NO_ANSWER


class BadRequest(PatcherError):
    """What was asked cannot be meant. Nothing was done."""

    exit_code = BAD_INPUT


class NoAnswer(PatcherError):
    """Azure refused, did not answer, or answered only in part."""
