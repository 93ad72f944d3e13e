"""A headless Chromium, driven by the Chrome DevTools Protocol over one web socket.

The protocol: chromedevtools.github.io/devtools-protocol, version 1.3 and "tot" for what that lacks.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

PROGRAM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
MISSING = "no Chromium is here: the page was not tried in a browser"
STARTS_WITHIN = 120  # seconds, on a busy machine
SEEN_WITHIN = 120
# The head of the page is drawn before its table, and keys come in between.
DRAWN = "state.found !== null && !byId('overview').hasAttribute('aria-busy')"
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # of a container, which runs tests as root; the page is ours
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--force-color-profile=srgb",
    "--allow-pre-commit-input",  # else a key before the first frame is dropped: crbug.com/987626
    "--remote-debugging-port=0",
)

_CODES = {
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    "ArrowDown": (40, ""),
    "Home": (36, ""),
    "End": (35, ""),
}  # of keys that are not characters


class ScriptFailed(AssertionError):
    """The page's script threw. The text is its own."""


@dataclass
class Page:
    """One tab. `requests`: every address it asked for. `errors`: what its console complained about."""

    socket: aiohttp.ClientWebSocketResponse
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _waiting: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)

    async def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """One command of the protocol."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": number, "method": method, "params": arguments})
        said = await asyncio.wait_for(answer, SEEN_WITHIN)
        assert "error" not in said, f"{method}: {said['error']}"
        return dict(said["result"])

    async def listen(self) -> None:
        async for message in self.socket:
            said = json.loads(message.data)
            if waiting := self._waiting.pop(said.get("id", 0), None):
                waiting.set_result(said)
            else:
                self._note(said.get("method", ""), said.get("params", {}))

    def _note(self, event: str, told: Mapping[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.errors.append(told["exceptionDetails"]["exception"].get("description", "an exception"))
        elif event == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(told["entry"]["text"])

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited in the page. Raises ScriptFailed."""
        said = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if failed := said.get("exceptionDetails"):
            raise ScriptFailed(failed["exception"].get("description", failed["text"]))
        return said["result"].get("value")

    async def until(self, condition: str) -> None:
        """Waits until the expression is true in the page."""
        async with asyncio.timeout(SEEN_WITHIN):
            while not await self.run(f"Boolean({condition})"):  # noqa: ASYNC110 - the browser has no event of ours
                await asyncio.sleep(0.05)

    async def go(self, address: str) -> None:
        await self.call("Page.navigate", url=address)
        await self.until(f"document.readyState === 'complete' && typeof state !== 'undefined' && {DRAWN}")

    async def leave(self) -> None:
        """Ends the page, and with it all that it would still ask for."""
        await self.call("Page.navigate", url="about:blank")
        await self.until("location.href === 'about:blank'")

    async def press(self, *keys: str) -> None:
        """Keys as a person presses them: one character, or a name such as Enter."""
        for key in keys:
            code, text = _CODES.get(key, (0, key))
            pressed = {"key": key, "windowsVirtualKeyCode": code, **({"text": text} if text else {})}
            await self.call("Input.dispatchKeyEvent", type="keyDown", **pressed)
            await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    async def type(self, text: str) -> None:
        for each in text:
            await self.press(each)

    async def click(self, selector: str) -> None:
        """A press of the mouse in the middle of the element."""
        async with self.pressing(selector):
            pass

    @asynccontextmanager
    async def pressing(self, selector: str) -> AsyncIterator[None]:
        """The mouse's button is down in the middle of the element, and is let go at the end."""
        await self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = await self.run(f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "button": "left", "clickCount": 1}
        await self.call("Input.dispatchMouseEvent", type="mousePressed", **at)
        yield
        await self.call("Input.dispatchMouseEvent", type="mouseReleased", **at)

    async def text(self, selector: str) -> str:
        """What the element says; "" where there is none."""
        return str(await self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    async def size(self, width: int, height: int, *, dark: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme, still])

    async def picture(self, path: Path, *, whole: bool = True) -> None:
        """A PNG or WebP, by the name, of the whole page or of what is in sight."""
        written_as = path.suffix.removeprefix(".")
        quality = {"quality": 85} if written_as == "webp" else {}
        shot = await self.call("Page.captureScreenshot", format=written_as, captureBeyondViewport=whole, **quality)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))


@asynccontextmanager
async def chromium() -> AsyncIterator[Page]:
    """A browser of its own, with one empty tab."""
    assert PROGRAM, MISSING
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            *(PROGRAM, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with aiohttp.ClientSession() as http:
                async with http.get(f"http://{await _address(Path(folder))}/json/list") as answer:
                    (tab,) = [each for each in await answer.json() if each["type"] == "page"]
                async with http.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = Page(socket)
                    listening = asyncio.create_task(page.listen())
                    for domain in ("Page", "Runtime", "Network", "Log"):
                        await page.call(f"{domain}.enable")
                    await page.size(1440, 900)
                    yield page
                    listening.cancel()
        finally:
            process.terminate()
            await process.wait()


async def _address(folder: Path) -> str:
    """Where the browser is to be driven: it writes its port to a file."""
    told = folder / "DevToolsActivePort"
    async with asyncio.timeout(STARTS_WITHIN):
        while not (told.exists() and told.read_text().count("\n")):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
    return f"127.0.0.1:{told.read_text().splitlines()[0]}"
