"""What a test or a person chooses about the simulated Azure, as plain frozen data. Nothing here acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal

from simulator.wire import Json


@dataclass(frozen=True)
class Timings:
    """How long things take, in seconds. The defaults are typical of public labs and of the recorded traffic."""

    create_seconds: float = 60
    agent_ready_seconds: float = 45  # from running to the agent's first report
    extensions_seconds: float = 90  # from the agent's first report to the last extension's end
    start_seconds: float = 30
    deallocate_seconds: float = 40
    redeploy_seconds: float = 180
    reapply_seconds: float = 20
    delete_seconds: float = 45
    assess_seconds: float = 150
    install_seconds: float = 900
    reboot_seconds: float = 180  # added to an installation that restarts the machine
    graph_lag_seconds: float = 20  # Azure says 95 % of changes show within 30 s, and promises no upper bound

    def scaled(self, speed: float) -> Timings:
        """The same world, `speed` times faster."""
        return replace(self, **{each.name: getattr(self, each.name) / speed for each in fields(self)})


@dataclass(frozen=True)
class Rate:
    """A token bucket: at most `maximum`, `refill` more at the end of every period. None as a maximum: no limit."""

    maximum: int | None
    refill: int
    period_seconds: float = 60


@dataclass(frozen=True)
class Limits:
    """Documented quotas (compute-throttling-limits.md, request-limits-and-throttling.md, Resource Graph's guidance).

    Compute counts per machine ("resource") and per subscription and region; Resource Manager per caller and
    subscription; Resource Graph per caller.
    """

    patch_resource: Rate = Rate(6, 2)
    patch_subscription: Rate = Rate(600, 200)
    patch_cost: int = 2  # inferred: the recorded call left 598 of 600 and 4 of 6
    get_machine_resource: Rate = Rate(36, 12)
    get_machine_subscription: Rate = Rate(24_000, 8_000)
    get_operation_resource: Rate = Rate(45, 15)
    get_operation_subscription: Rate = Rate(15_000, 5_000)
    list_subscription: Rate = Rate(900, 300)
    update_resource: Rate = Rate(12, 4)
    update_subscription: Rate = Rate(1_500, 500)
    # Resource Manager's own: off unless `with_arm` turns them on, as `Azure` does. A test whose clients are one caller
    # leaves them off.
    arm_reads: Rate = Rate(None, 0, 1)
    arm_writes: Rate = Rate(None, 0, 1)
    arm_deletes: Rate = Rate(None, 0, 1)
    graph: Rate = Rate(15, 15, 5)
    # What a 202 names the operation by, and the interface's versions that this cloud has (None: any).
    accepted_headers: tuple[str, ...] = ("azure-asyncoperation", "location")
    api_versions: tuple[str, ...] | None = None
    # What Compute does with a second patch operation is not documented: a test chooses.
    conflict: Literal["409", "supersede"] = "409"
    # Nor is it whether Resource Graph shows results from before a move under the machine's new id.
    moves_keep_results: bool = True

    def scaled(self, speed: float) -> Limits:
        """The same quotas, refilled `speed` times faster."""
        rates = {each.name: getattr(self, each.name) for each in fields(self) if each.type == "Rate"}
        return replace(
            self,
            **{name: replace(rate, period_seconds=rate.period_seconds / speed) for name, rate in rates.items()},
        )

    def with_arm(self) -> Limits:
        """Resource Manager's quotas too. They allow a caller 200 writes at once: fewer than Compute's 300 calls."""
        return replace(self, arm_reads=Rate(250, 25, 1), arm_writes=Rate(200, 10, 1), arm_deletes=Rate(200, 10, 1))


@dataclass(frozen=True)
class Refusal:
    """A synchronous refusal of assessPatches or installPatches. {0} is the operation, {1} the machine's name."""

    status: int
    code: str
    message: str
    details: tuple[Json, ...] = ()


# Texts: Microsoft Learn, "Common error messages when you manage virtual machines in Azure", and public issues of
# MicrosoftDocs/azure-docs. That page gives no HTTP status: 409 (400 for InvalidParameter) is inferred.
REFUSALS: Mapping[str, Refusal] = {
    "unsupported-image": Refusal(
        400, "InvalidParameter", "The selected VM image is not supported for VM Guest patch operations."
    ),
    "agent": Refusal(
        409,
        "VMAgentStatusCommunicationError",
        "VM '{1}' has not reported status for VM agent or extensions. Please verify the VM has a running VM agent, "
        "and can establish outbound connections to Azure storage.",
    ),
    "conflict": Refusal(
        409, "OperationNotAllowed", "Operation '{0}' is not allowed on VM '{1}' since another operation is in progress."
    ),
    "deallocated": Refusal(
        409,
        "OperationNotAllowed",
        "Operation '{0}' is not allowed on VM '{1}' since the VM is either deallocated or marked to be deallocated.",
    ),
    "not-running": Refusal(409, "OperationNotAllowed", "The operation requires the VM to be running (or set to run)."),
    "extensions-off": Refusal(
        409, "OperationNotAllowed", "Cannot modify extensions in the VM when the VM is not running."
    ),
    "extension-failed": Refusal(
        409,
        "OperationNotAllowed",
        "Operation '{0}' is not allowed on VM '{1}' since VM has extension 'CustomScript' in failed state.",
    ),
    "deletion": Refusal(
        409,
        "OperationNotAllowed",
        "Operation '{0}' is not allowed on VM '{1}' since the VM is marked for deletion. You can only retry the Delete "
        "operation (or wait for an ongoing one to complete).",
    ),
    "generalized": Refusal(
        409, "OperationNotAllowed", "Operation '{0}' is not allowed on VM '{1}' since the VM is generalized."
    ),
    "platform-update": Refusal(
        409,
        "ResourceUpdateBlockedOnPlatformUpdate",
        "Resource cannot be updated at this time due to ongoing platform update. Please try again later.",
    ),
    "provisioning": Refusal(
        409,
        "OSProvisioningClientError",
        "OS Provisioning failed for VM '{1}' because the guest OS is currently being provisioned.",
    ),
    "arm64": Refusal(400, "BadRequest", "CPU Architecture 'arm64' was not found in the extension repository."),
    "internal": Refusal(500, "InternalExecutionError", "An internal execution error occurred. Please retry later."),
    "deny-assignment": Refusal(
        403,
        "DenyAssignmentAuthorizationFailed",
        "The client has permission to perform action on the scope; however, the access is denied because of the deny "
        "assignment with name 'lockdown'.",
    ),
    "policy": Refusal(403, "RequestDisallowedByPolicy", "Resource '{1}' was disallowed by policy."),
    "subscription-disabled": Refusal(
        409, "ReadOnlyDisabledSubscription", "The subscription is disabled and therefore marked as read only."
    ),
    # Of a machine outside Azure; {2} is what its agent's status says. Status, code and text are inferred.
    "not-connected": Refusal(
        409, "OperationNotAllowed", "Operation '{0}' is not allowed on machine '{1}' since its agent is {2}."
    ),
    "provider": Refusal(
        409,
        "MissingSubscriptionRegistration",
        "The subscription is not registered to use namespace 'Microsoft.Compute'.",
    ),
}

Kind = Literal["assess", "install"]

_PENDING: Mapping[str, int] = {"critical": 1, "security": 4, "updates": 2, "other": 3}


@dataclass(frozen=True)
class Behaviour:
    """What one machine's guest does. An operation keeps the behaviour that was set when it started."""

    support_state: str | None = "Supported"  # Unsupported, Unknown, UnableToDetermine; None: Azure writes no state
    # How many updates wait, by class as Resource Graph spells it; securityEsm: those that need Ubuntu Pro, found
    # and not installed without it. Classes that the system does not have are left out.
    pending: Mapping[str, int] = field(default_factory=lambda: dict(_PENDING))
    assess_status: str = "Succeeded"  # or Failed, CompletedWithWarnings, Unknown
    install_status: str = "Succeeded"  # or Failed, CompletedWithWarnings, Unknown
    failed_patches: int = 1  # how many of the selected ones fail, when install_status is Failed
    reboot_status: str | None = None  # None: it follows from the order and from needs_reboot
    needs_reboot: bool = True
    window_exceeded: bool = False  # an installation ends before it is through: what is left stays pending
    window_installs: int = 0  # how many of the selected patches go in before that
    process_killed: bool = False  # a running installation counts those, and says nothing more until its end
    errors: tuple[tuple[str, str], ...] = ()  # (code, message): five at most are reported, cut at 128 characters
    refuse: Refusal | str | None = None  # or its name in REFUSALS
    refuse_kinds: tuple[Kind, ...] = ("assess", "install")
    opening_errors: tuple[tuple[str, str], ...] = ()  # of the assessment that begins an installation: both failed
    closing_errors: tuple[tuple[str, str], ...] = ()  # of the assessment that ends an installation: it failed with them
    list_limit: int | None = None  # how many updates a result names before its list is cut; counts are of all
    count_case: Literal["camel", "Pascal", "lower", "UPPER"] = "camel"  # of Resource Graph's count keys
    agent_never_ready: bool = False
    agent_turns_seconds: float | None = None  # it reports ready and not ready in turns that are so long
    power_unsaid: bool = False  # its instance view has no power state; Azure promises none
    hibernated: bool = False  # it says so while it is off
    generalized: bool = False  # it says so, and refuses every patch operation
    created_unsaid: bool = False  # nothing says when it was created, as of some old machines
    health: str | None = None  # what the Application Health extension reports: HealthState/…; None: there is none
    extensions_hang: bool = False
    never_ends: bool = False  # an operation of this guest stays InProgress for good
    rows_missing: bool = False  # Resource Graph never shows this machine's assessments
    azure_error: tuple[str, str] | None = None  # (code, message): Azure ends its operations so, and no guest reports
    azure_status: Literal["Failed", "Canceled"] = "Failed"  # beside azure_error
    assess_seconds: float | None = None  # None: as in Timings
    install_seconds: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.refuse, str) and self.refuse not in REFUSALS:
            raise ValueError(f"refuse is one of {', '.join(REFUSALS)}")

    @property
    def refusal(self) -> Refusal | None:
        if self.generalized:
            return REFUSALS["generalized"]
        return REFUSALS[self.refuse] if isinstance(self.refuse, str) else self.refuse


@dataclass(frozen=True)
class Grant:
    """A right: actions (with `*`) at a scope and all below it, for one caller or (empty) for all.

    `data_actions` are shown where assignments are listed; each service checks its own (deployment/roles.py).
    """

    scope: str = "/"
    actions: tuple[str, ...] = ("*",)
    not_actions: tuple[str, ...] = ()
    client_id: str = ""
    data_actions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lock:
    """A management lock at a scope and all below it."""

    scope: str
    level: Literal["ReadOnly", "CanNotDelete"] = "ReadOnly"
