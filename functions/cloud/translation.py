"""Translates the SDK's exceptions into those of cloud/errors.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from functions.cloud.errors import CloudError, Gone, OutcomeUnknown, Refused, Throttled, Unavailable

if TYPE_CHECKING:
    from azure.core.exceptions import HttpResponseError, ServiceRequestError

DEFAULT_RETRY_AFTER_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 86_400.0  # an upper bound for what a header says
# Codes of a 404 that do not say that the machine is gone: its subscription is not to be seen, or the request is wrong.
_NOT_GONE = {
    "subscriptionnotfound",
    "invalidsubscriptionid",
    "invalidresourcetype",
    "invalidresourcenamespace",
    "noregisteredproviderfound",
}
# A 401 that no newer token ends: the identity, or the machine's subscription, belongs to another tenant.
_LASTING_401 = "invalidauthenticationtokentenant"
_CODE = re.compile(r"[\w./:-]{1,100}", re.ASCII)
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_HOURS_MINUTES_SECONDS = re.compile(r"([0-9]+):([0-9]+):([0-9]+(?:\.[0-9]+)?)")


def translate(error: Exception, what: str, *, starts_something: bool = False) -> Exception:
    """Our exception for one of azure-core's; any other exception is a programming error and is returned unchanged.

    `what` names the call for the text. `starts_something`: a lost answer leaves open whether an operation runs.
    """
    from azure.core import exceptions as sdk

    if isinstance(error, sdk.ClientAuthenticationError) and not _is_lasting(error):  # the machine is not at fault
        return Unavailable(f"{what}: no valid token or no right; check the app's managed identity and its roles")
    if isinstance(error, sdk.HttpResponseError) and (error.status_code or 0) >= 400:
        return _answered(error, what, starts_something=starts_something)
    if isinstance(error, sdk.ServiceRequestError) and (not starts_something or _never_left(error)):
        return Unavailable(f"{what} could not be sent")
    # An unreadable success raises DecodeError (an HttpResponseError), ValueError (JSON, text encoding), OverflowError
    # (a number out of range) or RecursionError (brackets nested thousands deep).
    if isinstance(error, sdk.AzureError | TimeoutError | ValueError | OverflowError | RecursionError):
        return OutcomeUnknown(f"no answer to {what}") if starts_something else Unavailable(f"no answer to {what}")
    return error


def _never_left(error: ServiceRequestError) -> bool:
    """Whether no connection was made.

    azure-core's aiohttp transport raises ServiceRequestError for every ClientError, a connection lost after sending
    included. Only aiohttp's connect errors prove that the request never left.
    """
    from aiohttp import ClientConnectorError, ConnectionTimeoutError

    return isinstance(error.inner_exception, ClientConnectorError | ConnectionTimeoutError)


def _answered(error: HttpResponseError, what: str, *, starts_something: bool) -> CloudError:
    status = int(error.status_code or 0)
    codes, message = _codes(error), _message(error)
    if status == 401 and not _is_lasting(error):
        return Unavailable(f"{what}: the app's token was refused; check its managed identity")
    if status == 429:
        return Throttled(f"{what}: the quota is used up", retry_after_seconds(_headers(error)))
    if status == 404 and not _NOT_GONE & {code.lower() for code in codes}:
        return Gone(f"{what}: not found")
    if status == 408 or status >= 500:
        text = f"{what}: the service answered {status} {codes[0]}".rstrip()
        return OutcomeUnknown(text) if starts_something else Unavailable(text)
    return Refused(what, status=status, codes=codes, message="" if status in (401, 403) else message)


def _is_lasting(error: HttpResponseError) -> bool:
    """Whether a refused token stays refused. Any other is asked again with a new one."""
    return _LASTING_401 in (code.lower() for code in _codes(error))


def _codes(error: HttpResponseError) -> list[str]:
    """The error's codes, the outer one first; "" where there is none.

    The SDK parses both body shapes of Azure, wrapped and flat, into error.error; the storage SDKs set error_code.
    """
    outer = _code(error.error.code if error.error else "") or _code(getattr(error, "error_code", ""))
    details: object = error.error.details if error.error else []
    return [outer, *(_code(getattr(detail, "code", "")) for detail in (details if isinstance(details, list) else []))]


def _code(value: object) -> str:
    """A code as Azure sent it; "" for a value that cannot be one, because a code becomes part of a machine's reason."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else ""


def _message(error: HttpResponseError) -> str:
    message: object = error.error.message if error.error else ""
    return message if isinstance(message, str) else ""


def _headers(error: HttpResponseError) -> Mapping[str, str]:
    """The answer's headers. The SDK's type of `response` does not declare them, but every response has them."""
    return getattr(error.response, "headers", None) or {}


def retry_after_seconds(headers: Mapping[str, str]) -> float:
    """Retry-After (seconds) or Resource Graph's own header (hh:mm:ss); a minute when neither is readable."""
    seconds = DEFAULT_RETRY_AFTER_SECONDS
    if match := _SECONDS.fullmatch(str(headers.get("Retry-After") or "")):
        seconds = float(match[0])
    elif match := _HOURS_MINUTES_SECONDS.fullmatch(str(headers.get("x-ms-user-quota-resets-after") or "")):
        seconds = float(match[1]) * 3600 + float(match[2]) * 60 + float(match[3])
    return min(seconds, MAX_RETRY_AFTER_SECONDS)
