"""The simulated Azure on a TLS port of this machine: the same handler as in process, and a driver.

The driver (`/simulator/...`) is the simulator's own. It gives a person a token, chooses what machines' guests do, and
lists operations and events. It needs no token and is for the loopback interface only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any

from aiohttp import web

from simulator import identity, serving
from simulator.azure import Azure, Behaviour, ConnectionLost, Operation, Refused, Request
from simulator.tls import Tls
from simulator.wire import Json, milliseconds


@asynccontextmanager
async def serve(azure: Azure, tls: Tls, *, port: int = 0) -> AsyncIterator[str]:
    """Serves inside the block; gives the endpoint, such as https://localhost:12345. Port 0: any free one."""
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.add_routes(driver_routes(azure))
    app.router.add_route("*", "/{path:.*}", _handler(azure))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls.server_context())
        await site.start()
        bound = runner.addresses[0][1]
        azure.hosts |= {f"localhost:{bound}", f"127.0.0.1:{bound}"}
        yield f"https://localhost:{bound}"
    finally:
        await serving.close(runner)


def _handler(azure: Azure) -> Any:
    async def handle(incoming: web.Request) -> web.StreamResponse:
        request = Request(
            incoming.method,
            incoming.path,
            dict(incoming.query),
            {name.lower(): value for name, value in incoming.headers.items()},
            await incoming.read(),
            incoming.host,
            incoming.scheme,
        )
        try:
            response = await azure.handle(request)
        except ConnectionLost:
            # On a socket both kinds look the same: the connection closes without an answer.
            if incoming.transport is not None:  # the caller may be gone by now
                incoming.transport.abort()
            return web.Response(status=500)
        return web.Response(status=response.status, headers=dict(response.headers), body=response.content)

    return handle


# --- the driver ----------------------------------------------------------------------------------------------------


def driver_routes(azure: Azure) -> list[web.RouteDef]:
    async def behave(request: web.Request) -> web.Response:
        try:
            azure.behave(request.match_info["name"], behaviour_of(await request.json()))
        except (TypeError, ValueError, KeyError) as error:
            return web.json_response({"problem": str(error)}, status=400)
        return web.Response(status=204)

    async def operations(_: web.Request) -> web.Response:
        return web.json_response([operation_json(each) for each in azure.operations])

    async def start(request: web.Request) -> web.Response:
        order = await request.json()
        try:
            started = azure.start_operation(
                order["machine"], order["kind"], started_by=order.get("started_by", "Platform")
            )
        except (LookupError, ValueError) as error:
            return web.json_response({"problem": f"machine or kind: {error}"}, status=400)
        except Refused as error:
            return web.json_response({"problem": str(error)}, status=409)
        return web.json_response(operation_json(started), status=201)

    async def token(request: web.Request) -> web.Response:
        """For an operator with every right, as `az account get-access-token --resource …` would give one."""
        resource = request.query.get("resource", identity.ARM)
        return web.Response(text=identity.mint(resource, client_id=identity.OPERATOR))

    async def clock(_: web.Request) -> web.Response:
        """The time in the simulated Azure, which may differ from this machine's."""
        return web.json_response({"now": azure.now().isoformat()})

    async def events(_: web.Request) -> web.Response:
        return web.json_response(azure.events)

    async def assign(request: web.Request) -> web.Response:
        """A maintenance configuration patches the scope: {"scope": id, "filter": {…} for a dynamic scope}."""
        name = request.match_info["name"]
        try:
            body = await request.json()
            known = {"configuration": str(body.get("configuration", "")), "selection": body.get("filter")}
            azure.assign(str(body["scope"]), name=name, **known)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return web.json_response({"problem": f"scope, configuration or filter: {error}"}, status=400)
        return web.Response(status=204)

    async def run_schedule(request: web.Request) -> web.Response:
        """A maintenance configuration begins a run: {"configuration": id}."""
        try:
            run = azure.run_schedule(str((await request.json())["configuration"]))
        except (KeyError, LookupError, TypeError, ValueError) as error:
            return web.json_response({"problem": f"configuration: {error}"}, status=400)
        return web.json_response({"id": run.id, "operations": len(run.operations)}, status=201)

    return [
        web.put("/simulator/behaviours/{name}", behave),
        web.put("/simulator/assignments/{name}", assign),
        web.post("/simulator/runs", run_schedule),
        web.get("/simulator/operations", operations),
        web.post("/simulator/operations", start),
        web.get("/simulator/events", events),
        web.get("/simulator/clock", clock),
        web.get("/simulator/token", token),
    ]


def behaviour_of(body: Json) -> Behaviour:
    """A behaviour from JSON: the fields of Behaviour; `refuse` is a name in REFUSALS."""
    known = {each.name for each in fields(Behaviour)}
    unknown = body.keys() - known
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known are: {', '.join(sorted(known))}")
    values = dict(body)
    for name in ("errors", "opening_errors", "closing_errors"):
        if name in values:
            values[name] = tuple((str(code), str(message)) for code, message in values[name])
    if values.get("azure_error"):
        code, message = values["azure_error"]
        values["azure_error"] = (str(code), str(message))
    if "refuse_kinds" in values:
        values["refuse_kinds"] = tuple(values["refuse_kinds"])
    return Behaviour(**values)


def operation_json(operation: Operation) -> Json:
    return {
        "kind": operation.kind,
        "machine": operation.machine,
        "vmId": operation.vm_id,
        "operationId": operation.operation_id,
        "started": milliseconds(operation.started),
        "ends": milliseconds(operation.ends) if operation.ends else None,
        "status": operation.status,
        "startedBy": operation.started_by,
    }
