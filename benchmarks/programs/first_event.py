"""The first event of a fresh process: indexed, decoded, claimed, and its assessment accepted by Azure."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from benchmarks.programs import cpu_seconds, peak_mb, tell


class Accepted(logging.Handler):
    """Reads processor time and memory at the journal's line that Azure accepted the POST."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: dict[str, float] = {}
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        if '"assessment.started"' in self.lines[-1]:
            self.figures = {"cpu": cpu_seconds(), "peak_mb": peak_mb()}


def ours(event: dict[str, Any]) -> None:
    """`event` is one element of an Event Grid request. The app's settings are in the environment."""
    import azure.functions as func
    from azure.functions.meta import Datum, get_binding_registry

    import function_app

    functions = {each.get_function_name(): each for each in function_app.app.get_functions()}
    accepted = Accepted()
    logging.getLogger("journal").addHandler(accepted)
    logging.getLogger("journal").setLevel(logging.INFO)
    metadata = {"data": Datum(json.dumps(event["data"]), "json")}
    registry: Callable[[], Any] = get_binding_registry  # the library does not annotate it
    decoded = registry().get("eventGridTrigger").decode(Datum(json.dumps(event), "json"), trigger_metadata=metadata)
    assert isinstance(decoded, func.EventGridEvent)
    asyncio.run(functions["on_machine_written"].get_user_function()(decoded))
    if not accepted.figures:
        raise SystemExit("\n".join(accepted.lines))
    tell(**accepted.figures)
