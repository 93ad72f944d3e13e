"""Every command on one page: words → question → answer → exit code."""

import asyncio
import json
import logging
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from functions.cloud.errors import CloudError, Refused
from functions.cloud.rows import LeftAlone
from functions.model.text import BadInput
from functions.policy.settings import SettingsError
from patcher import errors, profile
from patcher.connection import App, Words, connected
from patcher.errors import PatcherError
from patcher.output import Answer, Screen
from patcher.questions import ahead, compliance, doctor, export, images, lacks, status, why

INTERRUPTED = 130  # as shells have it
Question = Callable[[App], Awaitable[Answer]]

cli = typer.Typer(
    name="patcher",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Asks Image Patcher about its machines, by your own Azure identity. It changes nothing. Exit codes: 0 fine; "
    "1 something needs a person (doctor, late); 2 bad input, nothing was done; 3 no answer from Azure.",
    epilog="Try: patcher --simulator status",
)
breaker_commands = typer.Typer(no_args_is_help=True, help="The breakers that stop an image.")
rollout_commands = typer.Typer(no_args_is_help=True, help="The rollouts of images.")
cli.add_typer(breaker_commands, name="breaker")
cli.add_typer(rollout_commands, name="rollout")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object (docs/patcher.md) in place of tables.")]


@cli.callback()
def connection(
    context: typer.Context,
    simulator: Annotated[bool, typer.Option("--simulator", help="Ask the simulator of this machine.")] = False,
    app: Annotated[str, typer.Option(help="The function app's name; remembered in the profile.")] = "",
    resource_group: Annotated[str, typer.Option(help="The function app's resource group.")] = "",
    settings: Annotated[
        Path | None, typer.Option(help="App settings from a JSON file, where you may not list them.")
    ] = None,
    profile_name: Annotated[
        str, typer.Option("--profile", help="Which remembered app; with --app: under which name.")
    ] = profile.DEFAULT,
    arm_endpoint: Annotated[str, typer.Option(help="Resource Manager's address in another cloud.")] = "",
) -> None:
    context.obj = Words(simulator, app, resource_group, settings, profile_name, arm_endpoint)


@cli.command("status", epilog="Examples: patcher status · patcher status --json | jq .result.states")
def status_command(context: typer.Context, as_json: AsJson = False) -> None:
    """Is it alive, what is under way, what needs a person."""
    _answer(context, as_json, status.ask)


@cli.command("why", epilog="Examples: patcher why web-01 · patcher why /subscriptions/…/virtualMachines/web-01 --json")
def why_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The machine's name, or its id.")],
    as_json: AsJson = False,
) -> None:
    """Why one machine is not patched now: rule, evidence, next date, remedy."""
    _answer(context, as_json, lambda app: why.ask(app, name))


@cli.command("next", epilog="Examples: patcher next · patcher next --window 1 --json")
def next_command(
    context: typer.Context,
    window: Annotated[int, typer.Option("--window", help="How many openings.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Who goes in the next openings, and who does not fit."""
    _answer(context, as_json, lambda app: ahead.ask_next(app, window))


@cli.command("plan", epilog="Example: patcher plan")
def plan_command(context: typer.Context, as_json: AsJson = False) -> None:
    """What would be done now if PATCH_MODE were install. Nothing is started."""
    _answer(context, as_json, ahead.ask_plan)


@cli.command("late", epilog="Example: patcher late || mail -s 'patches are late' owners@example.com")
def late_command(context: typer.Context, as_json: AsJson = False) -> None:
    """Who is later than PATCH_SLA_DAYS allows. Exit code 1 if a machine is."""
    _answer(context, as_json, compliance.ask_late)


@cli.command("lacks", epilog="Examples: patcher lacks KB5043080 · patcher lacks openssl")
def lacks_command(
    context: typer.Context,
    patch: Annotated[str, typer.Argument(help="A KB number, or the name of a package.")],
    as_json: AsJson = False,
) -> None:
    """Where a patch waits, was installed or failed."""
    _answer(context, as_json, lambda app: lacks.ask(app, patch))


@cli.command("export", epilog="Example: patcher export --format html > november.html")
def export_command(
    context: typer.Context,
    what: Annotated[
        export.What, typer.Option(help="A row per machine, or per patch that waits or was tried.")
    ] = "machines",
    written_as: Annotated[export.Format, typer.Option("--format", help="How it is written.")] = "csv",
    as_json: AsJson = False,
) -> None:
    """States, compliance and patches, for auditors, on stdout."""
    _answer(context, as_json, lambda app: export.ask_export(app, what, written_as))


@cli.command("doctor", epilog="Example: patcher doctor --json | jq '.result.checks[] | select(.verdict == \"bad\")'")
def doctor_command(context: typer.Context, as_json: AsJson = False) -> None:
    """Why does the app not work? Exit code 1 if something is bad."""
    _answer(context, as_json, doctor.ask, on_wrong_settings=doctor.wrong_settings)


@cli.command("query", epilog="Example: patcher query windows.kql --json")
def query_command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file with a query.")],
    as_json: AsJson = False,
) -> None:
    """A Resource Graph query of your own, over the app's scope."""
    text = export.query_text(file)
    _answer(context, as_json, lambda app: export.ask_query(app, text))


@breaker_commands.command("list", epilog="Example: patcher breaker list")
def breaker_list(context: typer.Context, as_json: AsJson = False) -> None:
    """The open ones, and the command that closes each."""
    _answer(context, as_json, images.ask_breakers)


@rollout_commands.command("list", epilog="Example: patcher rollout list --json")
def rollout_list(context: typer.Context, as_json: AsJson = False) -> None:
    """Canaries, rings and expected end of each rollout."""
    _answer(context, as_json, images.ask_rollouts)


# -- from a question to an exit code


class Unread(logging.Handler):
    """Collects what the app's code says it could not read: nothing is left out in silence."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside the block the app's journal comes here, and nowhere else."""
        journal = logging.getLogger("journal")
        before = journal.level, journal.propagate
        journal.addHandler(self)
        journal.setLevel(logging.INFO)
        journal.propagate = False
        try:
            yield
        finally:
            journal.removeHandler(self)
            journal.setLevel(before[0])
            journal.propagate = before[1]

    def emit(self, record: logging.LogRecord) -> None:
        line = json.loads(record.getMessage())
        if line["event"] in ("machine.unreadable", "ledger.newer"):
            self.lines.append(" ".join(str(line[name]) for name in ("machine", "problem") if name in line))


def _answer(
    context: typer.Context,
    as_json: bool,
    question: Question,
    *,
    on_wrong_settings: Callable[[SettingsError], Answer] | None = None,
) -> None:
    """Asks, shows, and ends with the exit code of the answer. Raises PatcherError."""
    screen, unread = Screen(as_json), Unread()
    name = context.command_path.partition(" ")[2]

    async def asked() -> Answer:
        async with connected(context.obj) as app:
            with screen.progress(f"{name}: reading Azure and the ledger …"):
                answer = await question(app)
            screen.show(name, app.name, app.services.clock(), answer, unread.lines)
            return answer

    try:
        with unread.listening():
            answer = asyncio.run(asked())
    except SettingsError as error:
        if on_wrong_settings:
            answer = on_wrong_settings(error)
            screen.show(name, context.obj.app, datetime.now(UTC), answer, [])
            raise typer.Exit(errors.NEEDS_A_PERSON) from None
        raise PatcherError(f"the app's settings are wrong, so it does nothing: {error}") from None
    except CloudError as error:
        raise PatcherError(f"{error}{_hint(error)}") from None
    except (LeftAlone, BadInput) as error:
        raise PatcherError(str(error)) from None
    raise typer.Exit(errors.NEEDS_A_PERSON if answer.needs_a_person else errors.OK)


def _hint(error: CloudError) -> str:
    if isinstance(error, Refused) and error.status in (401, 403):
        return "; you need Reader on the machines, and Storage Table Data Reader on the app's storage account"
    return ""


def main(words: Sequence[str] | None = None) -> int:
    """The tool. Returns the exit code: 0, or one of errors.py with one line on stderr."""
    command = typer.main.get_command(cli)
    try:
        code = command.main(list(sys.argv[1:] if words is None else words), "patcher", standalone_mode=False)
    except PatcherError as error:
        print(f"patcher: {error}", file=sys.stderr)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:  # `patcher export | head` has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python says so at its end
        return errors.OK
    except TyperException as error:
        print(f"patcher: {error.format_message()}", file=sys.stderr)
        return errors.BAD_INPUT
    except Exception as error:  # noqa: BLE001 - a traceback ends with 1, which says that something needs a person
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        print(f"patcher: a defect of this tool, please report it: {what}", file=sys.stderr)
        return errors.NO_ANSWER
    return code if isinstance(code, int) else errors.OK
