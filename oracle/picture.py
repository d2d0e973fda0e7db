"""One underlying's chain at one instant, from REST or from recorded files, and the model's values of it.

Inputs: an account or a data folder. Outputs: ``ChainPicture`` (what was told) and ``ChainModel`` (what follows). For
people: nothing here decides anything. Invariants: each side of a quote has its own age; what was not told is NaN or
None; a contract without a volatility has the reason.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from oracle.alpaca.chainread import ChainReader
from oracle.alpaca.marketdata import MarketData
from oracle.alpaca.rest import RestClient
from oracle.connect import Account
from oracle.core.errors import ConfigurationError, OracleError, RemoteError
from oracle.core.instruments import OptionContract, parse_occ
from oracle.core.sessions import MINUTE_NS, NS, SessionTable
from oracle.options.early_exercise import early_exercise_suspect
from oracle.options.flow import Ints
from oracle.options.forwards import Dividend, expiry_forward
from oracle.options.gamma import GammaRows
from oracle.options.greeks import Greeks, chain_greeks
from oracle.options.positioning import interest_date
from oracle.options.pricing import Array, Bools
from oracle.options.quote_checks import QuoteReason, has_volatility, mark_early_exercise, quote_reasons, reason_name
from oracle.options.selection import YEAR_NS
from oracle.sim.recorded_files import Columns, Rejected, data_file, fill_forward, read_columns

NEW_YORK = ZoneInfo("America/New_York")
DAYS_AHEAD = 60
_SPANS = (("options/quotes_1m", MINUTE_NS, "minute quotes"), ("options/quotes_1h", 60 * MINUTE_NS, "hourly quotes"))


class NoDataError(OracleError):
    """What was asked for is not there; the text says what and why."""


@dataclass(frozen=True, slots=True)
class ChainPicture:
    """Contracts as aligned columns, sorted by symbol; dollars, NaN is unknown or absent, 0 ns is never told."""

    underlying: str
    at_ns: int
    spot: float
    spot_source: str
    contracts: tuple[OptionContract, ...]
    open_interest: Array
    open_interest_date: str | None
    bid: Array
    ask: Array
    bid_ns: Ints
    ask_ns: Ints
    volume: Array
    labels: tuple[str, ...]

    def age_s(self, side_ns: Ints) -> Array:
        """Seconds since a side was told; NaN where it never was."""
        return np.where(side_ns > 0, (self.at_ns - side_ns) / NS, np.nan)


@dataclass(frozen=True, slots=True)
class ChainModel:
    """Model values of a picture, aligned with its contracts; ``reason`` is ``usable`` or why there is no volatility."""

    picture: ChainPicture
    years: Array
    forward: Array
    discount: Array
    greeks: Greeks
    reason: tuple[str, ...]
    forward_source: dict[str, str]

    def gamma_rows(self) -> GammaRows:
        """The columns that ``gamma_profile`` takes, each contract at its own volatility."""
        picture = self.picture
        return GammaRows(
            strike=np.array([c.strike for c in picture.contracts]),
            is_call=np.array([c.is_call for c in picture.contracts], dtype=np.bool_),
            years=self.years,
            forward=self.forward,
            discount=self.discount,
            vol=self.greeks.iv,
            open_interest=picture.open_interest,
        )


def model(
    picture: ChainPicture,
    table: SessionTable,
    *,
    rate: float = 0.0,
    max_age_s: float = np.inf,
    dividends: Sequence[tuple[str, float]] = (),
) -> ChainModel:
    """Forwards by parity of each expiry's usable pairs (else spot carried at the rate), volatilities and greeks.

    ``dividends``: ex-dates, which are sessions of the table, and dollars a share. Contracts about whose price European
    exercise may be wrong by more than half the spread keep their values and have the reason ``early_exercise``.
    """
    paid = [Dividend((s.open_ns - picture.at_ns) / YEAR_NS, usd) for d, usd in dividends for s in (table.on(d),) if s]
    contracts, n = picture.contracts, len(picture.contracts)
    strike = np.array([c.strike for c in contracts], dtype=np.float64)
    is_call = np.array([c.is_call for c in contracts], dtype=np.bool_)
    expiry = np.array([c.expiry for c in contracts], dtype="<U10")
    years, forward = np.full(n, np.nan), np.full(n, np.nan)
    for date in sorted(set(expiry.tolist())):
        expiry_ns = table.expiry_ns(date)
        if expiry_ns is not None:
            years[expiry == date] = (expiry_ns - picture.at_ns) / YEAR_NS
    age_s = np.maximum(picture.age_s(picture.bid_ns), picture.age_s(picture.ask_ns))
    reasons = quote_reasons(picture.bid, picture.ask, age_s, years, max_age_s=max_age_s)
    mid = np.where(reasons == QuoteReason.USABLE, (picture.bid + picture.ask) / 2, np.nan)
    source: dict[str, str] = {}
    for date in sorted(set(expiry.tolist())):
        members = expiry == date
        span = float(years[members][0])
        if not span > 0:
            continue
        found = expiry_forward(
            *_pairs(strike[members], mid[members], is_call[members]),
            spot=picture.spot, years=span, rate=rate, dividends=paid,
        )  # fmt: skip
        if found is not None:
            forward[members], source[date] = found.usd, found.source
    greeks = chain_greeks(mid, forward, strike, years, is_call, rate, reasons=reasons)
    known, suspect = has_volatility(greeks.reasons), np.zeros(n, dtype=np.bool_)
    suspect[known] = early_exercise_suspect(
        (picture.ask - picture.bid)[known], picture.spot, strike[known], years[known], greeks.iv[known],
        is_call[known], rate, paid,
    )  # fmt: skip
    greeks = replace(greeks, reasons=mark_early_exercise(greeks.reasons, suspect))
    names = tuple(reason_name(int(code)) for code in greeks.reasons)
    return ChainModel(picture, years, forward, np.exp(-rate * years), greeks, names, source)


def _pairs(strike: Array, mid: Array, is_call: Bools) -> tuple[Array, Array, Array]:
    """Strikes that have a call and a put, and their mids."""
    calls = dict(zip(strike[is_call].tolist(), mid[is_call].tolist(), strict=True))
    puts = dict(zip(strike[~is_call].tolist(), mid[~is_call].tolist(), strict=True))
    both = sorted(calls.keys() & puts.keys())
    return np.array(both), np.array([calls[k] for k in both]), np.array([puts[k] for k in both])


# -------------------------------------------------------------------------------------------------------- over REST


async def read_live(account: Account, underlying: str, table: SessionTable, expiry: str | None = None) -> ChainPicture:
    """Read a chain as it is now: contracts with open interest, snapshots, the underlying's price.

    Args:
        account: addresses and credentials.
        underlying: a stock symbol.
        table: sessions around now.
        expiry: one ISO date; None reads what expires within 60 days.

    Raises:
        NoDataError: there is no chain, or no price of the underlying.
        RemoteError: the venue cannot be reached or refuses.
    """
    async with RestClient(*account) as rest:
        data, reader = MarketData(rest), ChainReader(rest)
        at_ns = (await data.clock()).at_ns
        session = table.current_or_next(at_ns)
        today = dt.datetime.fromtimestamp(at_ns // NS, NEW_YORK).date()
        first = today if expiry is None else dt.date.fromisoformat(expiry)
        days = [(first + dt.timedelta(days=i)).isoformat() for i in range(DAYS_AHEAD + 1 if expiry is None else 1)]
        date = today.isoformat() if session is None else session.date
        listed = await data.option_contracts(underlying, date, days)
        if not listed.contracts:
            until = days[0] if expiry is not None else f"{days[0]} to {days[-1]}"
            raise NoDataError(f"no chain: {rest.endpoints.trading_url} lists no options of {underlying} for {until}")
        told = {s.symbol: s for s in await reader.snapshots(underlying, days[0], days[-1])}
        spot = await reader.spot(underlying)
        # The reads take time, much of it on a fast exchange: now is after them, and never before what they told.
        told_ns = [s.quoted_ns for s in told.values() if s.quoted_ns is not None]
        at_ns = max((await data.clock()).at_ns, *told_ns, 0 if spot is None else spot.at_ns)
    if spot is None:
        when = dt.datetime.fromtimestamp(at_ns // NS, NEW_YORK).strftime("%Y-%m-%d %H:%M")
        raise NoDataError(
            f"no price of {underlying} at {when} New York: neither a two-sided quote nor a trade is known"
        )
    rows = [(parse_occ(c.symbol), c, told.get(c.symbol)) for c in listed.contracts]
    rows = [row for row in rows if row[0].root == underlying]  # another root delivers something else
    quoted = np.array([0 if s is None or s.quoted_ns is None else s.quoted_ns for _, _, s in rows], dtype=np.int64)
    bid = np.array([np.nan if s is None or s.bid is None else s.bid for _, _, s in rows], dtype=np.float64)
    ask = np.array([np.nan if s is None or s.ask is None else s.ask for _, _, s in rows], dtype=np.float64)
    labels = ("indicative quotes",) if account[0].option_feed == "indicative" else ()
    return ChainPicture(
        underlying=underlying,
        at_ns=at_ns,
        spot=spot.price,
        spot_source=spot.source,
        contracts=tuple(contract for contract, _, _ in rows),
        open_interest=np.array(
            [np.nan if c.open_interest is None else c.open_interest for _, c, _ in rows], dtype=float
        ),
        open_interest_date=interest_date(listed),
        bid=bid,
        ask=ask,
        bid_ns=np.where(np.isnan(bid), 0, quoted),
        ask_ns=np.where(np.isnan(ask), 0, quoted),
        volume=np.array([np.nan if s is None or s.volume is None else s.volume for _, _, s in rows], dtype=np.float64),
        labels=labels,
    )


# ------------------------------------------------------------------------------------------------ recorded files


def read_recorded(root: Path, underlying: str, date: str, time_of_day: str, table: SessionTable) -> ChainPicture:
    """A chain as it was known at a New York time of a recorded day: each side as last told, nothing later.

    Raises:
        ConfigurationError: the date is no session, the time lies outside it, or a file cannot be used.
        NoDataError: there are no option quotes, or no price of the underlying by then.
    """
    session = table.on(date)
    if session is None:
        raise ConfigurationError("--date", f"{date} is not a session", "choose a trading day")
    try:
        at_ns = session.early(time_of_day)
    except ValueError:
        raise ConfigurationError("--time", f"{time_of_day!r} is not a time of day", "write HH:MM, New York") from None
    if not session.open_ns < at_ns <= session.close_ns:
        raise ConfigurationError("--time", f"{time_of_day} lies outside the session of {date}", "choose a time inside")
    out = Rejected()
    quotes, span_ns, label = _quotes(root, underlying, date, out)
    sides = _sides(quotes, span_ns, at_ns)
    interest = _by_symbol(root, "options/open_interest", underlying, date, "open_interest", None, out)
    volume = _by_symbol(root, "options/trades_1m", underlying, date, "v", at_ns, out)
    spot = _spot(root, underlying, date, at_ns, out)
    named = sorted(set(sides) | set(interest or ()))
    contracts = [(symbol, contract) for symbol in named if (contract := _parse(symbol)) is not None]
    empty = (np.nan, 0, np.nan, 0)
    columns = list(zip(*(sides.get(symbol, empty) for symbol, _ in contracts), strict=True)) or [(), (), (), ()]
    before = table.before(date)
    labels = ["recorded", label, *(() if interest else ("no open interest",)), *(() if volume else ("no trades",))]
    return ChainPicture(
        underlying=underlying,
        at_ns=at_ns,
        spot=spot,
        spot_source="bar",
        contracts=tuple(contract for _, contract in contracts),
        open_interest=np.array([(interest or {}).get(symbol, np.nan) for symbol, _ in contracts], dtype=np.float64),
        open_interest_date=before[-1].date if interest and before else None,
        bid=np.array(columns[0], dtype=np.float64),
        ask=np.array(columns[2], dtype=np.float64),
        bid_ns=np.array(columns[1], dtype=np.int64),
        ask_ns=np.array(columns[3], dtype=np.int64),
        volume=np.array([np.nan if volume is None else volume.get(s, 0.0) for s, _ in contracts], dtype=np.float64),
        labels=tuple(labels),
    )


def _quotes(root: Path, underlying: str, date: str, out: Rejected) -> tuple[Columns, int, str]:
    for kind, span_ns, label in _SPANS:
        path = data_file(root, kind, underlying, date)
        if path.exists():
            return read_columns(path, kind, required=(), optional=("bid", "ask"), out=out), span_ns, label
    raise NoDataError(f"no chain: {root} has no option quotes of {underlying} on {date}")


def _sides(quotes: Columns, span_ns: int, at_ns: int) -> dict[str, tuple[float, int, float, int]]:
    """(bid, when told, ask, when told) by symbol: a side stands until it is told again; rows are known at their end."""
    known = quotes.at_ns + span_ns <= at_ns
    order = np.lexsort((quotes.at_ns[known], quotes.symbol[known]))
    symbol, told_ns = quotes.symbol[known][order], (quotes.at_ns[known] + span_ns)[order].astype(np.float64)
    columns = []
    for name in ("bid", "ask"):
        values = quotes.numbers[name][known][order]
        columns += [fill_forward(values, symbol), fill_forward(np.where(np.isnan(values), np.nan, told_ns), symbol)]
    last = np.flatnonzero(np.append(symbol[1:] != symbol[:-1], True)) if len(symbol) else np.zeros(0, np.int64)
    out = {}
    for i in last.tolist():
        bid, bid_ns, ask, ask_ns = (float(column[i]) for column in columns)
        out[quotes.symbols[int(symbol[i])]] = (
            bid, 0 if np.isnan(bid_ns) else int(bid_ns), ask, 0 if np.isnan(ask_ns) else int(ask_ns),
        )  # fmt: skip
    return out


def _by_symbol(
    root: Path, kind: str, underlying: str, date: str, name: str, at_ns: int | None, out: Rejected
) -> dict[str, float] | None:
    """A number summed by symbol, of rows that are known by ``at_ns`` (None: all); None where there is no file."""
    path = data_file(root, kind, underlying, date)
    if not path.exists():
        return None
    columns = read_columns(path, kind, required=(name,), optional=(), out=out)
    found: dict[str, float] = {}
    for told_ns, i, value in zip(
        columns.at_ns.tolist(), columns.symbol.tolist(), columns.numbers[name].tolist(), strict=True
    ):
        if at_ns is None or told_ns + MINUTE_NS <= at_ns:
            found[columns.symbols[i]] = found.get(columns.symbols[i], 0.0) + value
    return found


def _spot(root: Path, underlying: str, date: str, at_ns: int, out: Rejected) -> float:
    path = data_file(root, "bars/1m", underlying, date)
    if not path.exists():
        raise NoDataError(f"no price of {underlying}: {root} has no minute bars on {date}")
    bars = read_columns(path, "bars/1m", required=("c",), optional=(), out=out)
    known = np.flatnonzero(bars.at_ns + MINUTE_NS <= at_ns)
    if not len(known):
        raise NoDataError(f"no price of {underlying}: no bar has ended by then")
    return float(bars.numbers["c"][known[int(np.argmax(bars.at_ns[known]))]])


def _parse(symbol: str) -> OptionContract | None:
    try:
        return parse_occ(symbol)
    except RemoteError:
        return None
