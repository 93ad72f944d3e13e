"""Whether a maintenance configuration covers a machine, by the assignments as Resource Graph shows them.

Sources: Microsoft Learn, "Dynamic scoping" of Azure Update Manager and the reference of Microsoft.Maintenance
configurationAssignments 2023-04-01 (properties.filter).
"""

from typing import Any

import pytest

from functions.cloud.models import assignment_from_graph
from functions.decisions.schedules import covered
from functions.model.machine import Machine, MachineId, OsType
from functions.model.text import Json
from tests.support import a_machine

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001"
GROUP = f"{SUBSCRIPTION}/resourcegroups/rg-web"
WEB = MachineId("00000000-0000-0000-0000-000000000001", "rg-web", "web-01")


def machine() -> Machine:
    return a_machine(id=WEB, os_type=OsType.LINUX, location="westeurope", tags={"env": "Prod", "tier": "web"})


def row(owner: str, selection: Any = None, resource: str = "") -> Json:
    return {"owner": owner, "resource": resource, "filter": selection}


def tagged(operator: str, **tags: list[str]) -> Json:
    return {"tagSettings": {"tags": tags, "filterOperator": operator}}


COVERED: dict[str, tuple[list[Json], bool | None]] = {
    "no assignment": ([], False),
    "its own": ([row(str(WEB), resource=str(WEB))], True),
    "its own, named by the resource alone": ([row("", resource=str(WEB))], True),
    "another machine's": ([row(f"{WEB}2", resource=f"{WEB}2")], False),
    "the subscription, no filter": ([row(SUBSCRIPTION)], True),
    "the subscription as the resource": ([row(SUBSCRIPTION, {}, SUBSCRIPTION)], True),
    "its group, no filter": ([row(GROUP)], True),
    "another group": ([row(f"{GROUP}-2")], False),
    "the system": ([row(SUBSCRIPTION, {"osTypes": ["Windows", "Linux"]})], True),
    "another system": ([row(SUBSCRIPTION, {"osTypes": ["Windows"]})], False),
    "empty lists select everything": ([row(SUBSCRIPTION, {"osTypes": [], "locations": []})], True),
    "the region as people write it": ([row(SUBSCRIPTION, {"locations": ["West Europe"]})], True),
    "another region": ([row(SUBSCRIPTION, {"locations": ["eastus"]})], False),
    "the group by name": ([row(SUBSCRIPTION, {"resourceGroups": ["RG-Web"]})], True),
    "the group by id": ([row(SUBSCRIPTION, {"resourceGroups": [GROUP]})], True),
    "another group by name": ([row(SUBSCRIPTION, {"resourceGroups": ["rg-app"]})], False),
    "the type": ([row(SUBSCRIPTION, {"resourceTypes": ["Microsoft.Compute/virtualMachines"]})], True),
    "Arc machines": ([row(SUBSCRIPTION, {"resourceTypes": ["Microsoft.HybridCompute/machines"]})], False),
    "one of its tags, any": ([row(SUBSCRIPTION, tagged("Any", Env=["prod"], owner=["x"]))], True),
    "one of its tags, all": ([row(SUBSCRIPTION, tagged("All", env=["prod"], owner=["x"]))], False),
    "all of its tags": ([row(SUBSCRIPTION, tagged("All", env=["test", "prod"], tier=["web"]))], True),
    "another value": ([row(SUBSCRIPTION, tagged("Any", env=["test"]))], False),
    "a filter that is not an object": ([row(SUBSCRIPTION, "Linux")], None),
    "a list that is none": ([row(SUBSCRIPTION, {"osTypes": "Linux"})], None),
    "an unreadable filter beside its own": ([row(SUBSCRIPTION, "Linux"), row(str(WEB))], True),
    "an unreadable filter elsewhere": ([row(f"{GROUP}-2", "Linux")], False),
}


@pytest.mark.parametrize(("found", "expected"), COVERED.values(), ids=COVERED)
def test_what_covers_a_machine(found: list[Json], expected: bool | None) -> None:
    assert covered(machine(), map(assignment_from_graph, found), readable=True) is expected


@pytest.mark.parametrize(("found", "expected"), COVERED.values(), ids=COVERED)
def test_without_the_right_to_read_them_no_row_is_not_an_answer(found: list[Json], expected: bool | None) -> None:
    seen = covered(machine(), map(assignment_from_graph, found), readable=False)
    assert seen is (True if expected else None)


@pytest.mark.parametrize("group", ["ΑΘΗΝΑΣ", "İZMİR-web"])
@pytest.mark.parametrize("lowered", ["as people write it", "as Azure lowers it", "as Python lowers it"])
def test_a_group_is_the_same_in_every_spelling(group: str, lowered: str) -> None:
    azure = group.replace("Σ", "σ").translate(str.maketrans("ΑΘΗΝZMR", "αθηνzmr"))
    text = {"as people write it": group, "as Azure lowers it": azure, "as Python lowers it": group.lower()}[lowered]
    machine = a_machine(id=MachineId.parse(str(WEB).replace("rg-web", group)), os_type=OsType.LINUX)
    for found in (row(SUBSCRIPTION, {"resourceGroups": [text]}), row(f"{SUBSCRIPTION}/resourcegroups/{text}")):
        assert covered(machine, [assignment_from_graph(found)], readable=True)
