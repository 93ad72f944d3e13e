"""Resources that keep what was PUT, as one version after another: of scale sets and maintenance configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from simulator.event_grid.events import EventDetails, event
from simulator.wire import Json, Refused, Request, Response
from simulator.world import Configuration, ScaleSet, World

Thing = TypeVar("Thing", Configuration, ScaleSet)


@dataclass(frozen=True)
class Kept(Generic[Thing]):
    """The routes of one type. `versions`: every version of every resource, in the order of their PUTs."""

    kind: str
    make: Callable[[str, Json, datetime], Thing]
    versions: Callable[[World], list[Thing]]
    document: Callable[[Thing], Json]
    check: Callable[[Json], None] = lambda body: None  # raises Refused

    def put(self, world: World, request: Request, params: Mapping[str, str]) -> Response:
        body, existing = request.json(), self.find(world, params)
        self.check(body)
        made = self.make(existing.id if existing else self._id(params), body, world.now())
        if existing:
            existing.deleted = world.now()
        self.versions(world).append(made)
        details = EventDetails(made.id, f"{self.kind}/write", made.created, request=request)
        world.at(world.now(), lambda: event(world, details))
        return Response(200 if existing else 201, self.document(made))

    def get(self, world: World, request: Request, params: Mapping[str, str]) -> Response:
        found = self.find(world, params)
        if found is None:
            text = (
                f"The Resource '{self.kind}/{params['name']}' under resource group '{params['group']}' was not found."
            )
            raise Refused(404, "ResourceNotFound", text)
        return Response(200, self.document(found))

    def delete(self, world: World, request: Request, params: Mapping[str, str]) -> Response:
        found = self.find(world, params)
        if found is None:
            return Response(204)
        found.deleted = world.now()
        return Response(200, self.document(found))

    def existing(self, world: World, when: datetime) -> Iterable[Thing]:
        return [each for each in self.versions(world) if each.exists_at(when)]

    def find(self, world: World, params: Mapping[str, str]) -> Thing | None:
        wanted = self._id(params).lower()
        return next((each for each in self.existing(world, world.now()) if each.id.lower() == wanted), None)

    def _id(self, params: Mapping[str, str]) -> str:
        group = f"/subscriptions/{params['subscription']}/resourceGroups/{params['group']}"
        return f"{group}/providers/{self.kind}/{params['name']}"
