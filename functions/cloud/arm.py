"""Azure Resource Manager's virtual machines: read one, start an operation on it, ask how an operation ended.

A POST is sent once: no retry of the SDK, no poller left behind, a time-out for the whole call. Only URLs of ARM's own
host that name an operation are ever called with our token. Nothing here decides anything.
"""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from functions.cloud.errors import OutcomeUnknown, Unavailable
from functions.cloud.models import group_from_json, machine_from_arm
from functions.cloud.session import Session
from functions.model.machine import BUCKET_CAPACITY, Group, Machine, MachineId, group_id
from functions.model.state import OperationKind
from functions.model.text import GUID, BadInput, Json, quoted

SEND_SECONDS = 55  # for the whole POST; `begin` allows 60


MACHINE_API_VERSION = "2024-11-01"


GROUP_API_VERSION = "2021-04-01"


PATCH_BUCKET = "VMGuestPatchOperationSubscriptionMaximum"


_OPERATION_PATH = re.compile(
    rf"/subscriptions/{GUID.pattern}/providers/microsoft\.compute/locations/\w+/operations/(?P<id>{GUID.pattern})",
    re.IGNORECASE | re.ASCII,  # without the second, a long ſ would do for an s
)


_TOKENS_LEFT = re.compile(r"\s*(\S+);\s*([0-9]{1,9})\s*")


_MAX_STATUS = 100


_ENDED = ("succeeded", "failed", "canceled", "completedwithwarnings")


@dataclass(frozen=True)
class Accepted:
    """Azure took the operation: its id (equal to the activity id of its result) and the URL to ask."""

    operation_id: str
    url: str


@dataclass(frozen=True)
class Outcome:
    """How an operation stands. `status` is Azure's own word; `result` the patch result when it ended."""

    status: str
    result: Mapping[str, Any]

    @property
    def running(self) -> bool:
        """Resource Manager's rule for long operations: whatever is not one of the last statuses means that it runs.

        Source: the description of OperationStatus.status in Azure's own models ("terminal status").
        """
        return self.status.lower() not in _ENDED

    @property
    def patch_status(self) -> str:
        """The result's own status where there is one: envelope and result are separate."""
        return _status(self.result.get("status")) or self.status


class ResourceManager:
    """One per process. Every method raises the exceptions of cloud/errors.py only."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clients: dict[str, Any] = {}
        self._left: dict[tuple[str, str], int] = {}  # bucket → patch tokens left, as the last answer said

    async def machine(self, machine: MachineId) -> Machine:
        """The machine with its instance view. Raises Gone, Unavailable, Throttled, Refused, BadInput."""
        body = await self._get(
            machine.subscription, f"{machine}?$expand=instanceView", MACHINE_API_VERSION, "reading a machine"
        )
        read = machine_from_arm(body)
        if read.id != machine:
            raise BadInput(f"an answer about {quoted(machine.name)} is about {quoted(read.id.name)}, another machine")
        return read

    async def group(self, machine: MachineId) -> Group:
        """The resource group of a machine: tags and managedBy. Raises as machine() does."""
        body = await self._get(machine.subscription, machine.group_id, GROUP_API_VERSION, "reading a resource group")
        if group_id(body.get("id")) != machine.group_id:
            raise BadInput(f"an answer about {quoted(machine.group)} is about another resource group")
        return group_from_json(body)

    async def start(self, machine: Machine, kind: OperationKind, order: Json | None, send_by: datetime) -> Accepted:
        """Sends the POST, once, and not after `send_by`.

        Raises Refused, Throttled, Gone, Unavailable (it never left) or OutcomeUnknown.
        """
        operations = self._client(machine.id.subscription).virtual_machines
        target = (machine.id.group, machine.id.name)
        options: dict[str, Any] = {"polling": False}
        answers: list[Any] = []
        options["raw_response_hook"] = lambda response: answers.append(response.http_response)
        what = f"starting an {'assessment' if kind is OperationKind.ASSESS else 'installation'}"
        try:
            async with self._session.call(what, starts_something=True), asyncio.timeout(SEND_SECONDS):
                if self._session.clock() > send_by:
                    raise Unavailable(f"{what}: it could not leave in time")
                if kind is OperationKind.ASSESS:
                    await operations.begin_assess_patches(*target, **options)
                else:
                    await operations.begin_install_patches(*target, order, **options)
        finally:
            self._note_tokens(machine.quota_key, answers)
        return self._accepted(answers)

    async def outcome(self, machine: MachineId, url: str) -> Outcome:
        """Asks an operation how it stands. Raises Gone when Azure no longer knows it."""
        operation_id = self.operation_id(url)
        body = await self._get(machine.subscription, url, None, "asking an operation")
        if str(body.get("name") or operation_id).lower() != operation_id:
            raise Unavailable("asking an operation: the answer is about another one")
        properties = body.get("properties") if isinstance(body.get("properties"), Mapping) else {}
        output = (properties or {}).get("output")
        result = dict(output) if isinstance(output, Mapping) else {}
        if isinstance(body.get("error"), Mapping):
            result.setdefault("error", body["error"])
        status = _status(body.get("status"))
        if not status:
            raise Unavailable("asking an operation: the answer names no status")
        return Outcome(status, result)

    def operation_id(self, url: str) -> str:
        """The GUID of an operation URL. Raises BadInput on any other URL: our token goes to ARM alone."""
        match = None
        if url.isascii() and url.isprintable() and not set(url) & set(" #"):  # urlsplit drops a line break silently
            with suppress(ValueError):  # a host in broken brackets
                parts, arm = urlsplit(url), urlsplit(self._session.settings.arm_endpoint)
                if (parts.scheme, parts.netloc.lower()) == (arm.scheme, arm.netloc.lower()):
                    match = _OPERATION_PATH.fullmatch(parts.path)
        if not match:
            raise BadInput("an operation URL is not one of ARM's; it is not called")
        return match["id"].lower()

    def bucket_is_low(self, bucket: tuple[str, str]) -> bool:
        """Whether the last answer here said that less than a quarter of the patch quota is left: one process's hint."""
        return self._left.get(bucket, BUCKET_CAPACITY) < BUCKET_CAPACITY / 4

    async def _get(self, subscription: str, url: str, api_version: str | None, what: str) -> Json:
        from azure.core.rest import HttpRequest

        params = {"api-version": api_version} if api_version else {}
        async with self._session.call(what):
            client = self._client(subscription)
            answer = await client.send_request(HttpRequest("GET", url, params=params))
            answer.raise_for_status()
            if answer.status_code >= 300:  # to where our token must not go
                raise Unavailable(f"{what}: the answer is a redirect ({answer.status_code}); it is not followed")
            body = answer.json()
        if not isinstance(body, Mapping):
            raise Unavailable(f"{what}: the answer is no JSON object")
        return body

    def _client(self, subscription: str) -> Any:
        if subscription not in self._clients:
            from azure.mgmt.compute.aio import ComputeManagementClient

            self._clients[subscription] = ComputeManagementClient(
                self._session.credential, subscription, **self._session.client_options()
            )
        return self._clients[subscription]

    def _accepted(self, answers: list[Any]) -> Accepted:
        """The 202's id and URL. Without them the operation may run all the same: the sweep finds it on the machine."""
        url = str(answers[-1].headers.get("azure-asyncoperation") or "") if answers else ""
        try:
            return Accepted(self.operation_id(url), url)
        except BadInput:
            raise OutcomeUnknown("Azure's answer to the POST names no operation") from None

    def _note_tokens(self, bucket: tuple[str, str], answers: list[Any]) -> None:
        for answer in answers:
            for part in str(answer.headers.get("x-ms-ratelimit-remaining-resource") or "").split(","):
                match = _TOKENS_LEFT.fullmatch(part)
                if match and match[1].endswith(PATCH_BUCKET):
                    self._left[bucket] = int(match[2])


def _status(value: object) -> str:
    """A status as Azure writes it; "" for what cannot be one."""
    return value if isinstance(value, str) and len(value) <= _MAX_STATUS else ""


def install_order(
    *,
    windows: bool,
    classifications: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    reboot: str,
    minutes: int,
    published_before: datetime | None = None,
) -> Json:
    """The body of installPatches, as plain JSON: the SDK would write a timedelta in a form the Linux guest refuses."""
    order: dict[str, Any] = {
        "maximumDuration": f"PT{minutes // 60}H{minutes % 60}M" if minutes % 60 else f"PT{minutes // 60}H",
        "rebootSetting": reboot,
    }
    if not windows:
        masks = {"packageNameMasksToInclude": list(include), "packageNameMasksToExclude": list(exclude)}
        order["linuxParameters"] = _filled({"classificationsToInclude": list(classifications), **masks})
        return order
    kb = re.compile(r"(?:KB)?(\d{6,8})", re.IGNORECASE)
    parameters: dict[str, Any] = {"classificationsToInclude": list(classifications)}
    for names, numbers_key, masks_key in (
        (include, "kbNumbersToInclude", "patchNameMasksToInclude"),
        (exclude, "kbNumbersToExclude", "patchNameMasksToExclude"),
    ):
        parameters[numbers_key] = [match[1] for name in names if (match := kb.fullmatch(name))]
        parameters[masks_key] = [name for name in names if not kb.fullmatch(name)]
    if published_before:
        parameters["maxPatchPublishDate"] = published_before.isoformat()
    order["windowsParameters"] = _filled(parameters)
    return order


def _filled(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value}
