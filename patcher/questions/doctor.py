"""`patcher doctor`: why does it not work? One line per check, with the remedy."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta

from rich.text import Text

from functions.cloud import event_grid
from functions.cloud.errors import CloudError, Gone, Refused
from functions.cloud.ledger import SWEEP_LEASE
from functions.cloud.queue import QUEUES
from functions.model.state import OperationKind, State
from functions.policy.advice import advice
from functions.policy.settings import SettingsError, read_settings
from functions.policy.values import Mode
from patcher import queries
from patcher.arm import WEB
from patcher.connection import App
from patcher.errors import PatcherError
from patcher.fleet import look
from patcher.output import Answer, ago, count_of
from patcher.questions import alerts, delivery, images, status
from patcher.questions.check import NOT_CHECKED, Check, Verdict
from patcher.questions.granted import allows, granted_to
from patcher.reading import ReadOnlyQueues

MARKS: Mapping[Verdict, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "bad": ("✗", "bold red"),
    "note": ("!", "yellow"),
    "not checked": ("?", "yellow"),
}
RESOURCES, SUBSCRIPTIONS, FEATURES, GROUPS = "2021-04-01", "2022-12-01", "2021-07-01", "2020-05-01"
# What the app's role allows (infra/patch-actions.json): read in each watched subscription.
ACTIONS = (
    "Microsoft.Compute/virtualMachines/read",
    "Microsoft.Compute/virtualMachines/instanceView/read",
    "Microsoft.Compute/virtualMachines/assessPatches/action",
    "Microsoft.Compute/virtualMachines/installPatches/action",
    "Microsoft.Compute/virtualMachines/patchAssessmentResults/*",
    "Microsoft.Compute/virtualMachines/patchInstallationResults/read",
    "Microsoft.Compute/locations/operations/read",
    "Microsoft.Maintenance/configurationAssignments/read",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
)
OF_SCALE_SETS = ("Microsoft.Compute/virtualMachineScaleSets/read",)  # with PATCH_SCALE_SETS=include
OF_ARC = (  # with PATCH_ARC=on (infra/arc-actions.json)
    "Microsoft.HybridCompute/machines/read",
    "Microsoft.HybridCompute/machines/assessPatches/action",
    "Microsoft.HybridCompute/machines/installPatches/action",
    "Microsoft.HybridCompute/machines/patchAssessmentResults/read",
    "Microsoft.HybridCompute/machines/patchAssessmentResults/softwarePatches/read",
    "Microsoft.HybridCompute/machines/patchInstallationResults/read",
    "Microsoft.HybridCompute/locations/updateCenterOperationResults/read",
)
OF_STARTS = (  # with PATCH_START_STOPPED
    "Microsoft.Compute/virtualMachines/start/action",
    "Microsoft.Compute/virtualMachines/deallocate/action",
)
PROVIDERS = ("Microsoft.Compute", "Microsoft.EventGrid", "Microsoft.Maintenance")
OF_GUEST_PATCHING = re.compile(r"InGuest|GuestPatch", re.IGNORECASE)  # names of preview features of Compute
EXAMPLES = 3
CLOCKS_DIFFER = timedelta(minutes=2)  # Azure says its time in whole seconds, and an answer takes some
DRAINS_WITHIN = timedelta(hours=1)  # a message that is older waits for a function that does not run
READ_BY = {
    QUEUES[OperationKind.ASSESS]: "on_assess_request",
    QUEUES[OperationKind.INSTALL]: "on_install_request",
    event_grid.QUEUE: "on_machine_message",
}
MADE_BY_MISTAKE = (State.BAD_TAG, State.UNDETERMINED, State.OVERDUE)


async def ask(app: App) -> Answer:
    parts: list[tuple[str, AsyncIterator[Check]]] = [
        ("settings", _settings(app)),
        ("sweep", _sweep(app)),
        ("queues", _queues(app)),
        ("clock", _clock(app)),
        ("machines", _machines(app)),
    ]
    subscriptions = app.settings.scope.subscriptions or await _subscriptions(app)
    for subscription in subscriptions:
        where = f"of {subscription}"
        parts += [
            (f"rights {where}", _rights(app, subscription)),
            (f"events {where}", delivery.checks(app, subscription)),
            (f"providers {where}", _providers(app, subscription)),
            (f"preview features {where}", _features(app, subscription)),
        ]
    for group in app.settings.scope.management_groups:
        parts.append((f"subscriptions of mg:{group}", _below(app, group, subscriptions)))
    parts.append(("alerts", alerts.checks(app)))
    found = [each for name, checks in parts for each in await _answers(name, checks)]
    if not subscriptions:
        found.append(Check("rights and events", NOT_CHECKED, "no subscription is known to check them in"))
    return _answer(found)


async def _subscriptions(app: App) -> list[str]:
    """Where machines are, if PATCH_SCOPE names management groups or nothing; none where Graph gives no answer."""
    try:
        rows = [row async for row in app.services.graph.rows(queries.fill("subscriptions_of"))]
    except CloudError:  # the check of Resource Graph says so
        return []
    return sorted(str(row["subscriptionId"]) for row in rows)


def wrong_settings(error: SettingsError) -> Answer:
    """Where the app itself refuses to run: nothing else can be asked."""
    remedy = "Correct it in the app's settings (docs/settings.md)."
    return _answer([Check("settings", "bad", str(problem), remedy) for problem in error.problems])


def _answer(found: Iterable[Check]) -> Answer:
    found = list(found)
    shown = [part for each in found for part in _lines(each)]
    bad = any(each.verdict == "bad" for each in found)
    return Answer({"healthy": not bad, "checks": [asdict(each) for each in found]}, shown, needs_a_person=bad)


def _lines(check: Check) -> list[Text]:
    """What was found, and under it what to do."""
    mark, style = MARKS[check.verdict]
    found = Text.assemble((f"{mark} ", style), (check.check, "bold"), f": {check.detail}")
    return [found, Text(f"    {check.remedy}", "green")] if check.remedy else [found]


async def _answers(name: str, checks: AsyncIterator[Check]) -> list[Check]:
    """A check without an answer says so, as it may hide a fault; the others go on."""
    found = []
    try:
        async for each in checks:
            found.append(each)
    except (CloudError, PatcherError) as error:
        remedy = "Ask for the right to read it." if isinstance(error, Refused) and error.status in (401, 403) else ""
        found.append(Check(name, NOT_CHECKED, str(error), remedy))
    return found


# -- the app


async def _settings(app: App) -> AsyncIterator[Check]:
    settings, now = app.settings, app.services.clock()
    try:
        read_settings(app.environ, now)
    except SettingsError as error:  # black-outs that leave a window no opening
        for problem in error.problems:
            yield Check("settings", "bad", str(problem), "Correct it in the app's settings (docs/settings.md).")
        return
    window = settings.window.text if settings.window else "not set"
    yield Check("settings", "ok", f"all can be read; PATCH_MODE {settings.mode.name.lower()}, window {window}")
    for text in advice(settings, now):
        yield Check("settings", "note", text, "See docs/settings.md.")
    if settings.mode is not Mode.INSTALL:
        yield Check(
            "mode", "note", "nothing is installed", "Set PATCH_MODE=install when you are ready (docs/deploy.md)."
        )
    if paused := await status.paused_because(app):
        yield Check("pause", "note", f"nothing starts: {paused}", "Resume when the cause is gone (docs/stop.md).")


async def _sweep(app: App) -> AsyncIterator[Check]:
    swept, now = await status.sweeps(app), app.services.clock()
    if swept.alive(now):
        yield Check("sweep", "ok", f"the last one ended {ago(swept.last, now)} ago")
        return
    last = f"the last one ended {ago(swept.last, now)} ago" if swept.last else "none has run yet"
    remedy = "See that the function app runs, and its log: traces | where message has 'on_reconcile'."
    yield Check("sweep", "bad", f"{last}; RECONCILE_SCHEDULE is {app.settings.schedule}", remedy)


async def _queues(app: App) -> AsyncIterator[Check]:
    now, queue = app.services.clock(), app.services.queue
    for poison in await queue.poison():
        since = f", the oldest {ago(poison.since, now)} old" if poison.since else ""
        remedy = "Find the cause in the log (message.poisoned); the sweep tries the machines again."
        yield Check("poison", "bad", f"{poison.queue} holds {poison.count} messages{since}", remedy)
    if isinstance(queue, ReadOnlyQueues):
        for name, function in READ_BY.items():
            yield await _drains(queue, name, function=function, now=now)


async def _drains(queue: ReadOnlyQueues, name: str, *, function: str, now: datetime) -> Check:
    """Whether the function reads its queue. Raises CloudError."""
    try:
        waiting = await queue.waiting(name)
    except Gone:
        return Check("queues", "bad", f"{name} does not exist", "Deploy infra/main.bicep again: it creates the queue.")
    old = waiting.since is not None and now - waiting.since > DRAINS_WITHIN
    remedy = f"See that {function} runs, and is not disabled." if old else ""
    return Check("queues", "bad" if old else "ok", f"{name} holds {waiting.count} messages", remedy)


async def _clock(app: App) -> AsyncIterator[Check]:
    """This machine's clock against Azure's, by which windows are; and the app's, by what it wrote last."""
    await app.arm.get("/subscriptions", SUBSCRIPTIONS)
    azure = app.arm.azure_time
    if azure is None:
        yield Check("clock", NOT_CHECKED, "Azure's answer says no time")
        return
    ahead = app.services.clock() - azure
    if abs(ahead) > CLOCKS_DIFFER:
        remedy = "Set it by a time server. Until then --for, --until and what this tool shows are wrong by as much."
        which = "ahead of" if ahead > timedelta() else "behind"
        yield Check("clock", "bad", f"this machine's is {ago(azure, azure + abs(ahead))} {which} Azure's", remedy)
    else:
        yield Check("clock", "ok", "this machine's agrees with Azure's")
    written = (await status.sweeps(app)).until
    if written and written - azure > SWEEP_LEASE + CLOCKS_DIFFER:
        remedy = "Restart the function app; windows open by its clock, so they open too early."
        yield Check("clock", "bad", f"the app's is {ago(azure, written)} ahead of Azure's, by the ledger", remedy)


async def _machines(app: App) -> AsyncIterator[Check]:
    """What Resource Graph shows, and the states that a person made by mistake."""
    fleet = await look(app)
    subscriptions = Counter(machine.id.subscription for machine, _ in fleet.states)
    for subscription in app.settings.scope.subscriptions or [""]:
        count = subscriptions[subscription] if subscription else len(fleet.states)
        where = f" of {subscription}" if subscription else ""
        if count:
            yield Check("Resource Graph", "ok", f"shows {count_of(count)}{where}")
        else:
            remedy = "Check PATCH_SCOPE, and that you and the app have Reader there."
            yield Check("Resource Graph", "bad", f"shows no machine{where}", remedy)
    for state in MADE_BY_MISTAKE:
        steps = [(machine.id.name, step) for machine, step in fleet.states if step.state is state]
        if steps:
            names = ", ".join(sorted(name for name, _ in steps)[:EXAMPLES])
            detail = f"{count_of(len(steps))} ({names}): {steps[0][1].reason}"
            yield Check(state.value, "bad", detail, steps[0][1].remedy)
    for text in fleet.view.sweep.view.left_alone.values():
        yield Check("ledger", "bad", str(text), "Deploy the newer release again, or delete the row.")
    for row in fleet.images:
        if images.is_open(row):
            detail = f"of {images.short(row.record.image)} is open: {row.record.opened_because}"
            yield Check("breaker", "bad", detail, images.closing(row.key, row.record.opening))


# -- how the app is configured in Azure


async def _rights(app: App, subscription: str) -> AsyncIterator[Check]:
    """The actions that the app's identity lacks in a subscription, by its role assignments."""
    name, scope = f"rights of {subscription}", f"/subscriptions/{subscription}"
    principal = await principal_of(app)
    if not principal:
        yield Check(name, NOT_CHECKED, "the app's identity is not known")
        return
    granted = await granted_to(app, principal, scope)
    settings = app.settings
    needed = ACTIONS + OF_SCALE_SETS * settings.include_scale_sets + OF_ARC * settings.include_arc
    needed += OF_STARTS * bool(settings.start_stopped)
    missing = [action for action in needed if not any(allows(each, action) for each in granted)]
    if missing:
        remedy = f"Assign the app's role to its identity {principal} at {scope} (docs/deploy.md)."
        yield Check(name, "bad", f"the app's identity lacks {', '.join(missing)}", remedy)
    else:
        yield Check(name, "ok", f"the app's identity has all {len(needed)} actions")


async def _below(app: App, group: str, shown: Iterable[str]) -> AsyncIterator[Check]:
    """The rights in the subscriptions of a management group that show no machine. `shown`: those that do.

    Resource Graph leaves out what a caller may not read, without a word: only the group itself says what is in it.
    """
    name = f"subscriptions of mg:{group}"
    path = f"/providers/Microsoft.Management/managementGroups/{group}/descendants"
    try:
        found = [str(each.get("id")).lower() async for each in app.arm.listed(path, GROUPS)]
    except Refused as refused:
        if refused.status != 403:
            raise
        detail = "you may not read which there are; Resource Graph leaves out those that the app may not read"
        yield Check(name, NOT_CHECKED, detail, f"Ask for the role Management Group Reader at {group}.")
        return
    below = {each.removeprefix("/subscriptions/") for each in found if each.startswith("/subscriptions/")}
    without = sorted(below - {each.lower() for each in shown})
    yield Check(name, "ok", f"{len(below)} in it; {len(without)} of them without a machine that you may read")
    for subscription in without:
        for check in await _answers(f"rights of {subscription}", _rights(app, subscription)):
            yield check


async def principal_of(app: App) -> str:
    """The object id of the app's identity: the user-assigned one of its settings, else the system-assigned one."""
    if app.principal or not app.site:
        return app.principal
    identity = (await app.arm.get(app.site, WEB)).get("identity")
    if not isinstance(identity, Mapping):
        return ""
    for each in (identity.get("userAssignedIdentities") or {}).values():
        if str(each.get("clientId")).lower() == app.settings.client_id.lower():
            return str(each.get("principalId"))
    return "" if app.settings.client_id else str(identity.get("principalId") or "")


async def _providers(app: App, subscription: str) -> AsyncIterator[Check]:
    name, missing = f"providers of {subscription}", []
    for provider in PROVIDERS:
        answer = await app.arm.get(f"/subscriptions/{subscription}/providers/{provider}", RESOURCES)
        if str(answer.get("registrationState")) != "Registered":
            missing.append(provider)
    if missing:
        remedy = "; ".join(f"az provider register --subscription {subscription} --namespace {each}" for each in missing)
        yield Check(name, "bad", f"not registered: {', '.join(missing)}", remedy)
    else:
        yield Check(name, "ok", f"registered: {', '.join(PROVIDERS)}")


async def _features(app: App, subscription: str) -> AsyncIterator[Check]:
    """The preview features of guest patching. Azure needs none today, and says so where that is wrong: it refuses."""
    path = f"/subscriptions/{subscription}/providers/Microsoft.Features/providers/Microsoft.Compute/features"
    by_state: dict[bool, list[str]] = {True: [], False: []}
    async for each in app.arm.listed(path, FEATURES):
        name = str(each.get("name")).rpartition("/")[2]
        properties = each.get("properties")
        if OF_GUEST_PATCHING.search(name) and isinstance(properties, Mapping):
            by_state[properties.get("state") == "Registered"].append(name)
    registered, others = (", ".join(sorted(by_state[state])) or "none" for state in (True, False))
    detail = f"registered: {registered}; not registered: {others}; needed only where a refusal says so"
    yield Check(f"preview features of {subscription}", "ok", detail)
