"""Planted truths of option markets: a wall of open interest, a volatility shock, a sweep of prints.

Inputs: plans, the close before the session. Outputs: what they add to volatility, open interest and trades.
Invariants: a shock moves implied volatility alone (the price's own path stays) and halves every ``half_life_sessions``
of open-market time; nothing is drawn, so what was planned is exactly what is there.
"""

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from oracle.core.errors import ConfigurationError
from oracle.core.instruments import OptionContract, Right
from oracle.core.sessions import MINUTE_NS, NS, Session
from oracle.sim.noise import Floats

MOST_CONTRACTS = 10_000_000
WALL_DAYS = 45  # expiries to which a wall reaches
SWEEP_VENUES = "ACNPXZ"
_SWEEP_FIRST_NS, _SWEEP_SPAN_NS = 50_000_000, 800_000_000  # within its second
_MOST_AWAY = 0.055  # the one-dollar strikes reach 6 % from the close before


class PlantedWall(msgspec.Struct, frozen=True):
    """Huge open interest at one strike and right, in every expiry of the next 45 days, on one session's listings.

    ``strike`` None is chosen ``away`` (a fraction, outwards) from the close before, to the dollar.
    """

    symbol: str
    date: str
    right: Literal["C", "P"]
    strike: float | None = None
    away: float = 0.01
    open_interest: int = 200_000


class PlantedVolShock(msgspec.Struct, frozen=True):
    """A jump of log implied volatility at ``minute`` of a session, which halves every ``half_life_sessions``.

    ``jump`` is added to the log of the surface's volatility state: 0.5 lifts short expiries by exp(0.5) at once.
    """

    symbol: str
    date: str
    jump: float = 0.5
    half_life_sessions: float = 4.0
    minute: int = 0


class PlantedSweep(msgspec.Struct, frozen=True):
    """Prints of one contract across venues within one second, all at the ask, at 20 s past ``minute``.

    ``open_interest`` is what the contract is listed with; the prints hold ``volume_ratio`` times as many contracts.
    ``strike`` None is chosen ``away`` out of the money, ``expiry`` None is the session's next listed one.
    """

    symbol: str
    date: str
    minute: int = 90
    right: Literal["C", "P"] = "C"
    strike: float | None = None
    expiry: str | None = None
    away: float = 0.01
    open_interest: int = 400
    volume_ratio: float = 5.0
    prints: int = 10

    @property
    def second(self) -> int:
        """The second of the session that the burst ends in."""
        return 60 * self.minute + 21

    @property
    def contracts(self) -> int:
        """Contracts of the whole burst."""
        return round(self.open_interest * self.volume_ratio)

    @property
    def occ(self) -> str:
        """The contract's symbol, once strike and expiry are known."""
        if self.strike is None or self.expiry is None:
            raise ConfigurationError("plant.sweep", "its contract is not chosen yet", "take it from the market")
        return OptionContract(self.symbol, self.expiry, Right(self.right), round(self.strike * 1000)).occ

    def pieces(self) -> list[tuple[int, int, str]]:
        """The burst as (nanoseconds after the second's start, contracts, venue), in order."""
        share, rest = divmod(self.contracts, self.prints)
        step = _SWEEP_SPAN_NS // self.prints
        return [
            (_SWEEP_FIRST_NS + n * step, share + (n < rest), SWEEP_VENUES[n % len(SWEEP_VENUES)])
            for n in range(self.prints)
        ]


OptionPlant = PlantedWall | PlantedVolShock | PlantedSweep
KINDS: Mapping[str, type[OptionPlant]] = {"wall": PlantedWall, "vol_shock": PlantedVolShock, "sweep": PlantedSweep}


def kind_of(plant: OptionPlant) -> str:
    """The plan's word on the command line and in what is declared."""
    return next(word for word, kind in KINDS.items() if isinstance(plant, kind))


def strike_away(close: float, right: str, away: float) -> float:
    """The whole-dollar strike a fraction out of the money from a close."""
    return float(round(close * (1.0 + away if right == "C" else 1.0 - away)))


def resolve(plant: PlantedWall | PlantedSweep, close: float, expiries: Sequence[str]) -> PlantedWall | PlantedSweep:
    """Choose what a plan left open: the strike from the close before, a sweep's expiry from those listed."""
    strike = plant.strike if plant.strike is not None else strike_away(close, plant.right, plant.away)
    if isinstance(plant, PlantedWall):
        return msgspec.structs.replace(plant, strike=strike)
    expiry = plant.expiry if plant.expiry is not None else expiries[min(1, len(expiries) - 1)]
    return msgspec.structs.replace(plant, strike=strike, expiry=expiry)


def shock_at(plant: PlantedVolShock, sessions_since: int, share: Floats, minutes: int) -> Floats:
    """What a shock adds to the log volatility state at shares (0 to 1) of a session's open time.

    Args:
        plant: the plan.
        sessions_since: sessions from that of the shock to this one; negative before it.
        share: how much of the session has gone.
        minutes: in the session of the shock, for its minute.
    """
    elapsed = sessions_since + share - plant.minute / minutes
    if sessions_since < 0:
        return np.zeros(len(share))
    left = plant.jump * np.exp2(-np.maximum(elapsed, 0.0) / plant.half_life_sessions)
    return np.where(elapsed >= 0.0, left, 0.0)


def rows_of(plant: PlantedWall | PlantedSweep, contracts: Sequence[tuple[str, str, int]]) -> list[int]:
    """The rows of a chain, given as (expiry, right, strike in thousandths), that a resolved plan is about."""
    milli = None if plant.strike is None else round(plant.strike * 1000)
    last = (dt.date.fromisoformat(plant.date) + dt.timedelta(days=WALL_DAYS)).isoformat()
    return [
        row
        for row, (expiry, right, strike) in enumerate(contracts)
        if strike == milli
        and right == plant.right
        and (expiry == plant.expiry if isinstance(plant, PlantedSweep) else expiry <= last)
    ]


def check_option_plants(plants: Sequence[OptionPlant], symbols: Sequence[str], minutes: Mapping[str, int]) -> None:
    """Refuse plans that do not fit the market; ``minutes`` is the length of each traded session by date.

    Raises:
        ConfigurationError: an unknown symbol or date, a minute outside the session, a size without sense.
    """
    for plant in plants:
        name = f"plant.{kind_of(plant)}"
        if plant.symbol not in symbols or plant.date not in minutes:
            fix = f"choose one of {', '.join(symbols)} on a traded date"
            raise ConfigurationError(name, f"{plant.symbol} on {plant.date} is not part of this market", fix)
        last = minutes[plant.date] - 2
        minute = 0 if isinstance(plant, PlantedWall) else plant.minute
        if not 0 <= minute <= last:
            raise ConfigurationError(f"{name}.minute", f"{minute} is outside the session", f"choose 0 to {last}")
        if isinstance(plant, PlantedVolShock):
            if not (0 < plant.half_life_sessions < 1000 and 0 < abs(plant.jump) <= 1.5 and math.isfinite(plant.jump)):
                raise ConfigurationError(
                    name, "its jump or half-life makes no sense", "jump to ±1.5, half-life above 0"
                )
            continue
        size_holds = 1 <= plant.open_interest <= MOST_CONTRACTS
        if isinstance(plant, PlantedSweep):
            # In this order: what is not finite or absurd cannot be a count of contracts.
            size_holds = size_holds and 0 < plant.volume_ratio * plant.open_interest <= MOST_CONTRACTS
        if not size_holds or not 0 <= plant.away <= _MOST_AWAY or plant.right not in ("C", "P"):
            raise ConfigurationError(
                name, "its interest, right or distance makes no sense", "right C or P, away to 0.055"
            )
        if isinstance(plant, PlantedSweep) and not 2 <= plant.prints <= min(60, plant.contracts):
            raise ConfigurationError(f"{name}.prints", f"{plant.prints} prints of {plant.contracts}", "choose 2 to 60")


def declare(plant: OptionPlant, session: Session) -> Mapping[str, Any]:
    """Describe a resolved plan, JSON-able, with ``kind`` and the instant ``at_ns`` from which it can be seen."""
    if isinstance(plant, PlantedSweep):
        at_ns, more = session.open_ns + plant.second * NS, {"contract": plant.occ, "contracts": plant.contracts}
    else:
        minute = plant.minute if isinstance(plant, PlantedVolShock) else 0
        at_ns, more = session.open_ns + minute * MINUTE_NS, {}
    return {"kind": kind_of(plant), "at_ns": at_ns, **msgspec.structs.asdict(plant), **more}


def read_option_plants(texts: Sequence[str], dates: Sequence[str]) -> tuple[OptionPlant, ...]:
    """Read plans as the command line writes them: ``wall:SPY``, ``vol_shock:QQQ:session=3,jump=0.6``.

    ``session`` counts traded sessions from 1 and ``date`` names one. Without either a wall and a sweep stand in every
    session and a shock in the first; ``right`` is C where it is not said.

    Raises:
        ConfigurationError: a text is no plan; names the part and the fix.
    """
    out: list[OptionPlant] = []
    for text in texts:
        word, _, rest = text.partition(":")
        symbol, _, pairs = rest.partition(":")
        kind = KINDS.get(word)
        if kind is None or not symbol:
            raise ConfigurationError(
                "--plant", f"{text!r} is no plan", f"write KIND:SYMBOL[:NAME=VALUE,...], KIND of {', '.join(KINDS)}"
            )
        written = [pair.partition("=")[::2] for pair in pairs.split(",") if pair]
        fields: dict[str, Any] = dict(written)
        if len(fields) < len(written):
            raise ConfigurationError("--plant", f"{text!r} says a value twice", "say it once")
        chosen = _dates(fields, dates, once=kind is PlantedVolShock)
        if kind is PlantedWall:
            fields.setdefault("right", "C")
        unknown = sorted(set(fields) - set(kind.__struct_fields__[1:]))
        if unknown:
            usable = ", ".join(("session", *kind.__struct_fields__[1:]))
            raise ConfigurationError("--plant", f"{word} has no {unknown[0]!r}", f"it takes {usable}")
        for date in chosen:
            try:
                out.append(msgspec.convert({"symbol": symbol, "date": date, **fields}, kind, strict=False))
            except msgspec.ValidationError as error:
                raise ConfigurationError("--plant", f"{text!r}: {error}", "see docs/exchange.md") from None
    return tuple(out)


def _dates(fields: dict[str, Any], dates: Sequence[str], *, once: bool) -> Sequence[str]:
    """Take ``session`` or ``date`` out of the fields: the dates of a plan."""
    number, date = fields.pop("session", None), fields.pop("date", None)
    if date is not None and number is not None:
        raise ConfigurationError("--plant", "a plan takes session or date, not both", "leave one out")
    if date is not None:
        return (date,)
    if number is None:
        return dates[:1] if once else dates
    if not (number.isascii() and number.isdecimal()) or not 1 <= int(number) <= len(dates):
        raise ConfigurationError("--plant", f"there is no session {number}", f"choose 1 to {len(dates)}")
    return (dates[int(number) - 1],)
