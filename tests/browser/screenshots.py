"""`python -m tests.browser.screenshots FOLDER`: pictures of the page, to look at.

Each fleet of fleets.py and one machine, at 1440 and 390 pixels, light and dark. Without a folder: the pictures of the
documents, to docs/images.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from tests.browser import fleets
from tests.browser.chromium import Page, chromium
from tests.browser.served import Prepared, shown
from tests.support import REPOSITORY

IMAGES = REPOSITORY / "docs" / "images"
HEIGHTS = {1440: 1000, 390: 844}  # of what is in sight, by the width
MACHINE = "machine"  # the page of one machine, on the bad day


class Picture(NamedTuple):
    scene: str  # a fleet, or MACHINE
    width: int
    dark: bool

    @property
    def name(self) -> str:
        return f"{self.scene}-{self.width}-{'dark' if self.dark else 'light'}"


ALL = [
    Picture(scene, width, dark) for scene in (*fleets.FLEETS, MACHINE) for width in HEIGHTS for dark in (False, True)
]
IN_DOCUMENTS = {
    "page.webp": Picture("bad-day", 1440, dark=False),
    "page-machine.webp": Picture(MACHINE, 1440, dark=True),
    "page-phone.webp": Picture("calm", 390, dark=False),
}


async def main(folder: Path | None) -> None:
    files = (
        {folder / f"{each.name}.png": each for each in ALL}
        if folder
        else {IMAGES / name: each for name, each in IN_DOCUMENTS.items()}
    )
    await asyncio.to_thread((folder or IMAGES).mkdir, parents=True, exist_ok=True)
    async with chromium() as page:
        for scene in (*fleets.FLEETS, MACHINE):
            wanted = {file: each for file, each in files.items() if each.scene == scene}
            if wanted:
                async for _ in _scene(page, scene):
                    for file, each in wanted.items():
                        await _take(page, each, file, whole=folder is not None)


async def _scene(page: Page, scene: str) -> AsyncIterator[None]:
    fleet = fleets.bad_day if scene == MACHINE else fleets.FLEETS[scene]
    async with shown(page, Prepared(fleet())):
        if scene == MACHINE:
            await page.run("openMachine(table.rows.find((row) => row.state === 'failed').machine)")
            await page.until("document.querySelector('.rules')")
            await page.run("document.querySelector('.timeline details').open = true")
        yield


async def _take(page: Page, picture: Picture, file: Path, *, whole: bool) -> None:
    await page.size(picture.width, HEIGHTS[picture.width], dark=picture.dark)
    await page.run("document.activeElement.blur()")
    await page.run("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    await page.picture(file, whole=whole)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if sys.argv[1:] else None))
