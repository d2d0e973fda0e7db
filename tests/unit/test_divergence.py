"""Trades of two sides matched and compared; which inputs are the market's; what a torn journal leaves; the command."""

import typing
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from oracle.carried import carried
from oracle.cli.root import app
from oracle.core.errors import ConfigurationError
from oracle.core.message import Message
from oracle.core.messages import (
    CashTransferred,
    EquityMarked,
    Input,
    Intent,
    IntentApproved,
    IntentRefused,
    LatchChanged,
    OrderClosed,
    OrderFilled,
    Refusal,
    SessionOpened,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Purpose, Side
from oracle.divergence import Divergence, compare, diverge, newest_session
from oracle.divergence_inputs import ACCOUNT, MARKET, OPERATOR, TIME
from oracle.divergence_play import Played
from oracle.divergence_sides import SideRecord, take_all
from oracle.store.journal import JournalWriter
from tests.unit.builders import DATES, DAY_NS, OPEN_NS, START_NS, entry_order, intent
from tests.unit.test_replay import morning, nothing_durable, opened, play, write

CONDOR = "SPY:-260105C610+260105C615+260105P585-260105P590"
NICKEL = Decimal("0.05")


def trade(
    n: int = 1, *, at_ns: int = START_NS, entry: str = "2.00", leave: str | None = "3.00", left_ns: int | None = None,
    contracts: int = 4, rule: str = "target", intent_n: int | None = None, filled: bool = True, **changes: Any,
) -> list[tuple[int, Message]]:  # fmt: skip
    """The messages of one trade: entered in the second after its decision, left ten minutes later."""
    order_id, wish = f"tok-20260105-bo-{n:06d}", intent(n if intent_n is None else intent_n)
    order = entry_order(order_id, contracts, decision_id=f"d{n}", **changes)
    approved = IntentApproved(
        order.decision_id, wish.intent_id, order.strategy, "SPY", contracts, "r", Decimal(1), Decimal(1), Decimal(1), {}
    )
    rows: list[tuple[int, Message]] = [(at_ns, wish), (at_ns, approved), (at_ns, order)]
    if not filled:
        return [*rows, (at_ns + 60 * NS, OrderClosed(order_id, order_id, Purpose.ENTRY, 0, contracts, "window"))]
    in_ns = at_ns + NS
    rows += [(in_ns, fill(order, "in", Decimal(entry), in_ns))] if order.symbol != CONDOR else legs(order, entry, in_ns)
    rows += [
        (in_ns, OrderClosed(order_id, order_id, Purpose.ENTRY, contracts, contracts, "filled")),
        (in_ns, TradeOpened(order_id, order.strategy, "hash", "SPY", order.symbol, in_ns)),
    ]
    if leave is not None:
        out_ns = at_ns + 10 * MINUTE_NS if left_ns is None else left_ns
        gross = order.side.sign * (Decimal(leave) - Decimal(entry)) * contracts * 100
        rows.append((out_ns, TradeClosed(
            order_id, order.strategy, "hash", "SPY", order.symbol, contracts, in_ns, out_ns, Decimal(entry),
            Decimal(leave), gross, Decimal(0), Decimal("5.20"), Decimal(4), 50.0, rule,
        )))  # fmt: skip
    return rows


def fill(order: SubmitOrder, name: str, price: Decimal, at_ns: int, symbol: str = "", side: Side = Side.BUY) -> Message:
    return OrderFilled(
        f"{order.order_id}/{name}", order.order_id, f"{order.order_id}-1", "b", order.trade_id, order.strategy,
        symbol or order.symbol, side, order.purpose, order.contracts, price, Decimal(0), Decimal("2.60"), at_ns,
    )  # fmt: skip


def legs(order: SubmitOrder, net: str, at_ns: int) -> list[tuple[int, Message]]:
    """A condor's four fills that come to a net price: all of it in the short call."""
    prices = {"C00610000": -Decimal(net), "C00615000": Decimal(0), "P00585000": Decimal(0), "P00590000": Decimal(0)}
    sold = ("C00610000", "P00590000")
    return [
        (at_ns, fill(order, key, price, at_ns, f"SPY260105{key}", Side.SELL if key in sold else Side.BUY))
        for key, price in prices.items()
    ]


def played(real: Iterable[tuple[int, Message]], replay: Iterable[tuple[int, Message]]) -> Played:
    made = Played()
    for record, rows in ((made.reality, real), (made.replay, replay)):
        for at_ns, message in rows:
            take_all(record, at_ns, (message,))
    made.started_ns, made.ended_ns = OPEN_NS, OPEN_NS + DAY_NS
    return made


def compared(real: Any, replay: Any, *, date: str | None = None, tolerance: Decimal = NICKEL) -> Divergence:
    return compare(played(real, replay), "test", (), date, tolerance)


# ------------------------------------------------------------------------------------------------------ inputs


def test_every_kind_of_input_is_the_markets_the_accounts_an_operators_or_times() -> None:
    groups = (*MARKET, *ACCOUNT, *OPERATOR, *TIME)
    assert len(set(groups)) == len(groups)
    assert set(groups) == set(typing.get_args(Input))


# ---------------------------------------------------------------------------------------------------- matching


def test_equal_sides_agree_whatever_the_tolerance() -> None:
    found = compared(trade(), trade(), tolerance=Decimal(0))
    assert found.agrees
    assert found.summary == "replay and reality: 1 trade matched, 0 missed, 0 extra; all fills at the same prices"
    assert (found.fills.compared, found.fills.equal, found.fills.mean_later_s) == (2, 2, 0.0)
    assert found.pnl.real_usd == found.pnl.replay_usd == Decimal("394.80")


@pytest.mark.parametrize(("tolerance", "agrees"), [("0.02", True), ("0.019", False)])
def test_better_is_cheaper_in_and_dearer_out_and_the_worst_fill_decides(tolerance: str, agrees: bool) -> None:
    found = compared(trade(), trade(entry="2.02", leave="3.01"), tolerance=Decimal(tolerance))
    (pair,) = found.matched
    assert (pair.entry_better_usd, pair.exit_better_usd) == (Decimal("-0.02"), Decimal("0.01"))
    assert pair.pnl_difference_usd == Decimal(-4)
    assert (found.fills.better, found.fills.worse, found.fills.mean_better_usd) == (1, 1, Decimal("-0.005"))
    assert found.agrees is agrees
    assert found.summary.endswith("fills 0.5 cents worse in replay on average")


def test_a_larger_credit_in_and_a_cheaper_way_out_are_better() -> None:
    real = trade(symbol=CONDOR, entry="-1.00", leave="-0.50")
    found = compared(real, trade(symbol=CONDOR, entry="-1.03", leave="-0.48"))
    (pair,) = found.matched
    assert pair.real.entry_price_usd == -1
    assert (pair.entry_better_usd, pair.exit_better_usd) == (Decimal("0.03"), Decimal("0.02"))


def test_what_met_another_market_is_apart_and_its_price_is_not_compared() -> None:
    replay = trade(left_ns=START_NS + 12 * MINUTE_NS, leave="1.00", rule="stop", contracts=3)
    (pair,) = (found := compared(trade(), replay)).matched
    assert (pair.entry_better_usd, pair.exit_better_usd, pair.exit_later_s) == (0, None, 120.0)
    assert pair.apart == ("3 in replay, not 4", "ended by stop in replay, not target", "left 0:02:00 later in replay")
    assert not found.agrees
    assert found.fills.compared == 1
    (opened_,) = compared(trade(), trade(leave=None)).matched
    assert opened_.apart == ("still open in replay",)
    assert (opened_.pnl_difference_usd, opened_.replay.entry_price_usd) == (None, 2)


def test_intents_match_first_then_the_nearest_decision_and_never_one_five_minutes_away() -> None:
    minute = MINUTE_NS
    real = [*trade(1, intent_n=1), *trade(2, at_ns=START_NS + 4 * minute, intent_n=2)]
    replay = [*trade(7, at_ns=START_NS + 2 * minute, intent_n=2), *trade(8, at_ns=START_NS + minute, intent_n=1)]
    found = compared(real, replay)
    assert [(p.real.intent_id, p.replay.intent_id) for p in found.matched] == [
        (f"breakout:2026-01-05:SPY:{n}", f"breakout:2026-01-05:SPY:{n}") for n in (1, 2)
    ]
    far = compared(trade(), trade(at_ns=START_NS + 5 * minute + 1))
    assert (far.matched, len(far.missed), len(far.extra)) == ((), 1, 1)
    assert far.missed[0].instead == "entered at another time"
    assert "no fills to compare" in far.summary
    other = compared(trade(), trade(strategy="scalp"))
    assert (len(other.missed), len(other.extra)) == (1, 1)


def test_what_became_of_a_missed_trade_is_told() -> None:
    unfilled = compared(trade(), trade(filled=False))
    assert unfilled.missed[0].instead == "order not filled (window)"
    assert (unfilled.real_entries.fill_rate, unfilled.replay_entries.fill_rate) == (1.0, 0.0)
    assert unfilled.pnl.replay_usd - unfilled.pnl.real_usd == Decimal("-394.80")
    wish = intent(1)
    no = IntentRefused("d", wish.intent_id, "breakout", "SPY", (Refusal("day_budget", "3 trades", "3"),), None, None)
    assert compared(trade(), [(START_NS, no)]).missed[0].instead == "refused: day_budget 3 trades"
    assert compared(trade(), []).missed[0].instead == "not wanted"
    assert compared([], trade()).extra[0].instead == "not wanted"


def test_a_date_shows_the_trades_entered_or_left_on_it() -> None:
    night = trade(2, at_ns=START_NS + 60 * MINUTE_NS, left_ns=START_NS + DAY_NS)
    real = [*trade(1), *night]
    assert [len(compared(real, real, date=day).matched) for day in DATES[:3]] == [2, 1, 0]
    assert [compared(real, real, date=day).real_entries.orders for day in DATES[:2]] == [2, 0]


def test_no_trades_at_all_agree() -> None:
    found = compared([], [])
    assert found.agrees
    assert (found.real_entries.fill_rate, found.fills.mean_better_usd, found.slippage.trades) == (None, None, 0)


def test_a_trade_open_at_the_start_is_matched_by_its_id_and_its_entry_is_not_compared() -> None:
    before = trade(leave=None)
    state = carried(nothing_durable(), [(at, m) for at, m in before if not isinstance(m, IntentApproved)])
    over = state_with_closed_trade(state)
    one, other = SideRecord(), SideRecord()
    for record in (one, other):
        record.begin(over)
    ended = trade()[-1]
    one.take(*ended)
    other.take(ended[0], msgspec.structs.replace(ended[1], exit_price_usd=Decimal("2.90")))
    made = Played()
    made.reality, made.replay = one, other
    found = compare(made, "test", (), None, NICKEL)
    (pair,) = found.matched
    assert pair.real.carried
    assert (pair.entry_better_usd, pair.exit_better_usd) == (None, Decimal("-0.1"))
    assert found.real_entries.orders == 0, "it was ordered before"


def state_with_closed_trade(state: Any) -> Any:
    """The same, with a trade that was over before."""
    rows = [(at, m) for at, m in trade(9, at_ns=OPEN_NS - DAY_NS) if not isinstance(m, IntentApproved)]
    return carried(state, rows)


# ------------------------------------------------------------------------------------------------ carried state


def test_carried_state_has_one_latch_each_in_order_of_change_and_the_newest_sessions_intents() -> None:
    def latch(name: str, active: bool) -> LatchChanged:
        return LatchChanged(name, active, "r", "o", "l", None)

    first, second = (SessionOpened(date, OPEN_NS + n * DAY_NS, OPEN_NS) for n, date in enumerate(DATES[:2]))
    yesterday, today = intent(1), intent(2)
    state = carried(nothing_durable(), [(1, latch("a", True)), (2, latch("b", True)), (OPEN_NS, first)])
    state = carried(state, [
        (OPEN_NS + NS, yesterday), (OPEN_NS + DAY_NS, second), (OPEN_NS + DAY_NS, today), (OPEN_NS + DAY_NS + 1, today),
        (OPEN_NS + DAY_NS + 2, latch("a", False)),
    ])  # fmt: skip
    assert [(row.latch, row.active) for row in state.latches] == [("b", True), ("a", False)]
    assert len(state.latch_events) == 3
    assert state.intents == (today,)
    assert isinstance(today, Intent)
    order = entry_order("tok-20260105-bo-000007")
    assert carried(state, [(5, order)]).next_order_sequence == 8
    assert carried(state, [(5, order)]).submitted_ns == (5,)


# ------------------------------------------------------------------------------------------ journals and command


def session_file(folder: Path) -> Path:
    """A morning without a trade."""
    (folder / "journal").mkdir(parents=True)
    return write(folder / "journal" / "20260105T142000.000000000Z.oj", play(opened(), morning()))


async def test_a_torn_journal_is_used_as_far_as_it_goes_and_named(tmp_path: Path) -> None:
    path = session_file(tmp_path)
    whole = await diverge(None, tmp_path)
    assert (whole.session, whole.agrees, whole.notes) == (DATES[0], True, ())
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    torn = await diverge(DATES[0], tmp_path)
    assert torn.inputs < whole.inputs
    assert len(torn.notes) == 1
    assert "torn at input" in torn.notes[0]
    assert "used up to there" in torn.notes[0]
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(bytes(changed))
    damaged = await diverge(DATES[0], tmp_path)
    assert damaged.inputs < torn.inputs
    assert "damaged at input" in damaged.notes[0]


async def test_a_journal_that_never_heard_of_an_account_cannot_be_played(tmp_path: Path) -> None:
    path = write(tmp_path / "short.oj", play(opened(), morning()[:3]))
    with pytest.raises(ConfigurationError, match="no report of the account"):
        await diverge(str(path), tmp_path)


def test_the_newest_session_is_that_of_the_newest_segment_with_a_session(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a folder"):
        newest_session(tmp_path / "nowhere")
    session_file(tmp_path)
    late = JournalWriter(tmp_path / "journal" / "20260106T000000.000000000Z.oj", opened())
    late.close()
    assert newest_session(tmp_path) == DATES[0]


def test_the_command_prints_the_line_first_and_fits_a_hundred_columns(tmp_path: Path) -> None:
    session_file(tmp_path)
    done = CliRunner().invoke(app, ["divergence", "--state", str(tmp_path)])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "replay and reality: 0 trades matched, 0 missed, 0 extra; no fills to compare"
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in done.output
    found = CliRunner().invoke(app, ["divergence", "--state", str(tmp_path), "--json"])
    assert '"agrees": true' in found.output


def test_tables_align_and_name_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    from oracle.cli.divergence import _print

    wide = trade(3, at_ns=START_NS + DAY_NS, symbol=CONDOR, entry="-1.0125", leave="-0.4875", contracts=12)
    real = [*trade(1), *trade(2, at_ns=START_NS + 9 * MINUTE_NS), *wide]
    replay = [*trade(1, entry="2.02"), *trade(2, at_ns=START_NS + 9 * MINUTE_NS, filled=False), *wide]
    _print(compared(real, replay))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("replay and reality: 2 trades matched, 1 missed, 0 extra; fills 0.5 cents worse")
    assert max(map(len, lines)) <= 100
    rows = [line for line in lines if line.startswith(("  real", "  replay", "  diff"))]
    assert len(rows) == 7
    assert len({line.index("01-0") for line in rows if "01-0" in line[:20]}) == 1
    assert "#2 missed: in replay order not filled (window)" in lines
    assert any("SPY 5 Jan 585p/590p/610c/615c condor" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--state", "nowhere"], "nowhere is not a folder"),
        (["--tolerance", "wide"], "'wide' is not an amount"),
        (["--tolerance", "-1"], "'-1' is not an amount"),
        (["neither"], "neither is no file"),
        (["2026-01-05", "--state", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_a_users_mistake_is_told(
    arguments: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["divergence", *arguments])
    assert isinstance(done.exception, ConfigurationError), done.output
    assert text in str(done.exception)


def test_a_transfer_is_carried_until_a_mark_has_its_effect_in_it() -> None:
    first, second = (CashTransferred(name, "CSD", Decimal(5), DATES[0], "", OPEN_NS) for name in ("a", "b"))
    figures = (Decimal(100), Decimal(100), Decimal(100), Decimal(100), Decimal(0), Decimal(0))
    mark = EquityMarked(DATES[0], OPEN_NS, "transfer", *figures, 0)
    state = carried(nothing_durable(), [(1, first)])
    assert (state.unmarked, state.books) == ((first,), (first,))
    assert carried(state, [(2, intent(1))]).unmarked == (first,)
    state = carried(state, [(3, mark), (3, second)])
    assert (state.unmarked, state.books) == ((second,), (first, second))
    assert carried(state, [(4, mark)]).unmarked == ()
