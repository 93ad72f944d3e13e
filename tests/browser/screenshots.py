"""`python -m tests.browser.screenshots FOLDER`: pictures of the page, to look at and for the documents.

Each fleet of fleets.py and one machine, at 1440 and 390 pixels, light and dark.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.browser import fleets
from tests.browser.chromium import Page, chromium
from tests.browser.served import Prepared, shown

WIDTHS = {1440: 900, 390: 844}


async def main(folder: Path) -> None:
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with chromium() as page:
        for name, fleet in fleets.FLEETS.items():
            async with shown(page, Prepared(fleet())):
                await _pictures(page, folder, name)
                if name == "bad-day":
                    await page.run("location.hash = document.querySelector('.cause a').getAttribute('href')")
                    await page.until("document.querySelector('.rules')")
                    await page.run("document.querySelector('.timeline details').open = true")
                    await _pictures(page, folder, "machine")


async def _pictures(page: Page, folder: Path, name: str) -> None:
    for width, height in WIDTHS.items():
        for dark in (False, True):
            await page.size(width, height, dark=dark)
            await page.run("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
            await page.picture(folder / f"{name}-{width}-{'dark' if dark else 'light'}.png")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
