"""`pause --by-setting`, `resume --by-setting`: PATCH_PAUSE through Resource Manager, without the ledger."""

from functions.cloud.errors import Refused
from patcher.acting import Action, Deed, Pen
from patcher.arm import WEB
from patcher.connection import App
from patcher.errors import BadRequest, NoAnswer
from patcher.output import Answer, line

NAME = "PATCH_PAUSE"
RIGHTS = "Microsoft.Web/sites/config/list/action and Microsoft.Web/sites/config/write"


def set_pause(*, on: bool) -> Action:
    """Changes this one app setting. Azure takes all of them at once, so they are read just before."""
    value = "on" if on else "off"

    async def prepare(app: App, pen: Pen) -> Deed:
        if not app.site:
            raise BadRequest("--by-setting: the simulator has no app settings in Resource Manager; leave it out")

        async def do() -> Answer:
            if not await _write(app, value):
                raise BadRequest(f"{NAME} is {value} already; nothing was written")
            lines = [
                line("set", f"{NAME}={value}; the app restarts with it", "bold yellow" if on else "green"),
                line("reported", "by the next sweep, without who and why: an app setting holds neither"),
            ]
            if on:
                lines.append(line("to end it", "patcher resume --by-setting", "green"))
            return Answer({"setting": NAME, "value": value, "by": pen.by}, lines)

        return Deed(f"set {NAME}={value}", do)

    return prepare


async def _write(app: App, value: str) -> bool:
    """False where the setting has this value already. Raises NoAnswer that names the rights, and CloudError."""
    try:
        answer = await app.arm.read_by_post(f"{app.site}/config/appsettings/list", WEB)
        before = answer.get("properties")
        if not isinstance(before, dict) or not before:
            raise NoAnswer("Azure lists no app settings, so nothing was written")
        if before.get(NAME, "off").lower() == value:
            return False
        await app.arm.put_app_settings(app.site, {**before, NAME: value})
    except Refused as refused:
        if refused.status not in (401, 403):
            raise
        raise NoAnswer(
            f"you may not change the app's settings; you need {RIGHTS}, as Website Contributor has"
        ) from None
    return True
