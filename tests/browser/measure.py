"""`python -m tests.browser.measure`: how long the page takes for what people do, with ten thousand machines.

Printed in milliseconds, the median and the worst: the time of the browser's main thread for script, style and layout,
and how long a person waited until the next frame was drawn. The first does not depend on what else the machine does.
The goal is that nothing people do takes longer than 100. Nothing fails here: the figures are this machine's.
"""

from __future__ import annotations

import asyncio
import json
from statistics import median
from typing import NamedTuple

from patcher.output import as_json
from tests.browser import fleets
from tests.browser.chromium import Page, chromium
from tests.browser.served import Prepared, shown

GOAL = 100
TIMES = 15

# what a person does → what comes before it, and the script that does it; `i` counts the times
ACTS = {
    "type a letter into the filter": ("", "byId('filter').value = 'owner:shop web'.slice(0, i + 1); filtered()"),
    "clear the filter": ("byId('filter').value = 'shop'; filtered()", "byId('filter').value = ''; filtered()"),
    "press a count": ("", "document.querySelector('[data-filter=\"state:waiting-for-window\"]').click()"),
    "sort by another column": ("", "table.heads[i % table.heads.length].querySelector('button').click()"),
    "j": ("", "table.move(1)"),
    "j, fifty on": ("", "table.move(50)"),
    "scroll by a screen": ("", "byId('scroller').scrollTop += byId('scroller').clientHeight"),
    "scroll to the other end": ("", "byId('scroller').scrollTop = i % 2 ? 0 : 1e9"),
    "open a machine": ("location.hash = '#/'; route()", "openMachine(table.rows[i].machine); route()"),
    "go back": ("openMachine(table.rows[i].machine); route()", "location.hash = '#/'; route()"),
    "a new look arrives, in parts": ("", "await take(JSON.parse(texts[(i + 1) % 2]))"),
}
_FRAME = "new Promise((drawn) => requestAnimationFrame(() => setTimeoutOfTheBrowser(drawn)))"
_ACT = "(async () => { const [i, start] = [%d, performance.now()]; %s; await %s; return performance.now() - start; })()"


class Figures(NamedTuple):
    """Milliseconds, each time."""

    busy: list[float]
    waited: list[float]


async def measured(page: Page, before: str, act: str) -> Figures:
    found = Figures([], [])
    for number in range(TIMES):
        await page.run(_ACT % (number, before, _FRAME))
        busy = await _busy(page)
        found.waited.append(await page.run(_ACT % (number, act, _FRAME)))
        found.busy.append(1000 * (await _busy(page) - busy))
    await page.run("location.hash = '#/'; route(); byId('filter').value = ''; filtered(); true")
    return found


async def _busy(page: Page) -> float:
    """Seconds that the main thread has worked so far."""
    metrics = (await page.call("Performance.getMetrics"))["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


async def main() -> None:
    documents = [fleets.ten_thousand(), fleets.ten_thousand(seed=2)]
    async with chromium() as page, shown(page, Prepared(documents[0])):
        await page.call("Performance.enable", timeDomain="threadTicks")
        # From here on the page asks for nothing, so that only what is measured happens.
        await page.run("window.setTimeoutOfTheBrowser = setTimeout; window.setTimeout = () => 0; true")
        texts = [as_json({**each, "every": 3600}, indent=None) for each in documents]
        await page.run(f"window.texts = [{', '.join(map(json.dumps, texts))}]; true")
        print(f"{'milliseconds, 10,000 machines':34}{'busy':>10}{'worst':>8}{'waited':>10}{'worst':>8}")
        for what, (before, act) in ACTS.items():
            busy, waited = await measured(page, before, act)
            over = f"  over {GOAL}" if max(busy) > GOAL else ""
            print(f"{what:34}{median(busy):10.1f}{max(busy):8.1f}{median(waited):10.1f}{max(waited):8.1f}{over}")


if __name__ == "__main__":
    asyncio.run(main())
