"""The dictionary of Azure's answers: one row for every entry, through the SDK's own exceptions where one is raised.

Factors: where an error appears (refusal, wrapped or flat; the result of a run), status, code, fragment; what looks like
an error and is none; and what becomes of a call that never left, or of an answer that never came.
"""

import json
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from azure.core import exceptions as sdk
from azure.core.rest import HttpRequest

from functions.cloud.errors import CloudError, Gone, OutcomeUnknown, Refused, Throttled, Unavailable
from functions.cloud.translation import (
    DEFAULT_RETRY_AFTER_SECONDS,
    MAX_RETRY_AFTER_SECONDS,
    retry_after_seconds,
    translate,
)
from functions.decisions.diagnosis import (
    OUTCOMES,
    REFUSALS,
    UNMATCHED,
    Meaning,
    meaning_of_outcome,
    meaning_of_refusal,
    real_errors,
)
from functions.model.state import Cause
from tests.support import PAYLOADS

CATALOGUE = json.loads((PAYLOADS / "compute_error_messages.json").read_text())["errors"]
THROTTLED = json.loads((PAYLOADS / "compute_429_doc_sample.json").read_text())
RECORDED_RESULT = json.loads((PAYLOADS / "recorded_vm_installPatches_linux_LRO.json").read_text())


class Answer:
    """As much of an HTTP response as HttpResponseError reads."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self.status_code, self.reason, self.headers = status, "reason", headers or {}
        self.request = HttpRequest("POST", "https://management.azure.com/subscriptions/x?sig=secret")
        self.content_type = "application/json"
        self._text = body if isinstance(body, str) else json.dumps(body)

    def text(self, encoding: str | None = None) -> str:
        return self._text

    def body(self) -> bytes:
        return self._text.encode()


# The exceptions that azure-mgmt-compute raises by status (its error_map); all others are HttpResponseError.
RAISED: dict[int, type[sdk.HttpResponseError]] = {
    401: sdk.ClientAuthenticationError,
    404: sdk.ResourceNotFoundError,
    409: sdk.ResourceExistsError,
    304: sdk.ResourceNotModifiedError,
}


def answered(status: int, body: Any, headers: dict[str, str] | None = None) -> sdk.HttpResponseError:
    # `Any`: the stand-in for a response has what the exception reads, and not the whole protocol.
    response: Any = Answer(status, body, headers)
    return RAISED.get(status, sdk.HttpResponseError)(response=response)


def wrapped(code: str, message: str, details: list[dict[str, str]] | None = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": details or []}}


def ours(error: Exception, *, starts: bool = True) -> CloudError:
    found = translate(error, "starting an assessment", starts_something=starts)
    assert isinstance(found, CloudError)
    assert str(found).isprintable()
    assert "sig=" not in str(found)
    assert "management.azure.com" not in str(found)
    return found


def refused(status: int, body: Any) -> Refused:
    found = ours(answered(status, body))
    assert isinstance(found, Refused)
    return found


# -- refusals: one row for each entry: status, code, message, cause, what the meaning says

OTHER = "Operation 'Assess' is not allowed on VM 'vm-01' since "
ROWS: list[tuple[int, str, str, Cause, str]] = [
    (403, "AuthorizationFailed", "The client 'c' does not have authorization", Cause.OWNER, "identity may not do this"),
    (403, "DenyAssignmentAuthorizationFailed", "denied", Cause.OWNER, "deny assignment"),
    (403, "RequestDisallowedByPolicy", "Resource was disallowed by policy.", Cause.OWNER, "Azure Policy"),
    (409, "ScopeLocked", "The scope is locked.", Cause.OWNER, "ReadOnly lock"),
    (409, "ReadOnlyDisabledSubscription", "read-only", Cause.OWNER, "subscription is disabled"),
    (409, "MissingSubscriptionRegistration", "not registered", Cause.OWNER, "not registered"),
    (409, "OperationNotAllowed", f"{OTHER}another operation is in progress.", Cause.CONFLICT, "another operation"),
    (
        409,
        "OperationNotAllowed",
        "An ongoing operation is changing power state of Virtual Machine vm-01 to off.",
        Cause.CONFLICT,
        "power state is changing",
    ),
    (
        409,
        "OperationNotAllowed",
        f"{OTHER}the VM is either deallocated or marked to be deallocated.",
        Cause.OWNER,
        "not running",
    ),
    (409, "OperationNotAllowed", "The operation requires the VM to be running.", Cause.OWNER, "not running"),
    (
        409,
        "OperationNotAllowed",
        "Cannot modify extensions in the VM when the VM is not running.",
        Cause.OWNER,
        "not running",
    ),
    (409, "OperationNotAllowed", f"{OTHER}VM has extension 'mon' in failed state.", Cause.OWNER, "failed state"),
    (409, "OperationNotAllowed", f"{OTHER}the VM is marked for deletion.", Cause.NEVER, "being deleted"),
    (409, "OperationNotAllowed", f"{OTHER}the VM is generalized.", Cause.NEVER, "generalized"),
    (400, "OperationNotAllowed", "The type is reserved for internal use.", Cause.OWNER, "installed by hand"),
    (409, "VMAgentStatusCommunicationError", "VM has not reported status.", Cause.OWNER, "agent has not reported"),
    (409, "OSProvisioningClientError", "the guest OS is currently being provisioned.", Cause.TRANSIENT, "provisioned"),
    (409, "ResourceUpdateBlockedOnPlatformUpdate", "ongoing platform update", Cause.TRANSIENT, "platform update"),
    (400, "InvalidParameter", "The selected VM image is not supported for VM Guest patch.", Cause.NEVER, "this image"),
    (
        400,
        "Whatever",
        "with CPU Architecture 'arm64' was not found in the extension repository",
        Cause.NEVER,
        "arm64",
    ),
    (409, "Whatever", "An internal execution error occurred. Please retry later.", Cause.TRANSIENT, "internal error"),
    (403, "Whatever", "no", Cause.OWNER, "identity may not do this"),
    (409, "Conflict", "The request conflicts.", Cause.CONFLICT, "another operation"),
]


def meaning(found: Refused) -> Meaning:
    return meaning_of_refusal(found.status, found.codes, found.message)


def test_every_entry_of_the_dictionary_has_its_row() -> None:
    met = [
        next(signal for signal in REFUSALS if signal.matches(status, [code], message))
        for status, code, message, _, _ in ROWS
    ]
    assert met == list(REFUSALS)


@pytest.mark.parametrize("shape", ["wrapped", "flat"])
@pytest.mark.parametrize(("status", "code", "message", "cause", "says"), ROWS)
def test_refusals(status: int, code: str, message: str, cause: Cause, says: str, shape: str) -> None:
    body = wrapped(code, message) if shape == "wrapped" else {"code": code, "message": message}
    found = refused(status, body)
    assert (meaning(found).cause, found.status, found.code) == (cause, status, code)
    assert says in meaning(found).text
    assert found.message == ("" if status == 403 else message)
    assert str(found) == f"starting an assessment: Azure refused it ({status} {code})"


@pytest.mark.parametrize("entry", [e for e in CATALOGUE if not e["code"].startswith("(")], ids=lambda e: e["message"])
def test_every_published_text_is_known(entry: dict[str, str]) -> None:
    text = entry["message"].replace("{0}", "Assess").replace("{1}", "vm-01").replace("{2}", "mon")
    assert meaning_of_refusal(409, [entry["code"]], text) is not UNMATCHED
    assert meaning_of_refusal(409, [entry["code"]], text.upper()) is not UNMATCHED


def test_the_code_may_stand_in_the_details() -> None:
    found = refused(409, wrapped("Outer", "no", [{"code": "ScopeLocked", "message": "locked", "target": "t"}]))
    assert (found.code, meaning(found).text) == ("Outer", "a ReadOnly lock blocks it")


def test_a_refusal_that_nobody_knows_is_its_owners_with_azures_own_words() -> None:
    found = refused(400, wrapped("NeverSeenBefore", "The moon is in the wrong house."))
    assert meaning(found) is UNMATCHED
    assert (found.code, found.message) == ("NeverSeenBefore", "The moon is in the wrong house.")
    assert meaning(found).cause is Cause.OWNER


def test_the_caller_is_not_named_in_what_is_kept() -> None:
    """The text of a 401 or 403 names the object id of whoever called."""
    body = wrapped("AuthorizationFailed", "The client '11111111' with object id '2222' has no right")
    found = refused(403, body)
    assert found.message == ""
    for status in (401, 403):
        assert "2222" not in str(ours(answered(status, body)))


@pytest.mark.parametrize("body", ["", "<html>proxy</html>", "null", "[]", '{"error": "text"}', '{"error": null}'])
def test_a_refusal_without_a_body_that_can_be_read(body: str) -> None:
    found = refused(400, body)
    assert meaning(found) is UNMATCHED
    assert found.status == 400


def test_only_two_meanings_are_the_verdict_unsupported() -> None:
    assert {signal.meaning.text for signal in REFUSALS if signal.meaning.unsupported} == {
        "Azure cannot patch this image",
        "there is no patch extension for this arm64 image",
    }


def test_no_refusal_is_the_fault_of_patches_that_were_never_installed() -> None:
    assert not [signal for signal in REFUSALS if signal.meaning.patches]


def _meanings() -> list[Meaning]:
    return [signal.meaning for signal in (*REFUSALS, *OUTCOMES)] + [UNMATCHED]


def test_what_belongs_to_an_owner_has_a_remedy() -> None:
    for meaning in _meanings():
        assert meaning.text, meaning
        if meaning.cause is Cause.OWNER:
            assert meaning.remedy.endswith("."), meaning


# -- the other answers


def test_429_is_never_the_machines_failure() -> None:
    """Compute says OperationNotAllowed for it too: the status decides, before any code."""
    found = ours(answered(429, THROTTLED["body"], {"Retry-After": THROTTLED["headers"]["Retry-After"]}))
    assert isinstance(found, Throttled)
    assert found.retry_after_seconds == 1200


RETRY_AFTER: dict[str, tuple[dict[str, str], float]] = {
    "seconds": ({"Retry-After": "17"}, 17),
    "Resource Graph's own header": ({"x-ms-user-quota-resets-after": "00:01:05"}, 65),
    "hours": ({"x-ms-user-quota-resets-after": "02:00:00"}, 7200),
    "with a fraction": ({"x-ms-user-quota-resets-after": "00:00:03.5"}, 3.5),
    "seconds win": ({"Retry-After": "2", "x-ms-user-quota-resets-after": "01:00:00"}, 2),
    "none": ({}, DEFAULT_RETRY_AFTER_SECONDS),
    "a date": ({"Retry-After": "Wed, 25 Nov 2026 12:00:00 GMT"}, DEFAULT_RETRY_AFTER_SECONDS),
    "negative": ({"Retry-After": "-5"}, DEFAULT_RETRY_AFTER_SECONDS),
    "no number": ({"Retry-After": "²"}, DEFAULT_RETRY_AFTER_SECONDS),
    "for ever": ({"Retry-After": "9" * 400}, MAX_RETRY_AFTER_SECONDS),
    "half a time": ({"x-ms-user-quota-resets-after": "00:05"}, DEFAULT_RETRY_AFTER_SECONDS),
}


@pytest.mark.parametrize(("headers", "seconds"), RETRY_AFTER.values(), ids=RETRY_AFTER)
def test_how_long_to_wait(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_seconds(headers) == seconds


def test_a_429_without_its_response_waits_the_default() -> None:
    error = sdk.HttpResponseError("too many requests")
    error.status_code = 429
    found = ours(error)
    assert isinstance(found, Throttled)
    assert found.retry_after_seconds == DEFAULT_RETRY_AFTER_SECONDS


def decode_error(status: int) -> sdk.DecodeError:
    response: Any = Answer(status, "<html>")
    return sdk.DecodeError("JSON is invalid", response=response)


def unsent(inner: Exception) -> sdk.ServiceRequestError:
    """As azure-core's aiohttp transport raises every error of a connection, sent or not."""
    return sdk.ServiceRequestError(inner, error=inner)


KEY: Any = SimpleNamespace(host="management.azure.com", port=443, ssl=True, is_ssl=True)

# error → what it is for a call that starts something, and for a read
FATES: dict[str, tuple[Exception, type[CloudError], type[CloudError]]] = {
    "404": (answered(404, wrapped("ResourceNotFound", "no")), Gone, Gone),
    "408": (answered(408, ""), OutcomeUnknown, Unavailable),
    "500": (answered(500, wrapped("InternalServerError", "oops")), OutcomeUnknown, Unavailable),
    "503 as HTML": (answered(503, "<html>"), OutcomeUnknown, Unavailable),
    "504": (answered(504, wrapped("GatewayTimeout", "late")), OutcomeUnknown, Unavailable),
    "404 of the group": (answered(404, wrapped("ResourceGroupNotFound", "no")), Gone, Gone),
    "429 of Resource Manager itself": (
        answered(429, wrapped("SubscriptionRequestsThrottled", "")),
        Throttled,
        Throttled,
    ),
    "429 without a word": (answered(429, ""), Throttled, Throttled),
    "no answer": (sdk.ServiceResponseError("connection reset"), OutcomeUnknown, Unavailable),
    "no answer in time": (sdk.ServiceResponseTimeoutError("timeout"), OutcomeUnknown, Unavailable),
    "our own time-out": (TimeoutError(), OutcomeUnknown, Unavailable),
    "an answer cut off": (sdk.IncompleteReadError("incomplete"), OutcomeUnknown, Unavailable),
    "a success that is no JSON": (json.JSONDecodeError("no", "<html>", 0), OutcomeUnknown, Unavailable),
    "a success the SDK cannot read": (decode_error(202), OutcomeUnknown, Unavailable),
    "a success the SDK did not expect": (answered(204, ""), OutcomeUnknown, Unavailable),
    "never connected": (unsent(aiohttp.ClientConnectorError(KEY, OSError("refused"))), Unavailable, Unavailable),
    "never resolved": (unsent(aiohttp.ClientConnectorDNSError(KEY, OSError("no name"))), Unavailable, Unavailable),
    "never connected in time": (unsent(aiohttp.ConnectionTimeoutError()), Unavailable, Unavailable),
    "lost after it was sent": (unsent(aiohttp.ServerDisconnectedError()), OutcomeUnknown, Unavailable),
    "reset after it was sent": (unsent(aiohttp.ClientOSError(104, "reset")), OutcomeUnknown, Unavailable),
    "not sent, and nothing says why": (sdk.ServiceRequestError("?"), OutcomeUnknown, Unavailable),
    "401: the app's own trouble": (answered(401, wrapped("InvalidToken", "expired")), Unavailable, Unavailable),
    "401 by an SDK that has no word for it": (
        sdk.HttpResponseError(response=answered(401, "").response),
        Unavailable,
        Unavailable,
    ),
    "no token": (sdk.ClientAuthenticationError("no managed identity endpoint"), Unavailable, Unavailable),
    "the identity's own answer": (
        sdk.ClientAuthenticationError("bad", response=answered(400, "{}").response),
        Unavailable,
        Unavailable,
    ),
}


@pytest.mark.parametrize(("error", "starting", "reading"), FATES.values(), ids=FATES)
def test_what_is_known_after_an_error(error: Exception, starting: type[CloudError], reading: type[CloudError]) -> None:
    assert type(ours(error)) is starting
    assert type(ours(error, starts=False)) is reading


def test_a_defect_of_ours_is_not_dressed_up_as_one_of_azures() -> None:
    defect = KeyError("etag")
    assert translate(defect, "anything") is defect


# -- how a run ended

# what it reads, who ends the trouble, whether the patches or the image are at fault, what the meaning says
RUN_ROWS: list[tuple[str, Cause, bool, str]] = [
    ("NEWER_OPERATION_SUPERSEDED", Cause.CONFLICT, False, "a newer operation"),
    ("Stopped: newer operation taking precedence", Cause.CONFLICT, False, "a newer operation"),
    ("ShutdownOrUnresponsive", Cause.OWNER, False, "off or its agent"),
    ("AllowExtensionOperations=false on the VM", Cause.OWNER, False, "extensions are forbidden"),
    ("MaintenanceWindowExceeded", Cause.TRANSIENT, False, "the time ran out"),
    ("[RM] Insufficient time to schedule a required reboot.", Cause.TRANSIENT, False, "the time ran out"),
    ("Sudo status check failed. Please ensure the computer is configured correctly", Cause.OWNER, False, "sudo"),
    ("Unable to invoke sudo", Cause.OWNER, False, "sudo"),
    ("PACKAGE_MANAGER_FAILURE: run 'sudo dpkg --configure -a'", Cause.OWNER, True, "package manager"),
    ("Unsupported older Azure Linux Agent version", Cause.OWNER, True, "too old"),
    ("Provisioning failed with WALinuxAgent-2.12.0.4", Cause.OWNER, True, "a known bad build"),
    ("Reboot failed to proceed on the machine in a timely manner", Cause.TRANSIENT, False, "reboot"),
    ("HRESULT 0x8024402C", Cause.OWNER, False, "does not reach its source"),
    ("HRESULT 0x8024401C", Cause.OWNER, False, "does not reach its source"),
    ("HRESULT 0x8024402F", Cause.OWNER, False, "does not reach its source"),
    ("HRESULT 0x80072EE2", Cause.OWNER, False, "does not reach its source"),
    ("HRESULT 0x8024001E", Cause.TRANSIENT, False, "shutting down"),
    ("HRESULT 0x8024002E", Cause.OWNER, False, "Windows Update is disabled"),
    ("HRESULT 0x80070422", Cause.OWNER, False, "Windows Update is disabled"),
    ("HRESULT 0x80070005", Cause.OWNER, False, "disk C: is full"),
    ("OPERATION_FAILED", Cause.TRANSIENT, True, "the patch extension failed"),
]


def test_every_entry_about_a_run_has_its_row() -> None:
    met = [next(signal for signal in OUTCOMES if signal.matches(0, [], text)) for text, *_ in RUN_ROWS]
    assert met == list(OUTCOMES)


@pytest.mark.parametrize("status", ["Failed", "Succeeded", "CompletedWithWarnings"])
@pytest.mark.parametrize(("text", "cause", "at_fault", "says"), RUN_ROWS)
def test_how_a_run_ended(text: str, cause: Cause, at_fault: bool, says: str, status: str) -> None:
    """A failure can hide behind a status of success: the details decide. The most telling of several codes counts."""
    details = [{"code": "OPERATION_FAILED", "message": text}]
    meaning = meaning_of_outcome(status, {"code": "1", "message": "1 error/s reported.", "details": details})
    assert meaning is not None
    assert (meaning.cause, meaning.patches) == (cause, at_fault)
    assert says in meaning.text
    assert not meaning.unsupported
    by_code = meaning_of_outcome(status, {"code": "1", "details": [{"code": text, "message": ""}]})
    assert by_code == meaning
    assert meaning_of_outcome(status, {"code": "1", "details": [{"code": text.upper(), "message": ""}]}) == meaning


# An installation's own fields, where its error names nothing: status, fields, what it says ("" for nothing), at fault
FIELDS: dict[str, tuple[str, dict[str, Any], str, bool]] = {
    "patches failed": ("Failed", {"failedPatchCount": 2}, "some patches failed", True),
    "patches failed, and the time ran out": (
        "Failed",
        {"failedPatchCount": 1, "maintenanceWindowExceeded": True},
        "some patches failed",
        True,
    ),
    "the time ran out": (
        "Failed",
        {"failedPatchCount": 0, "maintenanceWindowExceeded": True},
        "the time ran out",
        False,
    ),
    "the time ran out, with warnings": (
        "CompletedWithWarnings",
        {"maintenanceWindowExceeded": True},
        "the time ran out",
        False,
    ),
    "the reboot failed": ("Succeeded", {"rebootStatus": "Failed"}, "the reboot was slow or failed", False),
    "failed, and nothing says why": ("Failed", {"failedPatchCount": 0}, "it ended Failed", True),
    "failed, of an operation whose answer is gone": ("Failed", {}, "it ended Failed", True),
    "no verdict": ("Unknown", {"failedPatchCount": 0}, "it ended Unknown", False),
    "canceled": ("Canceled", {}, "it ended Canceled", False),
    "installed, a reboot is required": ("Succeeded", {"rebootStatus": "Required"}, "", False),
    "installed, the reboot is on its way": ("Succeeded", {"rebootStatus": "Started"}, "", False),
    "installed, nothing to reboot for": ("Succeeded", {"rebootStatus": "NotNeeded"}, "", False),
    "others pending, excluded or not selected": (
        "Succeeded",
        {"pendingPatchCount": 3, "excludedPatchCount": 2, "notSelectedPatchCount": 9, "failedPatchCount": 0},
        "",
        False,
    ),
    "warnings alone": ("CompletedWithWarnings", {"maintenanceWindowExceeded": False, "rebootStatus": None}, "", False),
    "fields that are no fields": (
        "Succeeded",
        {"failedPatchCount": "many", "maintenanceWindowExceeded": "yes"},
        "",
        False,
    ),
}


@pytest.mark.parametrize(("status", "fields", "says", "at_fault"), FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize("error", [None, "recorded"])
def test_what_an_installations_fields_tell(
    status: str, fields: dict[str, Any], says: str, at_fault: bool, error: str | None
) -> None:
    harmless = HARMLESS["recorded with every success"] if error else None
    meaning = meaning_of_outcome(status, harmless, fields)
    assert (meaning.text if meaning else "", bool(meaning and meaning.patches)) == (says, at_fault)
    if meaning and meaning.cause is Cause.OWNER:
        assert meaning.remedy


def test_a_named_error_says_more_than_the_fields() -> None:
    error = {"code": "1", "details": [{"code": "NEWER_OPERATION_SUPERSEDED", "message": ""}]}
    meaning = meaning_of_outcome("Failed", error, {"failedPatchCount": 4, "maintenanceWindowExceeded": True})
    assert meaning is not None
    assert (meaning.cause, meaning.patches) == (Cause.CONFLICT, False)


HARMLESS: dict[str, Any] = {
    "none": None,
    "nothing": {},
    "recorded with every success": RECORDED_RESULT["final_GET_location_body"]["error"],
    "Success": {"code": "Success", "message": "", "details": []},
    "nulls": {"code": None, "message": None, "details": None},
    "Ubuntu Pro": {"code": "1", "message": "1 error/s reported.", "details": [{"code": "UA_ESM_REQUIRED"}]},
    "a cut list": {"code": "2", "message": "2 error/s reported.", "details": [{"code": "PACKAGE_LIST_TRUNCATED"}]},
    "more warnings than a top-level code was seen for": {"code": "7", "details": [{"code": "UA_ESM_REQUIRED"}]},
    "no object": "an error",
    "details that are none": {"code": "0", "details": 7},
    "details as text": {"code": "0", "details": "text"},
    "details of junk": {"code": "0", "details": [None, 7, "x"]},
}


@pytest.mark.parametrize("error", HARMLESS.values(), ids=HARMLESS)
def test_what_looks_like_an_error_and_is_none(error: Any) -> None:
    assert meaning_of_outcome("Succeeded", error) is None
    assert meaning_of_outcome("CompletedWithWarnings", error) is None
    assert real_errors(error) == ((), ())


@pytest.mark.parametrize("status", ["Failed", "Unknown", "Canceled", ""])
def test_a_bad_end_without_a_known_signal_passes_by_itself(status: str) -> None:
    meaning = meaning_of_outcome(status, HARMLESS["recorded with every success"])
    assert meaning is not None
    assert meaning.cause is Cause.TRANSIENT
    assert meaning.remedy


def test_codes_and_messages_are_kept_for_the_log_without_the_harmless_ones() -> None:
    details = [
        {"code": "UA_ESM_REQUIRED", "message": "pro"},
        {"code": "PACKAGE_MANAGER_FAILURE", "message": "rc 100"},
        {"code": "OPERATION_FAILED", "message": "failed"},
    ]
    assert real_errors({"code": "1", "message": "3 error/s", "details": details}) == (
        ("PACKAGE_MANAGER_FAILURE", "OPERATION_FAILED"),
        ("rc 100", "failed"),
    )
    assert real_errors({"code": "Broken", "message": "alone"}) == (("Broken",), ("alone",))
    assert real_errors({"code": "Broken"}) == (("Broken",), ("",))
    assert real_errors({"code": "1", "details": [{"code": "X", "message": None}]}) == (("X",), ("",))
