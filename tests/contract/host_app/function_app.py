"""The app of the recording: four functions that note what they get and then do what the event or message asks for.

`IMPORT_DOES` and `TICK_DOES` are read at import, since each host imports this file again under its own settings.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
from typing import Any

import azure.functions as func
from host_app_book import BOOK, MAX_WAIT_SECONDS

if os.environ.get("IMPORT_DOES") == "raise":
    raise ValueError("the import fails")
if os.environ.get("IMPORT_DOES") == "exit":
    raise SystemExit(3)

app = func.FunctionApp()
_journal = logging.getLogger("journal")
_TICK_DOES: dict[str, Any] = json.loads(os.environ.get("TICK_DOES", "{}"))
_tick_numbers = itertools.count(1)


@app.event_grid_trigger(arg_name="event")
async def on_event(event: func.EventGridEvent, context: func.Context) -> None:
    await _do(event.get_json(), event, context)


@app.queue_trigger(arg_name="msg", queue_name="%WORK_QUEUE%", connection="WORK")
async def on_work(msg: func.QueueMessage, context: func.Context) -> None:
    await _do(_parsed(msg), msg, context)


@app.queue_trigger(arg_name="msg", queue_name="%WORK_QUEUE%-poison", connection="WORK")
async def on_work_poison(msg: func.QueueMessage, context: func.Context) -> None:
    body = _parsed(msg)
    await _do(body.get("poison") if isinstance(body, dict) else None, msg, context)


@app.timer_trigger(arg_name="timer", schedule="%TICK_SCHEDULE%")
def on_tick(timer: func.TimerRequest, context: func.Context) -> None:
    entry = BOOK.enter(context, timer)
    if "until" in _TICK_DOES:
        BOOK.gates[_TICK_DOES["until"]].wait(next(_tick_numbers))
    if "raise" in _TICK_DOES:
        raise ValueError(_TICK_DOES["raise"])
    entry.finished = True


def _may_pass(asked: dict[str, Any], attempt: int) -> bool:
    return "until" not in asked or BOOK.gates[asked["until"]].lets_pass(attempt)


def _parsed(msg: func.QueueMessage) -> Any:
    try:
        return json.loads(msg.get_body())
    except ValueError:
        return None


async def _do(asked: Any, argument: object, context: func.Context) -> None:
    asked = asked if isinstance(asked, dict) else {}
    entry = BOOK.enter(context, argument)
    attempt = getattr(argument, "dequeue_count", 1)
    try:
        for text in asked.get("log", []):
            _journal.info(text)
        async with asyncio.timeout(MAX_WAIT_SECONDS):
            while attempt <= asked.get("hangs", 0) or not _may_pass(asked, attempt):  # noqa: ASYNC110  (threads use gates too)
                await asyncio.sleep(0.01)
        if "exit" in asked:
            raise SystemExit(asked["exit"])
        if "raise" in asked:
            raise ValueError(asked["raise"])
        entry.finished = True
    finally:
        entry.left = True
