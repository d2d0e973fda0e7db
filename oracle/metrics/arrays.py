"""Closed trades and sessions' results as columns, prepared once for many figures.

Inputs: ClosedTrade and DayResult values of one strategy or of the account. Outputs: numpy columns in the order in which
they count (trades by log id, sessions by date). Invariants: micro-dollars are int64; what is unknown is masked out,
never zero; a session that is there twice is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oracle.core.trackrecord import ClosedTrade, DayResult

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# The largest worst case of one position, as a share of equity: the ceiling of ``position_fraction`` in risk/limits.
POSITION_CAP: Final = 0.05


@dataclass(frozen=True, slots=True)
class TradeArrays:
    """Columns of closed trades, each of shape (n,), ordered by log id; micros are micro-dollars.

    Where ``*_known`` is False the value beside it is 0 and means nothing.
    """

    net: Ints
    fees_modelled: Ints
    fees_broker: Ints
    leg_contracts: Ints
    held_ns: Ints
    slippage: Ints
    slippage_known: Flags
    slippage_bps: Floats
    bps_known: Flags
    planned_risk: Ints
    mae: Ints
    mae_known: Flags
    mfe: Ints
    mfe_known: Flags
    contracts: Ints
    worst_case: Ints
    equity: Ints

    @classmethod
    def from_trades(cls, trades: Sequence[ClosedTrade]) -> "TradeArrays":
        """Take the columns out of trades, in any order.

        Raises:
            ValueError: a slippage is not a finite number; the message has the trade's id.
        """
        rows = sorted(trades, key=attrgetter("log_id"))
        slippage, slippage_known = _known([t.slippage_micros for t in rows])
        mae, mae_known = _known([t.mae_micros for t in rows])
        mfe, mfe_known = _known([t.mfe_micros for t in rows])
        told_bps = [t.slippage_bps for t in rows]
        slippage_bps = np.array([0.0 if bps is None else bps for bps in told_bps], dtype=np.float64)
        strange = np.flatnonzero(~np.isfinite(slippage_bps))
        if strange.size:
            raise ValueError(f"trade {rows[strange[0]].trade_id}: slippage of {slippage_bps[strange[0]]} basis points")
        return cls(
            net=_ints([t.net_micros for t in rows]),
            fees_modelled=_ints([t.fees_modelled_micros for t in rows]),
            fees_broker=_ints([t.fees_broker_micros for t in rows]),
            leg_contracts=_ints([t.leg_contracts for t in rows]),
            held_ns=_ints([t.closed_ns - t.opened_ns for t in rows]),
            slippage=slippage,
            slippage_known=slippage_known,
            slippage_bps=slippage_bps,
            bps_known=np.array([bps is not None for bps in told_bps], dtype=np.bool_),
            planned_risk=_ints([t.planned_risk_micros for t in rows]),
            mae=mae,
            mae_known=mae_known,
            mfe=mfe,
            mfe_known=mfe_known,
            contracts=_ints([t.contracts for t in rows]),
            worst_case=_ints([t.worst_case_micros for t in rows]),
            equity=_ints([t.equity_micros for t in rows]),
        )

    def __len__(self) -> int:
        return len(self.net)


@dataclass(frozen=True, slots=True)
class DayArrays:
    """Columns of sessions, each of shape (n,), ordered by date; micros are micro-dollars.

    ``returns`` has one entry for every session whose ``known`` is True: P&L over the equity at its start.
    """

    dates: tuple[str, ...]
    pnl: Ints
    pnl_known: Flags
    known: Flags
    returns: Floats
    open_ns: Ints
    session_ns: Ints

    @classmethod
    def from_days(cls, days: Sequence[DayResult]) -> "DayArrays":
        """Take the columns out of sessions, in any order.

        Raises:
            ValueError: a session is there twice; the message has its date.
        """
        rows = sorted(days, key=attrgetter("date"))
        dates = tuple(d.date for d in rows)
        for before, after in pairwise(dates):
            if before == after:
                raise ValueError(f"session {after} is there twice")
        pnl, pnl_known = _known([d.pnl_micros for d in rows])
        start = _ints([d.start_equity_micros for d in rows])
        known = pnl_known & (start > 0)
        return cls(
            dates=dates,
            pnl=pnl,
            pnl_known=pnl_known,
            known=known,
            returns=pnl[known].astype(np.float64) / start[known].astype(np.float64),
            open_ns=_ints([d.open_ns for d in rows]),
            session_ns=_ints([d.session_ns for d in rows]),
        )

    def __len__(self) -> int:
        return len(self.dates)


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _known(values: Sequence[int | None]) -> tuple[Ints, Flags]:
    return _ints([0 if v is None else v for v in values]), np.array([v is not None for v in values], dtype=np.bool_)
