"""From words to a connected app: whose identity, which function app, its settings, and clients that only read."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from functions.cloud.errors import Refused
from functions.cloud.ledger import Ledger
from functions.cloud.resource_graph import ResourceGraph
from functions.cloud.session import Session
from functions.cloud.tables import StorageTable
from functions.policy.settings import Settings, audience_of, read_settings
from functions.policy.values import Mode
from functions.services import Services
from patcher import arm, profile
from patcher.arm import Arm
from patcher.errors import BadRequest, NoAnswer
from patcher.profile import Profile
from patcher.reading import ReadOnlyMachines, ReadOnlyQueues, ReadOnlyTable

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.core.credentials_async import AsyncTokenCredential

SIMULATOR = "simulator"
SOON = 300  # seconds before a token's end at which a new one is asked for
FIRST_TIME = "no app is known yet; name it once: patcher --app NAME --resource-group GROUP status"
_NAME = re.compile(r"[\w().-]{1,90}", re.ASCII)


@dataclass(frozen=True)
class Words:
    """What was said about the connection."""

    simulator: bool = False
    app: str = ""
    resource_group: str = ""
    settings: Path | None = None
    profile: str = profile.DEFAULT
    arm_endpoint: str = ""


@dataclass(frozen=True)
class App:
    """One app, connected.

    `environ`: its app settings as they are written. `site`: the function app's id; the simulator has none, and names
    the object id of its identity. `group`: the id of its resource group.
    """

    name: str
    site: str
    group: str
    principal: str
    environ: Mapping[str, str]
    session: Session
    services: Services
    arm: Arm

    @property
    def settings(self) -> Settings:
        return self.services.settings

    def whatever_mode(self) -> App:
        """The same app as if PATCH_MODE were install."""
        return self._with(replace(self.settings, mode=Mode.INSTALL))

    async def current(self, words: Words) -> App:
        """The same app by its settings of now. Raises BadRequest, NoAnswer, SettingsError and CloudError."""
        environ = _simulated()[0] if words.simulator else await _environ(self.arm, self.site, words)
        return self if environ == self.environ else replace(self._with(read_settings(environ)), environ=environ)

    def _with(self, settings: Settings) -> App:
        before = self.session
        session = Session(settings, before.clock, credential=before.credential, transport=before.transport)
        return replace(self, session=session, services=_services(session))


@asynccontextmanager
async def connected(words: Words) -> AsyncIterator[App]:
    """The app that is meant. Raises BadRequest, NoAnswer, SettingsError and CloudError."""
    async with AsyncExitStack() as stack:
        if words.simulator:
            environ, principal, group = _simulated()
            credential: AsyncTokenCredential = _SimulatorCredential(environ["ARM_ENDPOINT"])
            name, site, endpoint = SIMULATOR, "", environ["ARM_ENDPOINT"]
            client = Arm(endpoint, credential)
            stack.push_async_callback(client.close)
            clock = await _clock_of(endpoint)
        else:
            known = _known(words)
            credential = _own_identity()
            endpoint = known.arm_endpoint if known else words.arm_endpoint or Profile.arm_endpoint
            client = Arm(endpoint, credential)
            stack.push_async_callback(client.close)
            await _sign_in(credential, endpoint)
            if known is None:
                known = Profile(await _find(client, words), endpoint)
                profile.save(words.profile, known)
            name, site, principal = known.app, known.site, ""
            group = site.partition("/providers/")[0]
            environ = await _environ(client, site, words)
            clock = _now
        session = Session(read_settings(environ), clock, credential=credential)
        stack.push_async_callback(session.close)
        yield App(
            name,
            site=site,
            group=group,
            principal=principal,
            environ=environ,
            session=session,
            services=_services(session),
            arm=client,
        )


def _now() -> datetime:
    return datetime.now(UTC)


def _services(session: Session) -> Services:
    return Services(
        session.settings,
        compute=ReadOnlyMachines(session),
        graph=ResourceGraph(session),
        ledger=Ledger(ReadOnlyTable(StorageTable(session))),
        queue=ReadOnlyQueues(session),
        clock=session.clock,
    )


# -- which app


def _known(words: Words) -> Profile | None:
    """The app that was found before; None where another one is named. Raises BadRequest where none is known."""
    for what, text in (("--app", words.app), ("--resource-group", words.resource_group)):
        if text and not _NAME.fullmatch(text):
            raise BadRequest(f"{what}: a name has letters, digits and ().-_ only")
    if words.app or words.resource_group:
        return None
    known = profile.load(words.profile)
    if known is None and words.profile != profile.DEFAULT:
        raise BadRequest(f"there is no profile '{words.profile}'; {FIRST_TIME}")
    if known is None:
        raise BadRequest(FIRST_TIME)
    return known


async def _find(client: Arm, words: Words) -> str:
    """The id of the function app, looked for wherever the person may read."""
    query = "resources | where type =~ 'microsoft.web/sites' and kind contains 'functionapp'"
    if words.app:
        query += f" | where name =~ '{words.app}'"
    if words.resource_group:
        query += f" | where resourceGroup =~ '{words.resource_group}'"
    path = "/providers/Microsoft.ResourceGraph/resources"
    answer = await client.read_by_post(path, arm.GRAPH, {"query": f"{query} | project id | order by id asc | take 20"})
    rows = answer.get("data")
    found = [str(row["id"]) for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    if len(found) == 1:
        return found[0]
    where = " ".join(filter(None, [words.app, words.resource_group and f"in {words.resource_group}"]))
    if not found:
        raise BadRequest(f"no function app {where} is to be seen; check the name, and `az account show`")
    raise BadRequest(f"{len(found)} function apps are meant; name one: {', '.join(found)}")


async def _environ(client: Arm, site: str, words: Words) -> dict[str, str]:
    return _from_file(words.settings) if words.settings else await _settings_of(client, site)


async def _settings_of(client: Arm, site: str) -> dict[str, str]:
    try:
        answer = await client.read_by_post(f"{site}/config/appsettings/list", arm.WEB)
    except Refused as refused:
        if refused.status not in (401, 403):
            raise
        right = "Microsoft.Web/sites/config/list/action"
        hint = f"get it, or give a file: az functionapp config appsettings list --ids {site} > s.json, then --settings"
        raise NoAnswer(f"you may not list the app's settings ({right}); {hint} s.json") from None
    return _texts(answer.get("properties"))


def _from_file(path: Path) -> dict[str, str]:
    """App settings as az lists them, as local.settings.json has them, or as an object of names and values."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRequest(f"--settings {path}: {type(error).__name__}; a JSON file of app settings is needed") from None
    if isinstance(content, list):
        return _texts({item.get("name"): item.get("value") for item in content if isinstance(item, Mapping)})
    if isinstance(content, Mapping):
        return _texts(content.get("Values", content))
    raise BadRequest(f"--settings {path}: a JSON file of app settings is needed")


def _texts(values: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in values.items()} if isinstance(values, Mapping) else {}


# -- whose identity


def _own_identity() -> AsyncTokenCredential:
    from azure.identity.aio import AzureCliCredential, ChainedTokenCredential, DefaultAzureCredential

    return _Kept(ChainedTokenCredential(AzureCliCredential(), DefaultAzureCredential()))


class _Kept:
    """A credential that keeps its tokens: each client asks by itself, and `az` takes a second for each."""

    def __init__(self, credential: AsyncTokenCredential) -> None:
        self._credential = credential
        self._tokens: dict[tuple[str, ...], AccessToken] = {}
        self._one_at_a_time = asyncio.Lock()

    async def get_token(self, *scopes: str, claims: str | None = None, **options: Any) -> AccessToken:
        async with self._one_at_a_time:
            known = self._tokens.get(scopes)
            if known is None or claims or known.expires_on < datetime.now(UTC).timestamp() + SOON:
                known = await self._credential.get_token(*scopes, claims=claims, **options)
                self._tokens[scopes] = known
            return known

    async def close(self) -> None:
        await self._credential.close()

    async def __aenter__(self) -> _Kept:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _sign_in(credential: AsyncTokenCredential, endpoint: str) -> None:
    """Gets the first token. Raises NoAnswer: without one, every call would fail and blame a missing right."""
    from azure.core.exceptions import ClientAuthenticationError

    try:
        await credential.get_token(f"{audience_of(endpoint)}/.default")
    except ClientAuthenticationError:
        await credential.close()
        raise NoAnswer("no Azure identity of yours is to be found; sign in: az login") from None


# -- the simulator of this machine


def _simulated() -> tuple[dict[str, str], str, str]:
    """What the running simulator wrote down: settings, the object id of the app's identity, its resource group.

    Its certificate authority is trusted by this process from here on.
    """
    path = profile.folder() / "simulator.json"
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        environ, principal, group = _texts(written["settings"]), str(written["principal"]), str(written["group"])
        os.environ["SSL_CERT_FILE"] = environ["SSL_CERT_FILE"]  # before aiohttp is imported, which reads it once
    except (OSError, ValueError, KeyError):
        raise BadRequest("no simulator runs here; start one in another terminal: python -m simulator") from None
    return environ, principal, group


async def _clock_of(endpoint: str) -> Callable[[], datetime]:
    """The simulator's clock: a person may have moved it, and windows open by it. Raises NoAnswer."""
    ahead = datetime.fromisoformat(str(json.loads(await _told(endpoint, "clock"))["now"])) - _now()
    return lambda: _now() + ahead


async def _told(endpoint: str, what: str, **query: str) -> str:
    """What the simulator says on a route of its own. Raises NoAnswer."""
    import aiohttp

    try:
        async with aiohttp.ClientSession() as http:
            answer = await http.get(f"{endpoint}/simulator/{what}", params=query)
            return await answer.text()
    except aiohttp.ClientError:
        raise NoAnswer("the simulator does not answer; start it again: python -m simulator") from None


class _SimulatorCredential:
    """An operator's tokens, from the simulator itself."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        from azure.core.credentials import AccessToken

        token = await _told(self._endpoint, "token", resource=scopes[0].removesuffix("/.default"))
        return AccessToken(token, int(datetime.now(UTC).timestamp()) + 3600)

    async def close(self) -> None:
        """Nothing is held open."""

    async def __aenter__(self) -> _SimulatorCredential:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
