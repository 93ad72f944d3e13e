"""Machines in Azure Resource Manager (ARM), virtual ones and Arc-enabled servers.

Reads one, starts an operation on it, reads an operation's status.

A POST is sent once: no retry by the SDK, no poller left behind, a time-out for the whole call. Our token goes only to
ARM's own host, and from the ledger only to URLs that name an operation. Nothing here decides anything.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

from functions.cloud.errors import CloudError, Gone, OutcomeUnknown, Refused, Unavailable
from functions.cloud.models import (
    arc_machine_from_json,
    machine_from_arm,
    resource_group_from_json,
    scale_set_from_json,
)
from functions.cloud.session import Session
from functions.model.machine import (
    BUCKET_CAPACITY,
    KB_NUMBER,
    Machine,
    MachineId,
    ResourceGroup,
    ScaleSet,
    group_id,
    is_windows_name,
)
from functions.model.state import OperationKind
from functions.model.text import GUID, BadInput, Json, quoted

if TYPE_CHECKING:
    from azure.core.rest import AsyncHttpResponse, HttpRequest
    from azure.mgmt.compute.aio import ComputeManagementClient
    from azure.mgmt.hybridcompute.aio import HybridComputeManagementClient

SEND_SECONDS = 55  # for the whole POST; 60 s after `begin` a row counts as not sent
# The SDK's own default is the newest, which sovereign clouds get last: the setting ARM_COMPUTE_VERSION names ours.
NAME_MASKS_API_VERSION = "2025-04-01"  # the first with patchNameMasksToInclude and patchNameMasksToExclude
# Of Arc-enabled servers: the first stable version with both operations, and the first stable one with name masks.
ARC_API_VERSION = "2024-07-10"
ARC_NAME_MASKS_API_VERSION = "2026-07-15"
GROUP_API_VERSION = "2021-04-01"
SCHEDULES_API_VERSION = "2023-04-01"  # the first stable one that lists those of a subscription
PATCH_BUCKET = "VMGuestPatchOperationSubscriptionMaximum"
_OPERATION_PATH = re.compile(
    rf"/subscriptions/{GUID.pattern}/providers/(?:microsoft\.compute/locations/\w+/operations"
    rf"|microsoft\.hybridcompute/locations/\w+/(?P<arc>updatecenteroperationresults|operationresults))"
    rf"/(?P<id>{GUID.pattern})(?:\*[0-9a-f]{{1,128}})?",
    re.IGNORECASE | re.ASCII,  # without ASCII, IGNORECASE lets ſ match s
)
_TOKENS_LEFT = re.compile(r"\s*(\S+);\s*([0-9]{1,9})\s*")
_NOT_IN_MASKS = re.compile(r"[^A-Za-z0-9*?]")
_MAX_STATUS = 100  # characters
_ENDED = ("succeeded", "failed", "canceled", "completedwithwarnings")


@dataclass(frozen=True)
class Accepted:
    """Azure accepted the operation: its id (equal to the activity id of its result) and the URL of its status."""

    operation_id: str
    url: str


@dataclass(frozen=True)
class Outcome:
    """An operation's status. `status` is Azure's own word; `result` is the patch result once the operation ended."""

    status: str
    result: Json

    @property
    def running(self) -> bool:
        """Resource Manager's rule for long-running operations: every status that is not terminal means running.

        Source: the description of OperationStatus.status in Azure's own models ("terminal status").
        """
        return self.status.lower() not in _ENDED

    @property
    def activity_id(self) -> str:
        """The id under which Resource Graph shows the result; "" where the result names none."""
        ids = (self.result.get(f"{each}ActivityId") for each in ("assessment", "installation"))
        return next((each.lower() for each in ids if isinstance(each, str) and GUID.fullmatch(each.lower())), "")

    @property
    def patch_status(self) -> str:
        """The result's own status if it has one: an operation may succeed although its patches failed."""
        return _status(self.result.get("status")) or self.status


class ResourceManager:
    """One per process. Every method raises only BadInput and the exceptions of cloud/errors.py."""

    def __init__(self, session: Session) -> None:
        self._session, self._compute_version = session, session.settings.compute_version
        self._endpoint = session.settings.arm_endpoint.rstrip("/")
        arm = urlsplit(self._endpoint)
        self._host = arm.scheme, arm.netloc.lower()
        # By subscription, and whether it is that of Arc-enabled servers.
        self._clients: dict[tuple[str, bool], ComputeManagementClient | HybridComputeManagementClient] = {}
        self._left: dict[tuple[str, str], int] = {}  # bucket → patch tokens left according to the last answer

    async def machine(self, machine: MachineId) -> Machine:
        """The machine with its instance view. Raises Gone, Unavailable, Throttled, Refused, BadInput."""
        what = "reading a machine"
        if machine.is_arc:
            body = await self._get(machine, str(machine), what, api_version=ARC_API_VERSION)
            read = arc_machine_from_json(body)
        else:
            body = await self._get(machine, f"{machine}?$expand=instanceView", what, api_version=self._compute_version)
            read = machine_from_arm(body)
        if read.id != machine:
            raise BadInput(f"an answer about {quoted(machine.name)} is about {quoted(read.id.name)}, another machine")
        return read

    async def resource_group(self, machine: MachineId) -> ResourceGroup:
        """The resource group of a machine: tags and managedBy. Raises the same exceptions as machine()."""
        what = "reading a resource group"
        body = await self._get(machine, machine.group_id, what, api_version=GROUP_API_VERSION)
        if group_id(body.get("id")) != machine.group_id:
            raise BadInput(f"an answer about {quoted(machine.group)} is about another resource group")
        return resource_group_from_json(body)

    async def scale_set(self, machine: Machine) -> ScaleSet:
        """The rules of the machine's scale set. Raises the same exceptions as machine()."""
        what = "reading a scale set"
        body = await self._get(machine.id, machine.scale_set, what, api_version=self._compute_version)
        name, rules = scale_set_from_json(body)
        if name != machine.scale_set:
            raise BadInput(f"an answer about the scale set of {quoted(machine.id.name)} is about another one")
        return rules

    async def reads_schedules(self, subscription: str) -> bool:
        """Whether this identity may read the subscription's assignments of maintenance configurations.

        Resource Graph leaves out what may not be read, so no row of it means "none" only after this. False: Azure
        refuses it, or does not answer.
        """
        url = f"/subscriptions/{subscription}/providers/Microsoft.Maintenance/configurationAssignments"
        try:
            await self._get(subscription, url, "reading schedules", api_version=SCHEDULES_API_VERSION)
        except CloudError:
            return False
        return True

    async def start(self, machine: Machine, kind: OperationKind, *, order: Json | None, send_by: datetime) -> Accepted:
        """Sends the POST once, and not after `send_by`. `order` is the body of an installation; see install_order().

        Raises Refused, Throttled, Gone, Unavailable (nothing was sent) or OutcomeUnknown.
        """
        what = f"starting an {kind.noun}"
        version = api_version_for(order, self._compute_version, arc=machine.id.is_arc)
        async with self._posted(
            machine.id, f"{kind}Patches", what=what, version=version, body=order, send_by=send_by
        ) as answer:
            self._note_tokens(machine.quota_key, answer.headers)
            answer.raise_for_status()
            return self._accepted(answer, machine.id)

    async def power(self, machine: MachineId, action: Literal["start", "deallocate"], *, send_by: datetime) -> None:
        """Starts or deallocates a machine: sends the POST once, and not after `send_by`.

        Both leave alone a machine that is as they would make it. Raises the same exceptions as start().
        """
        what = "starting a machine" if action == "start" else "deallocating a machine"
        async with self._posted(machine, action, what=what, version=self._compute_version, send_by=send_by) as answer:
            answer.raise_for_status()
            if answer.status_code not in (200, 202):
                raise OutcomeUnknown(f"{what}: Azure answers {answer.status_code}")

    @asynccontextmanager
    async def _posted(
        self, machine: MachineId, action: str, *, what: str, version: str, body: Json | None = None, send_by: datetime
    ) -> AsyncIterator[AsyncHttpResponse]:
        """The answer to a POST to a machine, which is sent once, and not after `send_by`.

        Past the client's methods begin_…(): they make a poller, which the app would never ask, of each answer.
        """
        from azure.core.rest import HttpRequest

        request = HttpRequest("POST", f"{self._endpoint}{_url(machine)}/{action}?api-version={version}", json=body)
        async with self._session.call(what, starts_something=True), asyncio.timeout(SEND_SECONDS):
            if self._session.clock() > send_by:
                raise Unavailable(f"{what}: it could not be sent in time")
            yield await self._send(machine, request)

    async def outcome(self, machine: MachineId, url: str) -> Outcome:
        """Reads the status of an operation. Raises Gone when Azure no longer knows it, or does not say how it ended."""
        what = "reading an operation's status"
        operation_id = self.operation_id(url)
        if _gives_result_alone(url):
            return await self._bare_outcome(machine, url, what)
        body = await self._get(machine, url, what)
        if str(body.get("name") or operation_id).lower() != operation_id:
            raise Unavailable(f"{what}: the answer is about another operation")
        status = _status(body.get("status"))
        if not status:
            raise Unavailable(f"{what}: the answer has no status")
        return Outcome(status, result_of(body))

    async def _bare_outcome(self, machine: MachineId, url: str, what: str) -> Outcome:
        """From the URL of a `Location` header: 202 while it runs, then the bare result, or an error if it failed."""
        try:
            status, body = await self._read(machine, url, what)
        except Refused as error:
            raise Gone(f"{what}: Azure answers {error.status} in its place") from None
        if status == 202:
            return Outcome("InProgress", {})
        if not isinstance(body, Mapping) or not _status(body.get("status")):
            raise Gone(f"{what}: the answer says nothing of how it ended")
        # That of an Arc-enabled server has its error under another name (azure-mgmt-hybridcompute: errorDetails).
        details = body.get("errorDetails")
        return Outcome("Succeeded", {"error": details, **body} if isinstance(details, Mapping) else body)

    def operation_id(self, url: str) -> str:
        """The GUID in an operation URL. Raises BadInput for any other URL, because our token may go only to ARM."""
        match = None
        if url.isascii() and url.isprintable() and not set(url) & set(" #"):  # urlsplit drops line breaks silently
            with suppress(ValueError):  # a host with unbalanced brackets
                parts = urlsplit(url)
                if (parts.scheme, parts.netloc.lower()) == self._host:
                    match = _OPERATION_PATH.fullmatch(parts.path)
        if not match:
            raise BadInput("an operation URL is not one of ARM's; it is not called")
        return match["id"].lower()

    def bucket_is_low(self, bucket: tuple[str, str]) -> bool:
        """Whether less than a quarter of the patch quota is left, according to the last answer to this process."""
        return self._left.get(bucket, BUCKET_CAPACITY) < BUCKET_CAPACITY / 4

    async def _get(self, of: MachineId | str, url: str, what: str, *, api_version: str = "") -> Json:
        """The JSON object at `url`. `api_version` is "" where the URL names its own. `of`: see _client()."""
        _, body = await self._read(of, url, what, api_version=api_version)
        if not isinstance(body, Mapping):
            raise Unavailable(f"{what}: the answer is not a JSON object")
        return body

    async def _read(self, of: MachineId | str, url: str, what: str, *, api_version: str = "") -> tuple[int, object]:
        """The status and the JSON at `url`; None where the answer has no body."""
        from azure.core.rest import HttpRequest

        params = {"api-version": api_version} if api_version else {}
        url = f"{self._endpoint}{url}" if url.startswith("/") else url
        async with self._session.call(what):
            answer = await self._send(of, HttpRequest("GET", url, params=params))
            answer.raise_for_status()
            if answer.status_code >= 300:  # a redirect could lead our token to another host
                raise Unavailable(f"{what}: the answer is a redirect ({answer.status_code}); it is not followed")
            return answer.status_code, answer.json() if answer.text() else None

    async def _send(self, of: MachineId | str, request: HttpRequest) -> AsyncHttpResponse:
        """Through the pipeline of the SDK's client but past its send_request(), which copies each request first.

        The request names the whole URL: nothing completes it.
        """
        answer: AsyncHttpResponse = await self._client(of)._client.send_request(request)
        return answer

    def _client(self, of: MachineId | str) -> ComputeManagementClient | HybridComputeManagementClient:
        """The client for a machine, or for a subscription. That of Arc-enabled servers is imported for one of them."""
        subscription, arc = (of.subscription, of.is_arc) if isinstance(of, MachineId) else (of, False)
        if (subscription, arc) not in self._clients:
            self._clients[subscription, arc] = self._connect(subscription, arc=arc)
        return self._clients[subscription, arc]

    def _connect(self, subscription: str, *, arc: bool) -> ComputeManagementClient | HybridComputeManagementClient:
        credential, options = self._session.credential, self._session.arm_options()
        if arc:
            from azure.mgmt.hybridcompute.aio import HybridComputeManagementClient

            return HybridComputeManagementClient(credential, subscription, **options)
        from azure.mgmt.compute.aio import ComputeManagementClient

        return ComputeManagementClient(credential, subscription, **options)

    def _accepted(self, answer: AsyncHttpResponse, machine: MachineId) -> Accepted:
        """The id and URL in a 202. Without them the operation may still run: the sweep finds it on the machine.

        Of an Arc-enabled server only the Location leads to a result (compute_patch_api.json: final_state_via).
        """
        names = ("location",) if machine.is_arc else ("azure-asyncoperation", "location")
        for name in names if answer.status_code in (200, 202) else ():
            url = answer.headers.get(name) or ""
            with suppress(BadInput):
                return Accepted(self.operation_id(url), url)
        raise OutcomeUnknown("Azure's answer to the POST names no operation")

    def _note_tokens(self, bucket: tuple[str, str], headers: Mapping[str, str]) -> None:
        for part in (headers.get("x-ms-ratelimit-remaining-resource") or "").split(","):
            match = _TOKENS_LEFT.fullmatch(part)
            if match and match[1].endswith(PATCH_BUCKET):
                self._left[bucket] = int(match[2])


def _url(machine: MachineId) -> str:
    """A machine as the interface spells it."""
    group = f"/subscriptions/{machine.subscription}/resourceGroups/{machine.group}"
    provider = "Microsoft.HybridCompute/machines" if machine.is_arc else "Microsoft.Compute/virtualMachines"
    return f"{group}/providers/{provider}/{machine.name}"


def _gives_result_alone(url: str) -> bool:
    parts = urlsplit(url)
    match = _OPERATION_PATH.fullmatch(parts.path)
    return parse_qs(parts.query).get("monitor") == ["true"] or bool(match and match["arc"])


def api_version_for(order: Json | None, compute_version: str, *, arc: bool = False) -> str:
    """The version of the settings, or the oldest later one that knows all of this order (None: an assessment)."""
    windows = (order or {}).get("windowsParameters") or {}
    masks = any("NameMasks" in name for name in windows)
    if arc:
        return ARC_NAME_MASKS_API_VERSION if masks else ARC_API_VERSION
    return max(compute_version, NAME_MASKS_API_VERSION) if masks else compute_version


def _status(value: object) -> str:
    """A status as Azure writes it; "" for a value that cannot be one."""
    return value if isinstance(value, str) and len(value) <= _MAX_STATUS else ""


def result_of(body: Json) -> Json:
    """The patch result in an operation's status, with the operation's own error where the result has none."""
    properties = body.get("properties")
    output = properties.get("output") if isinstance(properties, Mapping) else None
    result = dict(output) if isinstance(output, Mapping) else {}
    if isinstance(body.get("error"), Mapping):
        result.setdefault("error", body["error"])
    return result


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
    """The body of installPatches.

    Plain JSON, because the SDK's model would write the duration in a form that the Linux guest refuses. Windows takes
    KB numbers apart from name masks, and `published_before`; Linux takes package masks only.

    A mask that Windows cannot take is left out of what is included, and made wider where it excludes: what a person
    excluded stays excluded. Raises BadInput when nothing would be left to include, since that may mean everything.
    """
    parameters: dict[str, object] = {"classificationsToInclude": list(classifications)}
    if windows:
        include = tuple(name for name in include if is_windows_name(name))
        exclude = tuple(name if is_windows_name(name) else _NOT_IN_MASKS.sub("?", name) for name in exclude)
    if not (classifications or include):
        raise BadInput(
            "no classification and no package of this system is to be installed; widen PATCH_CLASSIFICATIONS"
        )
    if windows:
        parameters["kbNumbersToInclude"], parameters["patchNameMasksToInclude"] = _kb_numbers_and_masks(include)
        parameters["kbNumbersToExclude"], parameters["patchNameMasksToExclude"] = _kb_numbers_and_masks(exclude)
        parameters["maxPatchPublishDate"] = published_before and published_before.isoformat()
    else:
        parameters["packageNameMasksToInclude"] = list(include)
        parameters["packageNameMasksToExclude"] = list(exclude)
    return {
        "maximumDuration": _duration(minutes),
        "rebootSetting": reboot,
        "windowsParameters" if windows else "linuxParameters": {
            name: value for name, value in parameters.items() if value
        },
    }


def _kb_numbers_and_masks(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Separates KB numbers ("KB5031364" or "5031364") from name masks."""
    numbers = [match[1] for name in names if (match := KB_NUMBER.fullmatch(name))]
    return numbers, [name for name in names if not KB_NUMBER.fullmatch(name)]


def _duration(minutes: int) -> str:
    """ISO 8601 in hours and minutes, without days: PT3H, PT1H30M."""
    hours, rest = divmod(minutes, 60)
    return f"PT{hours}H{rest}M" if rest else f"PT{hours}H"
