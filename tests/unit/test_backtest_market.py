"""Recorded minutes as a market: when a bar and a quote are known, the modelled quote and chain, and no look-ahead."""

import datetime as dt
from pathlib import Path

import pytest

from oracle.calendar import load_sessions
from oracle.core.errors import ConfigurationError
from oracle.core.sessions import MINUTE_NS, NS, Session, SessionTable
from oracle.sim.bar_files import BarFolder
from oracle.sim.minute_day import modelled_touch
from oracle.sim.minutes import MinuteMarket
from oracle.sim.modelled import LABEL, log_vol_of, spec_of
from oracle.sim.source import SourceBar

DAY = "2024-03-01"
TABLE: SessionTable = load_sessions(dt.date(2023, 12, 1), dt.date(2024, 6, 30))


def session() -> Session:
    found = TABLE.on(DAY)
    assert found is not None
    return found


def folder(root: Path, closes: list[float], symbol: str = "SPY") -> BarFolder:
    """Bars from the open, each a cent around its close."""
    rows = ["t,o,h,l,c,v"]
    rows += [
        f"{(session().open_ns + n * MINUTE_NS) // NS},{c},{c + 0.01:.2f},{c - 0.01:.2f},{c},1000"
        for n, c in enumerate(closes)
    ]
    (root / f"{symbol}.csv").write_text("\n".join(rows) + "\n")
    return BarFolder(root)


def market(root: Path, closes: list[float], **options: object) -> MinuteMarket:
    return MinuteMarket(folder(root, closes), ("SPY",), DAY, DAY, TABLE, 1, **options)  # type: ignore[arg-type]


def test_a_bar_is_told_a_second_after_its_minute_and_its_quote_at_the_minutes_end(tmp_path: Path) -> None:
    source, open_ns = market(tmp_path, [500.0, 501.0]), session().open_ns
    assert source.touch("SPY") is None
    assert source.advance(open_ns + 59 * NS).touches == []
    step = source.advance(open_ns + 60 * NS)
    assert [(t.bid, t.ask, t.at_ns) for t in step.touches] == [(499.98, 500.03, open_ns + MINUTE_NS)]
    assert step.bars == []
    assert [b.close for b in source.advance(open_ns + 61 * NS).bars] == [500.0]
    assert source.bars("SPY", "1Min", open_ns, open_ns + 600 * NS)[-1].close == 500.0
    assert [b.close for b in source.advance(open_ns + 121 * NS).bars] == [501.0]


def test_events_lie_at_each_minutes_end_and_a_second_after(tmp_path: Path) -> None:
    source, at_ns = market(tmp_path, [500.0]), session().open_ns - 600 * NS
    found = []
    while len(found) < 4 and (due := source.next_event_ns(at_ns)) is not None:
        found.append((due - session().open_ns) // NS)
        at_ns = due
    assert found == [-300, -299, -240, -239]
    assert source.next_event_ns(session().close_ns + 2 * NS) is None


@pytest.mark.parametrize(("close", "bid", "ask"), [(10.0, 9.99, 10.0), (100.0, 99.99, 100.0), (500.0, 499.97, 500.02)])
def test_a_modelled_quote_is_a_cent_or_a_basis_point_wide_around_the_close(
    close: float, bid: float, ask: float
) -> None:
    touch = modelled_touch(SourceBar("SPY", 0, close, close, close, close, 1, 0, close))
    assert touch.ask is not None
    assert touch.bid is not None
    assert touch.bid <= close <= touch.ask
    assert touch.ask - touch.bid == pytest.approx(max(0.01, -(-close // 1) * 1e-4), abs=0.0051)
    assert (touch.bid, touch.ask) == pytest.approx((bid, ask), abs=0.011)


def test_options_are_modelled_labelled_and_unquoted_before_the_stock_has_a_price(tmp_path: Path) -> None:
    source, open_ns = market(tmp_path, [500.0] * 10), session().open_ns
    listed = [row for row in source.listings("SPY", DAY) if row.expiry == DAY and row.strike_milli == 500_000]
    assert [row.right for row in listed] == ["C", "P"]
    assert LABEL in source.labels
    assert "modelled stock quotes" in source.labels
    source.watch([row.symbol for row in listed])
    source.advance(open_ns + 59 * NS)
    assert source.touch(listed[0].symbol) is None
    told = source.advance(open_ns + 60 * NS).option_touches
    assert [t.symbol for t in told] == [row.symbol for row in listed]
    assert all(t.bid is not None and t.ask is not None and 0 < t.bid < t.ask for t in told)


def test_what_comes_later_changes_nothing_that_was_said_before(tmp_path: Path) -> None:
    """Two futures, one past: quotes of stock and options agree until the bar in which the futures part."""
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    said = []
    for root, after in ((calm, 500.0), (wild, 480.0)):
        root.mkdir()
        source, open_ns = market(root, [500.0, 500.5, 500.2] + [after] * 20), session().open_ns
        symbols = [
            r.symbol for r in source.listings("SPY", DAY) if r.expiry == DAY and 495 <= r.strike_milli / 1000 <= 505
        ]
        source.watch(symbols)
        source.follow(symbols[:2])
        seen: list[object] = [source.listings("SPY", DAY)]
        for second in range(1, 240):
            step = source.advance(open_ns + second * NS)
            seen.append((step.touches, step.bars, step.option_touches, [source.touch(s) for s in symbols[:2]]))
        said.append(seen)
        assert source.advance(open_ns + 240 * NS).touches[0].at_ns == open_ns + 240 * NS
    assert said[0] == said[1]


def test_a_followed_contract_is_told_as_it_changes_and_others_at_the_minutes_end(tmp_path: Path) -> None:
    source, open_ns = market(tmp_path, [500.0] * 10), session().open_ns
    near = [r.symbol for r in source.listings("SPY", DAY) if r.expiry == DAY and r.strike_milli == 500_000]
    source.watch(near)
    source.advance(open_ns + 120 * NS)
    source.follow(near[:1])
    source.advance(open_ns + 121 * NS)
    at_ns = source.next_event_ns(open_ns + 121 * NS)
    assert at_ns is not None
    assert open_ns + 121 * NS < at_ns < open_ns + 180 * NS
    before = source.touch(near[0])
    assert source.advance(at_ns - NS).option_touches == []
    told = source.advance(at_ns).option_touches
    assert [t.symbol for t in told] == near[:1]
    assert told[0] != before
    assert told[0] == source.touch(near[0])


def test_the_models_volatility_follows_the_closes(tmp_path: Path) -> None:
    spec = spec_of("SPY")
    calm = [100.0 * 1.002 ** (n % 2) for n in range(30)]
    wild = [100.0 * 1.03 ** (n % 2) for n in range(30)]
    assert log_vol_of(spec, calm[:20]) is None
    low, high = log_vol_of(spec, calm), log_vol_of(spec, wild)
    assert low is not None
    assert high is not None
    assert low < 0 < high
    assert log_vol_of(spec, [*wild, 10.0]) == pytest.approx(high, abs=0.05)  # a split is no day's return


def test_sessions_without_bars_are_said_and_none_at_all_is_refused(tmp_path: Path) -> None:
    bars = folder(tmp_path, [500.0] * 3)
    source = MinuteMarket(bars, ("SPY",), DAY, "2024-03-04", TABLE)
    assert source.missing == [("SPY", "2024-03-04")]
    assert [s.date for s in source.sessions] == [DAY]
    with pytest.raises(ConfigurationError, match="no bars of SPY from 2024-04-01 to 2024-04-02"):
        MinuteMarket(bars, ("SPY",), "2024-04-01", "2024-04-02", TABLE)


def test_where_quotes_are_wanted_at_times_only_bars_are_told(tmp_path: Path) -> None:
    source, open_ns = market(tmp_path, [500.0, 501.0, 502.0], on_demand=("SPY",)), session().open_ns
    source.advance(open_ns)
    rows = source.quiet_bars(open_ns + 180 * NS)
    assert rows is not None
    assert [(at_ns - open_ns, bar.close) for at_ns, bar in rows] == [(61 * NS, 500.0), (121 * NS, 501.0)]
    source.stand_at(open_ns + 121 * NS)
    assert [b.close for b in source.advance(open_ns + 181 * NS).bars] == [502.0]
    source.watch([r.symbol for r in source.listings("SPY", DAY)][:1])
    assert source.quiet_bars(open_ns + 300 * NS) is None
