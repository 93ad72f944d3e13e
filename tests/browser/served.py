"""A page of prepared documents, served as `patcher page` serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from patcher.errors import NoAnswer
from patcher.output import as_json
from patcher.page.document import KIND_OF
from patcher.page.server import Server, Source
from tests.browser.chromium import Page
from tests.browser.fleets import NOW

# Seconds between two looks of a page: of one that a test changes, and of one that stays as it is.
SOON, SELDOM = 0.2, 3600.0


@dataclass
class Prepared:
    """A source of which the test holds the document. `away`: Azure does not answer."""

    document: Mapping[str, Any]
    every: float = SELDOM
    away: bool = False
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._first = self.document

    async def fleet(self) -> str:
        self.asked.append("")
        if self.away:
            raise NoAnswer("Resource Graph: 503, try later")
        return as_json({**self.document, "every": self.every}, indent=None)

    async def machine(self, name: str) -> str:
        self.asked.append(name)
        return as_json(details_of(self._row(name)), indent=None)

    def _row(self, name: str) -> dict[str, Any]:
        """The machine as it is, or as it was: a browser may ask for one while it goes."""
        rows = (row for found in (self.document, self._first) for row in rows_of(found))
        return next(row for row in rows if row["group"] + row["name"] == name)


def rows_of(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """As the page unpacks them."""
    texts, columns, shared = document["texts"], document["columns"], document["shared"]
    for values in document["rows"]:
        yield {
            column: texts[value] if column in shared else value for column, value in zip(columns, values, strict=True)
        }


RULES = ("ledger", "in scope", "ours", "image in scope", "new enough", "tags allow", "can run", "powered on")
WAITS = [
    ("libssl3", "3.0.13-0ubuntu3.5", ["critical", "security"]),
    ("linux-image-6.8.0-49", "6.8.0-49.49", ["security"]),
]


def details_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What patcher/page/machine.py would say of the machine."""
    failed = row["state"] in ("failed", "breaker-open")
    result = "Failed" if failed else "Installed"
    waits = "Supported: {critical} critical, {security} security and {other} other patches wait".format(**row)
    created, assessed, expected = (_moment(row[name]) for name in ("created", "assessed", "expected"))
    moments = [
        _event(created, "created", row["image"]),
        _event(NOW - timedelta(days=8), "installation", "Succeeded", patches=_patches("Installed")),
        _event(NOW - timedelta(days=1), "installation", "Failed" if failed else "Succeeded", patches=_patches(result)),
        _event(assessed, "assessed", waits),
        _event(NOW, f"now {row['state']}", row["reason"]),
        _event(expected, "installation expected", "by the forecast") | {"to_come": True},
    ]
    return {
        **{name: row[name] for name in ("state", "reason", "image", "owner")},
        "machine": row["group"] + row["name"],
        "expected": expected,
        "remedy": row["remedy"] or None,
        "command": row["command"] or None,
        "verb": "wait",
        "stopped": None,
        "run": None,
        "failed_patches": [],
        "when": None,
        "rules": [
            *({"rule": rule, "speaks": False, "says": None} for rule in RULES),
            {"rule": "support state", "speaks": True, "says": row["reason"]},
        ],
        "evidence": {
            "instance view": {"power": "running", "agent ready": True, "reboot pending": False},
            "Resource Graph": {"support state": "Supported", "assessed": assessed},
            "ledger": {"phase": "held", "held because": row["reason"]} if failed else {},
            "tags": {"owner": row["owner"]},
            "settings": {"PATCH_MODE": "install"},
        },
        "at": NOW,
        "kind": KIND_OF[row["state"]],
        "pending": _patches("") if row["critical"] else [],
        "timeline": sorted((each for each in moments if each["at"]), key=lambda each: each["at"]),
    }


def _moment(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _event(at: datetime | None, what: str, detail: str, *, patches: list[Any] | None = None) -> dict[str, Any]:
    return {"at": at, "what": what, "detail": detail, "patches": patches or [], "to_come": False}


def _patches(state: str) -> list[dict[str, Any]]:
    return [
        {"patch": name, "kb": None, "version": version, "classes": classes, "state": state}
        for name, version, classes in WAITS
    ]


@asynccontextmanager
async def shown(page: Page, source: Source) -> AsyncIterator[None]:
    """The browser follows the link, as a person does, and has the fleet before it.

    At the end it has asked for nothing but this page, and its console has no error.
    """
    with Server(source, 0, lambda _: None) as server:
        page.requests.clear()
        page.errors.clear()
        await page.go(server.sessions.link)
        try:
            yield
        finally:
            await page.leave()
        assert [each for each in page.requests if not each.startswith(f"http://{server.sessions.host}/")] == []
        assert page.errors == []
