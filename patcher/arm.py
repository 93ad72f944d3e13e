"""Resource Manager beyond the app's own clients: the function app, its rights, its event subscriptions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from functions.cloud.errors import CloudError
from functions.cloud.translation import translate
from functions.model.text import Json
from functions.policy.settings import audience_of

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.core.rest import AsyncHttpResponse, HttpRequest
    from azure.mgmt.core import AsyncARMPipelineClient

WEB = "2024-04-01"
GRAPH = "2022-10-01"


class Arm:
    """GET, POSTs that only read, and the PUT of app settings. Raises the exceptions of functions/cloud/errors.py."""

    def __init__(self, endpoint: str, credential: AsyncTokenCredential) -> None:
        self.endpoint, self._credential = endpoint, credential
        self.azure_time: datetime | None = None  # as the last answer said it, in whole seconds
        self._client: AsyncARMPipelineClient[HttpRequest, AsyncHttpResponse] | None = None

    async def get(self, path: str, version: str, **query: str) -> Json:
        """The JSON object at a path."""
        return await self._call("GET", path, version=version, query=query)

    async def read_by_post(self, path: str, version: str, body: Json | None = None) -> Json:
        """What Azure gives only to a POST, though it changes nothing: app settings, answers of Resource Graph."""
        return await self._call("POST", path, version=version, query={}, body=body)

    async def put_app_settings(self, site: str, settings: Mapping[str, str]) -> None:
        """Replaces all app settings, which restarts the app: the only write of this tool to Resource Manager."""
        await self._call(
            "PUT", f"{site}/config/appsettings", version=WEB, query={}, body={"properties": dict(settings)}
        )

    async def listed(self, path: str, version: str, **query: str) -> AsyncIterator[Json]:
        """The items of a list, of every page."""
        page = await self.get(path, version, **query)
        while True:
            items = page.get("value")
            for item in items if isinstance(items, list) else []:
                if isinstance(item, Mapping):
                    yield item
            link = page.get("nextLink")
            if not isinstance(link, str) or not link.startswith(f"{self.endpoint}/"):
                return
            page = await self._call("GET", link.removeprefix(self.endpoint), version="", query={})

    async def close(self) -> None:
        if self._client:
            await self._client.close()

    async def _call(
        self, method: str, path: str, *, version: str, query: Mapping[str, str], body: Json | None = None
    ) -> Json:
        from azure.core.rest import HttpRequest

        what = f"asking Resource Manager ({method} …{path.partition('?')[0][-60:]})"
        params = {**query, **({"api-version": version} if version else {})}
        try:
            request = HttpRequest(method, self.endpoint + path, params=params, json=body)
            answer = await self._pipeline().send_request(request)
            self.azure_time = _time(answer.headers.get("date"))
            answer.raise_for_status()
            content = answer.json()
        except CloudError:
            raise
        except Exception as error:  # noqa: BLE001 - translated, so that no token or SDK text is shown
            raise translate(error, what) from None
        return content if isinstance(content, Mapping) else {}

    def _pipeline(self) -> AsyncARMPipelineClient[HttpRequest, AsyncHttpResponse]:
        if self._client is None:
            from azure.core.pipeline import policies as sdk
            from azure.mgmt.core import AsyncARMPipelineClient
            from azure.mgmt.core.policies import AsyncARMChallengeAuthenticationPolicy

            scope = f"{audience_of(self.endpoint)}/.default"
            self._client = AsyncARMPipelineClient(
                self.endpoint,
                policies=[
                    sdk.UserAgentPolicy("image-patcher-cli"),
                    sdk.AsyncRetryPolicy(retry_total=2),
                    AsyncARMChallengeAuthenticationPolicy(self._credential, scope),
                ],
            )
        return self._client


def _time(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
