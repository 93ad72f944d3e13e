"""Wrong settings and defects: every trigger refuses, says why in one line each, and gives no secret away.

The text of an exception and its stack reach Application Insights whole, so both are read here as the host gets them.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support.tables import TableCall
from tests.worker.in_process import App
from tests.worker.test_events import CREATED
from tests.worker.test_messages import BODY

PAYLOADS = {
    "on_machine_written": CREATED,
    "on_reconcile": None,
    "on_assess_request": BODY,
    "on_install_request": BODY,
    "on_assess_poisoned": BODY,
    "on_install_poisoned": BODY,
    "on_machine_message": json.dumps(CREATED),
    "on_machine_poisoned": json.dumps(CREATED),
}
SECRET = "c2VjcmV0LXRoYXQtbXVzdC1ub3Qtc2hvdw"
SIGNED = f"https://account.queue.core.windows.net/?sv=2026-01-01&sig={SECRET}"
CONNECTION_STRING = (
    f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={SECRET}==;EndpointSuffix=core.windows.net"
)

SHARED_ACCESS = f"QueueEndpoint=https://a.queue.core.windows.net/;SharedAccessSignature=sv=2026-01-01&sig={SECRET}"


@pytest.fixture(params=PAYLOADS)
def function(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_without_any_setting_a_trigger_refuses_and_names_them(app: App, function: str) -> None:
    outcome = app.invoke(function, PAYLOADS[function])
    assert outcome.status == "Failure"
    assert set(outcome.events) == {"settings.refused"}
    assert {line["setting"] for line in outcome.journal} == {
        "RECONCILE_SCHEDULE",
        "AzureWebJobsStorage__queueServiceUri",
        "AzureWebJobsStorage__tableServiceUri",
    }
    assert {line["function"] for line in outcome.journal} == {function}
    assert all(line["setting"] in outcome.exception for line in outcome.journal)


WRONG = {
    "a queue address with a signature": ("AzureWebJobsStorage__queueServiceUri", SIGNED),
    "a table address with a signature": ("AzureWebJobsStorage__tableServiceUri", SIGNED),
    "a connection string for the queues": ("AzureWebJobsStorage__queueServiceUri", CONNECTION_STRING),
    "a connection string for the tables": ("AzureWebJobsStorage__tableServiceUri", CONNECTION_STRING),
    "a signed connection string": ("AzureWebJobsStorage__queueServiceUri", SHARED_ACCESS),
    "a signed address for Resource Manager": ("ARM_ENDPOINT", SIGNED),
    "a password in Resource Manager's address": ("ARM_ENDPOINT", f"https://user:{SECRET}@management.azure.com"),
}


@pytest.mark.parametrize(("name", "value"), WRONG.values(), ids=WRONG)
def test_a_secret_in_a_wrong_setting_stays_unsaid(
    app: App, settings: Callable[..., Mapping[str, str]], function: str, name: str, value: str
) -> None:
    settings(**{name: value})
    outcome = app.invoke(function, PAYLOADS[function])
    assert outcome.status == "Failure"
    assert [(line["event"], line["setting"]) for line in outcome.journal] == [("settings.refused", name)]
    assert SECRET[:12] not in outcome.everything_said  # nor its beginning, where a value is shortened


def test_a_corrected_setting_is_read_without_a_restart(app: App, settings: Callable[..., Mapping[str, str]]) -> None:
    settings(PATCH_MODE="everything")
    assert app.invoke("on_machine_written", CREATED).events == ["settings.refused"]
    settings(PATCH_MODE="off")
    assert app.invoke("on_machine_written", CREATED).events == ["event.ignored"]


async def fail_with_a_secret(call: TableCall) -> None:
    """A defect whose text holds a secret, as an SDK's own exception may."""
    raise RuntimeError(f"cannot read {SIGNED}")


READ_THE_LEDGER = [each for each in PAYLOADS if each != "on_machine_poisoned"]  # a poisoned event is only reported


@pytest.mark.parametrize("function", READ_THE_LEDGER)
def test_a_defect_is_named_by_its_place_and_not_by_its_text(app: App, ledger: Any, function: str) -> None:
    ledger.table.before = fail_with_a_secret
    outcome = app.invoke(function, PAYLOADS[function])
    assert outcome.status == "Failure"
    assert outcome.events[-1] == "step.failed"
    assert "RuntimeError at test_refusals.py:" in outcome.exception
    assert SECRET not in outcome.everything_said
