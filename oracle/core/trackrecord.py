"""What performance is judged on: round trips that are over, and what each session brought. Plain values, no figures.

Inputs: the store's rows. Outputs: structs that metrics, reports and readiness read. Invariants: amounts are integer
micro-dollars, so that sums are exact; None is unknown; a strategy is its name and the hash of its code and parameters.
"""

from typing import Final

import msgspec

# The account as a whole stands where a strategy's name does.
ACCOUNT: Final = "account"


class StrategyKey(msgspec.Struct, frozen=True, order=True):
    """A strategy as it was proven: another code or parameter is another key. ``ACCOUNT`` has the hash ""."""

    strategy: str
    strategy_hash: str


class ClosedTrade(msgspec.Struct, frozen=True):
    """One round trip that is over.

    ``log_id`` is that of its end: the order in which trades count. ``session`` is the date of the session in or after
    which it ended. ``leg_contracts`` are contracts bought and sold over all legs, in and out (what fees are paid on).
    ``net_micros`` is gross P&L less modelled fees. ``planned_risk`` is the loss at the stop, ``worst_case`` the largest
    loss, ``equity`` the account's, all when the entry was decided. ``mae`` (≤ 0) and ``mfe`` (≥ 0) are the worst and
    the best value of the trade while it was open, before fees, as far as marks were known.
    """

    log_id: int
    trade_id: str
    key: StrategyKey
    underlying: str
    symbol: str
    opened_ns: int
    closed_ns: int
    session: str
    contracts: int
    leg_contracts: int
    gross_micros: int
    net_micros: int
    fees_modelled_micros: int
    fees_broker_micros: int
    slippage_micros: int | None
    slippage_bps: float | None
    planned_risk_micros: int
    worst_case_micros: int
    equity_micros: int
    mae_micros: int | None
    mfe_micros: int | None
    exit_rule: str
    feed: str | None


class DayResult(msgspec.Struct, frozen=True):
    """What one session brought a strategy or the account, marked to market and net of modelled fees.

    Sessions without a trade are rows too, from the first on which the strategy ran. ``pnl_micros`` is None when a mark
    at the close was unknown: the next known session's holds both. ``start_equity_micros`` is the account's equity at
    the start of the day with that day's deposits and withdrawals in it, so that pnl / start is a time-weighted return.
    ``open_ns`` is for how long a position was held during the session, of ``session_ns``.
    """

    date: str
    pnl_micros: int | None
    start_equity_micros: int
    transfers_micros: int
    open_ns: int
    session_ns: int
