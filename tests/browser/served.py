"""A page of prepared documents, served as `patcher page` serves it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from patcher.errors import NoAnswer
from patcher.output import as_json
from patcher.page.document import KIND_OF
from patcher.page.server import Server, Source
from tests.browser.chromium import Page
from tests.browser.fleets import NOW

SOON = 0.2  # seconds between two looks of a page


@dataclass
class Prepared:
    """A source of which the test holds the document. `away`: Azure does not answer."""

    document: Mapping[str, Any]
    away: bool = False
    asked: list[str] = field(default_factory=list)

    async def fleet(self) -> str:
        self.asked.append("")
        if self.away:
            raise NoAnswer("Resource Graph: 503, try later")
        return as_json({**self.document, "every": SOON}, indent=None)

    async def machine(self, name: str) -> str:
        self.asked.append(name)
        return as_json(details_of(self._row(name)), indent=None)

    def _row(self, name: str) -> dict[str, Any]:
        found = json.loads(as_json(self.document))
        values = next(each for each in found["rows"] if each[0] == name)
        return {
            column: found["texts"][value] if column in found["shared"] else value
            for column, value in zip(found["columns"], values, strict=True)
        }


def details_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What patcher/page/machine.py would say of the machine."""
    waits = [
        ("libssl3", "3.0.13-0ubuntu3.5", ["critical", "security"]),
        ("linux-image-6.8.0-49", "6.8.0-49.49", ["security"]),
    ]
    failed = row["state"] in ("failed", "breaker-open")
    rules = ["ledger", "in scope", "ours", "image in scope", "new enough", "tags allow", "can run", "powered on"]
    moments = [
        {"at": row["created"], "what": "created", "detail": row["image"], "patches": [], "to_come": False},
        {
            "at": "2026-11-17T21:04:00+00:00",
            "what": "installation",
            "detail": "Succeeded",
            "patches": _patches(waits, "Installed"),
            "to_come": False,
        },
        {
            "at": "2026-11-24T21:04:00+00:00",
            "what": "installation",
            "detail": "Failed" if failed else "Succeeded",
            "patches": _patches(waits, "Failed" if failed else "Installed"),
            "to_come": False,
        },
        {
            "at": row["assessed"],
            "what": "assessed",
            "detail": "Supported: {critical} critical, {security} security and {other} other patches wait".format(
                **row
            ),
            "patches": [],
            "to_come": False,
        },
    ]
    if row["expected"]:
        moments.append(
            {
                "at": row["expected"],
                "what": "installation expected",
                "detail": "by the forecast",
                "patches": [],
                "to_come": True,
            }
        )
    return {
        **{name: row[name] for name in ("machine", "state", "reason", "image", "owner", "expected")},
        "remedy": row["remedy"] or None,
        "command": row["command"] or None,
        "verb": "wait",
        "stopped": None,
        "when": None,
        "rules": [{"rule": name, "speaks": False, "says": None} for name in rules]
        + [{"rule": "support state", "speaks": True, "says": row["reason"]}],
        "evidence": {
            "instance view": {
                "power": "running",
                "agent ready": True,
                "agent version": "2.12.0.2",
                "reboot pending": False,
            },
            "Resource Graph": {
                "support state": "Supported",
                "assessed": row["assessed"],
                "image kind": "gallery, generalized",
            },
            "ledger": {"phase": "held", "held because": row["reason"]} if failed else {},
            "tags": {"owner": row["owner"]},
            "settings": {"PATCH_MODE": "install"},
        },
        "at": NOW,
        "kind": KIND_OF[row["state"]],
        "pending": _patches(waits, "") if row["critical"] else [],
        "timeline": sorted(moments, key=lambda moment: str(moment["at"])),
    }


def _patches(listed: list[tuple[str, str, list[str]]], state: str) -> list[dict[str, Any]]:
    return [
        {"patch": name, "kb": None, "version": version, "classes": classes, "state": state, "at": None}
        for name, version, classes in listed
    ]


@asynccontextmanager
async def shown(page: Page, source: Source) -> AsyncIterator[None]:
    """The browser follows the link, as a person does, and has the fleet before it.

    At the end it has asked for nothing but this page, and its console has no error.
    """
    with Server(source, 0, lambda _: None) as server:
        page.requests.clear()
        page.errors.clear()
        await page.go(server.door.link)
        try:
            yield
        finally:
            await page.leave()
        assert [each for each in page.requests if not each.startswith(f"http://{server.door.host}/")] == []
        assert page.errors == []
