"""Runs `patcher page`: serves until it is ended, or writes one file."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from patcher.connection import App, Words
from patcher.errors import BadRequest
from patcher.output import Answer, Screen, line
from patcher.page.feed import Feed, Unread
from patcher.page.report import report
from patcher.page.server import Server

MIN_SECONDS = 1  # Resource Graph answers 15 queries in five


@dataclass(frozen=True)
class Options:
    port: int = 0
    output: Path | None = None
    every: float = 60  # seconds


async def show(app: App, words: Words, screen: Screen, *, options: Options, unread: Callable[[], Unread]) -> Answer:
    """Ends with the written file, or never. Raises PatcherError, CloudError and SettingsError."""
    if not options.every >= MIN_SECONDS:  # nan is not either
        raise BadRequest(
            f"--every is {options.every:g}; the fleet can be read every {MIN_SECONDS} second, or less often"
        )
    feed = Feed(app, words, every=options.every, unread=unread)
    if options.output:
        return await _write(feed, options.output, screen)
    with Server(feed, options.port, screen.say) as server:
        screen.say(f"{server.sessions.link}\nThe link works once. Ctrl-C ends the page.")
        await asyncio.Event().wait()
    raise AssertionError("the event is never set")


async def _write(feed: Feed, path: Path, screen: Screen) -> Answer:
    with screen.progress("page: reading Azure and the ledger …"):
        text = report(await feed.read(explained=True))
    try:
        await asyncio.to_thread(path.write_text, text, encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"--output {path}: {error.strerror}") from None
    return Answer({}, [line("written", str(path))])
