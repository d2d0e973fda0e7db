"""Volatility from trades: exact prices give it back, noise and misprints move it little, and few trades are none."""

import math
import random

import pytest

from oracle.core.ports import NotSelected
from oracle.core.sessions import MINUTE_NS
from oracle.options.bar_iv import BarPoint, OptionClose, point_from_bars
from oracle.options.pricing import black_forward
from oracle.options.selection import YEAR_NS

AT = 1_767_600_000 * 10**9
EXPIRES = AT + 31 * YEAR_NS // 365
VOL, SLOPE = 0.17, -0.08


def trade(minute: int, strike: float, is_call: bool, *, spot: float = 600.0, carry: float = 0.003) -> OptionClose:
    """A fair trade so many minutes before the moment; the forward is spot grown by ``carry``."""
    at_ns = AT - minute * MINUTE_NS
    years = (EXPIRES - at_ns) / YEAR_NS
    forward = spot * (1 + carry)
    vol = VOL + SLOPE * math.log(strike / forward) / math.sqrt(years)
    return OptionClose(at_ns, strike, is_call, float(black_forward(forward, strike, years, vol, is_call)), spot)


def found(closes: list[OptionClose], rate: float = 0.0) -> BarPoint:
    """The point of trades that have one."""
    point = point_from_bars("E", closes, at_ns=AT, expires_ns=EXPIRES, rate=rate)
    assert isinstance(point, BarPoint)
    return point


def some(seed: int = 1, count: int = 60, **changes: float) -> list[OptionClose]:
    """Trades of half an hour around a price that moves."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        minute, strike = rng.randrange(1, 30), float(rng.randrange(585, 619))
        spot = 600.0 + 2.0 * math.sin(minute)
        rows.append(trade(minute, strike, rng.random() < 0.5, spot=spot, **changes))
    return rows


def test_fair_trades_give_the_volatility_at_the_forward() -> None:
    pairs = [trade(m, k, right) for m in (3, 9, 15) for k in (598.0, 602.0, 606.0) for right in (True, False)]
    point = found(pairs)
    assert point.by_parity
    assert point.point.iv == pytest.approx(VOL, abs=1e-6)
    assert point.point.years == pytest.approx(31 / 365)


def test_an_old_trade_is_judged_by_the_stock_of_its_own_minute() -> None:
    pairs = [trade(m, k, right) for m in (3, 9) for k in (598.0, 602.0) for right in (True, False)]
    moved = [trade(m, k, right, spot=606.0) for m in (20, 25) for k in (604.0, 610.0) for right in (True, False)]
    assert found(pairs + moved).point.iv == pytest.approx(VOL, abs=5e-4)


def test_without_pairs_calls_and_puts_cancel_an_unknown_carry() -> None:
    closes = [trade(m, k, right) for m, right in ((3, True), (4, False)) for k in (596.0, 600.0, 604.0, 608.0)]
    point = found(closes)
    assert not point.by_parity
    assert point.point.iv == pytest.approx(VOL, abs=3e-3)


@pytest.mark.parametrize("seed", range(5))
def test_bid_ask_bounce_averages_out(seed: int) -> None:
    rng = random.Random(seed)
    noisy = [row._replace(price=row.price + rng.choice((-0.06, 0.06))) for row in some(seed)]
    assert found(noisy).point.iv == pytest.approx(VOL, rel=0.03)


def test_misprints_are_left_out() -> None:
    closes = some()
    spoiled = [row._replace(price=row.price * 2.5) if n % 9 == 0 else row for n, row in enumerate(closes)]
    assert found(spoiled).point.iv == pytest.approx(VOL, rel=0.02)


def test_too_few_trades_or_all_on_one_side_are_no_data() -> None:
    cases = {
        "no_trades": [],
        "too_few_trades_around_the_money": [trade(1, 600.0, True), trade(2, 604.0, True)],
        "no_trades_near_the_money": [trade(m, 700.0, True)._replace(price=0.05) for m in range(1, 9)],
        "no_implied_vol": [trade(m, 600.0, True)._replace(price=-1.0) for m in range(1, 9)],
    }
    for reason, closes in cases.items():
        missing = point_from_bars("E", closes, at_ns=AT, expires_ns=EXPIRES, rate=0.0)
        assert isinstance(missing, NotSelected), reason
        assert missing.reason == reason
    above = [trade(m, k, True) for m in range(1, 9) for k in (605.0, 608.0)]
    one_side = point_from_bars("E", above, at_ns=AT, expires_ns=EXPIRES, rate=0.0)
    assert isinstance(one_side, NotSelected)


def test_after_expiry_there_is_none() -> None:
    late = [row._replace(at_ns=EXPIRES + 1) for row in some()]
    assert isinstance(point_from_bars("E", late, at_ns=AT, expires_ns=EXPIRES, rate=0.0), NotSelected)
