"""What a call to the outside may raise.

Every adapter raises these and nothing else, so that no URL, token or identity of an SDK's own exception travels
further. What an answer means: decisions/diagnosis.py.
"""

from collections.abc import Sequence


class CloudError(Exception):
    """Something outside did not do what was asked. The text is one clear line without ids or addresses."""


class Unavailable(CloudError):
    """A read failed, or a call was never sent: try again later, nothing has changed."""


class Throttled(CloudError):
    """The quota is used up. Says nothing about the machine."""

    def __init__(self, text: str, retry_after_seconds: float) -> None:
        super().__init__(text)
        self.retry_after_seconds = retry_after_seconds


class Gone(CloudError):
    """The machine (or the operation) does not exist."""


class OutcomeUnknown(CloudError):
    """A POST left and no answer came: the operation may or may not run."""


class Refused(CloudError):
    """Azure said no: its HTTP status, its codes (the outer one first) and its message, as they came.

    The message is "" for 401 and 403, whose text names the caller's identity.
    """

    def __init__(self, what: str, status: int, codes: Sequence[str], *, message: str) -> None:
        self.status, self.codes, self.message = status, tuple(codes), message
        self.code = self.codes[0] if self.codes else ""
        super().__init__(f"{what}: Azure refused it ({status} {self.code})".replace(" )", ")"))
