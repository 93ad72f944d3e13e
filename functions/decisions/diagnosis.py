"""What Azure's answers mean: one dictionary from signal to cause, meaning and remedy, for refusals and for endings.

Sources of the signals: Microsoft Learn, "Common error messages when you manage virtual machines in Azure" and
"Troubleshoot Azure Update Manager"; Azure/LinuxPatchExtension; public issue reports. Order of tests: HTTP status, code,
then a fragment. Only patches that were tried and failed speak against an image; what the dictionary does not know is
taken to pass by itself.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from functions.model.machine import is_count, succeeded
from functions.model.patches import TriedPatch, in_short
from functions.model.state import Cause
from functions.model.text import Json


@dataclass(frozen=True)
class Meaning:
    """What a signal means: who ends the trouble, and what a person can do."""

    cause: Cause
    text: str
    remedy: str = ""
    unsupported: bool = False  # the same verdict as the support state Unsupported
    app: bool = False  # the app or its settings are at fault, and no machine
    patches: bool = False  # patches failed: counts for the breaker of the image


@dataclass(frozen=True)
class Signal:
    """One entry of the dictionary: it matches when every part that is given matches (without letter case).

    `fragment` is looked for in the codes and the message alike.
    """

    code: str
    fragment: str
    meaning: Meaning
    status: int | None = None

    def matches(self, status: int | None, codes: Iterable[str], message: str) -> bool:
        codes = [code.lower() for code in codes]
        if self.status is not None and self.status != status:
            return False
        if self.code and self.code.lower() not in codes:
            return False
        return self.fragment.lower() in " ".join((*codes, message.lower()))


_CONFLICT = Meaning(Cause.CONFLICT, "another operation is running on the machine")


_POWER = Meaning(Cause.CONFLICT, "its power state is changing")


_PREEMPTED = Meaning(
    Cause.CONFLICT,
    "a newer operation ended this one",
    "Find what else patches or changes this machine: a schedule, a script, the portal.",
)


_OFF = Meaning(Cause.OWNER, "the machine is not running", "Start the machine; it is checked when it starts.")


_BLOCKED = Meaning(
    Cause.OWNER, "another extension is in failed state", "Repair or remove the named extension, then assess again."
)


_EXTENSION = Meaning(
    Cause.OWNER, "an extension failed on the machine", "Read that extension's status, then repair or remove it."
)


# Azure's page and the text of the refusal say to wait for the deletion. It ends soon: the machine is gone, or Azure
# could not delete it, and it is there as before.
_DELETING = Meaning(Cause.CONFLICT, "the machine is being deleted")


_GENERALIZED = Meaning(Cause.NEVER, "the machine is generalized", "A generalized machine cannot be patched.")


_BAD_IMAGE = Meaning(Cause.OWNER, "its image was not prepared for a new machine", "Correct the image, then rebuild it.")


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


_CAPACITY = Meaning(Cause.TRANSIENT, "Azure has no room for it at the moment")


_SLOW = Meaning(Cause.TRANSIENT, "Azure waited too long for it", "If it keeps coming back, check the VM agent.")


_INSIDE = Meaning(
    Cause.TRANSIENT,
    "an internal error of Azure",
    "If it keeps coming back, check the VM agent, and that Azure patches this architecture (Arm64).",
)


_UNSUPPORTED = Meaning(
    Cause.NEVER,
    "Azure cannot patch this image",
    "Patch it inside the guest, or rebuild it on an image that Azure can patch.",
    unsupported=True,
)


_NO_EXTENSION = Meaning(
    Cause.NEVER,
    "there is no patch extension for this machine's architecture or place",
    "Patch it inside the guest.",
    unsupported=True,
)


_RIGHT = Meaning(
    Cause.OWNER,
    "the app's identity may not do this",
    "Give the app's identity the patch role on the machine's subscription.",
)


_UNSEEN = Meaning(
    Cause.OWNER,
    "its subscription cannot be seen",
    "Give the app's identity its role again, or take the subscription out of PATCH_SCOPE if it moved away.",
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


_FEATURE = Meaning(
    Cause.OWNER,
    "a preview feature is not registered in the subscription",
    "Register the feature that Azure's message names (az feature register), then Microsoft.Compute again.",
)


# Of assessPatches it was the answer to a preview feature that was not registered: Azure/azure-cli#14964.
_SUBSCRIPTION = Meaning(
    Cause.OWNER,
    "the subscription is not registered for patching",
    "Register Microsoft.Compute in the subscription; if that is done, its feature InGuestPatchVMPreview.",
)


_PURCHASE = Meaning(Cause.OWNER, "its marketplace plan is not accepted", "Accept or correct the plan of its image.")


_CORES = Meaning(Cause.OWNER, "the subscription's cores are used up", "Ask for more cores, or free some.")


_SIZE = Meaning(Cause.OWNER, "its size is not offered there", "Give the machine another size.")


_VERSION = Meaning(
    Cause.TRANSIENT,
    "this cloud or region does not know the app's version of the interface",
    "Set ARM_COMPUTE_VERSION to one that this cloud has, and check ARM_ENDPOINT: no machine is at fault.",
    app=True,
)


_REQUEST = Meaning(
    Cause.TRANSIENT,
    "Azure does not accept what the app sent",
    "Check the PATCH_ settings of the installation, and report it: no machine is at fault.",
    app=True,
)


_TENANT = Meaning(
    Cause.TRANSIENT,
    "the app's token is of another tenant",
    "Check the app's identity, and the tenant of the machine's subscription.",
    app=True,
)


_NO_ANSWER = Meaning(
    Cause.OWNER,
    "the machine is off or its agent does not answer",
    "Check power and VM agent. If the VM was re-created under the same name, wait eight hours.",
)


_FORBIDDEN = Meaning(
    Cause.OWNER, "extensions are forbidden on it", "Set allowExtensionOperations to true in the machine's OS profile."
)


# Not any text with the word sudo: the remedy for a broken package manager, `sudo dpkg --configure -a`, has it too.
_SUDO = Meaning(Cause.OWNER, "sudo does not work for the patch extension", "Check the sudo configuration.")


_OLD_AGENT = Meaning(Cause.OWNER, "its Azure Linux Agent is too old", "Update the agent in the guest and in the image.")


_BAD_AGENT = Meaning(Cause.OWNER, "its Azure Linux Agent is a known bad build", "Upgrade the agent, in the image too.")


# Reported for machines that came back well, too: the machine itself is checked before anything else is concluded.
_REBOOT = Meaning(Cause.TRANSIENT, "the reboot was slow or failed", "Check that it came back; read its boot log.")


_UPDATE_SOURCE = Meaning(
    Cause.OWNER, "Windows Update does not reach its source", "Check proxy, firewall and WSUS settings in the guest."
)


_UPDATE_STOPS = Meaning(Cause.TRANSIENT, "the guest's update service was shutting down")


_UPDATE_OFF = Meaning(Cause.OWNER, "Windows Update is disabled", "Enable the service wuauserv in the guest.")


_NO_ACCESS = Meaning(
    Cause.OWNER, "Windows Update was denied access, or disk C: is full", "Free space on C:, then check its permissions."
)


_BROKEN_PACKAGES = Meaning(
    Cause.OWNER, "the package manager is broken", "Repair it in the guest (for apt: sudo dpkg --configure -a)."
)


_TIME = Meaning(Cause.TRANSIENT, "the time ran out", "Raise PATCH_MAX_DURATION, and the window if it is short.")


_PACKAGES = Meaning(
    Cause.TRANSIENT, "the package manager reported an error", "Read the patch extension's log on the machine."
)


_GUEST = Meaning(Cause.TRANSIENT, "the patch extension failed", "Read the patch extension's log on the machine.")


_SOME_FAILED = Meaning(
    Cause.TRANSIENT, "some patches failed", "See which ones in the guest's own update log.", patches=True
)


_RETRIED_WELL = Meaning(Cause.TRANSIENT, "everything was installed, one patch at the second try")


_REPORT_FAILED = Meaning(Cause.TRANSIENT, "everything was installed; only the assessment afterwards failed")


_INSIDE_FAILED = Meaning(
    Cause.TRANSIENT, "the assessment inside it failed", "Read the patch extension's log on the machine."
)


_STOPPED = Meaning(
    Cause.OWNER,
    "it was canceled by a person",
    "Nothing: it is tried again after a day. Start or change the machine to have it tried now.",
)


UNMATCHED = Meaning(
    Cause.TRANSIENT, "Azure refused for a reason that the app does not know", "Read the code and the message."
)


SIGNALS: tuple[Signal, ...] = (
    # who may do it, and what the subscription allows
    Signal("AuthorizationFailed", "", _RIGHT),
    Signal("LinkedAuthorizationFailed", "", _RIGHT),
    Signal("DenyAssignmentAuthorizationFailed", "", _DENIED),
    Signal("RequestDisallowedByPolicy", "", _POLICY),
    Signal("ScopeLocked", "", _LOCKED),
    Signal("ReadOnlyDisabledSubscription", "", _DISABLED),
    Signal("MissingSubscriptionRegistration", "", _PROVIDER),
    Signal("MissingRegistrationForLocation", "", _PROVIDER),
    Signal("InvalidSubscriptionRegistrationState", "", _PROVIDER),
    Signal("SubscriptionNotRegisteredForFeature", "", _FEATURE),
    Signal("SubscriptionNotRegistered", "", _SUBSCRIPTION),
    Signal("SubscriptionNotFound", "", _UNSEEN),
    Signal("ResourcePurchaseValidationFailed", "", _PURCHASE),
    Signal("MarketplacePurchaseEligibilityFailed", "", _PURCHASE),
    Signal("VMMarketplaceInvalidInput", "", _PURCHASE),
    Signal("SkuNotAvailable", "", _SIZE),
    # something else is at work
    Signal("OperationPreempted", "", _PREEMPTED),
    Signal("", "newer_operation_superseded", _PREEMPTED),
    Signal("", "newer operation taking precedence", _PREEMPTED),
    Signal("ConflictingConcurrentWriteNotAllowed", "", _CONFLICT),
    Signal("AnotherOperationInProgress", "", _CONFLICT),
    Signal("AttachDiskWhileBeingDetached", "", _CONFLICT),
    Signal("ResourcesBeingMoved", "", _CONFLICT),
    Signal("Conflict", "", _CONFLICT),
    Signal("OperationNotAllowed", "another operation is in progress", _CONFLICT),
    Signal("OperationNotAllowed", "on vm extension", _CONFLICT),
    Signal("OperationNotAllowed", "disks are being converted", _CONFLICT),
    Signal("OperationNotAllowed", "ongoing operation is changing power state", _POWER),
    Signal("ResourceUpdateBlockedOnPlatformUpdate", "", _PLATFORM),
    # what is wrong with the machine
    Signal("OperationNotAllowed", "deallocated or marked to be deallocated", _OFF),
    Signal("OperationNotAllowed", "requires the vm to be running", _OFF),
    Signal("OperationNotAllowed", "when the vm is not running", _OFF),
    Signal("OperationNotAllowed", "in failed state", _BLOCKED),
    Signal("OperationNotAllowed", "marked for deletion", _DELETING),
    Signal("ResourceGroupBeingDeleted", "", _DELETING),
    Signal("OperationNotAllowed", "since the vm is generalized", _GENERALIZED),
    Signal("OperationNotAllowed", "is reserved for internal use", _INTERNAL),
    Signal("OperationNotAllowed", "cores quota", _CORES),
    Signal("VMAgentStatusCommunicationError", "", _AGENT),
    Signal("", "shutdownorunresponsive", _NO_ANSWER),
    Signal("", "allowextensionoperations", _FORBIDDEN),
    Signal("VMExtensionProvisioningError", "", _EXTENSION),
    Signal("VMExtensionHandlerNonTransientError", "", _EXTENSION),
    Signal("OSProvisioningClientError", "being provisioned", _EARLY),
    Signal("OSProvisioningClientError", "", _BAD_IMAGE),
    # what Azure cannot patch, and what the app got wrong
    Signal("InvalidParameter", "vm image is not supported", _UNSUPPORTED),
    Signal("", "was not found in the extension repository", _NO_EXTENSION),
    Signal("ArtifactNotFound", "", _NO_EXTENSION),
    Signal("ArtifactVersionNotFound", "", _NO_EXTENSION),
    Signal("NoRegisteredProviderFound", "", _VERSION),
    Signal("InvalidResourceType", "", _VERSION),
    Signal("InvalidApiVersionParameter", "", _VERSION),
    Signal("InvalidRequestContent", "", _REQUEST),
    Signal("InvalidRequestFormat", "", _REQUEST),
    Signal("InvalidParameter", "", _REQUEST),
    Signal("InvalidAuthenticationTokenTenant", "", _TENANT),
    # what passes by itself
    Signal("", "internalerror", _INSIDE),
    Signal("", "internalservererror", _INSIDE),
    Signal("", "internaloperationerror", _INSIDE),
    Signal("", "internal execution error", _INSIDE),
    Signal("", "internalexecutionerror", _INSIDE),
    Signal("", "provisioningtimeout", _SLOW),
    Signal("", "timedout", _SLOW),
    Signal("", "allocationrequest", _CAPACITY),
    Signal("StorageAccountTooBusy", "", _CAPACITY),
    Signal("TooManyVMRedeploymentRequests", "", _CAPACITY),
    # what the guest's extension says
    Signal("", "sudo status check failed", _SUDO),
    Signal("", "unable to invoke sudo", _SUDO),
    Signal("", "unsupported older azure linux agent version", _OLD_AGENT),
    Signal("", "agent-2.12.0.4", _BAD_AGENT),  # on SUSE 15 (Azure/LinuxPatchExtension, pull request 320)
    Signal("", "reboot failed to proceed", _REBOOT),
    Signal("", "0x8024402c", _UPDATE_SOURCE),
    Signal("", "0x8024401c", _UPDATE_SOURCE),
    Signal("", "0x8024402f", _UPDATE_SOURCE),
    Signal("", "0x80072ee2", _UPDATE_SOURCE),
    Signal("", "0x8024001e", _UPDATE_STOPS),
    Signal("", "0x8024002e", _UPDATE_OFF),
    Signal("", "0x80070422", _UPDATE_OFF),
    Signal("", "0x80070005", _NO_ACCESS),
    Signal("", "package manager on machine is not healthy", _BROKEN_PACKAGES),
    Signal("", "", _RIGHT, status=403),
)


# What the guest's extension says in general, often beside one of the signals above, the most telling first. Where
# patches failed it only repeats that. Left out, because its text is not published: the refusal of Red Hat Enterprise
# Linux 10; its support state says the same.
VAGUE: tuple[Signal, ...] = (
    Signal("", "maintenancewindowexceeded", _TIME),
    Signal("", "maintenance window exceeded", _TIME),
    Signal("", "past the maintenance window cutoff", _TIME),
    Signal("", "insufficient time to schedule a required reboot", _TIME),
    Signal("", "due to assessment failure", _INSIDE_FAILED),
    Signal("", "package_manager_failure", _PACKAGES),
    Signal("", "operation_failed", _GUEST),
)


# What a guest may say beside patches that failed, and what excuses none of them.
_NO_EXCUSE = (_REBOOT, _BROKEN_PACKAGES, _BAD_AGENT, _OLD_AGENT)

_HRESULT = re.compile(r"\b0x[0-9a-f]{8}\b", re.IGNORECASE)  # as Windows Update numbers its errors

_FAILED = " failed"  # after the names of patches
_NAMED = re.compile(rf"(.+){_FAILED}(: 0x[0-9a-f]{{8}}.*)?")
_MEANT = frozenset(
    each.text
    for each in (
        *(signal.meaning for signal in (*SIGNALS, *VAGUE)),
        *(_SOME_FAILED, _TIME, _REBOOT, _REPORT_FAILED, _STOPPED, _RETRIED_WELL, _INSIDE_FAILED),
    )
)

_HARMLESS = {"0", "success", "ua_esm_required", "package_list_truncated", "informational", "certificate_update"}


_HARMLESS_TOP_LEVEL = {"1", "2"}  # the top-level codes seen beside the warnings above


def meaning_of_refusal(status: int, codes: Iterable[str], message: str) -> Meaning:
    """The meaning of a synchronous refusal; an unknown signal passes by itself at first, with Azure's words kept."""
    return _looked_up(SIGNALS, status=status, codes=tuple(codes), message=message) or UNMATCHED


def meaning_of_outcome(
    status: str,
    error: Json | None,
    result: Json | None = None,
    *,
    inside: Json | None = None,
) -> Meaning | None:
    """Why an operation that ended did not do its work; None when it did.

    `result` is what an installation left, where it is known: the patches are at fault only where it counts failed ones.
    `inside`: the error of the assessment inside it, which alone says why that one failed.
    """
    result = result or {}
    failed = _count(result, "failedPatchCount")
    if succeeded(status):
        return _SOME_FAILED if failed else None
    known = _known(error)
    if failed:
        return known if known and known not in _NO_EXCUSE else _SOME_FAILED
    vague = _vague(error)
    if not known and vague is _INSIDE_FAILED and not _all_installed(result):
        known = _known(inside)
    return known or _meaning_of_fields(status, result, vague)


def naming_patches(meaning: Meaning, failed: Sequence[TriedPatch], error: Json | None) -> Meaning:
    """The meaning with the patches that failed, by name, and with the errors of Windows Update beside them.

    No patch has an error of its own: those of the whole installation are all that Azure tells.
    """
    if not failed:
        return meaning
    names = in_short([each.label for each in failed])
    if meaning is not _SOME_FAILED:
        return replace(meaning, text=f"{meaning.text}; {names}{_FAILED}")
    codes, messages = real_errors(error)
    numbers = list(dict.fromkeys(each.lower() for each in _HRESULT.findall(" ".join((*codes, *messages)))))
    remedy = f"Read why in the guest's own update log; add {failed[0].mask} to PATCH_PACKAGES_EXCLUDE to go without it."
    return replace(meaning, text=f"{names}{_FAILED}" + (f": {in_short(numbers)}" if numbers else ""), remedy=remedy)


def apart(reason: str) -> tuple[str, str]:
    """What a reason of naming_patches means, and the patches that it names; of any other: the reason, and none.

    The same trouble with other patches means the same. Rows keep a reason as its text alone.
    """
    if reason in _MEANT:
        return reason, ""
    start, between, rest = reason.partition("; ")
    if between and start in _MEANT and rest.endswith(_FAILED):
        return start, rest.removesuffix(_FAILED)
    if found := _NAMED.fullmatch(reason):
        return f"{_SOME_FAILED.text}{found[2] or ''}", found[1]
    return reason, ""


def is_unfinished(result: Json, *, reboots: bool) -> bool:
    """Whether an installation that succeeded left something undone, and so proves nothing about its image.

    `reboots`: the order allowed a reboot. Where it did not, one that is still wanted is what was ordered.
    """
    reboot = str(result.get("rebootStatus")).lower()
    left = reboot == "failed" or (reboots and reboot == "required")
    return result.get("maintenanceWindowExceeded") is True or left


def tried_nothing(result: Json) -> bool:
    """Whether the guest says that nothing was installed and nothing failed. Without counts it says neither."""
    installed, failed = _count(result, "installedPatchCount"), _count(result, "failedPatchCount")
    return "installedPatchCount" in result and not installed + failed


def has_result(result: Json) -> bool:
    """Whether the guest reported anything at all: then Resource Graph shows it, too."""
    return bool(result.keys() - {"error"})


def assessment_failed_inside(error: Json | None) -> bool:
    """Whether an installation says no more than that the assessment inside it failed."""
    return not _known(error) and _vague(error) is _INSIDE_FAILED


def _meaning_of_fields(status: str, result: Json, vague: Meaning | None) -> Meaning:
    if result.get("maintenanceWindowExceeded") is True:
        return _TIME
    if str(result.get("rebootStatus")).lower() == "failed":
        return _REBOOT
    if vague is _TIME:
        return vague
    if _all_installed(result) and vague is _INSIDE_FAILED:
        return _REPORT_FAILED
    if status.lower() == "canceled":
        return _STOPPED
    if _all_installed(result):
        return _RETRIED_WELL
    return vague or Meaning(Cause.TRANSIENT, f"it ended {status}", "Read the patch extension's log on the machine.")


def _all_installed(result: Json) -> bool:
    left = _count(result, "failedPatchCount") + _count(result, "pendingPatchCount")
    return _count(result, "installedPatchCount") > 0 and not left


def _count(result: Json, name: str) -> int:
    value = result.get(name)
    return value if isinstance(value, int) and is_count(value) else 0


def _known(error: Json | None) -> Meaning | None:
    codes, messages = real_errors(error)
    return _looked_up(SIGNALS, status=None, codes=codes, message=" ".join(messages))


def _vague(error: Json | None) -> Meaning | None:
    codes, messages = real_errors(error)
    return _looked_up(VAGUE, status=None, codes=codes, message=" ".join(messages))


def _looked_up(
    signals: Iterable[Signal], *, status: int | None, codes: tuple[str, ...], message: str
) -> Meaning | None:
    return next((signal.meaning for signal in signals if signal.matches(status, codes, message)), None)


def real_errors(error: Json | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
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
