"""Microsoft.Authorization: whether a caller may do something at a scope, and whether a lock forbids it.

Role assignments and locks are plain lists, `State.grants` and `State.locks`; assignments.py shows the former.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache

from simulator.arm.state import PermissionCheck, State
from simulator.behaviour import Grant
from simulator.identity.tokens import Caller
from simulator.wire import Refused


def permits(state: State, client_id: str, *, action: str, scope: str) -> bool:
    """Whether one of the caller's grants allows the action at the scope."""
    mine = (each for each in state.grants if each.client_id in ("", client_id))
    return any(_allows(each, action) and _covers(state, each.scope, scope) for each in mine)


def require(state: State, caller: Caller, *, action: str, scope: str) -> None:
    """Records the check. Raises Refused (403) unless the caller has the permission."""
    permitted = permits(state, caller.client_id, action=action, scope=scope)
    state.permission_checks[PermissionCheck(caller.client_id, action, scope)] = permitted
    if not permitted:
        text = (
            f"The client '{caller.client_id}' with object id '{caller.object_id}' does not have authorization to "
            f"perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently "
            "granted, please refresh your credentials."
        )
        raise Refused(403, "AuthorizationFailed", text)


def sees(state: State, client_id: str, scope: str) -> bool:
    """Whether the caller has any right at the scope or below it."""
    mine = (each for each in state.grants if each.client_id in ("", client_id) and each.actions)
    return any(_covers(state, each.scope, scope) or is_within(each.scope, scope) for each in mine)


def refuse_if_locked(state: State, method: str, scope: str) -> None:
    """Raises Refused (409): ReadOnly blocks every write and action, CanNotDelete only DELETE."""
    for lock in state.locks:
        blocks = method == "DELETE" or (lock.level == "ReadOnly" and method in ("PUT", "PATCH", "POST"))
        if blocks and is_within(scope, lock.scope):
            verb = "delete" if method == "DELETE" else "write"
            text = (
                f"The scope '{scope}' cannot perform {verb} operation because following scope(s) are locked: "
                f"'{lock.scope}'. Please remove the lock and try again."
            )
            raise Refused(409, "ScopeLocked", text)


@lru_cache(maxsize=4096)  # the same machines and grants, again and again
def is_within(scope: str, outer: str) -> bool:
    return f"{scope.rstrip('/')}/".lower().startswith(f"{outer.rstrip('/')}/".lower())


def _covers(state: State, outer: str, scope: str) -> bool:
    """Whether the scope lies in the outer one. A management group holds its subscriptions."""
    group = outer.lower().partition("/managementgroups/")[2]
    if not group:
        return is_within(scope, outer)
    subscriptions = state.world.management_groups.get(group, ())
    return is_within(scope, outer) or any(is_within(scope, f"/subscriptions/{each}") for each in subscriptions)


def _allows(grant: Grant, action: str) -> bool:
    return _matches(action, grant.actions) and not _matches(action, grant.not_actions)


@lru_cache(maxsize=1024)  # few actions and roles, asked for with every request
def _matches(action: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(action.lower(), each.lower()) for each in patterns)
