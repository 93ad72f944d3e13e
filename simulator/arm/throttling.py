"""What counts against which quota: Resource Manager's own, and Compute's, which are per machine and per region.

Graph's quota is in resource_graph/endpoint.py. Sizes of the buckets: behaviour.py, Limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from simulator.arm import machines
from simulator.arm.state import State
from simulator.behaviour import Limits, Rate
from simulator.identity.tokens import TENANT_ID, Caller
from simulator.wire import Refused
from simulator.world import World

Params = Mapping[str, str]
Policy = Literal["patch", "get", "list", "operation", "update"]


class _Kind(NamedTuple):
    """One of Resource Manager's quotas. What stands in the headers while the limit is off is as recorded."""

    name: str  # in the singular
    rate: Callable[[Limits], Rate]
    documented: int
    global_capacity: int


_READS = _Kind("read", lambda limits: limits.arm_reads, 250, 3750)
_WRITES = _Kind("write", lambda limits: limits.arm_writes, 200, 3000)
_DELETES = _Kind("delete", lambda limits: limits.arm_deletes, 200, 3000)


def take_resource_manager(
    state: State, method: str, caller: Caller, *, subscription: str, polling: bool = False
) -> dict[str, str]:
    """Counts one call of a principal; gives the headers of its answer. Raises Refused (429).

    Azure has a bucket per region, too: here Resource Manager is in one region. A poll of an operation shows no count of
    the subscription's reads (recorded).
    """
    kind = {"GET": _READS, "HEAD": _READS, "DELETE": _DELETES}.get(method, _WRITES)
    left = _take(state, kind, caller, scope=("subscription", subscription.lower()))
    counts = {f"x-ms-ratelimit-remaining-subscription-global-{kind.name}s": str(kind.global_capacity - 1)}
    return counts if polling else counts | left


def take_tenant(state: State, caller: Caller) -> dict[str, str]:
    """The same for a read that names no subscription."""
    return _take(state, _READS, caller, scope=("tenant", TENANT_ID))


def _take(state: State, kind: _Kind, caller: Caller, *, scope: tuple[str, str]) -> dict[str, str]:
    """`scope`: its kind and its id. Gives the header that shows what is left."""
    rate = kind.rate(state.limits)
    bucket = state.quotas.bucket(rate, "arm", kind.name, caller.client_id, *scope)
    shown = f"x-ms-ratelimit-remaining-{scope[0]}-{kind.name}s"
    if not bucket.has(1):
        wait = max(1, math.ceil(bucket.seconds_until(1, state.now())))
        text = (
            f"Number of '{kind.name}' requests for {scope[0]} '{scope[1]}' actor '{caller.object_id}' exceeded. "
            f"Please try again after '{wait}' seconds."
        )
        raise Refused(429, f"{scope[0].title()}RequestsThrottled", text, headers={"retry-after": str(wait), shown: "0"})
    bucket.take(1)
    left = kind.documented - 1 if rate.maximum is None else bucket.tokens
    return {shown: str(left)}


class _Counted(NamedTuple):
    """One of Compute's buckets, in the order in which the header shows them."""

    name: str
    rate: Callable[[Limits], Rate]
    per: Literal["machine", "region"]


# The names for "get", "list" and "update" are inferred, those for the others recorded.
_COMPUTE: Mapping[Policy, tuple[_Counted, ...]] = {
    "patch": (
        _Counted("VMGuestPatchOperationSubscriptionMaximum", lambda limits: limits.patch_subscription, "region"),
        _Counted("VMGuestPatchOperationResource", lambda limits: limits.patch_resource, "machine"),
    ),
    "operation": (
        _Counted("GetOperationResource", lambda limits: limits.get_operation_resource, "machine"),
        _Counted("GetOperationSubscriptionMaximum", lambda limits: limits.get_operation_subscription, "region"),
    ),
    "get": (
        _Counted("LowCostGetSubscriptionMaximum", lambda limits: limits.get_machine_subscription, "region"),
        _Counted("LowCostGetResource", lambda limits: limits.get_machine_resource, "machine"),
    ),
    "list": (_Counted("HighCostGetSubscriptionMaximum", lambda limits: limits.list_subscription, "region"),),
    "update": (
        _Counted("UpdateVMSubscriptionMaximum", lambda limits: limits.update_subscription, "region"),
        _Counted("UpdateVMResource", lambda limits: limits.update_resource, "machine"),
    ),
}


def take_compute(state: State, policy: Policy | None, params: Params) -> dict[str, str]:
    """Counts one call; gives the headers of its answer. Raises Refused (429)."""
    region, vm_id = _place(state.world, params)
    if policy is None or (vm_id is None and policy in ("patch", "get")):
        return {}
    per_region = f"{params['subscription'].lower()}/{region}"
    per_machine = vm_id or (machines.machine_id(params).lower() if "name" in params else per_region)
    keys = {"machine": per_machine, "region": per_region}
    wanted = ((each.name, each.rate(state.limits), keys[each.per]) for each in _COMPUTE[policy])
    cost = state.limits.patch_cost if policy == "patch" else 1
    return {"x-ms-ratelimit-remaining-resource": state.quotas.take_compute(cost, *wanted)}


def _place(world: World, params: Params) -> tuple[str, str | None]:
    """(region, vmId) that a request counts against. A machine re-created under its name gets buckets of its own."""
    if "operation" in params:
        operation = world.by_operation_id.get(params["operation"].lower())
        return params["region"].lower(), operation.vm_id if operation else None
    if "name" not in params:
        return "all", None
    machine = world.machines.get(machines.machine_id(params).lower())
    return (machine.region, machine.vm_id) if machine else ("all", None)
