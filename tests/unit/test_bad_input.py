"""Everything from outside that cannot be read, and the one clear line it gives: what, where, what would be right.

One table over all entrances: events, queue messages, ids, settings, tags, ARM's and Graph's answers, operation URLs.
Each row is the bad thing and what its line must say. No line may repeat a query string, a signature, a key, a password
or a line break: it travels to Application Insights.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.cloud.arm import ResourceManager
from functions.cloud.event_grid import RESOURCE_ACTION_SUCCESS, RESOURCE_WRITE_SUCCESS, machine_in
from functions.cloud.models import machine_from_arm, machine_from_graph, time_or_none
from functions.cloud.queue import NewerMessage, read_message
from functions.cloud.session import Session
from functions.model.machine import MachineId, group_id
from functions.model.text import BadInput, quoted
from functions.policy.settings import SettingsError, read_settings
from functions.policy.tags import read_tags
from tests.support import (
    NOW,
    OPERATION,
    OPERATION_URL,
    REQUIRED,
    SUBSCRIPTION,
    a_graph_row,
    an_arm_machine,
    merged,
    settings,
)

SECRET = "c2VjcmV0"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg"
ID = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/vm-01"
SHAPE = "it should read /subscriptions/<guid>/resourceGroups/<group>/providers/Microsoft.Compute/virtualMachines/<name>"


def refusal(call: Callable[[], object]) -> str:
    """The line that a bad thing gives."""
    with pytest.raises((BadInput, SettingsError)) as caught:
        call()
    return str(caught.value)


def is_clear(line: str) -> None:
    assert line.isprintable(), "more than one line, or control characters"
    assert line.strip() == line
    assert SECRET not in line
    assert "sig=" not in line.replace("sig=…", "")
    assert len(line) < 500


# -- ids of machines and groups: one way to be right

IDS: dict[str, Any] = {
    "none": None,
    "a number": 7,
    "an object": {"id": ID},
    "empty": "",
    "a name alone": "vm-01",
    "no guid": "/subscriptions/mine/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm-01",
    "a short guid": ID.replace(SUBSCRIPTION, SUBSCRIPTION[:-1]),
    "no group": f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachines/vm-01",
    "no name": ID.removesuffix("vm-01"),
    "an extension": f"{ID}/extensions/LinuxPatchExtension",
    "a trailing slash": f"{ID}/",
    "a trailing line break": f"{ID}\n",
    "a leading blank": f" {ID}",
    "a query": f"{ID}?api-version=1&sig={SECRET}",
    "a fragment": f"{ID}#x",
    "a URL": f"https://management.azure.com{ID}",
    "two dots for a group": ID.replace("/rg/", "/../"),
    "two dots for a name": ID.replace("vm-01", ".."),
    "an escaped slash": ID.replace("vm-01", "vm%2F01"),
    "a quote": ID.replace("vm-01", "vm' or '1'='1"),
    "a blank in the name": ID.replace("vm-01", "vm 01"),
    "a name too long": ID.replace("vm-01", "x" * 81),
    "a group too long": ID.replace("/rg/", f"/{'x' * 91}/"),
    "a group that ends with a dot": ID.replace("/rg/", "/rg./"),
    "a scale set's machine": f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/s/virtualMachines/0",
    "a part of an Arc machine": f"{GROUP}/providers/Microsoft.HybridCompute/machines/vm-01/extensions/e",
    "a virtual machine of Arc's provider": f"{GROUP}/providers/Microsoft.HybridCompute/virtualMachines/vm-01",
    "another provider": ID.replace("Microsoft.Compute", "Contoso.Compute"),
    "a dot that stands for any letter": ID.replace("Microsoft.Compute", "MicrosoftxCompute"),
    "a null character": ID.replace("vm-01", "vm\x0001"),
    "a Kelvin sign, whose lower case is a k": ID.replace("vm-01", "wee\u212a"),
    "a long s, which some take for an s": ID.replace("subscriptions", "\u017fubscription\u017f"),
    "a hundred thousand letters": "/" + "x" * 100_000,
}


@pytest.mark.parametrize("text", IDS.values(), ids=IDS)
def test_ids(text: Any) -> None:
    line = refusal(lambda: MachineId.parse(text))
    assert line.endswith(f"is not a virtual machine id; {SHAPE}")
    is_clear(line)
    assert isinstance(text, str) or line.startswith(("nothing ", "a number ", "an object "))


@pytest.mark.parametrize("text", [None, "", ID, f"{GROUP}/", f"{GROUP}\n", f"{GROUP}?sig={SECRET}", "rg"])
def test_group_ids(text: Any) -> None:
    line = refusal(lambda: group_id(text))
    assert "is not a resource group id" in line
    is_clear(line)


# -- events

WRITE = {"operationName": "Microsoft.Compute/virtualMachines/write"}
EVENTS: dict[str, tuple[Any, Any, Any, str]] = {
    "no type": (None, ID, WRITE, "an event's type is nothing; it should be Microsoft.Resources"),
    "an empty type": ("", ID, WRITE, "an event's type is ''; it should be"),
    "a type that is not a text": (7, ID, WRITE, "an event's type is a number; it should be"),
    "no data": (RESOURCE_WRITE_SUCCESS, ID, None, "an event's data is nothing; it should be an object"),
    "data as text": (RESOURCE_WRITE_SUCCESS, ID, '{"a": 1}', "an event's data is '{\"a\": 1}'; it should be an object"),
    "data as a list": (RESOURCE_WRITE_SUCCESS, ID, [WRITE], "an event's data is a list; it should be an object"),
    "no operation": (RESOURCE_WRITE_SUCCESS, ID, {}, "an event's data.operationName is nothing; it should name"),
    "an empty operation": (RESOURCE_ACTION_SUCCESS, ID, {"operationName": ""}, "data.operationName is ''"),
    "an operation as an object": (RESOURCE_WRITE_SUCCESS, ID, {"operationName": {"value": "x"}}, "is an object"),
    "no subject": (RESOURCE_WRITE_SUCCESS, None, WRITE, "nothing is not a virtual machine id"),
    "a subject with a query": (RESOURCE_WRITE_SUCCESS, f"{ID}?sig={SECRET}", WRITE, "is not a virtual machine id"),
    "a subject of two lines": (RESOURCE_WRITE_SUCCESS, f"{ID}\n{ID}", WRITE, "is not a virtual machine id"),
    "an extension's subject": (RESOURCE_WRITE_SUCCESS, f"{ID}/extensions/x", WRITE, "is not a virtual machine id"),
}


@pytest.mark.parametrize(("event_type", "subject", "data", "says"), EVENTS.values(), ids=EVENTS)
def test_events(event_type: Any, subject: Any, data: Any, says: str) -> None:
    line = refusal(lambda: machine_in(event_type, subject, data))
    assert says in line
    is_clear(line)


# -- queue messages

FORM = 'a message should read {"v": 1, "job": {"machine": "<id>", "claim": "<token>"}}'
MESSAGES: dict[str, tuple[str, str]] = {
    "empty": ("", "a message is not JSON: ''"),
    "text": ("patch everything", "a message is not JSON: 'patch everything'"),
    "cut off": ('{"v": 1, "job"', "a message is not JSON"),
    "two lines of nonsense": ("a\nb", "a message is not JSON: 'a?b'"),
    "a signed URL": (f"https://x/?sig={SECRET}", "a message is not JSON: 'https://x/'"),
    "a connection string": (f"AccountName=a;AccountKey={SECRET}", "is not JSON: 'AccountName=a;AccountKey=…'"),
    "brackets, thousands deep": ("[" * 60_000, "a message is not JSON"),
    "null": ("null", FORM),
    "a list": ("[]", FORM),
    "a number": ("7", FORM),
    "no version": (json.dumps({"job": {"machine": ID, "claim": "t"}}), FORM),
    "version nought": (json.dumps({"v": 0, "job": {"machine": ID, "claim": "t"}}), FORM),
    "a version as text": (json.dumps({"v": "1", "job": {"machine": ID, "claim": "t"}}), FORM),
    "a version as fraction": (json.dumps({"v": 1.5, "job": {"machine": ID, "claim": "t"}}), FORM),
    "no job": (json.dumps({"v": 1}), FORM),
    "a job as text": (json.dumps({"v": 1, "job": ID}), FORM),
    "no machine": (json.dumps({"v": 1, "job": {"claim": "t"}}), "nothing is not a virtual machine id"),
    "a wrong machine": (json.dumps({"v": 1, "job": {"machine": "vm-01", "claim": "t"}}), "'vm-01' is not a virtual"),
    "no claim": (json.dumps({"v": 1, "job": {"machine": ID}}), "a message's job.claim is nothing; it should be"),
    "an empty claim": (json.dumps({"v": 1, "job": {"machine": ID, "claim": ""}}), "job.claim is ''; it should be"),
    "a claim as number": (
        json.dumps({"v": 1, "job": {"machine": ID, "claim": 7}}),
        "job.claim is a number; it should be",
    ),
    "unwrapped": (json.dumps({"machine": ID, "claim": "t"}), FORM),
}


@pytest.mark.parametrize(("body", "says"), MESSAGES.values(), ids=MESSAGES)
def test_messages(body: str, says: str) -> None:
    line = refusal(lambda: read_message(body))
    assert says in line
    is_clear(line)


@given(st.one_of(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
def test_any_text_is_a_message_or_a_clear_line(body: str) -> None:
    line = ""
    try:
        read_message(body)
    except (BadInput, NewerMessage) as problem:
        line = str(problem)
    assert line.isprintable()


# -- ARM's answers about a machine

ARM: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"id": None}, "is not a virtual machine id"),
    "another resource": ({"id": f"{GROUP}/providers/Microsoft.Compute/disks/d"}, "is not a virtual machine id"),
    "tags as a list": ({"tags": ["patch-mode"]}, "tags are a list; they should be an object of names and values"),
    "tags as text": ({"tags": '{"patch-mode": "off"}'}, "they should be an object of names and values"),
    "no properties": ({"properties": None}, "osDisk.osType is nothing; it should be Windows or Linux"),
    "properties as a list": ({"properties": []}, "osDisk.osType is nothing"),
    "no storage profile": ({"properties": {"storageProfile": None}}, "osDisk.osType is nothing"),
    "another system": (
        {"properties": {"storageProfile": {"osDisk": {"osType": "Plan 9"}}}},
        "osDisk.osType is 'Plan 9'; it should be Windows or Linux",
    ),
    "a time that is none": (
        {"properties": {"timeCreated": "last week"}},
        "'last week' is not a time; it should read like 2026-11-25T08:00:00Z",
    ),
    "a time as number": ({"properties": {"timeCreated": 1764072000}}, "a number is not a time"),
    "a time before time": ({"properties": {"timeCreated": "0001-01-01T00:00:00+05:00"}}, "is not a time"),
    "the end of time": ({"properties": {"timeCreated": "9999-12-31T23:59:59.9999999Z"}}, "is not a time"),
    "a wrong time in a summary": (
        {
            "properties": {
                "instanceView": {
                    "patchStatus": {"availablePatchSummary": {"assessmentActivityId": OPERATION, "startTime": "soon"}}
                }
            }
        },
        "'soon' is not a time",
    ),
}


@pytest.mark.parametrize(("changes", "says"), ARM.values(), ids=ARM)
def test_answers_of_arm(changes: dict[str, Any], says: str) -> None:
    line = refusal(lambda: machine_from_arm(an_arm_machine(**changes)))
    assert says in line
    is_clear(line)


JUNK: dict[str, Any] = {"none": None, "text": "text", "number": 7, "list": [None, 7, "x"], "object": {"a": {"b": []}}}
ARM_PATHS = [
    ("plan",),
    ("managedBy",),
    ("location",),
    ("properties", "vmId"),
    ("properties", "provisioningState"),
    ("properties", "osProfile"),
    ("properties", "osProfile", "linuxConfiguration"),
    ("properties", "osProfile", "linuxConfiguration", "patchSettings"),
    ("properties", "virtualMachineScaleSet"),
    ("properties", "storageProfile", "imageReference"),
    ("properties", "instanceView"),
    ("properties", "instanceView", "vmAgent"),
    ("properties", "instanceView", "statuses"),
    ("properties", "instanceView", "extensions"),
    ("properties", "instanceView", "patchStatus"),
    ("properties", "instanceView", "patchStatus", "availablePatchSummary"),
]


@pytest.mark.parametrize("path", ARM_PATHS, ids=".".join)
@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_junk_in_what_may_be_missing_is_as_good_as_missing(path: tuple[str, ...], junk: Any) -> None:
    """An optional part of the wrong type never stops a machine from being read, and never reads as permission."""
    change: Any = junk
    for name in reversed(path):
        change = {name: change}
    machine = machine_from_arm(merged(an_arm_machine(), change))
    assert machine.id == MachineId.parse(an_arm_machine()["id"])
    assert machine.patch_statuses == ()
    if path[-1] in ("instanceView", "vmAgent"):
        assert machine.agent_ready in (False, None) or isinstance(junk, dict)


# -- Graph's rows

GRAPH: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"id": None}, "nothing is not a virtual machine id"),
    "an assessment's id": ({"id": f"{ID}/patchAssessmentResults/latest"}, "is not a virtual machine id"),
    "an id with a query": ({"id": f"{ID}?sig={SECRET}"}, "is not a virtual machine id"),
    "no system": ({"os_type": ""}, "osDisk.osType is ''; it should be Windows or Linux"),
    "tags as a list": ({"tags": []}, "tags are a list; they should be an object of names and values"),
    "a wrong time": ({"assessment_started": "2026-25-11"}, "'2026-25-11' is not a time"),
    "a time as an object": ({"created": {}}, "an object is not a time"),
}


@pytest.mark.parametrize(("changes", "says"), GRAPH.values(), ids=GRAPH)
def test_rows_of_graph(changes: dict[str, Any], says: str) -> None:
    line = refusal(lambda: machine_from_graph(a_graph_row(**changes)))
    assert says in line
    is_clear(line)


OPTIONAL_COLUMNS = [
    "plan",
    "image",
    "managedBy",
    "location",
    "vm_id",
    "scale_set",
    "windows",
    "linux",
    "counts",
]


@pytest.mark.parametrize("column", OPTIONAL_COLUMNS)
@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_junk_in_a_column_that_may_be_empty(column: str, junk: Any) -> None:
    row = a_graph_row(**{column: junk})
    assert machine_from_graph(row).id == MachineId.parse(row["id"])


def test_a_count_that_is_not_a_number_counts_nothing() -> None:
    verdict = machine_from_graph(a_graph_row(counts={"critical": "many", "security": None, "other": 1.5})).verdict
    assert verdict is not None
    assert dict(verdict.counts) == {}


# -- operation URLs: our token goes to ARM alone

HOST = "https://management.azure.com"
PATH = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/westeurope/operations/{OPERATION}"
ARC_PATH = PATH.replace("Microsoft.Compute", "Microsoft.HybridCompute").replace(
    "/operations/", "/updateCenterOperationResults/"
)
URLS: dict[str, str] = {
    "empty": "",
    "no URL": "operation",
    "the path alone": PATH,
    "no scheme": f"//management.azure.com{PATH}",
    "http": f"http://management.azure.com{PATH}",
    "another host": f"https://evil.example{PATH}",
    "our host as a subdomain": f"https://management.azure.com.evil.example{PATH}",
    "a host that ends alike": f"https://evil-management.azure.com{PATH}",
    "our host as a user": f"https://management.azure.com@evil.example{PATH}",
    "a user": f"https://me@management.azure.com{PATH}",
    "a user and a password": f"https://me:{SECRET}@management.azure.com{PATH}",
    "another port": f"https://management.azure.com:8443{PATH}",
    "a port that is none": f"https://management.azure.com:x{PATH}",
    "a backslash": f"https://management.azure.com\\@evil.example{PATH}",
    "a backslash for a slash": f"https://management.azure.com\\{PATH}",
    "a dot behind the host": f"https://management.azure.com.{PATH}",
    "broken brackets": f"https://[management.azure.com{PATH}",
    "an address": f"https://[::1]{PATH}",
    "a line break in the host": f"https://management.azure.com\n{PATH}",
    "a line break in the query": f"{HOST}{PATH}?a=1\r\nHost: evil.example",
    "a blank": f"{HOST}{PATH}?a= b",
    "a leading blank": f" {HOST}{PATH}",
    "no operation": f"{HOST}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/westeurope",
    "an operation without a guid": f"{HOST}{PATH[:-3]}",
    "more behind the operation": f"{HOST}{PATH}/cancel",
    "a trailing slash": f"{HOST}{PATH}/",
    "dots in the path": f"{HOST}{PATH}/../../../../resourceGroups/rg",
    "dots for the location": f"{HOST}{PATH.replace('westeurope', '..')}",
    "an escaped path": f"{HOST}{PATH.replace('/operations/', '%2Foperations%2F')}",
    "an Arc operation without a guid": f"{HOST}{ARC_PATH[:-3]}",
    "another kind of operation of Arc": f"{HOST}{ARC_PATH.replace('updateCenter', 'other')}",
    "another provider": f"{HOST}{PATH.replace('Microsoft.Compute', 'Microsoft.Authorization')}",
    "a machine": f"{HOST}{ID}?api-version=2024-11-01&sig={SECRET}",
    "a file": f"file://management.azure.com{PATH}",
    "a fragment": f"{HOST}{PATH}#x",
    "a long s, which some take for an s": f"{HOST}{PATH.replace('subscriptions', chr(0x17F) + 'ubscriptions')}",
    "a look-alike letter in the region": f"{HOST}{PATH.replace('westeurope', 'w' + chr(0x435) + 'steurope')}",
    "a look-alike letter in the query": f"{HOST}{PATH}?p={chr(0x430)}",
}


def resource_manager(**environ: str) -> ResourceManager:
    """One that calls nothing: its clients are never made."""
    return ResourceManager(Session(settings(**environ), lambda: NOW))


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_operation_urls(url: str) -> None:
    arm = resource_manager()
    line = refusal(lambda: arm.operation_id(url))
    assert line == "an operation URL is not one of ARM's; it is not called"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(OPERATION_URL, id="as ARM sends it"),
        pytest.param(f"{HOST}{PATH.upper()}", id="in another letter case"),
        pytest.param(f"HTTPS://MANAGEMENT.AZURE.COM{PATH}", id="host in another letter case"),
        pytest.param(f"{HOST}{ARC_PATH}?api-version=2024-07-10", id="of an Arc-enabled server"),
        pytest.param(f"{HOST}{ARC_PATH}*0A1B2C?p=1", id="of an Arc-enabled server, with a hash"),
    ],
)
def test_operation_urls_that_are_right(url: str) -> None:
    assert resource_manager().operation_id(url) == OPERATION


def test_the_host_is_the_one_of_the_setting() -> None:
    arm = resource_manager(ARM_ENDPOINT="https://localhost:8443", ARM_ENDPOINT_ALLOW="custom")
    assert arm.operation_id(f"https://localhost:8443{PATH}") == OPERATION
    refusal(lambda: arm.operation_id(f"{HOST}{PATH}"))


# -- settings and tags: more in test_policy.py; here what their lines must not repeat

SETTINGS: dict[str, dict[str, str]] = {
    "a SAS query": {"ARM_ENDPOINT": f"https://x.example/?sig={SECRET}"},
    "a password": {"ARM_ENDPOINT": f"https://me:{SECRET}@x.example"},
    "a key": {"AzureWebJobsStorage__queueServiceUri": f"AccountName=a;AccountKey={SECRET};EndpointSuffix=x"},
    "a signature without a question mark": {"PATCH_SCOPE": f"sv=1&sig={SECRET}"},
    "a token": {"PATCH_MODE": f"token={SECRET}"},
    "two lines": {"PATCH_MODE": "off\ninstall"},
    "a very long value": {"PATCH_MODE": "x" * 10_000},
    "a host that looks like Azure's": {"ARM_ENDPOINT": "https://m\u0430nagement.azure.com"},
    "storage that looks like ours": {"AzureWebJobsStorage__queueServiceUri": "https://\u0430.queue.core.windows.net"},
    "a package that looks like another": {"PATCH_PACKAGES_EXCLUDE": "k\u0435rnel*"},
    "digits of another script": {"PATCH_MAX_IN_FLIGHT": "\u0661\u0660"},
    "a client id of two lines": {"AZURE_CLIENT_ID": "id\nHost: evil.example"},
}


@pytest.mark.parametrize("environ", SETTINGS.values(), ids=SETTINGS)
def test_settings(environ: dict[str, str]) -> None:
    line = refusal(lambda: read_settings({**REQUIRED, **environ}))
    assert next(iter(environ)) in line
    assert "; allowed: " in line
    is_clear(line)


@pytest.mark.parametrize("text", [f"off?sig={SECRET}", "off\ninstall", "x" * 5000, "\x00", f"password={SECRET}"])
@pytest.mark.parametrize("tag", ["patch-mode", "patch-reboot", "patch-hold-until", "patch-owner"])
def test_tags(tag: str, text: str) -> None:
    line = read_tags({tag: text}, {}).problem
    assert line.startswith(f"tag {tag} is '")
    assert "; allowed: " in line
    is_clear(line)


# -- the two helpers that every line goes through


@given(st.text())
def test_what_is_shown_is_short_and_on_one_line(text: str) -> None:
    line = quoted(text)
    assert line.isprintable()
    assert len(line) <= 123
    assert "?" not in line or not text.isprintable()


@given(st.text(max_size=40))
def test_any_text_is_a_time_none_or_a_clear_line(text: str) -> None:
    line = ""
    try:
        time_or_none(text)
    except BadInput as problem:
        line = str(problem)
    assert line.isprintable()


def test_the_table_is_long_enough() -> None:
    tables = (IDS, EVENTS, MESSAGES, ARM, GRAPH, URLS, SETTINGS)
    assert sum(map(len, tables)) > 100
