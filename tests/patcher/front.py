"""Resource Manager with what the simulator leaves out: the function app, events, resource providers, alerts.

Everything else goes to the simulated Azure. Shapes: learn.microsoft.com, REST reference of App Service (2024-04-01),
Event Grid (2022-06-15), Resource Providers (2021-04-01), Scheduled Query Rules (2022-06-15) and Action Groups
(2023-01-01). Beside it a program named `az`, which gives tokens.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from simulator import serving
from simulator.arm import shapes
from simulator.azure import Request
from simulator.embedded import Embedded
from tests.support import REPOSITORY

GROUP = f"/subscriptions/{shapes.SUBSCRIPTION}/resourceGroups/rg-patcher"
SITE = f"{GROUP}/providers/Microsoft.Web/sites/patcher-prod"
TOPIC = f"{GROUP}/providers/Microsoft.EventGrid/systemTopics/patcher"
STORAGE = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/stpatcher"
ACTION_GROUP = f"{GROUP}/providers/Microsoft.Insights/actionGroups/ag-patch"
RECEIVER = {"name": "mail", "emailAddress": "ops@example.com", "status": "Enabled"}
_RULES = f"{GROUP}/providers/Microsoft.Insights/scheduledQueryRules"
_GRAPH = "/providers/microsoft.resourcegraph/resources"
_AZ = """#!{python}
import sys
sys.path.insert(0, {tokens!r})
import tokens
if not {signed_in}:
    sys.exit("ERROR: Please run 'az login' to setup account.")
words = sys.argv[1:]
resource = words[words.index("--resource") + 1]
with open(__file__.replace("/az", "/calls"), "a") as calls:
    print(resource, file=calls)
audience = tokens.ARM if "localhost" in resource else resource
token = tokens.mint(audience, client_id=tokens.OPERATOR)
print('{{"accessToken": "%s", "expiresOn": "2099-01-01 00:00:00.000000", "tokenType": "Bearer"}}' % token)
"""


def write_az(folder: Path, *, signed_in: bool = True) -> None:
    """The Azure CLI, as azure-identity calls it. It loads one file: with its whole package it would start slowly."""
    folder.mkdir(exist_ok=True)
    program = folder / "az"
    program.write_text(
        _AZ.format(python=sys.executable, tokens=str(REPOSITORY / "simulator" / "identity"), signed_in=signed_in)
    )
    program.chmod(0o700)


@dataclass
class Front:
    """What Resource Manager says of the app. Change it at will."""

    embedded: Embedded
    settings: dict[str, str]
    sites: list[str] = field(default_factory=lambda: [SITE])
    settings_refused: bool = False
    target: str = f"{SITE}/functions/on_machine_written"  # of the event subscription; "": there is none
    provisioning: str = "Succeeded"
    registration: str = "Registered"
    container: str = "dead-letters"  # "": no dead letter is written
    rules: dict[str, list[str]] = field(default_factory=lambda: {"failed": [ACTION_GROUP], "late": [ACTION_GROUP]})
    group: dict[str, Any] | None = field(default_factory=lambda: {"enabled": True, "emailReceivers": [RECEIVER]})
    ahead: timedelta = timedelta()  # how far Azure's time is before this machine's
    endpoint: str = ""

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Front]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.embedded.tls.server_context()).start()
            self.endpoint = f"https://localhost:{runner.addresses[0][1]}"
            self.settings["ARM_ENDPOINT"] = self.endpoint
            yield self
        finally:
            await serving.close(runner)

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        body = await incoming.read()
        assert incoming.query.get("api-version"), incoming.path
        known = self._own(incoming.method, incoming.path, body)
        if known:
            return web.json_response(known[1], status=known[0], headers={"Date": self._date()})
        headers = {name.lower(): value for name, value in incoming.headers.items()}
        host = self.embedded.endpoint.removeprefix("https://")
        request = Request(incoming.method, incoming.path, dict(incoming.query), headers, body, host, "https")
        answer = await self.embedded.azure.handle(request)
        headers = {**answer.headers, "date": self._date()}
        return web.Response(status=answer.status, headers=headers, body=answer.content)

    def _date(self) -> str:
        return format_datetime(datetime.now(UTC) + self.ahead, usegmt=True)

    def _own(self, method: str, path: str, body: bytes) -> tuple[int, Mapping[str, Any]] | None:
        if method == "POST" and path.lower() == _GRAPH:
            query = json.loads(body)["query"].lower()
            if "microsoft.web/sites" in query:
                wanted = re.search(r"name =~ '([^']*)'", query)
                return 200, _rows(each for each in self.sites if not wanted or each.endswith(f"/{wanted[1]}"))
            return (200, _rows([TOPIC])) if "microsoft.eventgrid/systemtopics" in query else None
        if (method, path) == ("POST", f"{SITE}/config/appsettings/list"):
            if self.settings_refused:
                return 403, {"error": {"code": "AuthorizationFailed", "message": "The client 'x' …"}}
            return 200, {"id": path, "name": "appsettings", "properties": self.settings}
        if (method, path) == ("GET", SITE):
            return 200, {"id": SITE, "identity": {"userAssignedIdentities": {f"{GROUP}/id": self._identity()}}}
        if (method, path) == ("GET", f"{TOPIC}/eventSubscriptions"):
            return 200, {"value": [self._subscription()] if self.target else []}
        if method == "GET" and re.fullmatch(r"/subscriptions/[^/]+/providers/Microsoft\.\w+", path):
            return 200, {"id": path, "registrationState": self.registration}
        return self._alerts(path) if method == "GET" else None

    def _alerts(self, path: str) -> tuple[int, Mapping[str, Any]] | None:
        if path == _RULES:
            return 200, {"value": [_rule(name, groups) for name, groups in self.rules.items()]}
        if path.lower() != ACTION_GROUP.lower():
            return None
        if self.group is None:
            return 404, {"error": {"code": "ResourceNotFound", "message": f"The Resource '{path}' was not found."}}
        return 200, {"id": ACTION_GROUP, "name": "ag-patch", "properties": self.group}

    def _identity(self) -> dict[str, str]:
        (pair,) = self.embedded.deployed.identities.items()
        return dict(zip(("clientId", "principalId"), pair, strict=True))

    def _subscription(self) -> dict[str, Any]:
        destination = {"endpointType": "AzureFunction", "properties": {"resourceId": self.target}}
        properties: dict[str, Any] = {"destination": destination, "provisioningState": self.provisioning}
        if self.container:
            place = {"resourceId": STORAGE, "blobContainerName": self.container}
            destination = {"endpointType": "StorageBlob", "properties": place}
            properties["deadLetterWithResourceIdentity"] = {"deadLetterDestination": destination}
        return {"id": f"{TOPIC}/eventSubscriptions/machines", "name": "machines", "properties": properties}


def _rule(name: str, groups: list[str]) -> dict[str, Any]:
    properties = {"enabled": True, "actions": {"actionGroups": groups}}
    return {"id": f"{_RULES}/{name}", "name": name, "properties": properties}


def _rows(ids: Any) -> dict[str, Any]:
    data = [{"id": each} for each in ids]
    return {"totalRecords": len(data), "count": len(data), "resultTruncated": "false", "data": data}
