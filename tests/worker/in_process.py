"""Microsoft's own worker code in this process: the `azure-functions-runtime` package indexes and invokes the app.

The package is what Azure runs on Python 3.13 and newer. It takes its message classes from its caller, so plain
classes serve here in place of protobuf's. What is real: indexing, decoding of payloads, the call, the answer. What is
not: gRPC, protobuf's type checks, and everything the Functions host does (listeners, retries, `%NAME%` in bindings).

The package keeps its state in its module, so a process has one app and it is indexed once.
"""

import asyncio
import json
import logging
import types
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import azure_functions_runtime as runtime

RECORDINGS = Path(__file__).parents[1] / "recordings"

Typed = tuple[str, str]  # the kind of a TypedData message (json, string) and its text


class Message:
    """Any message of the protocol: what was given, and None for what was not, as over gRPC."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class TypedData:
    """One value under the name of its kind. Other names must be missing: the runtime asks which one is there."""

    def __init__(self, **value: str) -> None:
        vars(self).update(value)

    def WhichOneof(self, _: str) -> str | None:
        return next(iter(vars(self)), None)


class ParameterBinding(Message):
    def WhichOneof(self, _: str) -> str:
        return "data"


class StatusResult(Message):
    Failure, Success, Cancelled = 0, 1, 2


class BindingInfo(Message):
    out, inout = 1, 2


def _protocol() -> types.SimpleNamespace:
    plain = (
        "RpcFunctionMetadata",
        "RpcRetryOptions",
        "RpcException",
        "WorkerMetadata",
        "WorkerInitResponse",
        "FunctionMetadataResponse",
        "InvocationResponse",
    )
    return types.SimpleNamespace(
        TypedData=TypedData,
        ParameterBinding=ParameterBinding,
        StatusResult=StatusResult,
        BindingInfo=BindingInfo,
        **{name: type(name, (Message,), {}) for name in plain},
    )


@dataclass(frozen=True)
class Function:
    """One function as the runtime reports it to the host."""

    name: str
    id: str
    bindings: tuple[Mapping[str, Any], ...]

    @property
    def trigger(self) -> Mapping[str, Any]:
        return next(binding for binding in self.bindings if binding["type"].lower().endswith("trigger"))


@dataclass(frozen=True)
class Outcome:
    """What the host learns of an invocation, and what was logged meanwhile."""

    status: str
    exception: str
    stack: str
    logged: tuple[logging.LogRecord, ...]

    @property
    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(record.getMessage()) for record in self.logged if record.name == "journal"]

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.journal]

    @property
    def everything_said(self) -> str:
        """All text that reaches Application Insights."""
        format_record = logging.Formatter("%(name)s %(message)s").format
        return "\n".join([self.exception, self.stack, *map(format_record, self.logged)])


@dataclass
class App:
    """One indexed app, and the loop that its functions run in."""

    folder: Path
    functions: dict[str, Function] = field(default_factory=dict)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _protocol: types.SimpleNamespace = field(default_factory=_protocol)

    def index(self) -> None:
        """What the worker does at its start. Raises RuntimeError with the runtime's own words."""
        init = Message(capabilities={}, function_app_directory=str(self.folder))
        started = self.run(runtime.worker_init_request(self._envelope(worker_init_request=init)))
        if started.result.status != StatusResult.Success:
            raise RuntimeError(started.result.exception.message)
        asked = self._envelope(functions_metadata_request=Message())
        for item in self.run(runtime.functions_metadata_request(asked)).function_metadata_results or []:
            bindings = tuple(json.loads(text) for text in item.raw_bindings)
            self.functions[item.name] = Function(item.name, item.function_id, bindings)

    def invoke(self, name: str, payload: Any = None) -> Outcome:
        """One invocation as the host would ask for it: an event (dict), a message's text, or a tick of the timer."""
        function = self.functions[name]
        value, metadata = _TRIGGERS[function.trigger["type"]](payload)
        invocation = Message(
            invocation_id=str(uuid.uuid4()),
            function_id=function.id,
            input_data=[ParameterBinding(name=function.trigger["name"], data=_typed(value))],
            trigger_metadata={key: _typed(item) for key, item in metadata.items()},
            trace_context=Message(trace_parent=f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01", attributes={}),
            retry_context=Message(retry_count=0, max_retry_count=0, exception=Message(message="")),
        )
        with _Capture() as capture:
            answer = self.run(runtime.invocation_request(self._envelope(invocation_request=invocation)))
        problem = answer.result.exception or Message(message="", stack_trace="")
        status = {StatusResult.Success: "Success", StatusResult.Failure: "Failure"}[answer.result.status]
        return Outcome(status, problem.message, problem.stack_trace, tuple(capture.records))

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def _envelope(self, **content: Message) -> types.SimpleNamespace:
        properties = {"host": "127.0.0.1", "protos": self._protocol}
        return types.SimpleNamespace(request=Message(**content), properties=properties)


class _Capture(logging.Handler):
    """Every record of every logger, at the level that the worker sets for the root."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def __enter__(self) -> "_Capture":
        root = logging.getLogger()
        self._level = root.level
        root.setLevel(logging.INFO)
        root.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
        logging.getLogger().setLevel(self._level)


def _typed(value: Typed) -> TypedData:
    return TypedData(**{value[0]: value[1]})


# -- what the host sends for each trigger: (the argument, the trigger's metadata)


def _event(event: Mapping[str, Any]) -> tuple[Typed, dict[str, Typed]]:
    data = event.get("data")
    return ("json", json.dumps(event)), {} if data is None else {"data": ("json", json.dumps(data))}


def _message(text: str) -> tuple[Typed, dict[str, Typed]]:
    now = datetime.now(UTC)
    metadata = {
        "QueueTrigger": ("string", text),
        "DequeueCount": ("json", "1"),
        "Id": ("string", str(uuid.uuid4())),
        "PopReceipt": ("string", "AgAAAAMAAAAAAAAA"),
        "InsertionTime": ("json", json.dumps(now.isoformat())),
        "ExpirationTime": ("json", json.dumps((now + timedelta(days=7)).isoformat())),
        "NextVisibleTime": ("json", json.dumps((now + timedelta(minutes=10)).isoformat())),
    }
    return ("string", text), merged(text, metadata)


def merged(text: str, metadata: Mapping[str, Typed]) -> dict[str, Typed]:
    """The host lays a JSON object's top-level members over the metadata, by name without case; no arrays, no nulls."""
    result = dict(metadata)
    names: dict[str, str] = {name.lower(): name for name in metadata}
    try:
        body: Any = json.loads(text)
    except ValueError:
        return result
    members: dict[str, Any] = body if isinstance(body, dict) else {}
    for name, value in members.items():
        if value is None or isinstance(value, list):
            continue
        plain = ("json", json.dumps(value)) if isinstance(value, dict) else ("string", str(value))
        result[names.get(name.lower(), name)] = plain
    return result


def _tick(changes: Mapping[str, Any] | None) -> tuple[Typed, dict[str, Typed]]:
    never = "0001-01-01T00:00:00+00:00"
    status = {"Last": never, "Next": datetime.now(UTC).isoformat(), "LastUpdated": never}
    info = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": status, "IsPastDue": False} | dict(changes or {})
    return ("json", json.dumps(info)), {"TimerTrigger": ("string", "11/25/2026 12:00:00")}


_TRIGGERS: Mapping[str, Any] = {"eventGridTrigger": _event, "queueTrigger": _message, "timerTrigger": _tick}


def payload(file: str) -> Any:
    """A recorded event."""
    return json.loads((RECORDINGS / file).read_text(encoding="utf-8"))
