"""Which machines, and which image, are meant by what a person says of them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from functions.model.machine import Machine, MachineId
from functions.model.text import quoted
from patcher.connection import App
from patcher.errors import BadRequest
from patcher.questions.images import short

LISTED = 5  # alternatives that an error names


@dataclass(frozen=True)
class Target:
    """A machine, with what it can be chosen by. `tags`: its own, else its resource group's.

    `shown`: as Resource Graph shows it; None where only its name is known.
    """

    machine: MachineId
    image: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    shown: Machine | None = None


@dataclass(frozen=True)
class Selector:
    """Names or ids, and conditions. A machine has to be named, where names are given, and to meet every condition."""

    names: Sequence[str] = ()
    tags: Sequence[str] = ()
    image: str = ""
    owner: str = ""
    resource_group: str = ""
    everything: bool = False  # every machine in scope; no condition stands beside it

    @property
    def is_empty(self) -> bool:
        return not (self.names or self.tags or self.image or self.owner or self.resource_group)


async def census(app: App) -> list[Target]:
    """The machines in the app's scope, as the app itself counts them. Raises CloudError."""
    machines = [each async for each in app.services.graph.census()]
    groups = await app.services.graph.resource_groups({each.id.group_id for each in machines})
    found = []
    for machine in machines:
        group = groups.get(machine.id.group_id)
        own = {name: value for name, value in machine.tags.items() if value}
        tags = {**(group.tags if group else {}), **own}
        known = machine.in_resource_group(group) if group else machine
        found.append(Target(machine.id, machine.image.key, tags, known))
    return found


def selected(targets: Sequence[Target], selector: Selector, *, owner_tag: str) -> list[Target]:
    """The machines that are meant, in the order of their ids. Raises BadRequest where there is none."""
    if selector.everything and not selector.is_empty:
        raise BadRequest("--everything names every machine; no other selector is right beside it")
    if selector.is_empty and not selector.everything:
        raise BadRequest("no machine is named; give names or ids, --tag, --image, --owner or --resource-group")
    found = list(targets)
    if selector.names:
        ids = {_named(targets, name) for name in selector.names}
        found = [each for each in found if each.machine in ids]
    for condition in selector.tags:
        name, equals, value = condition.partition("=")
        if not (name and equals):
            raise BadRequest(f"--tag is {quoted(condition)}; name=value is right")
        found = [each for each in found if each.tags.get(name.lower()) == value]
    if selector.image:
        image = image_meant(selector.image, {each.image for each in targets})
        found = [each for each in found if each.image == image]
    if selector.owner:
        found = [each for each in found if each.tags.get(needed(owner_tag)) == selector.owner]
    if selector.resource_group:
        found = [each for each in found if each.machine.group == selector.resource_group.lower()]
    if not found:
        raise BadRequest("no machine in the app's scope is meant by that; nothing was done")
    return sorted(found, key=lambda each: str(each.machine))


def needed(owner_tag: str) -> str:
    """The tag that names owners. Raises BadRequest where the app has none."""
    if not owner_tag:
        raise BadRequest("the app knows no owners: PATCH_OWNER_TAG is empty")
    return owner_tag


def image_meant(text: str, keys: Collection[str], *, of_what: str = "no machine in the app's scope has") -> str:
    """The one image that is called so: by its key, name/version, or name. Raises BadRequest.

    `of_what`: where it was looked for, for a person who named another one.
    """
    text = text.lower()
    spelled = {key: {key, short(key), short(key).partition("/")[0]} for key in keys if key}
    found = [text] if text in spelled else sorted(key for key, names in spelled.items() if text in names)
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadRequest(f"{of_what} an image {quoted(text)}; {_known(spelled)}")
    raise BadRequest(f"{len(found)} images are called {quoted(text)}; name one by its key: {', '.join(found)}")


def _known(keys: Iterable[str]) -> str:
    names = sorted({short(key) for key in keys})
    more = " …" if len(names) > LISTED else ""
    return f"there are {', '.join(names[:LISTED])}{more}" if names else "no image is known"


def _named(targets: Iterable[Target], text: str) -> MachineId:
    name = text.lower()
    found = sorted({each.machine for each in targets if name in (each.machine.name, str(each.machine))}, key=str)
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadRequest(f"there is no machine {quoted(text)} in the app's scope")
    raise BadRequest(f"{len(found)} machines are called {text}; name one by its id: {', '.join(map(str, found))}")
