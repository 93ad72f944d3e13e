"""Which machine a person means by a name or an id."""

from functions.model.machine import MachineId
from functions.model.text import BadInput, on_one_line
from patcher import queries
from patcher.connection import App
from patcher.errors import BadRequest


async def meant(app: App, text: str) -> MachineId:
    """The one machine of this name or id. Raises BadRequest, naming the ids where there are several."""
    try:
        query = queries.fill("machines_called", names=[text])
    except BadInput:
        raise BadRequest(f"'{on_one_line(text)[:60]}' is not a name or id of a machine") from None
    found = [MachineId.parse(row.get("id")) async for row in app.services.graph.rows(query)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadRequest(f"Resource Graph shows you no machine '{text}' in the app's scope")
    raise BadRequest(f"{len(found)} machines are called {text}; name one by its id: {', '.join(map(str, found))}")
