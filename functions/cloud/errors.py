"""The exceptions of a call to Azure.

Every client in cloud/ raises these and no other, so that no URL, token or identity in an SDK exception travels
further. What an answer means is decided in decisions/diagnosis.py.
"""

from collections.abc import Sequence


class CloudError(Exception):
    """A call to Azure did not do what it should. The text is one line without ids or addresses."""


class Unavailable(CloudError):
    """A read failed, or a request was never sent. Nothing has changed; a later attempt may succeed."""


class Throttled(CloudError):
    """The quota is used up. Says nothing about the machine."""

    def __init__(self, text: str, retry_after_seconds: float) -> None:
        super().__init__(text)
        self.retry_after_seconds = retry_after_seconds


class Gone(CloudError):
    """The machine, the operation or the queue does not exist."""


class OutcomeUnknown(CloudError):
    """A POST was sent and no answer arrived: the operation may or may not run."""


class Refused(CloudError):
    """Azure refused the request. Holds its HTTP status, its codes (the outer one first) and its message, unchanged.

    The message is "" for 401 and 403, because their text names the caller's identity.
    """

    def __init__(self, what: str, *, status: int, codes: Sequence[str], message: str) -> None:
        self.status, self.codes, self.message = status, tuple(codes), message
        self.code = self.codes[0] if self.codes else ""
        super().__init__(f"{what}: Azure refused it ({f'{status} {self.code}'.rstrip()})")
