"""The dictionary of Azure's answers, held against recorded ones, through the SDK's own exceptions where one is raised.

Factors: where an error appears (refusal, wrapped or flat; the result of a run), status, code, fragment; what looks like
an error and is none; and what becomes of a call that never left, or of an answer that never came.
"""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from azure.core import exceptions as sdk
from azure.core.rest import HttpRequest

from functions.cloud.arm import result_of
from functions.cloud.errors import CloudError, Gone, OutcomeUnknown, Refused, Throttled, Unavailable
from functions.cloud.translation import (
    DEFAULT_RETRY_AFTER_SECONDS,
    MAX_RETRY_AFTER_SECONDS,
    retry_after_seconds,
    translate,
)
from functions.decisions.diagnosis import (
    SIGNALS,
    UNMATCHED,
    VAGUE,
    Meaning,
    Signal,
    apart,
    is_unfinished,
    meaning_of_outcome,
    meaning_of_refusal,
    naming_patches,
    real_errors,
)
from functions.model.patches import TriedPatch
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


# -- the judge: every answer of Azure's in operation_errors.json, as a refusal or as an ending

JUDGED = json.loads((PAYLOADS / "operation_errors.json").read_text())["records"]
CAUSES = {
    "transient": {Cause.TRANSIENT},
    "conflict": {Cause.CONFLICT},
    "owner": {Cause.OWNER},
    "never": {Cause.NEVER},
    "unsupported image": {Cause.NEVER},
    "app fault": {Cause.TRANSIENT},
}


def causes(record: dict[str, Any]) -> set[Cause]:
    """A deletion is "never" while it lasts: the record says to wait for it, and a week is not such a wait."""
    return {Cause.CONFLICT} if record["code"] == "ResourceGroupBeingDeleted" else CAUSES[record["class"]]


def judged(where: str) -> dict[str, dict[str, Any]]:
    return {f"{each['id']} {each['code']}": each for each in JUDGED if each["where"] == where}


REFUSED, ENDED = judged("post"), judged("operation") | judged("result")


# code of the refusal → what its reason and its remedy name (arm_common.json, documented codes; Azure/azure-cli#14964)
UNREGISTERED = {
    "MissingSubscriptionRegistration": ("provider", "Microsoft.Compute"),
    "MissingRegistrationForLocation": ("provider", "Microsoft.Compute"),
    "InvalidSubscriptionRegistrationState": ("provider", "Microsoft.Compute"),
    "SubscriptionNotRegisteredForFeature": ("preview feature", "the feature that Azure's message names"),
    "SubscriptionNotRegistered": ("subscription", "InGuestPatchVMPreview"),
}


@pytest.mark.parametrize(("code", "named"), UNREGISTERED.items(), ids=UNREGISTERED)
def test_a_refusal_for_lack_of_a_registration_says_what_to_register(code: str, named: tuple[str, str]) -> None:
    known = meaning(refused(409, wrapped(code, "Subscription is not registered.")))
    assert (known.cause, known.unsupported) == (Cause.OWNER, False)
    assert named[0] in known.text
    assert "not registered" in known.text
    assert named[1] in known.remedy


def test_no_record_is_left_out() -> None:
    assert len(REFUSED) + len(ENDED) == len(JUDGED)


@pytest.mark.parametrize("record", REFUSED.values(), ids=REFUSED)
def test_a_refusal_means_what_the_judge_says(record: dict[str, Any]) -> None:
    status = record["http_status"]
    found = ours(answered(status, record["body"]))
    if status == 429:
        assert isinstance(found, Throttled)
    elif status == 404 and record["class"] == "never":
        assert isinstance(found, Gone)
    elif status == 401:  # asked again with a new token, and not the machine's failure
        assert isinstance(found, Unavailable)
    elif status >= 500 or status == 408:
        assert isinstance(found, OutcomeUnknown), "look at the machine before sending again"
    else:
        assert isinstance(found, Refused)
        known = meaning(found)
        assert known.cause in causes(record)
        assert known.app == (record["class"] == "app fault")
        assert known.unsupported == (record["class"] == "unsupported image")
        assert not known.patches


@pytest.mark.parametrize("status", [401, 403])
def test_the_token_of_another_tenant_is_reported_whatever_its_status(status: int) -> None:
    """The record is sure of the code, and not of the status: Resource Manager's own 401 has the code, too."""
    (record,) = (each for each in REFUSED.values() if each["code"] == "InvalidAuthenticationTokenTenant")
    assert record["certain"]
    assert not record["status_certain"]
    for starts in (True, False):
        found = ours(answered(status, record["body"]), starts=starts)
        assert isinstance(found, Refused)
        assert found.message == "", "it names the caller's tenant"
        known = meaning(found)
        assert known.app
        assert known.cause in CAUSES[record["class"]]
        assert "tenant" in known.remedy


@pytest.mark.parametrize("record", ENDED.values(), ids=ENDED)
def test_an_ending_means_what_the_judge_says(record: dict[str, Any]) -> None:
    """Read from the answer as the app reads it: the patch result first, then the operation's own error."""
    result = result_of(record["body"])
    status = result.get("status") or record["operation_status"]
    known = meaning_of_outcome(status, result.get("error"), result)
    assert known is not None
    assert known.cause in CAUSES[record["class"]]
    assert known.patches == record["patches_at_fault"]
    assert known.unsupported == (record["class"] == "unsupported image")


@pytest.mark.parametrize("status", [409, 412, 423])
def test_an_unknown_concurrency_answer_is_never_its_owners_at_first_sight(status: int) -> None:
    assert meaning(refused(status, wrapped("NeverSeenBefore", "no"))).cause in (Cause.TRANSIENT, Cause.CONFLICT)


def test_what_others_saw_of_two_writers_at_once_is_a_conflict() -> None:
    text = "The operation was interrupted by a conflicting concurrent write on the same entity. Please retry later."
    assert meaning(refused(409, wrapped("ConflictingConcurrentWriteNotAllowed", text))).cause is Cause.CONFLICT


def meaning(found: Refused) -> Meaning:
    return meaning_of_refusal(found.status, found.codes, found.message)


ANSWERED = {name: each for name, each in REFUSED.items() if each["http_status"] in (400, 403, 409) and each["code"]}


@pytest.mark.parametrize("shape", ["wrapped", "flat"])
@pytest.mark.parametrize("record", ANSWERED.values(), ids=ANSWERED)
def test_refusals_in_both_shapes(record: dict[str, Any], shape: str) -> None:
    status, code, message = record["http_status"], record["code"], record["fragment"]
    found = refused(status, wrapped(code, message) if shape == "wrapped" else {"code": code, "message": message})
    assert (found.status, found.code, found.message) == (status, code, "" if status == 403 else message)
    assert meaning(found).cause in causes(record)
    assert str(found) == f"starting an assessment: Azure refused it ({status} {code})"


@pytest.mark.parametrize("entry", [e for e in CATALOGUE if not e["code"].startswith("(")], ids=lambda e: e["message"])
def test_every_published_text_is_known(entry: dict[str, str]) -> None:
    text = entry["message"].replace("{0}", "Assess").replace("{1}", "vm-01").replace("{2}", "mon")
    known = meaning_of_refusal(409, [entry["code"]], text)
    assert known is not UNMATCHED
    assert meaning_of_refusal(409, [entry["code"]], text.upper()) is known


def test_the_code_may_stand_in_the_details() -> None:
    found = refused(409, wrapped("Outer", "no", [{"code": "ScopeLocked", "message": "locked", "target": "t"}]))
    assert (found.code, meaning(found).text) == ("Outer", "a ReadOnly lock blocks it")


def test_an_unknown_refusal_passes_by_itself_with_azures_own_words() -> None:
    found = refused(400, wrapped("NeverSeenBefore", "The moon is in the wrong house."))
    assert meaning(found) is UNMATCHED
    assert (found.code, found.message) == ("NeverSeenBefore", "The moon is in the wrong house.")
    assert meaning(found).cause is Cause.TRANSIENT


def test_the_caller_is_not_named_in_what_is_kept() -> None:
    """The text of a 401 or 403 names the object id of the caller."""
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


def _meanings() -> list[Meaning]:
    return [signal.meaning for signal in (*SIGNALS, *VAGUE)] + [UNMATCHED]


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
    "longer than any wait": ({"Retry-After": "9" * 400}, MAX_RETRY_AFTER_SECONDS),
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
    "a success that is not JSON": (json.JSONDecodeError("no", "<html>", 0), OutcomeUnknown, Unavailable),
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

# what it reads, who ends the trouble, what the meaning says
RUN_ROWS: list[tuple[str, Cause, str]] = [
    ("NEWER_OPERATION_SUPERSEDED", Cause.CONFLICT, "a newer operation"),
    ("Stopped: newer operation taking precedence", Cause.CONFLICT, "a newer operation"),
    ("ShutdownOrUnresponsive", Cause.OWNER, "off or its agent"),
    ("AllowExtensionOperations=false on the VM", Cause.OWNER, "extensions are forbidden"),
    ("Sudo status check failed. Please ensure the computer is configured correctly", Cause.OWNER, "sudo"),
    ("Unable to invoke sudo", Cause.OWNER, "sudo"),
    ("Package manager on machine is not healthy. To fix: sudo dpkg --configure -a", Cause.OWNER, "is broken"),
    ("Unsupported older Azure Linux Agent version", Cause.OWNER, "too old"),
    ("Provisioning failed with WALinuxAgent-2.12.0.4", Cause.OWNER, "a known bad build"),
    ("Reboot failed to proceed on the machine in a timely manner", Cause.TRANSIENT, "reboot"),
    ("HRESULT 0x80072EE2", Cause.OWNER, "does not reach its source"),
    ("HRESULT 0x80070422", Cause.OWNER, "Windows Update is disabled"),
    ("MaintenanceWindowExceeded", Cause.TRANSIENT, "the time ran out"),
    ("marked as failed because: [X] maintenance window exceeded", Cause.TRANSIENT, "the time ran out"),
    ("[RM] Insufficient time to schedule a required reboot.", Cause.TRANSIENT, "the time ran out"),
    ("Installation failed due to assessment failure.", Cause.TRANSIENT, "the assessment inside it failed"),
    ("PACKAGE_MANAGER_FAILURE: unexpected return code (100)", Cause.TRANSIENT, "package manager"),
    ("OPERATION_FAILED", Cause.TRANSIENT, "the patch extension failed"),
]


# Answers of public reports that the judge has no record of: status, codes, message.
SEEN_ELSEWHERE: list[tuple[int | None, list[str], str]] = [
    (403, ["NeverSeenBefore"], ""),
    (409, ["ConflictingConcurrentWriteNotAllowed"], "Please retry later."),
    (400, ["OperationNotAllowed"], "The type is reserved for internal use."),
    (None, ["InternalExecutionError"], ""),
    (None, ["OPERATION_FAILED"], "Stopped patch installation as it is past the maintenance window cutoff time."),
]


def _examples() -> Iterator[tuple[int | None, list[str], str]]:
    for record in JUDGED:
        error = record["body"].get("error") or result_of(record["body"]).get("error") or record["body"]
        details = [detail["code"] for detail in error.get("details", [])]
        yield record["http_status"], [error.get("code", ""), *details], error["message"]
    yield from ((409, [entry["code"]], entry["message"]) for entry in CATALOGUE)
    yield from ((None, [], text) for text, *_ in RUN_ROWS)
    yield from SEEN_ELSEWHERE
    yield from ((409, [code], "") for code in UNREGISTERED)


@pytest.mark.parametrize("signals", [SIGNALS, VAGUE], ids=["SIGNALS", "VAGUE"])
def test_every_entry_is_the_first_to_match_something_known(signals: tuple[Signal, ...]) -> None:
    met = {next((signal for signal in signals if signal.matches(*each)), None) for each in _examples()}
    assert [signal for signal in signals if signal not in met] == []


def run_error(text: str) -> dict[str, Any]:
    details = [{"code": "OPERATION_FAILED", "message": text}]
    return {"code": "1", "message": "1 error/s reported.", "details": details}


@pytest.mark.parametrize(("text", "cause", "says"), RUN_ROWS)
def test_why_a_run_failed(text: str, cause: Cause, says: str) -> None:
    """The most telling of several codes counts. Without failed patches it says nothing about the patches."""
    meaning = meaning_of_outcome("Failed", run_error(text))
    assert meaning is not None
    assert (meaning.cause, meaning.patches, meaning.unsupported) == (cause, False, False)
    assert says in meaning.text
    by_code = meaning_of_outcome("Failed", {"code": "1", "details": [{"code": text, "message": ""}]})
    assert by_code == meaning
    assert meaning_of_outcome("Failed", {"code": "1", "details": [{"code": text.upper(), "message": ""}]}) == meaning


@pytest.mark.parametrize("status", ["Succeeded", "CompletedWithWarnings"])
@pytest.mark.parametrize("text", [row[0] for row in RUN_ROWS])
def test_a_note_beside_a_success_is_not_a_failure(text: str, status: str) -> None:
    """The guest never clears what it noted on the way: where no patch failed, its status says how it ended."""
    assert meaning_of_outcome(status, run_error(text), {"failedPatchCount": 0, "installedPatchCount": 5}) is None
    assert meaning_of_outcome(status, run_error(text)) is None


# What a guest says beside patches that failed, and what does not take the fault from them.
NO_EXCUSE = (
    "reboot failed to proceed",
    "package manager on machine is not healthy",
    "unsupported older azure linux agent",
    "agent-2.12.0.4",
)


@pytest.mark.parametrize("text", [row[0] for row in RUN_ROWS])
@pytest.mark.parametrize("failed", [0, 3])
def test_only_failed_patches_are_at_fault_and_not_where_something_else_explains_them(text: str, failed: int) -> None:
    vague = [signal.fragment for signal in VAGUE]
    explained = not any(fragment in text.lower() for fragment in (*vague, *NO_EXCUSE))
    meaning = meaning_of_outcome("Failed", {"details": [{"code": text}]}, {"failedPatchCount": failed})
    assert meaning is not None
    assert meaning.patches == (failed > 0 and not explained)


def test_a_package_with_an_agents_number_is_a_package() -> None:
    meaning = meaning_of_outcome("Failed", run_error("libfoo 2.12.0.4-1 failed"), {"failedPatchCount": 3})
    assert meaning is not None
    assert meaning.patches


HISTORIES = json.loads((PAYLOADS / "guest_extension_histories.json").read_text())["histories"]
FINISHED = {
    item["name"]: item for item in HISTORIES if item["operation"] in ("assess", "install") and item["operation_result"]
}
RETRIES = {"transient": Cause.TRANSIENT, "next-window": Cause.TRANSIENT, "owner": Cause.OWNER}


@pytest.mark.parametrize("history", FINISHED.values(), ids=FINISHED)
def test_a_history_of_the_guest_means_what_the_judge_says(history: dict[str, Any]) -> None:
    result, judgement = history["operation_result"], history["judgement"]
    inside = history["snapshots"][-1]["patchStatus"]["availablePatchSummary"].get("error")
    found = meaning_of_outcome(result["status"], result["error"], result, inside=inside)
    reboots = history["order"].get("rebootSetting") != "Never"
    proves = found is None and not is_unfinished(result, reboots=reboots)
    assert proves == (judgement["outcome"] == "succeeded")
    assert bool(found and found.patches) == judgement["patches_at_fault"]
    assert (found and found.cause) == RETRIES.get(judgement["retry"])


# An installation's own fields, where its error names nothing: status, fields, what it says ("" for nothing), at fault
FIELDS: dict[str, tuple[str, dict[str, Any], str, bool]] = {
    "patches failed": ("Failed", {"failedPatchCount": 2}, "some patches failed", True),
    "patches failed, and the time ran out": (
        "Failed",
        {"failedPatchCount": 1, "maintenanceWindowExceeded": True},
        "some patches failed",
        True,
    ),
    "patches failed beside a status of success": (
        "CompletedWithWarnings",
        {"failedPatchCount": 1},
        "some patches failed",
        True,
    ),
    "the time ran out": (
        "Failed",
        {"failedPatchCount": 0, "maintenanceWindowExceeded": True},
        "the time ran out",
        False,
    ),
    "the time ran out, with warnings": ("CompletedWithWarnings", {"maintenanceWindowExceeded": True}, "", False),
    "the reboot failed": ("Failed", {"rebootStatus": "Failed"}, "the reboot was slow or failed", False),
    "installed, and the reboot failed": ("Succeeded", {"rebootStatus": "Failed"}, "", False),
    "failed, and all is in": (
        "Failed",
        {"failedPatchCount": 0, "pendingPatchCount": 0, "installedPatchCount": 5},
        "everything was installed, one patch at the second try",
        False,
    ),
    "failed, and nothing says why": ("Failed", {"failedPatchCount": 0}, "it ended Failed", False),
    "failed, of an operation whose answer is gone": ("Failed", {}, "it ended Failed", False),
    "no verdict": ("Unknown", {"failedPatchCount": 0}, "it ended Unknown", False),
    "canceled": ("Canceled", {}, "it was canceled by a person", False),
    "canceled after everything was in": (
        "Canceled",
        {"installedPatchCount": 3, "failedPatchCount": 0, "pendingPatchCount": 0},
        "it was canceled by a person",
        False,
    ),
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
    "fields that are not fields": (
        "Succeeded",
        {"failedPatchCount": "many", "maintenanceWindowExceeded": "yes"},
        "",
        False,
    ),
}


# What a success left undone: fields, whether the order allowed a reboot, whether it proves its image
PROOFS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "nothing": ({"rebootStatus": "NotNeeded", "maintenanceWindowExceeded": False}, True, True),
    "rebooted": ({"rebootStatus": "Completed"}, True, True),
    "a reboot is still wanted": ({"rebootStatus": "Required"}, True, False),
    "a reboot is still wanted, as ordered": ({"rebootStatus": "Required"}, False, True),
    "the reboot failed": ({"rebootStatus": "Failed"}, True, False),
    "the time ran out": ({"maintenanceWindowExceeded": True}, True, False),
    "nothing is known": ({}, True, True),
}


@pytest.mark.parametrize(("fields", "reboots", "proves"), PROOFS.values(), ids=PROOFS)
def test_what_a_success_proves(fields: dict[str, Any], reboots: bool, proves: bool) -> None:
    assert is_unfinished(fields, reboots=reboots) is not proves


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


ONE_PATCH = TriedPatch("KB5031364", "", "Security", "Failed")
MANY_PATCHES = [TriedPatch(f"lib{number}", "1.0-1", "Other", "Failed") for number in range(5)]
HRESULT = {"code": "1", "details": [{"code": "0x80070643", "message": "Exception from HRESULT: 0x80070643"}]}
# Error of the whole installation, patches that failed → what the machine's reason says
NAMED: dict[str, tuple[Any, list[TriedPatch], str]] = {
    "one, with an error of Windows Update": (HRESULT, [ONE_PATCH], "KB5031364 failed: 0x80070643"),
    "one, and nothing says why": (None, [ONE_PATCH], "KB5031364 failed"),
    "several": (None, MANY_PATCHES, "lib0 1.0-1, lib1 1.0-1, lib2 1.0-1 and 2 more failed"),
    "none by name": (None, [], "some patches failed"),
    "beside an error that says more": (
        {"code": "1", "details": [{"code": "0x8024402C", "message": ""}]},
        [ONE_PATCH],
        "Windows Update does not reach its source; KB5031364 failed",
    ),
}


@pytest.mark.parametrize(("error", "failed", "says"), NAMED.values(), ids=NAMED)
def test_a_reason_names_the_patches_that_failed(error: Any, failed: list[TriedPatch], says: str) -> None:
    meaning = meaning_of_outcome("Failed", error, {"failedPatchCount": len(failed) or 1})
    assert meaning is not None
    named = naming_patches(meaning, failed, error)
    assert named.text == says
    assert (named.cause, named.patches) == (meaning.cause, meaning.patches)
    assert named.text == meaning.text or failed[0].name in named.text
    if named.text.startswith(("KB", "lib")):
        assert f"add {failed[0].name} to PATCH_PACKAGES_EXCLUDE" in named.remedy


# What a row keeps of a failure → what it means, and the patches
APART: dict[str, tuple[str, str, str]] = {
    "one patch": ("KB5031364 failed", "some patches failed", "KB5031364"),
    "other patches": (
        "lib0 1.0-1, lib1 1.0-1 and 2 more failed",
        "some patches failed",
        "lib0 1.0-1, lib1 1.0-1 and 2 more",
    ),
    "with an error": ("KB5031364 failed: 0x80070643", "some patches failed: 0x80070643", "KB5031364"),
    "with errors": ("KB1 failed: 0x80070643, 0x80070005", "some patches failed: 0x80070643, 0x80070005", "KB1"),
    "a title that has the words": ("Fix what failed; again failed", "some patches failed", "Fix what failed; again"),
    "no patch by name": ("some patches failed", "some patches failed", ""),
    "no patches": ("the patch extension failed", "the patch extension failed", ""),
    "a refusal": ("another extension is in failed state (409 Conflict)",) * 2 + ("",),
    "nothing": ("", "", ""),
}


@pytest.mark.parametrize(("reason", "means", "patches"), APART.values(), ids=APART)
def test_what_a_failure_means_stands_apart_from_the_patches(reason: str, means: str, patches: str) -> None:
    assert apart(reason) == (means, patches)


@pytest.mark.parametrize("meaning", {each.meaning.text: each.meaning for each in (*SIGNALS, *VAGUE)}.values())
def test_every_meaning_stands_apart_from_any_patches(meaning: Meaning) -> None:
    assert apart(naming_patches(meaning, [ONE_PATCH], None).text) == (meaning.text, "KB5031364")
    assert apart(meaning.text) == (meaning.text, "")


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
    "a word beside a success": {"code": "1", "details": [{"code": "INFORMATIONAL"}, {"code": "CERTIFICATE_UPDATE"}]},
}


@pytest.mark.parametrize("error", HARMLESS.values(), ids=HARMLESS)
def test_what_looks_like_an_error_and_is_none(error: Any) -> None:
    assert meaning_of_outcome("Succeeded", error) is None
    assert meaning_of_outcome("CompletedWithWarnings", error) is None
    assert real_errors(error) == ((), ())


@pytest.mark.parametrize("status", ["Failed", "Unknown", ""])
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
