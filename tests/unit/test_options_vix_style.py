"""The index against Cboe's own worked example, and what it says of chains that cannot carry one."""

from pathlib import Path

import numpy as np
import pytest

from oracle.core.instruments import OptionContract, Right, parse_occ
from oracle.core.marketdata import ChainListed, ChainQuotes, ListedContract
from oracle.core.ports import NotSelected
from oracle.options.columns import ChainColumns
from oracle.options.pricing import black_forward
from oracle.options.vix_style import TermQuotes, TermVariance, VixStyle, term_quotes, term_variance, vix_style

QUOTES = Path(__file__).with_name("cboe_vix_example.csv")
# The methodology of 2022 and later, Appendix 3: minutes to each expiry, rates, and what comes out.
NOW = {"near": (34_484, 0.00031664), "next": (44_954, 0.00028797)}
# The same quotes with the times and rates of the white paper before it.
BEFORE = {"near": (35_924, 0.000305), "next": (46_394, 0.000286)}


def board(name: str, minutes: float, rate: float) -> TermQuotes:
    """One term of the published table."""
    rows = [line.split(",")[1:] for line in QUOTES.read_text().splitlines() if line.startswith(f"{name},")]
    return TermQuotes(minutes, rate, *np.array(rows, dtype=float).T)


def solved(term: TermQuotes) -> TermVariance:
    """A term that has a variance."""
    found = term_variance(term)
    assert isinstance(found, TermVariance)
    return found


def changed(term: TermQuotes, strike: float, **sides: float) -> TermQuotes:
    """The same term with other sides at one strike."""
    columns = {name: getattr(term, name).copy() for name in ("call_bid", "call_ask", "put_bid", "put_ask")}
    for name, value in sides.items():
        columns[name][term.strike == strike] = value
    return TermQuotes(term.minutes, term.rate, term.strike, **columns)


@pytest.mark.parametrize(
    ("terms", "variances", "index"),
    [
        pytest.param(NOW, (0.019233906, 0.019423884), 13.927842, id="methodology 2022"),
        pytest.param(BEFORE, (0.01846292, 0.01882101), 13.685821, id="white paper"),
    ],
)
def test_the_published_example_comes_out_as_published(
    terms: dict[str, tuple[int, float]], variances: tuple[float, float], index: float
) -> None:
    near, after = (solved(board(name, *terms[name])) for name in ("near", "next"))
    assert near.forward == pytest.approx(1962.89996, abs=5e-6)
    assert after.forward == pytest.approx(1962.40006, abs=5e-6)
    assert (near.k0, after.k0) == (1960.0, 1960.0)
    assert (near.variance, after.variance) == pytest.approx(variances, abs=5e-9)
    found = vix_style(near, after)
    assert isinstance(found, VixStyle)
    assert found.complete
    assert found.index == pytest.approx(index, abs=1e-6)


def test_the_published_strip_strike_by_strike() -> None:
    near, after = (solved(board(name, *NOW[name])) for name in ("near", "next"))
    assert (near.strip[0].strike, near.strip[-1].strike, len(near.strip)) == (1370.0, 2125.0, 146)
    assert (after.strip[0].strike, after.strip[-1].strike, len(after.strip)) == (1275.0, 2200.0, 122)
    # The foot of Appendix 5.
    assert sum(row.share for row in near.strip) == pytest.approx(0.0006320516, abs=5e-11)
    assert sum(row.share for row in after.strip) == pytest.approx(0.0008314016, abs=5e-11)
    rows = {row.strike: row for row in near.strip}
    # Widths skip the strikes that were left out (1405, 1415 and 2120 have no bid).
    assert {k: rows[k].width for k in (1400.0, 1410.0, 1420.0, 2100.0)} == {
        1400.0: 7.5, 1410.0: 10.0, 1420.0: 7.5, 2100.0: 15.0,
    }  # fmt: skip
    published = {1370.0: 5.328e-7, 1410.0: 1.1318e-6, 1960.0: 2.96432e-5, 1965.0: 2.72588e-5, 2125.0: 5.536e-7}
    assert {k: rows[k].share for k in published} == pytest.approx(published, abs=5.1e-11)
    assert rows[1960.0].price == pytest.approx(22.775)
    later = {row.strike: row for row in after.strip}
    assert (later[1275.0].width, later[1325.0].width) == (50.0, 37.5)
    assert later[1960.0].price == pytest.approx(26.10)


def test_strikes_beyond_two_without_a_bid_are_not_used_though_they_have_one() -> None:
    strikes = {row.strike for row in solved(board("near", *NOW["near"])).strip}
    # 1350 and 1355 lie below the pair 1360 and 1365, 2225 above 2150 and 2175.
    assert not strikes & {1350.0, 1355.0, 1360.0, 1365.0, 2150.0, 2175.0, 2225.0}
    # One strike alone without a bid ends nothing.
    assert 2120.0 not in strikes
    assert 2125.0 in strikes


def test_a_wing_that_runs_out_of_quotes_is_told_and_reads_low() -> None:
    whole = board("near", *NOW["near"])
    keep = whole.strike >= 1800
    cut = TermQuotes(
        whole.minutes, whole.rate, whole.strike[keep], whole.call_bid[keep], whole.call_ask[keep],
        whole.put_bid[keep], whole.put_ask[keep],
    )  # fmt: skip
    found, after = solved(cut), solved(board("next", *NOW["next"]))
    assert (found.puts_ended, found.calls_ended) == (False, True)
    assert found.variance < solved(whole).variance
    index = vix_style(found, after)
    assert isinstance(index, VixStyle)
    assert not index.complete


def test_a_crossed_or_unknown_quote_is_as_one_without_a_bid() -> None:
    whole = board("near", *NOW["near"])
    gone = solved(changed(whole, 1900.0, put_bid=0.0))
    for sides in (
        {"put_bid": 9.0, "put_ask": 8.0},
        {"put_bid": float("nan")},
        {"put_ask": float("nan")},
        {"put_bid": -1.0},
    ):
        assert solved(changed(whole, 1900.0, **sides)).variance == gone.variance


def test_quotes_that_nobody_told_end_no_wing() -> None:
    """Puts below 1800 that are not streamed, though their calls are: the wing ran out, no two bids are missing."""
    whole = board("near", *NOW["near"])
    untold = np.where(whole.strike < 1800, np.nan, 0.0)
    cut = TermQuotes(
        whole.minutes, whole.rate, whole.strike, whole.call_bid, whole.call_ask, whole.put_bid + untold,
        whole.put_ask + untold,
    )  # fmt: skip
    found = solved(cut)
    assert (found.puts_ended, found.calls_ended) == (False, True)
    assert found.strip[0].strike == 1800.0


def test_no_extrapolation_beyond_the_two_terms() -> None:
    near, after = (solved(board(name, *NOW[name])) for name in ("near", "next"))
    for pair, days in (((near, after), 20.0), ((near, after), 40.0), ((after, near), 30.0), ((near, near), 30.0)):
        found = vix_style(*pair, days=days)
        assert isinstance(found, NotSelected)
        assert found.reason == "expiries_not_around"


def test_a_chain_that_cannot_carry_an_index_says_why() -> None:
    whole = board("near", *NOW["near"])
    nan = np.full(len(whole.strike), np.nan)
    empty = np.zeros(0)
    calls_only = TermQuotes(whole.minutes, whole.rate, whole.strike, whole.call_bid, whole.call_ask, nan, nan)
    one = whole.strike == 1965.0
    one_strike = TermQuotes(
        whole.minutes, whole.rate, whole.strike[one], whole.call_bid[one], whole.call_ask[one],
        whole.put_bid[one], whole.put_ask[one],
    )  # fmt: skip
    cases = {
        "no_strike_with_call_and_put": calls_only,
        "expired": board("near", 0.0, 0.0),
        "no_quotes_at_k0": changed(whole, 1960.0, call_bid=0.0),
    }
    for reason, term in cases.items():
        found = term_variance(term)
        assert isinstance(found, NotSelected), reason
        assert found.reason == reason
    nothing = term_variance(TermQuotes(1000.0, 0.0, empty, empty, empty, empty, empty))
    assert isinstance(nothing, NotSelected)
    lonely = term_variance(one_strike)
    assert isinstance(lonely, NotSelected)


def test_strikes_that_nobody_streams_end_no_wing() -> None:
    """Out of a live chain: only quoted strikes count, so that a chain that is streamed near the money reads as cut."""
    strikes = range(560, 641, 5)
    names = sorted(OptionContract("SPY", "2026-02-06", r, k * 1000).occ for k in strikes for r in Right)
    listed = ChainListed("SPY", "2026-01-05", tuple(ListedContract(name, None, None, True) for name in names))
    chain = ChainColumns.from_listing(listed)
    near = [row for row, name in enumerate(names) if 580 <= parse_occ(name).strike <= 620]
    strike, is_call = chain.strike[near], chain.is_call[near]
    fair = black_forward(600.0, strike, 32 / 365, 0.15, is_call)
    n = len(near)
    quotes = ChainQuotes(
        "SPY", "2026-01-05", np.array(near, "<i4").tobytes(), (fair - 0.05).astype("<f8").tobytes(),
        (fair + 0.05).astype("<f8").tobytes(), np.ones(n, "<i4").tobytes(), np.ones(n, "<i4").tobytes(),
        np.full(n, 100, "<i8").tobytes(),
    )  # fmt: skip
    chain.take(quotes, 100)
    term = term_quotes(chain, "2026-02-06", minutes=32 * 1440, rate=0.0, fresh_since_ns=50)
    assert isinstance(term, TermQuotes)
    assert term.strike.tolist() == [float(k) for k in range(580, 621, 5)]
    found = solved(term)
    assert (found.puts_ended, found.calls_ended) == (False, False)
    assert found.forward == pytest.approx(600.0, abs=1e-6)
    stale = term_quotes(chain, "2026-02-06", minutes=32 * 1440, rate=0.0, fresh_since_ns=101)
    assert isinstance(stale, TermQuotes)
    assert isinstance(term_variance(stale), NotSelected)
    gone = term_quotes(chain, "2026-02-13", minutes=39 * 1440, rate=0.0, fresh_since_ns=50)
    assert isinstance(gone, NotSelected)
