"""The report in real headless Chromium, wide and narrow: it asks for and logs nothing; figures as the command's."""

import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from oracle.metrics.report import MOST_BYTES
from oracle.metrics.report_words import FIGURES, figure
from tests.end_to_end.browser import Page, browsing, find_browser
from tests.end_to_end.commands import oracle
from tests.unit.report_books import MARKUP, make_books

BROWSER = find_browser()
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium, or set ORACLE_CHROMIUM"),
]
WIDTHS = {"desktop": (1280, 900, False), "phone": (390, 844, True)}
TOLD = """[...document.querySelectorAll('[data-figure]')].map(
    e => [e.dataset.figure, e.dataset.value, e.textContent])"""
WIDER = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && !e.closest('svg')
    && e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
    .map(e => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40))"""
# Text that a box of its own cuts off or lets run out of it.
SPILT = """[...document.querySelectorAll('.tile, .card, td, th')].filter(e => e.scrollWidth > e.clientWidth + 1)
    .map(e => e.className + ' ' + e.textContent.slice(0, 60))"""

PAPER_PX = 703
OFF_PAPER = """[...document.querySelectorAll('body *')].filter(e => !e.closest('svg')
    && e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
    .map(e => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40))"""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Books of 45 sessions, or those that ORACLE_REPORT_STATE names (a simulated year, say)."""
    named = os.environ.get("ORACLE_REPORT_STATE")
    return Path(named) if named else make_books(tmp_path_factory.mktemp("report") / "state")


@pytest.fixture(scope="module")
def written(
    state: Path, tmp_path_factory: pytest.TempPathFactory, clean_environment: dict[str, str]
) -> tuple[Path, dict[str, Any]]:
    """The page, and what ``oracle performance --json`` says."""
    out = tmp_path_factory.mktemp("page").resolve() / "report.html"
    done = oracle("report", "--all", "--state", str(state), "--out", str(out), env=clean_environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    told = oracle("performance", "--json", "--state", str(state), env=clean_environment)
    assert told.returncode == 0, told.stderr
    return out, json.loads(told.stdout)


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    assert BROWSER is not None
    async with browsing(BROWSER) as found:
        yield found


def keep(name: str, content: bytes) -> None:
    """Leave a picture for people where ORACLE_REPORT_PICTURES names a folder."""
    folder = os.environ.get("ORACLE_REPORT_PICTURES")
    if folder:
        (Path(folder) / name).write_bytes(content)


def expected(told: dict[str, Any]) -> dict[str, Any]:
    """Every figure of the JSON by the name that the page gives it."""
    found = {}
    for row in told["performance"]:
        place = f"{row['strategy']}|{row['strategy_hash']}"
        for period, values in [("period", row["figures"]), *row["months"].items()]:
            found.update({f"{place}|{period}|{name}": value for name, value in values.items()})
    return found


@pytest.mark.parametrize("kind", WIDTHS)
async def test_the_page_opens_offline_and_shows_the_commands_figures(
    kind: str, written: tuple[Path, dict[str, Any]], page: Page
) -> None:
    file, told = written
    width, height, phone = WIDTHS[kind]
    await page.open(file.as_uri(), width=width, height=height, phone=phone)
    assert page.problems == []
    assert page.requests == [file.as_uri()]
    assert file.stat().st_size < MOST_BYTES
    want = expected(told)
    seen = await page.evaluate(TOLD)
    assert {name for name, _, _ in seen} <= set(want)
    for name, value, text in seen:
        assert json.loads(value) == want[name], name
        assert text == figure(name.rpartition("|")[2], want[name]), name
    shown = {name for name, _, _ in seen}
    for row in told["performance"]:
        place = f"{row['strategy']}|{row['strategy_hash']}"
        if row["first"] is not None:
            assert {f"{place}|period|{name}" for name in FIGURES} <= shown
            assert {f"{place}|{month}|net_pnl_usd" for month in row["months"]} <= shown
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    assert await page.evaluate(WIDER) == []
    assert await page.evaluate(SPILT) == []
    assert await page.evaluate("document.scripts.length") == 0
    picture = await page.screenshot()
    assert len(picture) > 50_000
    keep(f"{kind}.png", picture)


async def test_the_verdict_comes_first_and_curves_are_drawn(written: tuple[Path, dict[str, Any]], page: Page) -> None:
    file, told = written
    await page.open(file.as_uri(), width=1280, height=900, phone=False)
    first = await page.evaluate("document.querySelector('section').id")
    assert first == "verdict"
    cards = await page.evaluate("[...document.querySelectorAll('.card')].map(e => e.innerText)")
    current = [row for row in told["performance"] if row["strategy"] != "account" and row["current"]]
    assert len(cards) == len(current)
    assert all(re.search(r"(Ready|Not ready|Out of reach)\. Score \d+ of 100", card) for card in cards)
    assert await page.evaluate("document.querySelectorAll('svg.chart path').length") > 50
    ids = await page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


async def test_what_others_wrote_is_text(written: tuple[Path, dict[str, Any]], page: Page) -> None:
    file, _ = written
    if "ORACLE_REPORT_STATE" in os.environ:
        pytest.skip("books of somebody else: nobody wrote markup there")
    await page.open(file.as_uri(), width=1280, height=900, phone=False)
    text = await page.evaluate("document.querySelector('#breakers').innerText")
    assert text.count(MARKUP) == 4
    assert page.problems == []


async def test_it_prints_on_pages(written: tuple[Path, dict[str, Any]], page: Page) -> None:
    file, told = written
    await page.open(file.as_uri(), width=1280, height=900, phone=False)
    pdf = await page.printed()
    assert pdf.startswith(b"%PDF")
    # Each strategy begins a page, as do the figures, the costs and the method.
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3 + len(told["performance"])
    # A4 less its margins: nothing is cut off at the right, and no table needs to be scrolled.
    await page.open(file.as_uri(), width=PAPER_PX, height=1030, phone=False)
    await page.ask("Emulation.setEmulatedMedia", media="print")
    assert await page.evaluate(OFF_PAPER) == []
    assert await page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    keep("report.pdf", pdf)
