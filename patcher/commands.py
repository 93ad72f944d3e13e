"""Every command on one page: words → question → answer → exit code."""

import asyncio
import json
import logging
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from functions.cloud.errors import CloudError, Refused
from functions.cloud.rows import LeftAlone
from functions.model.state import OperationKind
from functions.model.text import BadInput
from functions.policy.settings import SettingsError
from patcher import errors, profile
from patcher.acting import Action, advice, pen_of
from patcher.actions import images as image_actions
from patcher.actions import runs as run_actions
from patcher.actions import setting, stops
from patcher.actions.selecting import Selector
from patcher.connection import App, Words, connected
from patcher.errors import BadRequest, PatcherError
from patcher.options import taking
from patcher.output import Answer, Screen
from patcher.page import show as page
from patcher.questions import ahead, compliance, doctor, export, images, lacks, runs, status, why

INTERRUPTED = 130  # as shells have it
Question = Callable[[App], Awaitable[Answer]]

cli = typer.Typer(
    name="patcher",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Asks Image Patcher about its machines and stops it, by your own Azure identity. Exit codes: 0 fine; "
    "1 something needs a person (doctor, late); 2 bad input, nothing was done; 3 no answer from Azure.",
    epilog="Try: patcher --simulator status",
)
breaker_commands = typer.Typer(no_args_is_help=True, help="The breakers that stop an image.")
rollout_commands = typer.Typer(no_args_is_help=True, help="The rollouts of images.")
cli.add_typer(breaker_commands, name="breaker")
cli.add_typer(rollout_commands, name="rollout")
run_commands = typer.Typer(no_args_is_help=True, help="Runs on demand: assess or install these machines now.")
cli.add_typer(run_commands, name="run")

RunId = Annotated[str, typer.Argument(metavar="ID", help="As patcher run list shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object (docs/patcher.md) in place of tables.")]


@cli.callback()
def connection(
    context: typer.Context,
    *,
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
    context.obj = Words(
        simulator=simulator,
        app=app,
        resource_group=resource_group,
        settings=settings,
        profile=profile_name,
        arm_endpoint=arm_endpoint,
    )


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
    *,
    written_as: Annotated[export.Format, typer.Option("--format", help="How it is written.")] = "csv",
    as_json: AsJson = False,
) -> None:
    """States, compliance and patches, for auditors, on stdout."""
    _answer(context, as_json, lambda app: export.ask_export(app, what, written_as))


@cli.command("doctor", epilog="Example: patcher doctor --json | jq '.result.checks[] | select(.verdict == \"bad\")'")
def doctor_command(context: typer.Context, as_json: AsJson = False) -> None:
    """Why does the app not work? Exit code 1 if something is bad."""
    _answer(context, as_json, doctor.ask, on_wrong_settings=doctor.wrong_settings)


@cli.command("page", epilog="Examples: patcher page · patcher page --output report.html")
def page_command(
    context: typer.Context,
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 for any.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Write one file instead of serving.")] = None,
    every: Annotated[float, typer.Option(help="Seconds between two looks at the fleet.")] = page.Options.every,
) -> None:
    """The fleet in a browser: a live page on this machine, or one file. It changes nothing."""
    options = page.Options(port, output, every)
    _run(context, False, lambda app, screen: page.show(app, context.obj, screen, options=options, unread=Unread))


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


@run_commands.command("list", epilog="Example: patcher run list --json")
def run_list(context: typer.Context, as_json: AsJson = False) -> None:
    """The runs of the last 30 days, and how far each has come."""
    _answer(context, as_json, runs.ask_list)


@run_commands.command("show", epilog="Example: patcher run show 20261208T2301-7k2m --watch")
def run_show(
    context: typer.Context,
    run_id: RunId,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Look again until it has ended.")] = False,
    every: Annotated[int, typer.Option("--every", min=1, help="With --watch: seconds between two looks.")] = 15,
    as_json: AsJson = False,
) -> None:
    """How far one run has come: with which machines, and why not with the others."""
    question = partial(runs.ask_show, run_id=run_id)
    if watch:
        _watch(context, as_json, question, every=every)
    _answer(context, as_json, question)


# -- commands that change something

Reason = Annotated[str, typer.Option("--reason", help="Why, for those who read it later.")]
Until = Annotated[str, typer.Option("--until", help="A time; without an offset, of the zone of PATCH_WINDOW.")]
For = Annotated[str, typer.Option("--for", help="How long from now: 30min, 4h, 2d.")]
Replacing = Annotated[bool, typer.Option("--replace", help="Also where one is in force: this one takes its place.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
BySetting = Annotated[bool, typer.Option("--by-setting", help="By the app setting PATCH_PAUSE: restarts the app.")]
Subscription = Annotated[str, typer.Option(help="Of this subscription, by its id.")]
OfImage = Annotated[str, typer.Option("--image", help="Of this image: name, name/version, or key.")]
Owner = Annotated[str, typer.Option(help="Of this owner, as the tag PATCH_OWNER_TAG names it.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="[MACHINE]...", help="Names or ids of machines.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="name=value; repeated, each has to be met.")]
Group = Annotated[str, typer.Option("--resource-group", help="In this resource group.")]
Image = Annotated[str, typer.Argument(metavar="IMAGE|ROW", help="The image, or its row in the ledger.")]


def _selector(
    names: Names = None,
    tags: Tags = None,
    *,
    image: OfImage = "",
    owner: Owner = "",
    resource_group: Group = "",
) -> Selector:
    return Selector(names=names or (), tags=tags or (), image=image, owner=owner, resource_group=resource_group)


def _scoped(
    subscription: Subscription = "",
    image: OfImage = "",
    owner: Owner = "",
) -> stops.Scoped:
    return stops.Scoped(subscription, image, owner)


@cli.command("pause", epilog="Examples: patcher pause --reason 'bad kernel' --for 4h · … --image web/1.4.0 --reason …")
@taking("scoped", _scoped)
def pause_command(
    context: typer.Context,
    *,
    reason: Reason,
    scoped: stops.Scoped,
    until: Until = "",
    lasting: For = "",
    replacing: Replacing = False,
    by_setting: BySetting = False,
    as_json: AsJson = False,
) -> None:
    """Nothing new starts: everywhere, in a subscription, of an image, of an owner."""
    if by_setting:
        _refuse_beside_setting(scoped.subscription, scoped.image, scoped.owner, until, lasting)
        _act(context, as_json, setting.set_pause(on=True))
    action = stops.pause(scoped, reason=reason, until=until, lasting=lasting, replacing=replacing)
    _act(context, as_json, action)


@cli.command("resume", epilog="Examples: patcher resume · patcher resume --image web/1.4.0 --reason 'kernel replaced'")
@taking("scoped", _scoped)
def resume_command(
    context: typer.Context,
    *,
    scoped: stops.Scoped,
    reason: Reason = "",
    by_setting: BySetting = False,
    as_json: AsJson = False,
) -> None:
    """Ends a pause, named as it was when it was placed."""
    if by_setting:
        _refuse_beside_setting(scoped.subscription, scoped.image, scoped.owner)
        _act(context, as_json, setting.set_pause(on=False))
    _act(context, as_json, stops.resume(scoped, reason=reason))


@cli.command("hold", epilog="Example: patcher hold web-01 web-02 --reason 'month-end' --until 2026-12-01T06:00 --yes")
@taking("selector", _selector)
def hold_command(
    context: typer.Context,
    *,
    reason: Reason,
    selector: Selector,
    until: Until = "",
    lasting: For = "",
    replacing: Replacing = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Nothing new starts on these machines. Shows them first, then asks."""
    action = stops.hold(selector, reason=reason, until=until, lasting=lasting, replacing=replacing)
    _act(context, as_json, action, yes=yes)


@cli.command("release", epilog="Example: patcher release --resource-group rg-month-end --yes")
@taking("selector", _selector)
def release_command(
    context: typer.Context,
    *,
    selector: Selector,
    reason: Reason = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Ends the holds of these machines. Shows them first, then asks."""
    _act(context, as_json, stops.release(selector, reason=reason), yes=yes)


@breaker_commands.command(
    "close", epilog="Example: patcher breaker close api/1.4.0 --opening 20261125T081500 --reason 'fixed in 1.4.1'"
)
def breaker_close(
    context: typer.Context,
    image: Image,
    *,
    opening: Annotated[str, typer.Option("--opening", help="Which one, as patcher breaker list shows it.")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Closes the open breaker of an image, after its cause is gone."""
    _act(context, as_json, image_actions.close_breaker(image, opening=opening, reason=reason))


Rollout = Annotated[str, typer.Option("--rollout", help="Which one; without it, the one that is open.")]


@rollout_commands.command("end", epilog="Example: patcher rollout end web/1.4.0 --reason 'the last ring is gone'")
def rollout_end(
    context: typer.Context, image: Image, *, reason: Reason, rollout: Rollout = "", as_json: AsJson = False
) -> None:
    """Ends a rollout. The next due installation opens a new one."""
    _act(context, as_json, image_actions.end_rollout(image, rollout=rollout, reason=reason))


@rollout_commands.command("restart", epilog="Example: patcher rollout restart web/1.4.0 --reason 'newer patches'")
def rollout_restart(
    context: typer.Context, image: Image, *, reason: Reason, rollout: Rollout = "", as_json: AsJson = False
) -> None:
    """Ends a rollout, so that the next due installation opens a new one with a canary."""
    _act(context, as_json, image_actions.end_rollout(image, rollout=rollout, reason=reason, restart=True))


At = Annotated[str, typer.Option("--at", help="Not before this time; without it, at once.")]
RunUntil = Annotated[
    str, typer.Option("--until", help="Nothing of it begins from then on; without it, 24 hours after its beginning.")
]
Everything = Annotated[bool, typer.Option("--everything", help="Every machine in scope; asks for their number.")]
Expect = Annotated[
    int | None, typer.Option("--expect", min=0, help="How many machines you mean; else nothing is done.")
]
All = Annotated[bool, typer.Option("--all", help="The preview names every machine.")]


@taking("selector", _selector)
def _ordered(
    reason: Reason,
    selector: Selector,
    *,
    everything: Everything = False,
    at: At = "",
    until: RunUntil = "",
    expect: Expect = None,
    everyone: All = False,
    yes: Yes = False,
) -> run_actions.Words:
    """The words of any run; an assessment needs no more."""
    return run_actions.Words(
        OperationKind.ASSESS,
        replace(selector, everything=everything),
        reason,
        at=at,
        until=until,
        expect=expect,
        everyone=everyone,
        agreed=yes,
    )


@run_commands.command("assess", epilog="Example: patcher run assess --image web/1.4.0 --reason 'a new image'")
@taking("words", _ordered)
def run_assess(context: typer.Context, words: run_actions.Words, as_json: AsJson = False) -> None:
    """Assesses these machines once. Shows first who goes, then asks."""
    _act(context, as_json, run_actions.order(words), yes=words.agreed)


@run_commands.command(
    "install",
    epilog="Examples: patcher run install --tag role=web --package openssl --canaries 1 --bake 30min --reason CVE-… · "
    "patcher run install win-01 --kb KB5043080 --ignore-window --reason CVE-…",
)
@taking("words", _ordered)
def run_install(
    context: typer.Context,
    *,
    words: run_actions.Words,
    packages: Annotated[list[str] | None, typer.Option("--package", help="Linux: a name or mask; repeatable.")] = None,
    kbs: Annotated[list[str] | None, typer.Option("--kb", help="Windows: a KB number; repeatable.")] = None,
    classifications: Annotated[
        list[str] | None, typer.Option("--classification", help="Such as Critical; repeatable. Else the settings'.")
    ] = None,
    canaries: Annotated[int, typer.Option("--canaries", help="So many of each image go first.")] = 0,
    bake: Annotated[str, typer.Option("--bake", help="How long they are watched: 30min, 4h.")] = "",
    ignore_window: Annotated[
        bool, typer.Option("--ignore-window", help="Also outside maintenance windows and in a blackout.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Installs patches on these machines once. Shows first who goes, then asks."""
    words = replace(
        words,
        kind=OperationKind.INSTALL,
        classifications=classifications or (),
        packages=packages or (),
        kbs=kbs or (),
        canaries=canaries,
        bake=bake,
        ignore_window=ignore_window,
    )
    _act(context, as_json, run_actions.order(words), yes=words.agreed)


@run_commands.command("stop", epilog="Example: patcher run stop 20261208T2301-7k2m --reason 'wrong machines'")
def run_stop(context: typer.Context, run_id: RunId, *, reason: Reason, as_json: AsJson = False) -> None:
    """Nothing more of the run begins. What is in flight goes on to its end."""
    _act(context, as_json, run_actions.stop(run_id, reason=reason))


def _refuse_beside_setting(*texts: str) -> None:
    if any(texts):
        raise BadRequest("--by-setting stops everything until a person ends it; name no scope and no end with it")


# -- from a question or an action to an exit code


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
) -> NoReturn:
    """Asks, shows, and ends with the exit code of the answer. Raises PatcherError."""

    async def asked(app: App, screen: Screen) -> Answer:
        with screen.progress(f"{_name(context)}: reading Azure and the ledger …"):
            return await question(app)

    _run(context, as_json, asked, on_wrong_settings=on_wrong_settings)


def _act(context: typer.Context, as_json: bool, action: Action, *, yes: bool = False) -> NoReturn:
    """Prepares, asks where that is needed, does it, shows it, and ends. Raises PatcherError."""

    async def acted(app: App, screen: Screen) -> Answer:
        with screen.progress(f"{_name(context)}: reading Azure and the ledger …"):
            deed = await action(app, await pen_of(app))
        screen.preview(deed.shown)
        if deed.ask_first and not yes:
            _ask(deed.preview, deed.confirm)
        with screen.progress(f"{_name(context)}: writing the ledger …"):
            return await deed.do()

    _run(context, as_json, acted, hint=advice)


def _watch(context: typer.Context, as_json: bool, question: Question, *, every: int) -> NoReturn:
    """Asks again until the answer is final, and shows each one where a person sits before it. Raises PatcherError."""

    async def watched(app: App, screen: Screen) -> Answer:
        with screen.live() as show:
            while not (answer := await question(app)).is_final:
                show(answer)
                await asyncio.sleep(every)
        return answer

    _run(context, as_json, watched)


def _ask(preview: str, confirm: str = "") -> None:
    """Raises BadRequest where a person does not agree, or where there is none. `confirm`: what has to be typed."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise BadRequest(f"nothing was done; add --yes to {preview}")
    asked = f"{preview[:1].upper()}{preview[1:]}"
    if confirm:
        agreed = typer.prompt(f"{asked}: to agree, type their number", err=True).strip() == confirm
    else:
        agreed = typer.confirm(f"{asked}?", err=True)
    if not agreed:
        raise BadRequest("nothing was done")


def _run(
    context: typer.Context,
    as_json: bool,
    work: Callable[[App, Screen], Awaitable[Answer]],
    *,
    on_wrong_settings: Callable[[SettingsError], Answer] | None = None,
    hint: Callable[[CloudError], str] = lambda error: "",
) -> NoReturn:
    """Connects, lets the work be done, shows its answer, and ends with its exit code. Raises PatcherError."""
    screen, unread, name = Screen(as_json), Unread(), _name(context)

    async def worked() -> Answer:
        async with connected(context.obj) as app:
            answer = await work(app, screen)
            screen.show(name, answer, app=app.name, at=app.services.clock(), problems=unread.lines)
            return answer

    try:
        with unread.listening():
            answer = asyncio.run(worked())
    except SettingsError as error:
        if on_wrong_settings:
            answer = on_wrong_settings(error)
            screen.show(name, answer, app=context.obj.app, at=datetime.now(UTC), problems=[])
            raise typer.Exit(errors.NEEDS_A_PERSON) from None
        raise PatcherError(f"the app's settings are wrong, so it does nothing: {error}") from None
    except CloudError as error:
        raise PatcherError(f"{error}{hint(error) or _hint(error)}") from None
    except (LeftAlone, BadInput) as error:
        raise PatcherError(str(error)) from None
    raise typer.Exit(errors.NEEDS_A_PERSON if answer.needs_a_person else errors.OK)


def _name(context: typer.Context) -> str:
    return context.command_path.partition(" ")[2]


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
