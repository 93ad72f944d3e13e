"""What Azure's answers mean: the dictionary from signal to cause, meaning and remedy.

Sources of the signals: Microsoft Learn, "Common error messages when you manage virtual machines in Azure" and
"Troubleshoot Azure Update Manager"; Azure/LinuxPatchExtension. Order of tests: HTTP status, code, then a fragment.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from functions.model.state import Cause


@dataclass(frozen=True)
class Meaning:
    """What a signal means: who ends the trouble, and what a person can do."""

    cause: Cause
    text: str
    remedy: str = ""
    unsupported: bool = False  # the same verdict as the support state Unsupported
    patches: bool = False  # the patches or the image are at fault: counts for the breaker of the image


@dataclass(frozen=True)
class Signal:
    """One entry of the dictionary: it matches when every part that is given matches (fragments without case)."""

    status: int | None
    code: str
    fragment: str
    meaning: Meaning

    def matches(self, status: int, codes: Iterable[str], message: str) -> bool:
        if self.status is not None and self.status != status:
            return False
        if self.code and self.code.lower() not in {code.lower() for code in codes}:
            return False
        return self.fragment.lower() in message.lower()


_CONFLICT = Meaning(Cause.CONFLICT, "another operation is running on the machine")


_POWER = Meaning(Cause.CONFLICT, "its power state is changing")


_OFF = Meaning(Cause.OWNER, "the machine is not running", "Start the machine; it is checked when it starts.")


_BLOCKED = Meaning(
    Cause.OWNER, "another extension is in failed state", "Repair or remove the named extension, then assess again."
)


_DELETING = Meaning(Cause.NEVER, "the machine is being deleted")


_GENERALIZED = Meaning(Cause.NEVER, "the machine is generalized", "A generalized machine cannot be patched.")


_INTERNAL = Meaning(
    Cause.OWNER,
    "the patch extension was installed by hand",
    "Remove the patch extension and assess: Azure installs it itself.",
)


_AGENT = Meaning(
    Cause.OWNER,
    "the VM agent has not reported its status",
    "Check that the VM agent runs and can reach Azure storage.",
)


_EARLY = Meaning(Cause.TRANSIENT, "the guest is still being provisioned")


_PLATFORM = Meaning(Cause.TRANSIENT, "a platform update is under way")


_UNSUPPORTED = Meaning(
    Cause.NEVER,
    "Azure cannot patch this image",
    "Patch it inside the guest, or rebuild it on an image that Azure can patch.",
    unsupported=True,
)


_ARM64 = Meaning(
    Cause.NEVER, "there is no patch extension for this arm64 image", "Patch it inside the guest.", unsupported=True
)


_INSIDE = Meaning(Cause.TRANSIENT, "an internal error", "If it keeps coming back, check the VM agent.")


_RIGHT = Meaning(
    Cause.OWNER,
    "the app's identity may not do this",
    "Give the app's identity the patch role on the machine's subscription.",
)


_DENIED = Meaning(
    Cause.OWNER, "a deny assignment forbids it", "Leave the machine to the service that manages it: patch-mode=off."
)


_POLICY = Meaning(Cause.OWNER, "Azure Policy forbids it", "Exempt the machine or the patch extension from the policy.")


_LOCKED = Meaning(Cause.OWNER, "a ReadOnly lock blocks it", "Remove the lock, or tag the machine patch-mode=off.")


_DISABLED = Meaning(Cause.OWNER, "the subscription is disabled", "Enable the subscription.")


_PROVIDER = Meaning(
    Cause.OWNER, "a resource provider is not registered", "Register Microsoft.Compute in the subscription."
)


# Not any text with the word sudo: the remedy for a broken package manager, `sudo dpkg --configure -a`, has it too.
_SUDO = Meaning(Cause.OWNER, "sudo does not work for the patch extension", "Check the sudo configuration.")


UNMATCHED = Meaning(Cause.OWNER, "Azure refused", "Read the code and message, and correct the machine.")


REFUSALS: tuple[Signal, ...] = (
    Signal(None, "AuthorizationFailed", "", _RIGHT),
    Signal(None, "DenyAssignmentAuthorizationFailed", "", _DENIED),
    Signal(None, "RequestDisallowedByPolicy", "", _POLICY),
    Signal(None, "ScopeLocked", "", _LOCKED),
    Signal(None, "ReadOnlyDisabledSubscription", "", _DISABLED),
    Signal(None, "MissingSubscriptionRegistration", "", _PROVIDER),
    Signal(None, "OperationNotAllowed", "another operation is in progress", _CONFLICT),
    Signal(None, "OperationNotAllowed", "ongoing operation is changing power state", _POWER),
    Signal(None, "OperationNotAllowed", "deallocated or marked to be deallocated", _OFF),
    Signal(None, "OperationNotAllowed", "requires the vm to be running", _OFF),
    Signal(None, "OperationNotAllowed", "when the vm is not running", _OFF),
    Signal(None, "OperationNotAllowed", "in failed state", _BLOCKED),
    Signal(None, "OperationNotAllowed", "marked for deletion", _DELETING),
    Signal(None, "OperationNotAllowed", "since the vm is generalized", _GENERALIZED),
    Signal(None, "OperationNotAllowed", "is reserved for internal use", _INTERNAL),
    Signal(None, "VMAgentStatusCommunicationError", "", _AGENT),
    Signal(None, "OSProvisioningClientError", "being provisioned", _EARLY),
    Signal(None, "ResourceUpdateBlockedOnPlatformUpdate", "", _PLATFORM),
    Signal(None, "InvalidParameter", "vm image is not supported", _UNSUPPORTED),
    Signal(None, "", "was not found in the extension repository", _ARM64),
    Signal(None, "", "internal execution error", _INSIDE),
    Signal(403, "", "", _RIGHT),
    Signal(409, "Conflict", "", _CONFLICT),
)


_SUPERSEDED = Meaning(
    Cause.CONFLICT,
    "a newer operation ended this one",
    "Find what else patches this machine: a schedule, a script, the portal.",
)


_NO_ANSWER = Meaning(
    Cause.OWNER,
    "the machine is off or its agent does not answer",
    "Check power and VM agent. If the VM was re-created under the same name, wait eight hours.",
)


_TIME = Meaning(Cause.TRANSIENT, "the time ran out", "Raise PATCH_MAX_DURATION, and the window if it is short.")


_FORBIDDEN = Meaning(
    Cause.OWNER, "extensions are forbidden on it", "Set allowExtensionOperations to true in the machine's OS profile."
)


# Reported for machines that came back well, too: not the patches' fault before the machine itself was checked.
_REBOOT = Meaning(Cause.TRANSIENT, "the reboot was slow or failed", "Check that it came back; read its boot log.")


_SOME_FAILED = Meaning(
    Cause.TRANSIENT, "some patches failed", "See which ones in the guest's own update log.", patches=True
)


_UPDATE_SOURCE = Meaning(
    Cause.OWNER, "Windows Update does not reach its source", "Check proxy, firewall and WSUS settings in the guest."
)


_UPDATE_STOPS = Meaning(Cause.TRANSIENT, "the guest's update service was shutting down")


_UPDATE_OFF = Meaning(Cause.OWNER, "Windows Update is disabled", "Enable the service wuauserv in the guest.")


_NO_ACCESS = Meaning(
    Cause.OWNER, "Windows Update was denied access, or disk C: is full", "Free space on C:, then check its permissions."
)


_PACKAGES = Meaning(
    Cause.OWNER,
    "the package manager is broken",
    "Repair it in the guest (for apt: sudo dpkg --configure -a).",
    patches=True,
)


# The image brings its agent: what this one cannot do, no machine of the image can.
_OLD_AGENT = Meaning(
    Cause.OWNER, "its Azure Linux Agent is too old", "Update the agent in the guest and in the image.", patches=True
)


_BAD_AGENT = Meaning(
    Cause.OWNER, "its Azure Linux Agent is a known bad build", "Upgrade the agent, in the image too.", patches=True
)


_GUEST = Meaning(
    Cause.TRANSIENT, "the patch extension failed", "Read the patch extension's log on the machine.", patches=True
)


# How an operation that ran may end badly. Matched against the codes and messages of its error and details, the most
# telling first: OPERATION_FAILED often stands beside another one. Left out, because its text is not published:
# the refusal of Red Hat Enterprise Linux 10; its support state says the same.
OUTCOMES: tuple[Signal, ...] = (
    Signal(None, "", "newer_operation_superseded", _SUPERSEDED),
    Signal(None, "", "newer operation taking precedence", _SUPERSEDED),
    Signal(None, "", "shutdownorunresponsive", _NO_ANSWER),
    Signal(None, "", "allowextensionoperations", _FORBIDDEN),
    Signal(None, "", "maintenancewindowexceeded", _TIME),
    Signal(None, "", "insufficient time to schedule a required reboot", _TIME),
    Signal(None, "", "sudo status check failed", _SUDO),
    Signal(None, "", "unable to invoke sudo", _SUDO),
    Signal(None, "", "package_manager_failure", _PACKAGES),
    Signal(None, "", "unsupported older azure linux agent version", _OLD_AGENT),
    Signal(None, "", "2.12.0.4", _BAD_AGENT),  # on SUSE 15 (Azure/LinuxPatchExtension, pull request 320)
    Signal(None, "", "reboot failed to proceed", _REBOOT),
    Signal(None, "", "0x8024402c", _UPDATE_SOURCE),
    Signal(None, "", "0x8024401c", _UPDATE_SOURCE),
    Signal(None, "", "0x8024402f", _UPDATE_SOURCE),
    Signal(None, "", "0x80072ee2", _UPDATE_SOURCE),
    Signal(None, "", "0x8024001e", _UPDATE_STOPS),
    Signal(None, "", "0x8024002e", _UPDATE_OFF),
    Signal(None, "", "0x80070422", _UPDATE_OFF),
    Signal(None, "", "0x80070005", _NO_ACCESS),
    Signal(None, "", "operation_failed", _GUEST),
)


_HARMLESS = {"0", "success", "ua_esm_required", "package_list_truncated"}


_HARMLESS_TOP_LEVEL = {"1", "2"}  # the top-level codes seen beside the two warnings above


def meaning_of_refusal(status: int, codes: Iterable[str], message: str) -> Meaning:
    """The meaning of a synchronous refusal; an unknown signal belongs to the owner, with Azure's own words kept."""
    codes = tuple(codes)
    return next((signal.meaning for signal in REFUSALS if signal.matches(status, codes, message)), UNMATCHED)


def meaning_of_outcome(
    status: str, error: Mapping[str, Any] | None, result: Mapping[str, Any] | None = None
) -> Meaning | None:
    """Why an operation that ended did not do its work; None when it did. Failures hide behind Succeeded too.

    `result` is the whole of what an installation left, where it is known: some failures are visible only in its fields.
    """
    codes, messages = real_errors(error)
    text = " ".join((*codes, *messages))
    for signal in OUTCOMES:
        if text.strip() and signal.matches(0, codes, text):
            return signal.meaning
    if meaning := _meaning_of_fields(status, result or {}):
        return meaning
    if status.lower() in ("succeeded", "completedwithwarnings"):
        return None
    remedy = "Read the patch extension's log on the machine."
    return Meaning(Cause.TRANSIENT, f"it ended {status}", remedy, patches=status.lower() == "failed")


def _meaning_of_fields(status: str, result: Mapping[str, Any]) -> Meaning | None:
    failed = result.get("failedPatchCount")
    if status.lower() == "failed" and isinstance(failed, int) and failed > 0:
        return _SOME_FAILED
    if result.get("maintenanceWindowExceeded") is True:
        return _TIME
    return _REBOOT if str(result.get("rebootStatus")).lower() == "failed" else None


def real_errors(error: Mapping[str, Any] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(codes, messages) of an error object, without the ones that mean success: Azure sends one with every success."""
    if not isinstance(error, Mapping):
        return (), ()
    listed = error.get("details")
    details = [detail for detail in listed if isinstance(detail, Mapping)] if isinstance(listed, list) else []
    found = [(str(item.get("code") or ""), str(item.get("message") or "")) for item in details]
    found = [(code, message) for code, message in found if code.lower() not in _HARMLESS and (code or message)]
    top = str(error.get("code") or "")
    text = str(error.get("message") or "")
    if not found and not details and (top or text) and top.lower() not in _HARMLESS | _HARMLESS_TOP_LEVEL:
        found = [(top, text)]
    return tuple(code for code, _ in found), tuple(message for _, message in found)
