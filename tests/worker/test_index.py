"""What the host learns when it asks which functions there are. One wrong binding, and a function never runs."""

import pytest

from functions.cloud import event_grid
from functions.cloud.queue import QUEUES
from functions.model.state import OperationKind
from tests.worker.in_process import App

QUEUE = {"direction": "IN", "type": "queueTrigger", "name": "message", "connection": "AzureWebJobsStorage"}

# function → its one binding, whole
BINDINGS = {
    "on_machine_written": {"direction": "IN", "type": "eventGridTrigger", "name": "event"},
    "on_machine_message": QUEUE | {"queueName": "machine-events"},
    "on_machine_poisoned": QUEUE | {"queueName": "machine-events-poison"},
    "on_reconcile": {
        "direction": "IN",
        "type": "timerTrigger",
        "name": "timer",
        "schedule": "%RECONCILE_SCHEDULE%",
        "runOnStartup": False,
    },
    "on_assess_request": QUEUE | {"queueName": "assess-requests"},
    "on_install_request": QUEUE | {"queueName": "install-requests"},
    "on_assess_poisoned": QUEUE | {"queueName": "assess-requests-poison"},
    "on_install_poisoned": QUEUE | {"queueName": "install-requests-poison"},
}


def test_the_app_has_eight_functions(app: App) -> None:
    assert set(app.functions) == set(BINDINGS)


@pytest.mark.parametrize("name", BINDINGS)
def test_a_function_has_exactly_its_trigger(app: App, name: str) -> None:
    assert [dict(binding) for binding in app.functions[name].bindings] == [BINDINGS[name]]


def test_what_the_app_and_event_grid_send_to_is_what_its_triggers_read(app: App) -> None:
    read = {f.trigger["queueName"] for f in app.functions.values() if f.trigger["type"] == "queueTrigger"}
    sent = {QUEUES[OperationKind.ASSESS], QUEUES[OperationKind.INSTALL], event_grid.QUEUE}
    assert read == sent | {f"{queue}-poison" for queue in sent}
