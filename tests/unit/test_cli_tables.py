"""What people see of structures: labels, and tables of positions, orders and trades that fit 100 columns."""

import io
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import orjson
import pytest
from rich.console import Console

from oracle.cli import show
from oracle.cli.live import describe
from oracle.cli.names import days_to, expiry_of, label
from oracle.cli.summary import print_summary
from oracle.core.message import Message
from oracle.core.messages import EquityMarked, OrderClosed, SessionOpened, TradeClosed
from oracle.core.structures import legs_of
from oracle.core.vocabulary import Purpose, Side
from oracle.tally import Day, Tally
from tests.unit.store_day import DATE, PUT, T0, turns
from tests.unit.test_store_structures import (
    C610,
    NAME,
    ORDER,
    P590,
    command,
    committed,
    fills,
    opening,
    settled,
    told,
)

D = Decimal
MARKS = {C610: D("0.40"), "SPY260220C00615000": D("0.15"), "SPY260220P00585000": D("0.20"), P590: D("0.45")}
MARK = EquityMarked(DATE, T0 + 30, "minute", D(1), D(1), D(1), D(1), D(0), D(0), 0, MARKS)
OPENED = SessionOpened(DATE, T0, T0 + 10**12)
LABEL = "SPY 20 Feb 585p/590p/610c/615c condor"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """A terminal of 100 columns; what is on it, line by line, no line wider."""
    wide = Console

    def terminal(**changes: Any) -> Console:
        return wide(**{"force_terminal": True, "color_system": None, "width": 100, **changes})

    monkeypatch.setattr("rich.console.Console", terminal)

    def lines() -> list[str]:
        found = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in capsys.readouterr().out.splitlines()]
        assert max(map(len, found), default=0) <= 100
        return found

    return lines


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (NAME, LABEL),
        ("SPY:+260116C600-260116C605", "SPY 16 Jan +600c/-605c spread"),
        ("SPY:-260116P590+260116P592.5", "SPY 16 Jan -590p/+592.5p spread"),
        ("SPY:+260116C600+260116P600", "SPY 16 Jan 600p/600c straddle"),
        ("SPY:-260116C610-260116P590", "SPY 16 Jan 590p/610c short strangle"),
        ("SPY:-260116C600+260220C600", "SPY -600c 16 Jan/+600c 20 Feb calendar"),
        ("SPY:-260116C600+260220C605", "SPY -600c 16 Jan/+605c 20 Feb diagonal"),
        ("SPY:+260116C600-2x260116C605", "SPY 16 Jan +600c/-2x605c"),
        ("SPY:+260116C605-260116C600-260116P600+260116P595", "SPY 16 Jan 595p/600p/600c/605c butterfly"),
        ("SPY:-260116C615+260116C610-260116P585+260116P590", "SPY 16 Jan 585p/590p/610c/615c long condor"),
        ("SPY:-260116C610", "SPY 16 Jan -610c"),
        (PUT, PUT),
        ("SPY", "SPY"),
        ("SPY:nonsense", "SPY:nonsense"),
    ],
)
def test_a_structure_is_named_as_people_name_it(name: str, words: str) -> None:
    assert label(name) == words


def test_days_to_the_first_expiry() -> None:
    assert (expiry_of("SPY:-260116C600+260220C600"), expiry_of(PUT), expiry_of("SPY")) == (
        "2026-01-16", "2026-01-20", None,
    )  # fmt: skip
    assert days_to("2026-02-20", DATE) == 31


async def test_positions_are_shown_by_trade_with_legs_below(tmp_path: Path, screen: Callable[[], list[str]]) -> None:
    await (await committed(tmp_path, OPENED, *told(*opening()), MARK)).close()
    show.positions(tmp_path)
    lines = screen()
    assert lines[0].split() == ["held", "n", "entry", "mark", "P&L", "USD", "expires"]
    assert re.split(r"  +", lines[1]) == [LABEL, "2", "1.00 cr", "0.50 cr", "+100.00", "20 Feb, 31 d"]
    assert re.split(r"  +", lines[2].strip()) == [C610, "-2", "1.10", "0.40"]
    assert len(lines) == 7
    assert lines[-1].startswith("marks of 2026-01-20 09:30:00")
    show.positions(tmp_path, json=True)
    rows = orjson.loads("\n".join(screen()))
    assert {row["symbol"]: (row["qty"], row["mark_usd"]) for row in rows}[C610] == (-2, "0.4")
    assert {(row["trade_id"], row["structure"], row["expiry"]) for row in rows} == {(ORDER, NAME, "2026-02-20")}


async def test_a_trade_out_of_balance_says_so_and_shares_are_a_leg(
    tmp_path: Path, screen: Callable[[], list[str]]
) -> None:
    over = OrderClosed(ORDER, ORDER, Purpose.ENTRY, 2, 2, "filled")
    await (await committed(tmp_path, *told(*opening(), over, settled("s1", P590, shares=200)), MARK)).close()
    show.positions(tmp_path)
    lines = screen()
    assert lines[1].startswith(f"{LABEL} (legs do not match)")
    assert "unknown" in lines[1]  # nothing has valued the shares yet
    assert re.split(r"  +", lines[2].strip()) == ["SPY", "+200", "590.00", "unknown"]
    show.status(tmp_path)
    text = "\n".join(screen())
    assert "its legs do not match" in text
    assert "1 legs ended without an order of ours" in text


async def test_a_single_contract_has_one_line(tmp_path: Path, screen: Callable[[], list[str]]) -> None:
    messages = [message for _, out in turns() for message in out]
    await (await committed(tmp_path, *messages)).close()
    show.positions(tmp_path)
    held = [line for line in screen() if PUT in line]
    assert [re.split(r"  +", line) for line in held] == [[PUT, "+1", "0.90", "unknown", "unknown", "20 Jan, 0 d"]]


async def test_orders_and_trades_of_structures_are_readable(tmp_path: Path, screen: Callable[[], list[str]]) -> None:
    over = OrderClosed(ORDER, ORDER, Purpose.ENTRY, 2, 2, "filled")
    leave = command(
        "tok-20260120-ic-000002", purpose=Purpose.STOP, side=Side.SELL, exit_plan=None, worst_price_usd=D("-2.10")
    )
    gone = {C610: "2.00", "SPY260220C00615000": "1.00", "SPY260220P00585000": "0.10", P590: "0.20"}
    messages: list[Message] = told(*opening(), over, leave, *fills(leave, 2, gone))
    assert isinstance(messages[-1], TradeClosed)
    await (await committed(tmp_path, *messages)).close()
    show.orders(tmp_path)
    text = " ".join(" ".join(screen()).split())
    assert f"stop sell {LABEL} 2/2 2.10 cr" in text
    assert f"entry buy {LABEL} 2/2 0.95 cr filled" in text
    show.orders(tmp_path, json=True)
    newest = orjson.loads("\n".join(screen()))[0]
    assert [(leg["symbol"], leg["side"]) for leg in newest["legs"]] == [
        (leg.symbol, leg.side.opposite.value) for leg in legs_of(NAME)
    ]
    show.trades(tmp_path)
    text = " ".join(" ".join(screen()).split())
    assert "1.00 cr 1.10 cr" in text
    # Of the credit of 1.00 that was really got, not of the worst price of 0.95 that the order could have taken.
    assert "max loss 800.00, even at 589.00/611.00" in text


async def test_an_open_trade_shows_its_entry_and_that_it_is_open(
    tmp_path: Path, screen: Callable[[], list[str]]
) -> None:
    await (await committed(tmp_path, *told(*opening()))).close()
    show.trades(tmp_path)
    text = " ".join(" ".join(screen()).split())
    assert re.search(r"01-20 \d\d:\d\d open 2 1\.00 cr open open", text)
    assert "unknown" not in text
    show.trades(tmp_path, json=True)
    (trade,) = orjson.loads("\n".join(screen()))
    assert (trade["contracts"], trade["entry_price_usd"], trade["exit_price_usd"]) == (2, "-1", None)


async def test_a_trade_of_several_days_shows_the_date_of_its_end(
    tmp_path: Path, screen: Callable[[], list[str]]
) -> None:
    over = OrderClosed(ORDER, ORDER, Purpose.ENTRY, 2, 2, "filled")
    later = [
        msgspec.structs.replace(settled(f"s{n}", leg.symbol), at_ns=T0 + 3 * 86_400 * 10**9)
        for n, leg in enumerate(legs_of(NAME))
    ]
    messages = told(*opening(), over, *later)
    assert isinstance(messages[-1], TradeClosed)
    await (await committed(tmp_path, *messages)).close()
    show.trades(tmp_path)
    assert re.search(r"01-20 \d\d:\d\d 01-23 \d\d:\d\d 2 ", " ".join(" ".join(screen()).split()))


def test_a_summary_fits_80_columns_and_names_every_session_and_ending() -> None:
    tally = Tally(sessions=2, differences=())
    for n, name in enumerate((NAME, PUT)):
        tally._count(
            TradeClosed(
                f"t{n}", "iron_condor", "h", "SPY", name, 12, T0, T0 + 10**14, D("-1.00"), D("-0.50"),
                D(600 - n * 1600), D(0), D(3), None, None, "end_of_data" if n else "short_delta_stop",
            )
        )  # fmt: skip
    tally.settlements["assigned"] = 2
    tally.orphans.add("t0")
    tally.days = {DATE: Day(20, 0, (), True), "2026-01-21": Day(3, 1, ("cash: 1 USD",), True), "2026-01-22": Day(3)}
    result: Any = SimpleNamespace(
        tally=tally, labels=(), declared=(), database=Path("state") / "oracle.db", journal="",
        metrics_file="", inputs_sha256="", decisions_sha256="",
    )  # fmt: skip
    console = Console(width=80, file=io.StringIO())
    print_summary(result, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for words in (
        "585p/590p/610c/615c", "legs that ended without an order of ours: 2 assigned", "closed at once: 1",
        "closed because the data end: 1", "agree to the cent", "cash: 1 USD", "not compared after the close",
    ):  # fmt: skip
        assert words in text
    assert re.search(r"iron_condor +2 +1 +-406.00", text)


def test_events_are_words() -> None:
    one = settled("s1", P590, shares=200)
    assert describe(one) == f"assigned 2 {P590}, +200 SPY"
    assert describe(settled("s2", C610)) == f"expired 2 {C610}"
