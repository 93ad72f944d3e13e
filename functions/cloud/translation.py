"""The SDK's exceptions, turned into ours."""

import re
from typing import Any

from functions.cloud.errors import CloudError, Gone, OutcomeUnknown, Refused, Throttled, Unavailable

DEFAULT_RETRY_AFTER_SECONDS = 60.0


MAX_RETRY_AFTER_SECONDS = 86_400.0  # whatever a header says


_CODE = re.compile(r"[\w./:-]{1,100}", re.ASCII)


_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


_HOURS_MINUTES_SECONDS = re.compile(r"([0-9]+):([0-9]+):([0-9]+(?:\.[0-9]+)?)")


def translate(error: Exception, what: str, starts_something: bool = False) -> Exception:
    """Our exception for one of azure-core's. Anything else is a programming error and comes back as it is."""
    from azure.core import exceptions as sdk

    if isinstance(error, sdk.ClientAuthenticationError):  # ours to mend, and never the machine's fault
        return Unavailable(f"{what}: no valid token or no right; check the app's managed identity and its roles")
    if isinstance(error, sdk.HttpResponseError) and (error.status_code or 0) >= 400:
        return _answered(error, what, starts_something)
    if isinstance(error, sdk.ServiceRequestError) and (not starts_something or _never_left(error)):
        return Unavailable(f"{what} could not be sent")
    # A success that cannot be read comes as HttpResponseError (DecodeError), as an error of json or of the text's
    # encoding (both ValueErrors), of a number that is none, or of brackets within brackets, thousands deep.
    if isinstance(error, sdk.AzureError | TimeoutError | ValueError | OverflowError | RecursionError):
        return OutcomeUnknown(f"no answer to {what}") if starts_something else Unavailable(f"no answer to {what}")
    return error


def _never_left(error: Any) -> bool:
    """Whether no connection was made. azure-core calls a connection lost after sending a ServiceRequestError too
    (its aiohttp transport maps every ClientError to one), so only aiohttp's own connect errors count."""
    inner = getattr(error, "inner_exception", None)
    names = {base.__name__ for base in type(inner).__mro__}
    return bool(names & {"ClientConnectorError", "ConnectionTimeoutError"})


def _answered(error: Any, what: str, starts_something: bool) -> CloudError:
    status = int(error.status_code)
    codes, message = _details(error)
    code = codes[0]
    if status == 401:
        return Unavailable(f"{what}: the app's token was refused; check its managed identity")
    if status == 429:
        return Throttled(f"{what}: the quota is used up", retry_after_seconds(error.response))
    if status == 404:
        return Gone(f"{what}: not found")
    if status == 408 or status >= 500:
        text = f"{what}: the service answered {status} {code}".rstrip()
        return OutcomeUnknown(text) if starts_something else Unavailable(text)
    return Refused(what, status, codes, message="" if status in (401, 403) else message)


def _details(error: Any) -> tuple[list[str], str]:
    """(codes, message), the outer code first, "" where there is none.

    The SDK parses both body shapes of Azure, wrapped and flat, into error.error.
    """
    parsed = getattr(error, "error", None)
    code = _code(getattr(parsed, "code", "")) or _code(getattr(error, "error_code", ""))
    details = getattr(parsed, "details", None)
    codes = [code, *(_code(getattr(detail, "code", "")) for detail in (details if isinstance(details, list) else []))]
    message = getattr(parsed, "message", "")
    return codes, message if isinstance(message, str) else ""


def _code(value: object) -> str:
    """A code of Azure's as it came; "" for what cannot be one: it becomes part of a machine's reason."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else ""


def retry_after_seconds(response: Any) -> float:
    """Retry-After (seconds) or Resource Graph's own header (hh:mm:ss); a minute when neither is given."""
    headers = getattr(response, "headers", None) or {}
    seconds = DEFAULT_RETRY_AFTER_SECONDS
    if match := _SECONDS.fullmatch(str(headers.get("Retry-After") or "")):
        seconds = float(match[0])
    elif match := _HOURS_MINUTES_SECONDS.fullmatch(str(headers.get("x-ms-user-quota-resets-after") or "")):
        seconds = float(match[1]) * 3600 + float(match[2]) * 60 + float(match[3])
    return min(seconds, MAX_RETRY_AFTER_SECONDS)
