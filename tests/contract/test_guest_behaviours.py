"""What a person can make a simulated guest do, beside what Azure's guests are known to show.

The judges are guest_extension_histories.json and odd_machines.json. Each row asks as one does of `python -m simulator`:
with the JSON of `/simulator/behaviours/{name}`.
"""

from typing import Any

import pytest

from simulator.arm import shapes
from simulator.azure import Azure
from simulator.server import behaviour_of
from tests.contract.simulator_client import Clock, arm, install_order, payload, ready_machine

Json = dict[str, Any]
HISTORIES: dict[str, Json] = {each["name"]: each for each in payload("guest_extension_histories.json")["histories"]}
ODD: dict[str, Json] = {each["name"]: each for each in payload("odd_machines.json")["records"]}


def details(name: str, summary: str) -> list[list[str]]:
    """The errors of a summary at the end of a history."""
    shown = HISTORIES[name]["snapshots"][-1]["patchStatus"][summary]["error"]["details"]
    return [[each["code"], each["message"]] for each in shown]


def failed(name: str, **more: Any) -> Json:
    """An installation that ends Failed with the history's own errors and without a patch that failed."""
    errors = details(name, "lastPatchInstallationSummary")
    return {"install_status": "Failed", "failed_patches": 0, "errors": errors, "needs_reboot": False, **more}


def exceeded(name: str, **more: Any) -> Json:
    """An installation whose time is over before it is through."""
    return {**failed(name), "install_status": "Succeeded", "window_exceeded": True, **more}


def inside(name: str) -> list[list[str]]:
    return details(name, "availablePatchSummary")


CLOSING, OPENING, RETRIED, NO_TIME, NEVER, CUT, NOTHING, EXCEEDED, KILLED, NO_REBOOT = (
    f"linux-installation-{name}"
    for name in (
        "closing-assessment-failed",
        "first-assessment-failed-dpkg",
        "failed-then-retried-well",
        "no-time-for-the-reboot",
        "reboot-pending-with-never",
        "truncated-lists",
        "nothing-to-do",
        "window-exceeded",
        "process-killed",
        "reboot-did-not-start",
    )
)
WINDOWS_EXCEEDED, WINDOWS_NEVER, WINDOWS_NOTHING, WINDOWS_DOWN = (
    f"windows-installation-{name}"
    for name in ("window-exceeded", "reboot-pending-with-never", "nothing-selected", "shutdown-or-unresponsive")
)
URGENT = {"critical": 2, "security": 3}
ASKED: dict[str, Json] = {
    "linux-installation-normal-with-reboot": {"pending": {**URGENT, "other": 4}},
    NOTHING: {"pending": {"other": 4}},
    RETRIED: failed(RETRIED, pending=URGENT),  # the package manager answered with an error, and the package went in
    CLOSING: failed(CLOSING, pending=URGENT, closing_errors=inside(CLOSING)),
    OPENING: failed(OPENING, pending=URGENT, opening_errors=inside(OPENING)),
    NO_TIME: failed(NO_TIME, pending=URGENT, reboot_status="Required"),
    NEVER: {"pending": {**URGENT, "other": 2}, "errors": details(NEVER, "lastPatchInstallationSummary")},
    CUT: {"pending": {**URGENT, "other": 4}, "list_limit": 1},
    NO_REBOOT: failed(NO_REBOOT, pending=URGENT, reboot_status="Failed"),
    EXCEEDED: exceeded(EXCEEDED, pending={**URGENT, "other": 2}, window_installs=1),
    KILLED: exceeded(KILLED, pending=URGENT, window_installs=1, process_killed=True),
    WINDOWS_EXCEEDED: exceeded(WINDOWS_EXCEEDED, pending=URGENT, window_installs=1),
    WINDOWS_NEVER: {"pending": URGENT, "errors": details(WINDOWS_NEVER, "lastPatchInstallationSummary")},
    WINDOWS_NOTHING: {"pending": {"definition": 1, "updateRollup": 1}},
}
EVERYTHING = {"classificationsToInclude": ["Critical", "Security", "Other"]}
ORDERS: dict[str, Json] = {
    EXCEEDED: {"linuxParameters": EVERYTHING},
    WINDOWS_NOTHING: {
        "windowsParameters": {"classificationsToInclude": ["Security"], "kbNumbersToExclude": ["5001200"]}
    },
}


def shape(status: Json) -> Json:
    """What both summaries say, without ids, times and how many."""
    assessed, installed = status["availablePatchSummary"], status["lastPatchInstallationSummary"]
    counts = {name: value > 0 for name, value in (assessed | installed).items() if name.endswith("Count")}
    flags = {name: (assessed | installed)[name] for name in ("rebootPending", "maintenanceWindowExceeded")}
    return {
        "statuses": (assessed["status"], installed["status"]),
        "one operation": assessed["assessmentActivityId"] == installed["installationActivityId"],
        "errors": [
            (each["error"]["code"], [d["code"] for d in each["error"]["details"]]) for each in (assessed, installed)
        ],
        **counts,
        **flags,
    }


def placeholder(result: Json) -> list[Json]:
    return [each for each in result["patches"] if each["patchId"] == "Truncated_patch_list_id"]


@pytest.mark.parametrize("name", ASKED)
async def test_an_installation_ends_as_its_history_does(name: str) -> None:
    clock, history = Clock(), HISTORIES[name]
    azure = Azure(clock)
    machine = ready_machine(azure, clock, os=history["os"])
    azure.behave(machine, behaviour_of(ASKED[name]))
    setting = {key: value for key, value in history["order"].items() if key == "rebootSetting"}
    order = install_order() | setting | ORDERS.get(name, {})
    async with arm(azure) as client:
        operation = azure.start_operation(machine, "install", started_by="User", order=order)
        clock.go(4 * 3600)
        shown = (await client.call("GET", f"{machine}/instanceView")).json()["patchStatus"]
    simulated, recorded = shape(shown), shape(history["snapshots"][-1]["patchStatus"])
    if name == CUT:  # the history leaves 60 others waiting, and counts none as not selected: here the order says more
        del simulated["notSelectedPatchCount"], recorded["notSelectedPatchCount"]
    assert simulated == recorded
    if history["operation_result"] is None:  # that the operation ends as its summary does is all that is known
        assert operation.output["status"] == shown["lastPatchInstallationSummary"]["status"]
        return
    ended, result = history["operation_result"], operation.output
    same = ("status", "rebootStatus", "maintenanceWindowExceeded")
    assert [result[each] for each in same] == [ended[each] for each in same]
    assert placeholder(result) == placeholder(ended)


async def test_a_killed_process_leaves_its_last_count() -> None:
    clock, history = Clock(), HISTORIES[KILLED]
    azure = Azure(clock)
    machine = ready_machine(azure, clock)
    minutes = [each["minute"] for each in history["snapshots"]]
    azure.behave(machine, behaviour_of(ASKED[KILLED] | {"install_seconds": minutes[-1] * 60}))
    begun = azure.start_operation(machine, "install").started
    seen = []
    async with arm(azure) as client:
        for minute in minutes[1:]:
            clock.go(minute * 60 - (clock() - begun).total_seconds())
            status = (await client.call("GET", f"{machine}/instanceView")).json()["patchStatus"]
            seen.append(progress(status["lastPatchInstallationSummary"]))
    recorded = [each["patchStatus"].get("lastPatchInstallationSummary") for each in history["snapshots"][1:]]
    assert seen == [progress(each) for each in recorded if each]


def progress(installation: Json) -> tuple[str, bool, bool]:
    return installation["status"], installation["installedPatchCount"] > 0, installation["pendingPatchCount"] > 0


async def test_a_guest_that_goes_down_leaves_the_assessment_before_it() -> None:
    """Which of the counts stay, and where the code stands, is guessed in the history."""
    clock, history = Clock(), HISTORIES[WINDOWS_DOWN]["snapshots"][-1]["patchStatus"]
    azure = Azure(clock)
    machine = ready_machine(azure, clock, os="Windows")
    assessment = azure.start_operation(machine, "assess")
    clock.go(3600)
    installation = azure.start_operation(machine, "install")
    clock.go(60)
    azure.start_operation(machine, "powerOff")
    clock.go(3600)
    async with arm(azure) as client:
        shown = (await client.call("GET", f"{machine}/instanceView")).json()["patchStatus"]
    assessed, installed = (shown[each] for each in ("availablePatchSummary", "lastPatchInstallationSummary"))
    assert assessed["assessmentActivityId"] == assessment.operation_id != installation.operation_id
    assert assessed["status"] == history["availablePatchSummary"]["status"]
    assert installed["status"] == history["lastPatchInstallationSummary"]["status"]
    code = history["lastPatchInstallationSummary"]["error"]["code"]
    assert code in [each["code"] for each in installed["error"]["details"]]


# -- machines


def view_of(body: Json) -> Json:
    """What a reader tells one machine from another by; codes that both have in common stand for themselves."""
    view = body["properties"]["instanceView"]
    agent = [each["code"] for each in view.get("vmAgent", {}).get("statuses", [])]
    return {
        "statuses": [each["code"] for each in view["statuses"]],
        "agent": agent,
        "health": view.get("vmHealth", {}).get("status", {}).get("code"),
        "created": "timeCreated" in body["properties"],
    }


ODD_ASKED: dict[str, tuple[Json, str]] = {
    "hibernated_stopped": ({"hibernated": True}, "powerOff"),
    "generalized": ({"generalized": True}, "powerOff"),
    "generalized_running_view": ({"generalized": True}, ""),
    "no_time_created": ({"created_unsaid": True}, ""),
    "health_initializing": ({"health": "HealthState/initializing"}, ""),
    "health_unknown": ({"health": "HealthState/unknown"}, ""),
    "health_unhealthy": ({"health": "HealthState/unhealthy"}, ""),
    "no_power_state": ({"power_unsaid": True}, ""),
    "agent_not_ready_flips": ({"agent_turns_seconds": 600}, ""),
}


@pytest.mark.parametrize(("name", "asked", "power"), [(name, *row) for name, row in ODD_ASKED.items()], ids=ODD_ASKED)
async def test_a_machine_shows_itself_as_the_odd_one_does(name: str, asked: Json, power: str) -> None:
    clock = Clock()
    azure = Azure(clock)
    machine = ready_machine(azure, clock)
    azure.behave(machine, behaviour_of(asked))
    if power:
        azure.start_operation(machine, power, started_by="User")
        clock.go(600)
    seen: list[Json] = []
    async with arm(azure) as client:
        for _ in range(3):  # an agent that comes and goes is not ready in one of them
            seen.append(view_of((await client.call("GET", f"{machine}?$expand=instanceView")).json()))
            clock.go(600)
    expected = view_of(ODD[name]["vm"])
    if power:  # the file shows an agent's last word beside a machine that is off
        seen, expected = [each | {"agent": []} for each in seen], expected | {"agent": []}
    assert expected in seen
    assert (seen[0] == seen[1]) == (name != "agent_not_ready_flips")


@pytest.mark.parametrize("name", ["group_dotted_i", "group_cjk", "group_greek", "group_sharp_s", "group_umlaut"])
async def test_a_group_may_have_any_letter(name: str) -> None:
    group = ODD[name]["vm"]["id"].split("/")[4]
    clock = Clock()
    azure = Azure(clock)
    machine = shapes.machine_id("vm-01", group)
    azure.create_machine(machine, shapes.machine())
    clock.go(3600)
    async with arm(azure) as client:
        assert (await client.call("GET", machine)).json()["id"] == machine
        assert [
            row["id"] for row in await client.rows("resources | where type =~ 'microsoft.compute/virtualmachines'")
        ] == [machine]


@pytest.mark.parametrize(
    "reference",
    [
        {"communityGalleryImageId": "/CommunityGalleries/g/Images/i/Versions/latest"},
        {"communityGalleryImageId": "/CommunityGalleries/g/Images/i"},
        {"sharedGalleryImageId": "/SharedGalleries/g/Images/i/Versions/latest"},
        {"id": f"{shapes.IMAGES['gallery-latest']['id']}/versions/latest"},  # type: ignore[index]
        {"id": shapes.IMAGES["gallery-latest"]["id"]},  # type: ignore[index]
    ],
    ids=str,
)
def test_the_exact_version_is_a_version(reference: dict[str, str]) -> None:
    """As in odd_machines.json: community_latest, community_definition, gallery_definition_exact."""
    azure = Azure(Clock())
    azure.create_machine(shapes.machine_id("vm-01"), shapes.machine(reference=reference))
    body = azure.machine("vm-01").body.at(azure.now()) or {}
    assert body["properties"]["storageProfile"]["imageReference"]["exactVersion"] == "1.0.0"


# -- what Resource Graph shows


COUNTS: dict[str, tuple[Json, Json]] = {
    "camel case": ({"pending": URGENT}, {"critical": 2, "security": 3, "other": 0}),
    "capitals": ({"pending": URGENT, "count_case": "Pascal"}, {"Critical": 2, "Security": 3, "Other": 0}),
    "upper case": ({"pending": URGENT, "count_case": "UPPER"}, {"CRITICAL": 2, "SECURITY": 3, "OTHER": 0}),
    "a list that was cut counts all": (
        {"pending": URGENT, "list_limit": 1},
        {"critical": 2, "security": 3, "other": 0},
    ),
    "Ubuntu Pro's count as security": ({"pending": {"securityEsm": 4}}, {"critical": 0, "security": 4, "other": 0}),
}


@pytest.mark.parametrize(("asked", "counts"), COUNTS.values(), ids=COUNTS)
async def test_what_the_counts_say(asked: Json, counts: Json) -> None:
    clock = Clock()
    azure = Azure(clock)
    machine = ready_machine(azure, clock)
    azure.behave(machine, behaviour_of(asked))
    operation = azure.start_operation(machine, "assess")
    clock.go(3600)
    async with arm(azure) as client:
        rows = await client.rows(
            "patchassessmentresources | where type endswith 'patchassessmentresults'"
            " | project counts = properties.availablePatchCountByClassification"
        )
    assert [row["counts"] for row in rows] == [counts]
    assert operation.output["criticalAndSecurityPatchCount"] == sum(counts.values())


def test_what_needs_ubuntu_pro_is_found_and_not_selected() -> None:
    """As in patch_results.json: class Security-ESM, state NotSelected."""
    clock = Clock()
    azure = Azure(clock)
    machine = ready_machine(azure, clock)
    azure.behave(machine, behaviour_of({"pending": {"security": 1, "securityEsm": 2}}))
    result = azure.start_operation(machine, "install").output
    assert [(each["classifications"], each["installationState"]) for each in result["patches"]] == [
        (["Security"], "Installed"),
        (["Security-ESM"], "NotSelected"),
        (["Security-ESM"], "NotSelected"),
    ]


@pytest.mark.parametrize("status", ["Canceled", "Failed"])
async def test_an_operation_is_preempted_with_either_status(status: str) -> None:
    recorded = next(
        each["body"]
        for each in payload("operation_errors.json")["records"]
        if each["code"] == "OperationPreempted" and each["operation_status"] == status
    )
    clock = Clock()
    azure = Azure(clock)
    machine = ready_machine(azure, clock)
    error = [recorded["error"]["code"], recorded["error"]["message"]]
    azure.behave(machine, behaviour_of({"azure_error": error, "azure_status": status}))
    async with arm(azure) as client:
        url = (await client.call("POST", f"{machine}/assessPatches")).headers["azure-asyncoperation"]
        clock.go(3600)
        answer = (await client.call("GET", url)).json()
    assert (answer["status"], answer["error"]) == (recorded["status"], recorded["error"])
    assert answer.get("properties", {}).get("output") is None


LINUX_CLASSES: list[Json] = payload("linux_classifications.json")["rows"]


@pytest.mark.parametrize("row", LINUX_CLASSES, ids=lambda row: "+".join(row["wanted"]))
def test_linux_installs_the_classifications_that_its_extension_takes_together(row: Json) -> None:
    clock = Clock()
    azure = Azure(clock)
    machine = ready_machine(azure, clock, os="Linux")
    azure.behave(machine, behaviour_of({"pending": {"critical": 1, "security": 1, "other": 1}}))
    order = install_order() | {"linuxParameters": {"classificationsToInclude": row["wanted"]}}
    operation = azure.start_operation(machine, "install", started_by="User", order=order)
    clock.go(4 * 3600)
    result = operation.output
    installed = {
        name
        for each in result["patches"]
        if each["installationState"] == "Installed"
        for name in each["classifications"]
    }
    assert installed == set(row["installs"])
    assert (result["status"] == "Failed") is row["refused"]
