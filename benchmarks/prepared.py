"""Resource Graph and Resource Manager with prepared answers, over TLS: as quick as Python serves, and always the same.

It stands in for the simulator where the simulator's own work would be the larger part of a run. It keeps no state: all
rows of its fleet are due, and every POST is accepted.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from aiohttp import web

from benchmarks import fleet
from simulator import serving
from simulator.tls import Tls

ANSWER_SECONDS = 0.05  # of a POST to Resource Manager
_SHARES = re.compile(r"in~ \(([^)]*)\)")
_VM_ID = re.compile(rb'"vm_id": "(..)')
_OPERATION = {"status": "Succeeded", "properties": {"output": {"status": "Succeeded"}}}


class Prepared:
    """The answers about a fleet of `machines` from `images` images. `calls` counts the requests by kind."""

    def __init__(self, machines: int = 0, images: int = 200, *, due: bool = True) -> None:
        self.rows = list(fleet.graph_rows(machines, images))
        self.due = self.rows if due else []
        self.images = images
        self.calls: Counter[str] = Counter()
        self.endpoint = ""
        self._by_share: dict[str, list[bytes]] = {}
        for row in self.rows:
            share = _VM_ID.search(row)
            assert share
            self._by_share.setdefault(share[1].decode(), []).append(row)
        self._of_shares = lru_cache(maxsize=4)(self._collect)

    def graph(self, body: Any) -> bytes:
        """One page of a query, which is known by a column that only it has."""
        query, options = body["query"], body.get("options") or {}
        name, rows = self._rows_of(query)
        self.calls[name] += 1
        start, top = int(options.get("$skipToken") or 0), int(options.get("$top") or 1000)
        page = rows[start : start + top]
        after = start + len(page)
        token = f',"$skipToken":"{after}"' if after < len(rows) else ""
        head = f'{{"totalRecords":{len(rows)},"count":{len(page)},"resultTruncated":"false"{token},"facets":[],"data":['
        return head.encode() + b",".join(page) + b"]}"

    def _rows_of(self, query: str) -> tuple[str, Sequence[bytes]]:
        if "due_before" in query:
            return "due", self.due
        if "share) in~" in query:
            return "census", self._of_shares(_literals(query, "share) in~"))
        if "project id, tags, managedBy" in query:
            return "groups", [
                json.dumps({"id": each, "tags": {}, "managedBy": ""}).encode() for each in _literals(query, "id in~")
            ]
        if "machines = count()" in query:
            return "counts", [_count(image, self.images) for image in range(self.images)]
        return "other", []

    def _collect(self, shares: tuple[str, ...]) -> list[bytes]:
        return sorted(row for share in shares for row in self._by_share.get(share, ()))

    @asynccontextmanager
    async def served(self, tls: Tls) -> AsyncIterator[Prepared]:
        """Serves inside the block, at `endpoint`."""
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/providers/Microsoft.ResourceGraph/resources", self._graph)
        app.router.add_route("*", "/{path:.*}", self._arm)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server_context())
            await site.start()
            self.endpoint = f"https://localhost:{runner.addresses[0][1]}"
            yield self
        finally:
            await serving.close(runner)

    async def _graph(self, request: web.Request) -> web.Response:
        return _json(self.graph(json.loads(await request.read())))

    async def _arm(self, request: web.Request) -> web.Response:
        path = request.path
        if request.method == "POST":
            self.calls["post"] += 1
            await asyncio.sleep(ANSWER_SECONDS)
            return self._accepted(path)
        self.calls["get"] += 1
        if "/virtualMachines/" in path or "/virtualmachines/" in path:
            return _json(json.dumps(fleet.arm_machine(path)).encode())
        if "/operations/" in path:
            return _json(json.dumps(_OPERATION).encode())
        return _json(json.dumps({"id": path, "tags": {}, "location": "westeurope"}).encode())

    def _accepted(self, path: str) -> web.Response:
        """A 202 with the headers of the recorded one (tests/recordings/recorded_vm_installPatches_linux_LRO.json)."""
        place = f"{self.endpoint}/subscriptions/{path.split('/')[2]}/providers/Microsoft.Compute/locations/westeurope"
        url = f"{place}/operations/{uuid.uuid4()}?p=0&api-version=2024-11-01&t=1&c=cert&s=signature&h=hash"
        headers = {
            "Azure-AsyncOperation": url,
            "Location": f"{url}&monitor=true",
            "x-ms-ratelimit-remaining-resource": (
                "Microsoft.Compute/VMGuestPatchOperationResourceMaximum;4,"
                "Microsoft.Compute/VMGuestPatchOperationSubscriptionMaximum;598"
            ),
            "x-ms-request-id": str(uuid.uuid4()),
        }
        return web.Response(status=202, headers=headers)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", charset="utf-8")


def _literals(query: str, before: str) -> tuple[str, ...]:
    """The texts in the list that follows `before`."""
    found = _SHARES.search(query, query.index(before))
    assert found
    return tuple(each.strip(" '") for each in found[1].split(","))


def _count(image: int, images: int) -> bytes:
    return json.dumps(
        {"state_name": "Supported", "image_name": fleet.image_id(image, images), "machines": 1 + image % 9}
    ).encode()
