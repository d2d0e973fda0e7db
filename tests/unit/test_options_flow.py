"""Option flow: who was the aggressor, what is a block, a sweep, unusual volume, and what a window of it says."""

import csv
import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle.core.sessions import MINUTE_NS, NS
from oracle.options.flow import (
    RULES,
    Kind,
    SessionFlow,
    Trades,
    aggressors,
    alignment,
    average_volume,
    directions,
    unusual_volume,
)

NAN = float("nan")
T0 = 1_767_623_400 * NS
CALL, PUT = 0, 1


def trades(*rows):
    """Trades as (row, price, size, seconds, venue, bid, ask)."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    return Trades(
        row=np.array(columns[0], dtype=np.int64),
        price=np.array(columns[1], dtype=float),
        size=np.array(columns[2], dtype=np.int64),
        traded_ns=np.array([T0 + round(s * NS) for s in columns[3]], dtype=np.int64),
        venue="".join(columns[4]),
        bid=np.array(columns[5], dtype=float),
        ask=np.array(columns[6], dtype=float),
    )


def bought(row, size, at_s, venue="A", price=5.0):
    return (row, price, size, at_s, venue, price - 0.1, price)


def sold(row, size, at_s, venue="A", price=5.0):
    return (row, price, size, at_s, venue, price, price + 0.1)


def flow(average=NAN, interest=1_000_000.0, **more):
    """A call in row 0, a put in row 1."""
    return SessionFlow(np.array([True, False]), np.full(2, interest), np.full(2, average), **more)


@pytest.mark.parametrize(
    ("price", "bid", "ask", "side"),
    [
        (1.10, 1.00, 1.10, 1), (1.20, 1.00, 1.10, 1), (1.00, 1.00, 1.10, -1), (0.90, 1.00, 1.10, -1),
        (1.05, 1.00, 1.10, 0), (1.05, NAN, 1.10, 0), (1.10, 1.00, NAN, 0), (1.10, NAN, NAN, 0),
        (1.10, 1.10, 1.10, 0), (1.10, 1.20, 1.10, 0), (1.10, -1.00, 1.10, 0), (0.05, 0.00, 0.05, 1),
    ],
)  # fmt: skip
def test_the_aggressor_comes_from_the_quote_at_the_time(price, bid, ask, side):
    assert aggressors(np.array([price]), np.array([bid]), np.array([ask])).tolist() == [side]


def test_calls_bought_and_puts_sold_are_bullish():
    side, call = np.array([1, -1, 1, -1, 0]), np.array([True, True, False, False, True])
    assert directions(side, call).tolist() == [1, -1, -1, 1, 0]


def test_trades_fold_into_day_figures_by_contract():
    seen = flow()
    seen.take(trades(bought(CALL, 3, 0.0), sold(CALL, 2, 5.0), (CALL, 5.05, 4, 6.0, "B", 5.0, 5.1)))
    seen.take(trades(sold(PUT, 7, 9.0, price=2.0)))
    assert seen.volume.tolist() == [9, 7]
    assert seen.bought.tolist() == [3, 0]
    assert seen.sold.tolist() == [2, 7]
    assert seen.prints.tolist() == [3, 1]
    assert seen.premium_usd.tolist() == pytest.approx([(3 * 5 + 2 * 5 + 4 * 5.05) * 100, 1400.0])


@pytest.mark.parametrize(("size", "price", "is_block"), [(100, 5.0, True), (99, 6.0, False), (100, 4.99, False)])
def test_a_block_is_a_hundred_contracts_and_fifty_thousand_dollars(size, price, is_block):
    found = flow().take(trades(bought(CALL, size, 0.0, price=price)))
    assert [a.kind for a in found] == ([Kind.BLOCK] if is_block else [])


def test_several_prints_across_venues_within_a_second_are_one_sweep():
    found = flow().take(trades(*(bought(CALL, 10, 0.2 * n, v) for n, v in enumerate("AABC"))))
    assert [(a.kind, a.counts, a.contracts) for a in found] == [(Kind.SWEEP, 1, 30), (Kind.SWEEP, 0, 10)]
    assert sum(a.premium_usd for a in found) == pytest.approx(40 * 500)
    assert {a.direction for a in found} == {1}


@pytest.mark.parametrize(
    "prints",
    [
        [bought(CALL, 10, 0.2 * n, "A") for n in range(4)],  # one venue
        [bought(CALL, 10, 0.2 * n, " ") for n in range(4)],  # untold venues
        [bought(CALL, 10, 0.2 * n, "AB"[n]) for n in range(2)],  # two prints
        [bought(CALL, 10, 0.6 * n, "ABC"[n]) for n in range(3)],  # over 1.2 s
        [bought(CALL, 10, 0.0, "A"), sold(CALL, 10, 0.1, "B"), bought(CALL, 10, 0.2, "C")],  # both sides
        [bought(CALL, 10, 0.0, "A"), bought(PUT, 10, 0.1, "B"), bought(CALL, 10, 0.2, "C")],  # two contracts
        [(CALL, 5.05, 10, 0.1 * n, "ABC"[n], 5.0, 5.1) for n in range(3)],  # nobody's side
    ],
    ids=["one venue", "untold venues", "two prints", "too slow", "both sides", "two contracts", "between"],
)
def test_what_is_no_sweep(prints):
    assert flow().take(trades(*prints)) == []


def test_a_sweep_is_found_across_batches_and_wherever_its_second_begins():
    seen = flow()
    assert seen.take(trades(bought(CALL, 1, 0.0, "A"))) == []
    assert seen.take(trades(bought(CALL, 10, 0.9, "A"))) == []
    assert seen.take(trades(bought(CALL, 10, 1.1, "B"))) == []
    (found,) = seen.take(trades(bought(CALL, 10, 1.3, "C")))
    assert (found.kind, found.contracts) == (Kind.SWEEP, 30)


def test_a_sweep_of_blocks_is_told_once_and_its_premium_once():
    seen = flow()
    found = seen.take(trades(*(bought(CALL, 200, 0.1 * n, v) for n, v in enumerate("ABCD"))))
    assert sum(a.premium_usd for a in found) == pytest.approx(4 * 200 * 500)
    assert sum(a.contracts for a in found) == 800
    # Two blocks were told before it was a sweep: from then on they count as the one activity that they are.
    assert [a.counts for a in found] == [1, 1, -1, 0]
    assert seen.window(T0 + NS)[1].tolist() == [0, 0, 1]


def test_a_window_that_lost_a_sweeps_first_prints_never_counts_below_zero():
    seen = flow()
    seen.take(trades(*(bought(CALL, 200, 0.3 * n, v) for n, v in enumerate("ABC"))))
    premium, count = seen.window(T0 + 30 * MINUTE_NS + round(0.5 * NS))
    assert premium[2] == pytest.approx(200 * 500)
    assert count.tolist() == [0, 0, 0]


def test_unusual_volume_is_above_twice_its_average_and_half_its_open_interest():
    volume = np.array([201, 200, 201, 201, 201, 0])
    average = np.array([100, 100, 101, 100, NAN, NAN])
    interest = np.array([400, 300, 300, 402, 300, 0])
    assert unusual_volume(volume, average, interest).tolist() == [True, False, False, False, False, False]
    alone = unusual_volume(volume, average, interest, without_average=True)
    assert alone.tolist() == [True, False, False, False, True, False]
    assert unusual_volume(500, 10, NAN).tolist() is False


def test_trades_of_a_contract_of_unusual_volume_are_unusual_from_then_on():
    seen = flow(average=10.0, interest=30.0)
    assert seen.take(trades(bought(PUT, 15, 0.0))) == []
    found = seen.take(trades(bought(PUT, 10, 60.0)))
    assert [(a.kind, a.direction, a.contracts) for a in found] == [(Kind.VOLUME, -1, 10)]


def test_the_window_adds_premium_and_counts_by_direction():
    seen = flow()
    seen.take(trades(bought(CALL, 100, 0.0), bought(CALL, 200, 600.0), bought(PUT, 100, 900.0)))
    seen.take(trades((CALL, 5.05, 100, 1000.0, "A", 5.0, 5.1)))
    premium, count = seen.window(T0 + 1000 * NS)
    assert premium.tolist() == pytest.approx([50_000.0, 50_500.0, 150_000.0])
    assert count.tolist() == [1, 1, 2]
    premium, count = seen.window(T0 + 30 * MINUTE_NS + 1)
    assert premium[2] == pytest.approx(100_000.0)
    assert count.tolist() == [1, 1, 1]
    assert seen.window(T0 + 2 * 30 * MINUTE_NS)[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("direction", "premium", "count", "added"),
    [
        (1, (10.0, 20.0), (5, 1), 0.03), (1, (10.0, 20.0), (0, 3), 0.09), (1, (10.0, 20.0), (0, 4), 0.10),
        (1, (20.0, 20.0), (0, 4), 0.0), (1, (30.0, 20.0), (0, 4), 0.0), (-1, (30.0, 20.0), (2, 4), 0.06),
        (1, (0.0, 0.0), (0, 0), 0.0),
    ],
)  # fmt: skip
def test_alignment_adds_three_hundredths_each_up_to_a_tenth_and_never_takes_off(direction, premium, count, added):
    assert alignment(direction, premium, count) == pytest.approx(added)


def test_an_average_needs_five_sessions_and_takes_the_last_twenty():
    assert np.isnan(average_volume([10] * 4))
    assert average_volume([10, 20, 30, 40, 50]) == 30.0
    assert average_volume([1000, *[10] * 20]) == 10.0


@pytest.mark.parametrize(
    "bad",
    [
        (CALL, -1.0, 5, 0.0, "A", 1.0, 2.0), (CALL, 0.0, 5, 0.0, "A", 1.0, 2.0), (CALL, NAN, 5, 0.0, "A", 1.0, 2.0),
        (CALL, float("inf"), 5, 0.0, "A", 1.0, 2.0), (CALL, 1e9, 5, 0.0, "A", 1.0, 2.0),
        (CALL, 5.0, 0, 0.0, "A", 1.0, 2.0), (CALL, 5.0, -5, 0.0, "A", 1.0, 2.0),
        (CALL, 5.0, 10**9, 0.0, "A", 1.0, 2.0), (9, 5.0, 5, 0.0, "A", 1.0, 2.0), (-1, 5.0, 5, 0.0, "A", 1.0, 2.0),
    ],
)  # fmt: skip
def test_impossible_trades_are_refused_and_counted(bad):
    seen = flow()
    assert seen.take(trades(bad, bought(CALL, 2, 0.0))) == []
    assert seen.refused == 1
    assert seen.volume.tolist() == [2, 0]
    assert seen.heard == 1


def test_no_trades_are_no_activity():
    seen = flow()
    assert seen.take(trades()) == []
    assert seen.window(T0)[1].tolist() == [0, 0, 0]


DRAWN = st.tuples(
    st.sampled_from([CALL, PUT]),
    st.integers(1, 300),
    st.integers(0, 5000),
    st.sampled_from("AB "),
    st.sampled_from([4.9, 5.0, 5.05, 5.1]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(DRAWN, max_size=40), st.integers(1, 7))
def test_no_premium_is_told_twice_however_trades_are_batched(drawn, batch):
    ordered = sorted(drawn, key=lambda d: d[2])
    rows = [(row, price, size, ms / 1000, venue, 5.0, 5.1) for row, size, ms, venue, price in ordered]
    whole, parts = flow(average=20.0, interest=100.0), flow(average=20.0, interest=100.0)
    whole.take(trades(*rows))
    for start in range(0, len(rows), batch):
        parts.take(trades(*rows[start : start + batch]))
    assert whole.volume.tolist() == parts.volume.tolist()
    for seen in (whole, parts):
        told = np.zeros(2)
        for activity in seen.activities:
            told[activity.row] += activity.premium_usd
        assert (told <= seen.premium_usd + 1e-6).all()
        for row in (CALL, PUT):
            for side in (-1, 0, 1):
                assert sum(a.counts for a in seen.activities if (a.row, a.direction) == (row, side)) >= 0


# ---------------------------------------------------------------------------------------------------- real days


def columns(path):
    with gzip.open(path, "rt") as file:
        return list(csv.DictReader(file))


def day(folder, underlying, date):
    """Volume and open interest by contract, folded by SessionFlow from the recorded minutes' trades."""
    rows = columns(folder / "options/trades_1m" / underlying / f"{date}.csv.gz")
    told = {
        row["symbol"]: float(row["open_interest"])
        for row in columns(folder / "options/open_interest" / underlying / f"{date}.csv.gz")
    }
    names = sorted({row["symbol"] for row in rows})
    place = {name: i for i, name in enumerate(names)}
    is_call = np.array([name[-9] == "C" for name in names])
    interest = np.array([told.get(name, NAN) for name in names])
    seen = SessionFlow(is_call, interest, np.full(len(names), NAN), without_average=True)
    seen.take(trades(*((place[r["symbol"]], float(r["c"]), int(float(r["v"])), n, " ", NAN, NAN)
                       for n, r in enumerate(rows) if int(float(r["v"])) > 0)))  # fmt: skip
    return names, seen, interest


@pytest.mark.real_data
def test_the_named_contracts_of_aapl_are_found_though_there_is_no_average(real_data):
    names, seen, interest = day(real_data, "AAPL", "2014-06-06")
    assert int(seen.volume.sum()) == 347_952
    beyond = seen.volume > interest
    assert int(np.count_nonzero(beyond)) == 100
    assert int(np.count_nonzero(beyond & (seen.volume >= 100))) == 41
    unusual = {names[i] for i in np.flatnonzero(seen.unusual)}
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = dict(zip(names, (seen.volume / interest).tolist(), strict=True))
    volume = dict(zip(names, seen.volume.tolist(), strict=True))
    named = {"AAPL140613C00647500": 7.95, "AAPL140606P00647500": 6.55, "AAPL140606P00652500": 5.48}
    for symbol, told in named.items():
        assert symbol in unusual
        assert ratio[symbol] == pytest.approx(told, abs=0.01)
    known = [s for s in names if volume[s] >= 500 and np.isfinite(ratio[s])]
    assert sorted(known, key=lambda s: -ratio[s])[:3] == list(named)
    assert volume["AAPL140606P00647500"] == 14_583
    print(f"AAPL: {len(unusual)} contracts above half their open interest, no average known for any")
    # Without a history the live rule calls nothing unusual.
    live = unusual_volume(seen.volume, np.full(len(names), NAN), interest)
    assert not live.any()


@pytest.mark.real_data
def test_the_named_contract_of_twx_is_found(real_data):
    names, seen, interest = day(real_data, "TWX", "2014-06-05")
    i = names.index("TWX141018C00065000")
    assert (int(seen.volume[i]), int(interest[i])) == (3688, 306)
    assert bool(seen.unusual[i])


@pytest.mark.real_data
def test_goog_has_the_stated_volume_above_open_interest(real_data):
    _, seen, interest = day(real_data, "GOOG", "2015-12-24")
    beyond = seen.volume > interest
    assert (int(np.count_nonzero(beyond)), int(np.count_nonzero(beyond & (seen.volume >= 100)))) == (21, 3)
    assert RULES.volume_over_open_interest == 0.5
