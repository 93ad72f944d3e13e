"""What the deployment names is what Azure has: the operations of its roles, and the built-in roles.

The judge is Azure's own list of operations and its built-in roles as Resource Manager returned them
(tests/recordings). Both are read here without the simulator's help.
"""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

Json = dict[str, Any]

CHECKOUT = Path(__file__).parents[2]
INFRA = CHECKOUT / "infra"
RECORDED = CHECKOUT / "tests" / "recordings"
PROVIDERS: Json = json.loads((RECORDED / "azure_operations.json").read_text(encoding="utf-8"))
ROLES: Json = json.loads((RECORDED / "built_in_roles.json").read_text(encoding="utf-8"))
BUILT_IN: dict[str, Json] = {each["id"]: each for each in ROLES["roles"]}
PATHS = sorted(INFRA.glob("snapshots/*.snapshot.json"))
GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def operations(pattern: str, kind: str) -> set[str]:
    """The published operations that an action covers."""
    provider = PROVIDERS.get(pattern.partition("/")[0], {})
    return {each for each in provider.get(kind, ()) if fnmatchcase(each.lower(), pattern.lower())}


# The roles that the templates assign. The app's own role on machines is beside them: its id is known when it exists.
ASSIGNED = {guid for path in INFRA.rglob("*.bicep") for guid in GUID.findall(path.read_text(encoding="utf-8"))}
CONDITION = (INFRA / "deployer-condition.txt").read_text(encoding="utf-8")
RIGHT = re.compile(
    r"!\(ActionMatches\{'Microsoft\.Authorization/roleAssignments/(\w+)'\}\)\s*\)\s*OR\s*\(\s*"
    r"@(\w+)\[Microsoft\.Authorization/roleAssignments:RoleDefinitionId\] ForAnyOfAnyValues:GuidEquals \{([^}]*)\}"
)


def test_the_deployer_may_assign_and_remove_exactly_the_roles_that_the_templates_assign() -> None:
    assert {BUILT_IN[guid]["name"] for guid in ASSIGNED}.isdisjoint(
        {"Owner", "Contributor", "User Access Administrator", "Role Based Access Control Administrator"}
    )
    allowed = {
        action: (source, set(re.split(r",\s*", guids.strip()))) for action, source, guids in RIGHT.findall(CONDITION)
    }
    roles = ASSIGNED | {"PATCH_ROLE_ID"}
    assert allowed == {"write": ("Request", roles), "delete": ("Resource", roles)}
    assert CONDITION.count("ActionMatches") == len(allowed)
    assert CONDITION.count("OR") == len(allowed)
    assert CONDITION.count("AND") == 1
    assert CONDITION.count("(") == CONDITION.count(")")


def permissions() -> Iterator[Json]:
    for path in PATHS:
        for each in json.loads(path.read_text(encoding="utf-8"))["predictedResources"]:
            if each["type"] == "Microsoft.Authorization/roleDefinitions":
                yield from each["properties"]["permissions"]


NAMED = sorted(
    {
        (kind, action)
        for permission in permissions()
        for kind, *names in (("actions", "actions", "notActions"), ("dataActions", "dataActions", "notDataActions"))
        for name in names
        for action in permission.get(name, ())
    }
)


@pytest.mark.parametrize(("kind", "action"), NAMED)
def test_every_action_of_a_role_is_an_operation_of_azure(kind: str, action: str) -> None:
    """Azure refuses a whole role definition for one that is not."""
    assert operations(action, kind)


def test_the_roles_name_the_listed_actions() -> None:
    files = ("patch-actions.json", "scale-set-actions.json", "arc-actions.json", "start-stopped-actions.json")
    listed = [each for file in files for each in json.loads((INFRA / file).read_text(encoding="utf-8"))]
    assert sorted(("actions", each) for each in listed) == NAMED


def test_what_azure_does_not_have_is_noticed() -> None:
    assert not operations("Microsoft.Compute/virtualMachines/patchAssessmentResults/read", "actions")
    assert operations("Microsoft.HybridCompute/machines/patchAssessmentResults/read", "actions")


def test_the_role_reads_starts_the_two_patch_operations_and_if_set_stopped_machines() -> None:
    covered = {each for kind, action in NAMED for each in operations(action, kind)}
    machines, servers = "Microsoft.Compute/virtualMachines", "Microsoft.HybridCompute/machines"
    assert {each for each in covered if not each.endswith("/read")} == {
        f"{machines}/assessPatches/action",
        f"{machines}/installPatches/action",
        f"{servers}/assessPatches/action",
        f"{servers}/installPatches/action",
        f"{machines}/start/action",  # with PATCH_START_STOPPED
        f"{machines}/deallocate/action",
    }
    results = {each for each in covered if each.startswith(machines) and "/patchAssessmentResults/" in each}
    assert results == {f"{machines}/patchAssessmentResults/latest{end}" for end in ("/read", "/softwarePatches/read")}


def test_every_built_in_role_that_is_assigned_exists_under_the_name_that_it_has_here() -> None:
    """A name such as blobDataOwner in a file, or the comment beside an id, is the role's own."""
    named = {
        (guid, name)
        for path in INFRA.rglob("*.bicep")
        for name, guid in re.findall(rf"(\w+)(?:: | = )'({GUID.pattern})'", path.read_text(encoding="utf-8"))
    }
    assert len({guid for guid, _ in named}) > 5
    for guid, name in named:
        assert BUILT_IN[guid]["name"].replace(" ", "").lower().removeprefix("storage") == name.lower()


def test_every_id_of_a_role_in_a_snapshot_is_one_of_them() -> None:
    known = set(BUILT_IN)
    for path in PATHS:
        found = json.loads(path.read_text(encoding="utf-8"))["predictedResources"]
        own = {each["name"] for each in found if each["type"].endswith("/roleDefinitions")}
        used = [each["properties"]["roleDefinitionId"] for each in found if each["type"].endswith("/roleAssignments")]
        ids = {guid.rpartition("/")[2] for guid in used}
        assert {each for each in ids if GUID.fullmatch(each)} - own <= known


# What a person who deploys does, and the roles that the guide asks for.
DEPLOYS = [
    "Microsoft.Authorization/roleAssignments/write",
    "Microsoft.Authorization/roleDefinitions/write",
    "Microsoft.EventGrid/systemTopics/eventSubscriptions/write",
    "Microsoft.Resources/deployments/write",
    "Microsoft.Resources/subscriptions/resourceGroups/write",
]
ALLOWED_BY = {each["operation"]: set(each["allowed_by"]) for each in ROLES["derived"]}


@pytest.mark.parametrize(
    ("roles", "missing"),
    [
        pytest.param({"Owner"}, [], id="owner"),
        pytest.param({"Contributor", "User Access Administrator"}, [], id="two that suffice"),
        pytest.param(
            {"Contributor", "Role Based Access Control Administrator"},
            ["Microsoft.Authorization/roleDefinitions/write"],
            id="suffices only with a role made beforehand",
        ),
        pytest.param({"Contributor"}, DEPLOYS[:2], id="assigns nothing"),
    ],
)
def test_the_rights_that_the_guide_asks_for_suffice(roles: set[str], missing: list[str]) -> None:
    assert [each for each in DEPLOYS if not roles & ALLOWED_BY[each]] == missing
    text = " ".join((CHECKOUT / "docs" / "install.md").read_text(encoding="utf-8").split())
    assert all(f"*{role}*" in text for role in roles)
