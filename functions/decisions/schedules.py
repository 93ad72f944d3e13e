"""Whether a maintenance configuration covers a machine: assigned to it, or by a dynamic scope that selects it."""

from collections.abc import Iterable

from functions.model.machine import Assignment, Machine, ScopeFilter


def covered(machine: Machine, assignments: Iterable[Assignment], *, readable: bool) -> bool | None:
    """Whether one covers the machine; None: not known.

    No row says "none" only to an identity that may read such rows (`readable`), and while no filter is unreadable.
    """
    answers = [_covers(each, machine) for each in assignments]
    if True in answers:
        return True
    return None if None in answers or not readable else False


def _covers(assignment: Assignment, machine: Machine) -> bool | None:
    if str(machine.id) in assignment.scopes:
        return True
    if not assignment.scopes & {machine.id.group_id, machine.id.subscription_id}:
        return False
    return _selects(assignment.filter, machine) if assignment.filter else None


def _selects(scope: ScopeFilter, machine: Machine) -> bool:
    """Each part of a filter narrows it; an empty one does not."""
    facts = (
        (scope.resource_types, machine.id.provider.value),
        (scope.resource_groups, machine.id.group),
        (scope.os_types, machine.os_type.lower()),
        (scope.locations, machine.location),
    )
    return all(not wanted or fact in wanted for wanted, fact in facts) and _tagged(scope, machine)


def _tagged(scope: ScopeFilter, machine: Machine) -> bool:
    """By the machine's own tags: a dynamic scope does not look at those of its resource group."""
    tags = {name.lower(): value.lower() for name, value in machine.tags.items()}
    found = [tags.get(name) in values for name, values in scope.tags.items()]
    return not found or (any(found) if scope.any_tag else all(found))
