"""The page in a real browser: seen, filtered, sorted, driven by keys, followed while the fleet changes.

Factors: the fleet (empty, calm, bad day, ten thousand); the width; light and dark; mouse and keys; a live page and a
file; a server that answers, and one that does not. After every test: no address but the page's own was asked for, and
the console has no error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from functions.model.state import State
from patcher.commands import Unread
from patcher.connection import Words, connected
from patcher.output import as_json
from patcher.page.feed import Feed
from patcher.page.machine import machine_of
from patcher.page.report import report
from simulator.__main__ import READY_AT_ONCE, run_the_app, told_to_patcher
from simulator.arm import shapes
from simulator.azure import Behaviour
from simulator.embedded import Embedded
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.browser import fleets
from tests.browser.chromium import DRAWN, MISSING, PROGRAM, Page, chromium
from tests.browser.served import SOON, Prepared, details_of, rows_of, shown
from tests.patcher.stage import Stage, staged
from tests.support import REPOSITORY

pytestmark = pytest.mark.asyncio(loop_scope="module")
if PROGRAM is None:
    pytest.skip(MISSING, allow_module_level=True)  # one line, not one for each test

AXE = REPOSITORY / "simulator" / "node" / "node_modules" / "axe-core" / "axe.min.js"
FLEETS = [pytest.param(fleet, id=name) for name, fleet in fleets.FLEETS.items()]
WORDS = Words(simulator=True)
WIDE, NARROW = (1440, 900), (390, 844)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Page]:
    async with chromium() as page:
        yield page


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Page) -> AsyncIterator[Page]:
    await browser.size(*WIDE)
    yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def bad_day(page: Page) -> AsyncIterator[Prepared]:
    source = Prepared(fleets.bad_day())
    async with shown(page, source):
        yield source


@pytest_asyncio.fixture(loop_scope="module")
async def changing(page: Page) -> AsyncIterator[Prepared]:
    """A bad day that the page looks at again soon."""
    source = Prepared(fleets.bad_day(), every=SOON)
    async with shown(page, source):
        yield source


async def names(page: Page, most: int = 5) -> list[str]:
    """The first machines of the table."""
    return list(await page.run(f"table.rows.slice(0, {most}).map((row) => row.name)"))


# -- seen

# fleet → what a person reads on it
SEEN: Mapping[str, list[str]] = {
    "empty": ["No machine is in scope.", "patcher doctor"],
    "calm": [
        "52 of 62 machines are current. None needs a person.",
        "ring untagged",
        "20 of 28",
        "Tue 2026-12-01 22:00",
    ],
    "bad-day": [
        "60 of 133 machines are current. 29 need a person.",
        "No sweep has ended within the last hour",
        "owner shop: month-end",
        "patcher breaker close image-da9666267b21bb91d37d1fb4 --opening 20261125T081500",
        "3 of 4 failed: linux-image-6.8.0-49 does not boot",
        "Free disk space.",
        "watched until Thu 2026-11-26 10:04",
        "1 failed, 3 in flight",
        "stopped: its breaker is open",
        "76 min",
        "21.3",
    ],
    "ten-thousand": ["of 10,000 machines are current", "402 of 472", "and 23 more"],
}


@pytest.mark.parametrize("fleet", SEEN)
async def test_what_a_person_reads(page: Page, fleet: str) -> None:
    async with shown(page, Prepared(fleets.FLEETS[fleet]())):
        text = " ".join((await page.text("body")).split())
    for each in SEEN[fleet]:
        assert each in text


async def test_the_chart_says_in_words_what_it_shows(page: Page, bad_day: Prepared) -> None:
    label = await page.run("document.querySelector('.chart').getAttribute('aria-label')")
    assert label == "133 machines: 29 needs a person, 7 under way, 34 waiting, 60 current, 3 left alone"


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["1440", "390"])
@pytest.mark.parametrize("fleet", FLEETS)
async def test_nothing_is_wider_than_the_screen(
    page: Page, fleet: Callable[[], dict[str, Any]], size: tuple[int, int]
) -> None:
    await page.size(*size)
    async with shown(page, Prepared(fleet())):
        assert await page.run("document.documentElement.scrollWidth") <= size[0]
        if await names(page):
            await page.run("openMachine(table.rows[0].machine)")
            await page.until("document.querySelector('.rules')")
            assert await page.run("document.documentElement.scrollWidth") <= size[0]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("place", ["fleet", "machine", "keys", "phone"])
async def test_axe_finds_nothing(page: Page, bad_day: Prepared, place: str, dark: bool) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed (simulator/node)")
    await page.size(*(NARROW if place == "phone" else WIDE), dark=dark)
    if place == "machine":
        await page.run("openMachine(table.rows[0].machine)")
        await page.until("document.querySelector('.rules')")
        await page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    if place == "keys":
        await page.press("?")
    await page.run(AXE.read_text(encoding="utf-8") + "; true")
    found = await page.run(
        "axe.run().then(({ violations }) => violations.map(({ id, impact, nodes }) => "
        "({ id, impact, nodes: nodes.map(({ html }) => html.slice(0, 200)) })))"
    )
    assert found == []
    assert await page.run("document.querySelectorAll('h1').length") >= 1


async def test_light_and_dark_by_the_system_and_by_a_switch(page: Page, bad_day: Prepared) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    light = await page.run(background)
    await page.size(*WIDE, dark=True)
    dark = await page.run(background)
    assert light != dark
    seen = []
    for _ in range(3):
        await page.click("#theme")
        seen.append((await page.text("#theme"), await page.run(background)))
    assert seen == [("Theme: light", light), ("Theme: dark", dark), ("Theme: auto", dark)]


async def test_no_text_of_azure_becomes_a_part_of_the_page(page: Page) -> None:
    hostile = '<img src="https://example.com/x" onerror="document.title=1">'
    rows = [fleets.row(0, State.FAILED, owner=hostile, reason=hostile, remedy=hostile, image=hostile, command=hostile)]
    async with shown(page, Prepared(fleets.document(rows, problems=[hostile], paused=hostile))):
        assert await page.run("document.images.length") == 0
        assert hostile in await page.text("#needs")
        assert hostile in await page.text("#notices")


# -- filtered and sorted

# the filter's text → how many machines it shows
FILTERED = {
    "a state": ("state:failed", 6),
    "a group of states": ("is:needs-a-person", 29),
    "late": ("is:late", 24),
    "an owner": ("owner:shop", 27),
    "no owner": ('owner:""', 26),
    "a word of the reason": ("libssl3", 6),
    "capitals": ("LIBSSL3", 6),
    "two words": ("state:failed owner:shop", 1),
    "an image": ("image:win2025/11.2.0", 19),
    "none": ("state:failed state:patched", 0),
    "words of KQL and HTML": ("<b>'|.*(", 0),
}


@pytest.mark.parametrize(("text", "count"), FILTERED.values(), ids=FILTERED)
async def test_the_filter(page: Page, bad_day: Prepared, text: str, count: int) -> None:
    await page.press("/")
    await page.type(text)
    assert await page.text("#found") == f"{count} of 133 machines"
    assert await page.run("document.querySelectorAll('tr[data-machine]').length") <= count
    assert await page.run("document.querySelector('.nothing').hidden") is (count > 0)
    await page.press("Escape")
    assert await page.text("#found") == "133 machines"


async def test_a_count_is_a_filter_too(page: Page, bad_day: Prepared) -> None:
    for selector, word, count in (
        ("[data-filter='state:installing']", "state:installing", 5),
        ("[data-filter='is:left-alone']", "is:left-alone", 3),
        ("#owners [data-filter='owner:shop']", "owner:shop", 27),
    ):
        await page.click(selector)
        assert await page.run("byId('filter').value") == word
        assert await page.text("#found") == f"{count} of 133 machines"
        assert await page.run(f"document.querySelector({json.dumps(selector)}).getAttribute('aria-pressed')") == "true"
        await page.click(selector)
        assert await page.run("byId('filter').value") == ""


async def test_a_heading_sorts_and_says_so(page: Page, bad_day: Prepared) -> None:
    sort = "document.querySelector('.scroller th.{}').getAttribute('aria-sort')"
    assert await page.run(sort.format("state")) == "ascending"
    assert await page.run("table.rows[0].state") == "failed", "what needs a person comes first"
    await page.click(".scroller th.machine button")
    assert (await page.run(sort.format("machine")), await page.run(sort.format("state"))) == ("ascending", None)
    up = await names(page, 200)
    assert up == sorted(up)
    await page.click(".scroller th.machine button")
    assert await names(page, 200) == up[::-1]
    await page.click(".scroller th.security button")
    assert await page.run("table.rows[0].security") == 7, "numbers begin with the most"
    await page.click(".scroller th.expected button")
    assert await page.run("table.rows.at(-1).expected") is None, "what is not known comes last"
    await page.click(".scroller th.expected button")
    assert await page.run("table.rows.at(-1).expected") is None


# -- keys


async def test_from_the_table_to_a_machine_and_back(page: Page, bad_day: Prepared) -> None:
    first, second, *_ = await names(page)
    await page.press("j", "j", "k", "j")
    assert await page.run("document.activeElement.innerText") == second
    assert await page.run(
        "document.querySelector('tr.selected').innerText.startsWith(document.activeElement.innerText)"
    )
    scrolled = await page.run("scrollY")
    await page.press("Enter")
    await page.until("document.querySelector('.rules')")
    assert (await page.text("#machine h1"), await page.run("document.activeElement.id")) == (second, "machine-name")
    for text in ("2 patches failed: libssl3", "installation Failed", "Waiting patches", "linux-image-6.8.0-49"):
        assert text in " ".join((await page.text("#machine")).split())
    await page.press("k")
    await page.until(f"document.querySelector('#machine h1').innerText === {json.dumps(first)}")
    await page.press("Escape")
    await page.until("!byId('overview').hidden")
    assert await page.run("document.activeElement.innerText") == first
    assert abs(await page.run("scrollY") - scrolled) < 100, "back where it was"


async def test_the_keys_are_shown_and_do_not_disturb_typing(page: Page, bad_day: Prepared) -> None:
    await page.press("?")
    assert "next and previous machine" in await page.text("dialog[open]")
    await page.press("j", "/")
    assert await page.run("document.activeElement.id") != "filter", "keys belong to the dialog"
    await page.press("Escape")
    assert await page.run("byId('help').open") is False
    await page.press("/")
    await page.type("jk?/")
    assert await page.run("byId('filter').value") == "jk?/"
    assert await page.run("byId('help').open") is False


async def test_arrows_move_in_the_table_alone(page: Page, bad_day: Prepared) -> None:
    await page.press("ArrowDown")
    assert await page.run("table.selected") is None
    await page.run("byId('scroller').focus()")
    await page.press("ArrowDown", "ArrowDown")
    await page.until("table.place() === 1")
    await page.press("End")
    await page.until("table.place() === 132")
    await page.press("Home", "Enter")
    await page.until("state.opened !== null && state.opened === table.rows[0].machine")


async def test_a_command_is_copied(page: Page, bad_day: Prepared) -> None:
    await page.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    await page.click("#needs .copy")
    await page.until("document.querySelector('#needs .copy').innerText === 'Copied'")
    copied = await page.run("navigator.clipboard.readText()")
    assert copied.startswith("patcher breaker close image-da9666267b21bb91d37d1fb4 --opening 20261125T081500")


async def test_a_screen_reader_learns_of_rows_that_are_not_drawn(page: Page, bad_day: Prepared) -> None:
    assert await page.run("document.querySelector('.machines').getAttribute('aria-rowcount')") == "134"
    for _ in range(30):
        await page.press("j")
    assert await page.run("document.activeElement.closest('tr').getAttribute('aria-rowindex')") == "31"
    assert await page.run("[...document.querySelectorAll('th')].every((each) => each.scope)")


# -- ten thousand


async def test_ten_thousand_machines_are_few_elements(page: Page) -> None:
    source = Prepared(fleets.ten_thousand())
    async with shown(page, source):
        drawn = "document.querySelectorAll('tr[data-machine]').length"
        assert 10 < await page.run(drawn) < 60
        await page.run("byId('scroller').scrollTop = 1e9")
        await page.until("document.querySelector('tr[aria-rowindex=\"10001\"]')")
        assert await page.run(drawn) < 60
        await page.press("/")
        await page.type("owner:shop state:patched")
        shop = await page.run("state.rows.filter((row) => row.owner === 'shop' && row.state === 'patched').length")
        assert await page.text("#found") == f"{shop:,} of 10,000 machines"


# -- while the fleet changes


async def look_again(page: Page, source: Prepared, found: Mapping[str, Any], *, after: int = 1) -> None:
    """The next look of the page finds this document. `after`: seconds."""
    at = fleets.NOW + timedelta(seconds=after)
    source.document = {**found, "at": at}
    await page.until(f"state.found.at === {as_json(at)} && {DRAWN}")


async def test_a_press_outlasts_the_next_look(page: Page, changing: Prepared) -> None:
    asked = len(changing.asked)
    async with page.pressing("[data-filter='state:installing']"):
        changing.document = {**fleets.calm(), "at": fleets.NOW + timedelta(seconds=1)}
        while len(changing.asked) == asked:  # noqa: ASYNC110 - the page asks while the button is down
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)  # time enough to draw the answer; a slower machine would only prove less
    await page.until("byId('filter').value === 'state:installing'")
    await page.until(f"state.found.at === {as_json(fleets.NOW + timedelta(seconds=1))}")


async def test_a_refresh_leaves_filter_selection_and_scroll(page: Page) -> None:
    source = Prepared(fleets.ten_thousand(), every=SOON)
    async with shown(page, source):
        await page.press("/")
        await page.type("owner:shop")
        await page.press("Enter")
        for _ in range(40):
            await page.press("j")
        place = "[table.selected, document.activeElement.closest('tr')?.dataset.machine, byId('filter').value, scrollY]"
        sight = "document.activeElement.getBoundingClientRect().top"
        before, at = await page.run(place), await page.run(sight)
        assert before[0] == before[1]
        await page.run(
            "window.changed = []; new MutationObserver(() => changed.push(byId('live').textContent))"
            ".observe(byId('live'), { childList: true })"
        )
        await look_again(page, source, fleets.ten_thousand(seed=2))
        assert await page.run(place) == before
        assert abs(await page.run(sight) - at) < 1, "the selected row does not move"
        assert "machines changed: " in (await page.run("changed"))[-1]


async def test_the_states_that_a_page_saw_stand_in_the_timeline(page: Page) -> None:
    states = (State.WAITING_FOR_WINDOW, State.INSTALLING, State.PATCHED)
    looks = [fleets.document([fleets.row(7, each)]) for each in states]
    source = Prepared(looks[0], every=SOON)
    async with shown(page, source):
        await page.run("openMachine(table.rows[0].machine)")
        for place, found in enumerate(looks[1:], 1):
            await look_again(page, source, found, after=place)
        await page.until("document.querySelector('#machine .verdict strong').innerText === 'patched'")
        seen = await page.run("[...document.querySelectorAll('.timeline strong')].map((each) => each.innerText)")
    assert [each for each in seen if each in ("installing", "patched")] == ["installing", "patched"]


async def test_what_is_open_and_focused_stays_so(page: Page, changing: Prepared) -> None:
    await page.run("document.querySelector('.cause a').focus()")
    focused = await page.run("document.activeElement.dataset.key")
    await look_again(page, changing, fleets.bad_day())
    assert await page.run("document.activeElement.dataset.key") == focused
    await page.press("Enter")
    await page.until("document.querySelector('.timeline details')")
    await page.run("document.querySelector('.timeline details summary').click()")
    asked = len(changing.asked)
    await look_again(page, changing, fleets.bad_day(), after=2)
    while len(changing.asked) < asked + 4:  # noqa: ASYNC110 - the machine was read again, too
        await asyncio.sleep(0.05)
    assert await page.run("document.querySelector('.timeline details').open") is True


async def test_without_an_answer_the_last_look_stays_and_says_so(page: Page, changing: Prepared) -> None:
    changing.away = True
    await page.until("byId('notices').innerText.includes('could not be read')")
    assert "Resource Graph: 503, try later. This is as of 14:04:07." in await page.text("#notices")
    assert "60 of 133 machines" in await page.text("#headline")
    changing.away = False
    await page.until("!byId('notices').innerText.includes('could not be read')")
    page.errors.clear()  # the browser itself complains of the answer 502


async def test_a_machine_that_is_gone(page: Page, changing: Prepared) -> None:
    await page.run("openMachine(table.rows[0].machine)")
    await page.until("document.querySelector('.rules')")
    await look_again(page, changing, fleets.calm())
    assert await page.text("#machine h1") == "This machine is not in scope"
    await page.press("Escape")
    assert await names(page, 1)


SPEED = 600
PENDING = {"critical": 1, "security": 2}


async def test_a_new_machine_is_followed_until_it_is_patched(
    page: Page, tls: Tls, azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app in its host, Azure behind TLS, and `patcher page` beside them; nothing is done but to look."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    async with Embedded(SPEED, timings=READY_AT_ONCE, tls=tls, azurite=azurite) as embedded:
        await run_the_app(embedded, SPEED)
        async with (
            told_to_patcher(embedded),
            connected(WORDS) as app,
            shown(page, Feed(app, WORDS, every=1, unread=Unread)),
        ):
            assert await page.text("#headline") == "No machine is in scope."
            embedded.azure.behave("web-01", Behaviour(pending=PENDING))
            embedded.azure.create_machine(shapes.machine_id("web-01"), shapes.machine())
            await page.until("table.rows.length === 1")
            await page.run("openMachine(table.rows[0].machine)")
            await page.until("document.querySelector('#machine .verdict strong').innerText === 'patched'")
            await page.until("document.querySelector('#machine .timeline details')")
            await page.run("document.querySelector('#machine .timeline details').open = true")
            text = await page.text("#machine .timeline")
            for each in (
                "created web/1.4.0",
                "assessed Supported: 0 critical",
                "installation Succeeded",
                "libcritical0",
            ):
                assert each in text
            await page.press("Escape")
            await page.until("!byId('overview').hidden")
            await page.until("byId('headline').innerText === '1 of 1 machine is current. None needs a person.'")


# -- one file


async def test_the_report_is_the_page_without_a_server(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    rows = {row["group"] + row["name"]: row for row in rows_of(fleets.bad_day())}
    failed, other = (
        next(machine for machine, row in rows.items() if row["state"] == state)
        for state in (State.FAILED, State.PATCHED)
    )
    explained = {failed: {name: details_of(rows[failed])[name] for name in ("rules", "evidence")}}
    file.write_text(report({**fleets.bad_day(), "every": 60, "explained": explained}), encoding="utf-8")
    page.requests.clear()
    page.errors.clear()
    await page.go(file.as_uri())
    assert "60 of 133 machines are current" in await page.text("#headline")
    assert await page.text("#fresh") == "as of Wed 2026-11-25 14:04"
    await page.press("j", "Enter")
    await page.until("document.querySelector('.timeline')")
    await page.run(f"location.hash = '#/machine{failed}'")
    await page.until(f"document.querySelector('.because').innerText === {json.dumps(rows[failed]['reason'])}")
    shown_failed = await page.text("#machine")
    assert "Rules, in order" in shown_failed
    assert "Evidence" in shown_failed
    assert f"patcher why {failed}" in shown_failed
    await page.run(f"location.hash = '#/machine{other}'")
    await page.until(f"document.querySelector('.because').innerText === {json.dumps(rows[other]['reason'])}")
    shown_other = await page.text("#machine")
    assert "Rules, in order" not in shown_other
    assert f"patcher why {other}" in shown_other
    await page.leave()
    assert page.requests == [file.as_uri()]
    assert page.errors == []


# -- prepared and real


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tls: Tls, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tls, azurite, tmp_path_factory.mktemp("config")) as running:
        yield running


def outline(value: Any) -> Any:
    """The names in a document, whatever its values: of a list, those that any of its items has."""
    if isinstance(value, Mapping):
        return {name: outline(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        items = [found for found in map(outline, value) if isinstance(found, dict)]
        return {name: found[name] for found in items for name in found}
    return None


def differences(prepared: Any, real: Any, place: str = "") -> list[str]:
    """Where one has a name that the other has not; a list that is empty in one of them says nothing."""
    if not (prepared and real):
        return []
    found = [f"{place}.{name}" for name in prepared.keys() ^ real.keys()]
    for name in prepared.keys() & real.keys():
        found += differences(prepared[name], real[name], f"{place}.{name}")
    return found


async def test_prepared_documents_have_the_shape_of_real_ones(stage: Stage) -> None:
    """What the other tests and the pictures show is what the page is given."""
    async with connected(WORDS) as app:
        real = await Feed(app, WORDS, every=1, unread=Unread).read()
        real_machine = await machine_of(app, "past-01")
    for fleet in fleets.FLEETS.values():
        assert differences(outline({**fleet(), "kinds": 0}), outline({**real, "kinds": 0})) == []
    assert fleets.document([])["kinds"] == real["kinds"]
    first = fleets.row(90, State.FAILED)
    source = Prepared(fleets.bad_day())
    prepared = json.loads(await source.machine(first["group"] + first["name"]))
    assert differences(outline({**prepared, "evidence": 0}), outline({**real_machine, "evidence": 0})) == []
