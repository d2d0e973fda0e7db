"""Judge whether a session may begin: the account's and the feeds' measured facts, and what each structure needs.

Inputs: the running daemon's answers, one a strategy: its ``house`` facts and its verdicts with risk's figures. Output:
a ``Report``. Invariants: a fact that is missing is a no; no figure is made up, an unknown one stays None; a structure
that could not be priced now is named as not checked.
"""

from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any, Final

import msgspec

LEVEL: Final = 2
STRUCTURES_LEVEL: Final = 3
# The reconcile alert's own limit: an account that was read longer ago says little.
MAX_ACCOUNT_AGE_S: Final = 150.0
# A quote that is made later than it arrives, or arrives this late, says that a clock is wrong or a feed behind.
EARLIEST_S: Final = -1.0
LATEST_S: Final = 15.0
CENT: Final = Decimal("0.01")
NO_QUOTES: Final = "fresh_option_quotes"
WHEN_QUOTED: Final = "its options are quoted while it may enter, at the latest until its entry window ends; repeat then"


class Check(msgspec.Struct, frozen=True):
    """One thing that a careful operator looks at: what was seen, and what it must be."""

    name: str
    ok: bool
    seen: str
    needed: str


class Need(msgspec.Struct, frozen=True):
    """What one strategy's structure of this moment needs in one underlying.

    ``why`` says why there is no structure, or which rules refuse it now. Amounts are text in USD to the cent, what is
    lost or needed rounded up; None is unknown. ``fits``: the account's equity is enough; None when either is unknown.
    ``checked``: False when data are missing, so that it could not be priced; ``priced_when`` says when it can.
    """

    strategy: str
    symbol: str
    structure: str | None
    net_mid_usd: str | None
    max_loss_usd: str | None
    planned_loss_usd: str | None
    break_evens: tuple[str, ...]
    equity_needed_usd: str | None
    needed_by: str | None
    contracts_now: int | None
    fits: bool | None
    why: str
    checked: bool = True
    priced_when: str = ""


class Report(msgspec.Struct, frozen=True):
    """The verdict: ``go`` when every check holds and at least one structure fits.

    ``reasons`` speak against it; ``not_checked`` names each structure that could not be judged, and why.
    """

    go: bool
    reasons: tuple[str, ...]
    not_checked: tuple[str, ...]
    checks: tuple[Check, ...]
    needs: tuple[Need, ...]


def report(told: Mapping[str, tuple[bool, str, Mapping[str, Any]]]) -> Report:
    """Judge the daemon's answers.

    Args:
        told: for each strategy whether the daemon answered, its words, and the answer's facts.
    """
    checks: list[Check] = []
    needs: list[Need] = []
    house: Mapping[str, Any] | None = None
    quotes: dict[str, Any] = {}
    for strategy, (ok, text, facts) in told.items():
        if not ok:
            checks.append(Check(strategy, ok=False, seen=text, needed="an evaluation"))
            continue
        house = facts.get("house")
        quotes |= {} if house is None else house["quotes"]
        equity = None if house is None else house["equity_usd"]
        needs += [_need(strategy, verdict, equity) for verdict in facts.get("verdicts", ())]
    if house is None:
        checks.append(Check("daemon", ok=False, seen="it told nothing of itself", needed="an answer of this version"))
    else:
        several = any(need.structure is not None and ":" in need.structure for need in needs)
        checks += _house(house, quotes, STRUCTURES_LEVEL if several else LEVEL)
    against = [f"{check.name}: {check.seen} (needed: {check.needed})" for check in checks if not check.ok]
    unchecked = tuple(f"{need.strategy} {need.symbol}: {need.why}" for need in needs if not need.checked)
    if not any(need.fits for need in needs):
        against.append("no structure of any strategy fits the account now")
    return Report(not against, tuple(against), unchecked, tuple(checks), tuple(needs))


def _house(house: Mapping[str, Any], quotes: Mapping[str, Any], level: int) -> Iterable[Check]:
    had = house["options_level"]
    yield Check("options level", had is not None and had >= level, _shown(had), f"{level} or more")
    blocked = house["trading_blocked"]
    yield Check(
        "account", blocked is False, "blocked" if blocked else "open" if blocked is False else "unknown", "open"
    )
    power = house["options_buying_power_usd"]
    shown = _shown(_cents(power, ROUND_FLOOR))
    yield Check("buying power", power is not None and Decimal(power) > 0, f"{shown} USD", "above 0 USD")
    age = house["account_age_s"]
    within = age is not None and age <= MAX_ACCOUNT_AGE_S
    yield Check(
        "account report", within, "unknown" if age is None else f"{age:.0f} s old", f"{MAX_ACCOUNT_AGE_S:.0f} s"
    )
    yield Check("books", house["reconciled"], "agree" if house["reconciled"] else "not compared, or differ", "agree")
    latches = ", ".join(house["latches"])
    state = house["trading_state"] + (f" ({latches})" if latches else "")
    yield Check("trading state", house["trading_state"] == "active", state, "active")
    for feed, word in house["feeds"].items():
        yield Check(f"{feed} feed", word == "live", word, "live")
    yield _clock(quotes)
    session = house["session"]
    seen = "no session is known" if session is None else f"session of {session['date']}"
    if session is not None and not house["in_session"]:
        away_min = (session["open_ns"] - house["at_ns"]) / 60e9
        seen += f", opens in {away_min:.0f} min" if away_min > 0 else ", over"
    yield Check("calendar", house["in_session"], seen, "regular trading, so that option quotes are live")


def _clock(quotes: Mapping[str, Any]) -> Check:
    """Compare the vendor's time with ours where they met: when the newest quote of each underlying arrived."""
    needed = f"quotes that arrive {EARLIEST_S:g} to {LATEST_S:g} s after they are made"
    late = {s: q["age_s"] - q["received_s_ago"] for s, q in quotes.items() if q is not None}
    missing = [symbol for symbol, quote in quotes.items() if quote is None]
    if not late or missing:
        return Check("clock", ok=False, seen=f"no quote of {', '.join(missing) or 'any underlying'}", needed=needed)
    bad = {symbol: s for symbol, s in late.items() if not EARLIEST_S <= s <= LATEST_S}
    shown = ", ".join(f"{symbol} {s:+.1f} s" for symbol, s in (bad or late).items())
    return Check("clock", not bad, shown, needed)


def _need(strategy: str, verdict: Mapping[str, Any], equity_usd: str | None) -> Need:
    symbol = verdict["symbol"]
    if verdict["verdict"] != "intent":
        checked, reason = verdict["verdict"] != "no_data", str(verdict["reason"])
        why = ("" if checked else "no data: ") + reason.replace("_", " ")
        when = WHEN_QUOTED if not checked and reason == NO_QUOTES else ""
        return Need(strategy, symbol, None, None, None, None, (), None, None, None, None, why, checked, when)
    decision, outcome = verdict["decision"], verdict["prospects"]
    needed = outcome["equity_needed_usd"]
    fits = None if needed is None or equity_usd is None else Decimal(equity_usd) >= Decimal(needed)
    refused = [f"{r['rule']}: {r['observed']}" for r in decision["refusals"]]
    return Need(
        strategy=strategy,
        symbol=symbol,
        structure=verdict["contract"],
        net_mid_usd=_cents(outcome["net_mid_usd"], ROUND_HALF_EVEN),
        max_loss_usd=_cents(outcome["max_loss_usd"], ROUND_CEILING),
        planned_loss_usd=_cents(outcome["planned_loss_usd"], ROUND_CEILING),
        break_evens=tuple(str(_cents(level, ROUND_HALF_EVEN)) for level in outcome["break_evens"]),
        equity_needed_usd=_cents(needed, ROUND_CEILING),
        needed_by=outcome["needed_by"],
        contracts_now=decision["contracts"],
        fits=fits,
        why="; ".join(refused),
    )


def _cents(amount: str | None, rounding: str) -> str | None:
    """An exact amount's text to the cent; unknown stays None."""
    return None if amount is None else f"{Decimal(amount).quantize(CENT, rounding=rounding):f}"


def _shown(value: object) -> str:
    return "unknown" if value is None else str(value)
