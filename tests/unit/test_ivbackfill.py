"""Past sessions' volatility from option bars of the embedded exchange, against the surface that made them."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from oracle.alpaca import wire
from oracle.alpaca.optionbars import OptionBars
from oracle.alpaca.rest import Reply, RestClient
from oracle.calendar import load_sessions
from oracle.core.errors import TransientError
from oracle.core.instruments import parse_occ
from oracle.core.marketdata import DailyIvObserved
from oracle.core.sessions import NS, Session, SessionTable
from oracle.ivbackfill import SOURCE, Backfill, Day, contracts_near, week_ends
from oracle.options.volatility import ConstantMaturity, TermPoint, constant_maturity
from oracle.sim.config import ExchangeConfig
from oracle.sim.errors import RefusedError
from oracle.sim.exchange import Exchange
from oracle.sim.market import GeneratedMarket
from oracle.sim.pathgen import SPECS
from oracle.sim.recent import Recent
from oracle.sim.rest import Call
from oracle.sim.rest_option_bars import OptionBarsApi
from oracle.sim.rest_stocks import StockDataApi
from oracle.sim.surface import RATE, make_surface

FIRST = "2026-01-05"


@pytest.fixture(scope="module")
def table() -> SessionTable:
    return load_sessions(dt.date(2025, 1, 2), dt.date(2026, 6, 30))


@pytest.fixture(scope="module")
def market(table: SessionTable) -> GeneratedMarket:
    return GeneratedMarket(7, table, [FIRST], plant=[])


class Bars(RestClient):
    """The market-data endpoints answered by the exchange's own code; ``asked`` are the requests."""

    def __init__(self, market: GeneratedMarket, table: SessionTable) -> None:
        endpoints = wire.one_host_endpoints("http://127.0.0.1:1", stock_feed="sip", option_feed="opra")
        super().__init__(endpoints, wire.Credentials("k", "s"))
        exchange = Exchange(ExchangeConfig(seed=7, key="k", secret="s", plan="plus"), market, table)
        apis = (OptionBarsApi(exchange), StockDataApi(exchange, Recent()))
        self._endpoints = {path: endpoint for api in apis for _, path, endpoint in api.routes()}
        self.asked: list[Mapping[str, str]] = []
        self.fail_after: int | None = None
        self.change: Any = None

    async def data(self, path: str, query: Mapping[str, str]) -> Reply:
        """Answer one request at once."""
        self.asked.append({**query, "path": path})
        if self.fail_after is not None and len(self.asked) > self.fail_after:
            return Reply(429, {"message": "too many requests"}, {})
        try:
            answer = self._endpoints[path](Call({}, query, None))
        except RefusedError as refusal:
            return Reply(refusal.status, refusal.body(), {})
        return Reply(answer.status, answer.body if self.change is None else self.change(path, answer.body), {})


def truth(market: GeneratedMarket, table: SessionTable, symbol: str, session: Session) -> float:
    """What the market's surface says at 15:45 of a session, 30 days out between weekly expiries."""
    days = market._days
    i, at_ns = days.index[session.date], session.late("15:45")
    ends = week_ends(table, at_ns)
    ahead = [days_between(table, session.date, date) for _, date in ends]
    surface = make_surface(
        SPECS[symbol], session.open_ns, days.log_vol_path(symbol, i), np.array([ns for ns, _ in ends]), np.array(ahead)
    )
    second = np.full(len(ends), (at_ns - session.open_ns) // NS)
    vols, years = surface.atm(np.arange(len(ends)), second)
    found = constant_maturity(
        [TermPoint(d, y, v) for (_, d), v, y in zip(ends, vols.tolist(), years.tolist(), strict=True)]
    )
    assert isinstance(found, ConstantMaturity)
    return found.iv


def days_between(table: SessionTable, first: str, last: str) -> int:
    """Sessions from one date to another."""
    dates = [session.date for session in table.sessions]
    return dates.index(last) - dates.index(first)


async def run(rest: Bars, table: SessionTable, symbol: str, sessions: list[Session], rate: float = RATE) -> list[Day]:
    """Back-fill sessions."""
    return [day async for day in Backfill(OptionBars(rest), table, symbol, rate=rate).days(sessions)]


@pytest.mark.parametrize("symbol", ["SPY", "QQQ", "IWM"])
async def test_bars_give_the_surfaces_volatility_within_two_percent_of_it(
    market: GeneratedMarket, table: SessionTable, symbol: str
) -> None:
    """Half-days, holidays in the month and a monthly expiry are among these sessions."""
    sessions = list(table.before(FIRST, 30))
    days = await run(Bars(market, table), table, symbol, sessions)
    assert [day.date for day in days] == [session.date for session in sessions]
    assert {day.reason for day in days} == {""}
    ratios = [
        (day.iv_30d or 0) / truth(market, table, symbol, session) for day, session in zip(days, sessions, strict=True)
    ]
    assert max(abs(ratio - 1) for ratio in ratios) < 0.02
    assert abs(float(np.mean(ratios)) - 1) < 0.005


async def test_an_unknown_rate_moves_the_volatility_by_less_than_one_percent(
    market: GeneratedMarket, table: SessionTable
) -> None:
    sessions = list(table.before(FIRST, 5))
    known, unknown = [await run(Bars(market, table), table, "SPY", sessions, rate) for rate in (RATE, 0.0)]
    for a, b in zip(known, unknown, strict=True):
        assert a.iv_30d == pytest.approx(b.iv_30d, rel=0.01)


async def test_an_observation_says_its_source(market: GeneratedMarket, table: SessionTable) -> None:
    (day,) = await run(Bars(market, table), table, "SPY", list(table.before(FIRST)))
    assert day.iv_30d is not None
    assert day.near < day.next
    assert day.observation("SPY") == DailyIvObserved("SPY", day.date, day.iv_30d, SOURCE)


async def test_three_requests_a_session_and_a_pause_before_each(market: GeneratedMarket, table: SessionTable) -> None:
    rest, pauses = Bars(market, table), []

    async def pause() -> None:
        pauses.append(len(rest.asked))

    async for _ in Backfill(OptionBars(rest), table, "SPY", pause=pause).days(table.before(FIRST, 2)):
        pass
    assert pauses == list(range(6))
    assert len(rest.asked) == 6
    assert max(len(query["symbols"].split(",")) for query in rest.asked) <= 100


async def test_sessions_without_bars_say_so(market: GeneratedMarket, table: SessionTable) -> None:
    rest = Bars(market, table)
    rest.change = lambda path, body: {**body, "bars": {}}
    (day,) = await run(rest, table, "SPY", list(table.before(FIRST)))
    assert (day.iv_30d, day.reason) == (None, "no_stock_bars")
    rest.change = lambda path, body: {**body, "bars": {}} if "options" in path else body
    (day,) = await run(rest, table, "SPY", list(table.before(FIRST)))
    assert day.iv_30d is None
    assert day.reason.startswith("no_iv_before_30_days: no_trades")
    assert day.observation("SPY") is None


async def test_malformed_bars_are_skipped_and_counted(market: GeneratedMarket, table: SessionTable) -> None:
    def spoil(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if "options" not in path:
            return body
        bars = {
            symbol: [{"t": "yesterday", "c": 1}, {"t": None}, 7, {**rows[0], "c": -1}, *rows]
            for symbol, rows in body["bars"].items()
        }
        return {**body, "bars": bars}

    sessions = list(table.before(FIRST))
    clean, spoiled = Bars(market, table), Bars(market, table)
    spoiled.change = spoil
    data = OptionBars(spoiled)
    days = [day async for day in Backfill(data, table, "SPY").days(sessions)]
    assert days == await run(clean, table, "SPY", sessions, 0.0)
    assert data.rejections.total > 0


async def test_bars_of_contracts_that_nobody_asked_for_do_not_count(
    market: GeneratedMarket, table: SessionTable
) -> None:
    def spoil(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if "options" not in path:
            return body
        rows = next(iter(body["bars"].values()))
        extra = {"rubbish": rows, "SPY260116C00001000": rows, "QQQ260130C00600000": rows}
        return {**body, "bars": {**body["bars"], **extra}}

    sessions = list(table.before(FIRST))
    clean, spoiled = Bars(market, table), Bars(market, table)
    spoiled.change = spoil
    assert await run(spoiled, table, "SPY", sessions) == await run(clean, table, "SPY", sessions)


async def test_a_vendor_that_stops_answering_leaves_the_days_before(
    market: GeneratedMarket, table: SessionTable
) -> None:
    rest, days = Bars(market, table), []
    rest.fail_after = 7
    with pytest.raises(TransientError, match="429"):
        async for day in Backfill(OptionBars(rest), table, "SPY").days(table.before(FIRST, 5)):
            days.append(day)
    assert len(days) == 2


def test_weekly_expiries_end_weeks_before_holidays_too(table: SessionTable) -> None:
    friday = table.on("2026-03-06")
    assert friday is not None
    dates = [date for _, date in week_ends(table, friday.late("15:45"))]
    # 3 April 2026 is Good Friday.
    assert dates[:4] == ["2026-03-20", "2026-03-27", "2026-04-02", "2026-04-10"]


@pytest.mark.parametrize(("spot", "grid"), [(680.4, {675.0, 680.0, 681.0, 660.0}), (12.3, {12.0, 12.5, 10.0, 15.0})])
def test_names_of_contracts_lie_around_the_price(spot: float, grid: set[float]) -> None:
    names = contracts_near("SPY", "2026-02-06", spot)
    strikes = {parse_occ(name).strike for name in names}
    assert grid <= strikes
    assert min(strikes) < spot < max(strikes)
    assert len(names) == len(set(names)) <= 100
