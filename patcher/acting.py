"""Who acts, with a table that writes, and what is about to be done. Only the commands that change something use it."""

import base64
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from rich.console import RenderableType

from functions.cloud.errors import CloudError, Refused, Unavailable
from functions.cloud.tables import StorageTable, Table
from functions.model.text import GUID, MAX_REASON, on_one_line, writable
from patcher.connection import App
from patcher.errors import BadRequest, NoAnswer
from patcher.output import Answer

ROLE = "Storage Table Data Contributor"
STORAGE = "https://storage.azure.com/.default"
# What Azure Storage answers to a network that it is closed to; without the role it is AuthorizationPermissionMismatch
# (learn.microsoft.com, "Troubleshoot 403 errors in Azure Storage").
CLOSED = "AuthorizationFailure"


@dataclass(frozen=True)
class Pen:
    """The ledger's table to write to. `by`: the object id of the person who writes."""

    table: Table
    by: str


@dataclass(frozen=True)
class Deed:
    """What is about to be done.

    `preview`: one line that says it. `ask_first`: a person has to agree to it. `shown`: what a person has to know
    before. `confirm`: what a person types to agree, where a plain yes is too easy; "": a plain yes.
    """

    preview: str
    do: Callable[[], Awaitable[Answer]]
    ask_first: bool = False
    shown: Sequence[RenderableType] = ()
    confirm: str = ""


Action = Callable[[App, Pen], Awaitable[Deed]]


async def pen_of(app: App) -> Pen:
    """The pen of the person whose identity is used. Raises NoAnswer and CloudError."""
    async with app.session.call("getting a token for the ledger"):
        token = await app.session.credential.get_token(STORAGE)
    return Pen(StorageTable(app.session), object_id(token.token))


def object_id(token: str) -> str:
    """The claim `oid` of a token, and nothing else that it says of a person. Raises NoAnswer.

    The signature is not verified: the storage account does that, and the claim is only noted.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        found = claims["oid"]
    except (IndexError, KeyError, TypeError, ValueError):  # binascii.Error is a ValueError
        found = ""
    if not (isinstance(found, str) and GUID.fullmatch(found.lower())):
        raise NoAnswer("your token does not say who you are (oid), so nothing was written; sign in again")
    return found.lower()


def reason_of(text: str) -> str:
    """A reason as it is noted: on one line. Raises BadRequest for an empty one, and for one that would be cut."""
    reason = on_one_line(writable(text)).strip()
    if not reason:
        raise BadRequest("--reason is empty; say why, for those who read it later")
    if len(reason) > MAX_REASON:
        raise BadRequest(f"--reason has {len(reason)} characters; up to {MAX_REASON} are right")
    return reason


def advice(error: CloudError) -> str:
    """What to do about a ledger that cannot be written; "" for another error."""
    if "ledger" not in str(error):
        return ""
    inside = "run patcher inside its network, or pause everything with --by-setting"
    if isinstance(error, Refused) and error.status in (401, 403):
        if error.code == CLOSED:
            return f"; the app's storage account is closed to your network: {inside}"
        return f"; you need {ROLE} on the app's storage account"
    if isinstance(error, Unavailable):
        return f"; if the app's storage account is closed to your network: {inside}"
    return ""
