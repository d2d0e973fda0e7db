"""How a contract can end without an order of ours, and which ending the account's figures prove. Pure and exact.

Inputs: what the books hold and the broker no longer does, changes of shares and cash. Outputs: endings per contract, or
none where the figures leave more than one reading. Invariants: shares are worked out exactly, ±100 for a contract;
cash to the cent tells the strikes; nothing is guessed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise, product
from math import prod
from typing import Final

import msgspec

from oracle.core.instruments import CONTRACT_MULTIPLIER, OptionContract, is_option, parse_occ
from oracle.core.messages import PositionSettled
from oracle.core.money import CENT, ZERO
from oracle.core.ports import Context
from oracle.core.reports import BrokerOrder, ExecutionReported
from oracle.core.sessions import MINUTE_NS, SessionTable
from oracle.core.vocabulary import Ending

# The broker sells what it will not let expire in this last part of a session (alpaca.md section 4: from 15:15 or
# "within one hour"); before it, a sale that is not ours is somebody's.
SELL_OUT_NS: Final = 60 * MINUTE_NS
# More readings of one account than this are not tried: the activities will tell.
MAX_READINGS: Final = 20_000
DELIVERED: Final = (Ending.EXERCISED, Ending.ASSIGNED)


class Gone(msgspec.Struct, frozen=True):
    """Contracts that the books hold and the broker does not: ``contracts`` > 0 of a long (``sign`` 1) or short (−1).

    ``over``: their last session has closed, so that they may have expired. ``in_the_money``, by the price that was seen
    at its close: clearly, or clearly not; None is neither of them, or unknown.
    """

    symbol: str
    sign: int
    contracts: int
    over: bool
    in_the_money: bool | None = None

    @property
    def contract(self) -> OptionContract:
        """What the symbol says."""
        return parse_occ(self.symbol)

    @property
    def delivery(self) -> Ending:
        """How shares come of it."""
        return Ending.EXERCISED if self.sign > 0 else Ending.ASSIGNED

    @property
    def shares_each(self) -> int:
        """Signed shares that come for one contract that is exercised or assigned."""
        return shares_for(self.contract, self.sign)


def shares_for(contract: OptionContract, sign: int) -> int:
    """Signed shares that one held contract becomes: a long call and a short put bring them, the others take them."""
    return sign * (CONTRACT_MULTIPLIER if contract.is_call else -CONTRACT_MULTIPLIER)


def is_over(table: SessionTable, symbol: str, at_ns: int) -> bool:
    """Whether the last session of a contract has closed; what the table does not know has not."""
    end_ns = table.expiry_ns(parse_occ(symbol).expiry)
    return end_ns is not None and at_ns >= end_ns


def modelled_fee(per_contract_usd: Decimal, symbol: str, contracts: int) -> Decimal:
    """The modelled fee of one side in one symbol: none for shares."""
    return per_contract_usd * contracts if is_option(symbol) else ZERO


# ------------------------------------------------------------------------------------- from figures to endings


def delivered(gone: Sequence[Gone], shares: Mapping[str, int], cash_usd: Decimal | None) -> dict[str, int] | None:
    """Find how many contracts of each symbol brought or took shares; the rest of them expired worthless.

    Args:
        gone: what is no longer there, one row a symbol.
        shares: the change of shares by underlying that no fill explains (a missing one is 0).
        cash_usd: the change of cash that nothing else explains; None when cash cannot be compared now.

    Returns:
        Contracts by symbol, or None when no reading fits, or several do.
    """
    by_root: dict[str, list[Gone]] = {}
    for row in gone:
        by_root.setdefault(row.contract.root, []).append(row)
    if prod(_readings(row) for row in gone) <= MAX_READINGS:
        found = _fitting([list(_all(rows)) for rows in by_root.values()], list(by_root.values()), shares, cash_usd)
        # A settlement price that explains all of it goes before readings in which only some of a kind were assigned,
        # and these before readings that no price at all can explain.
        regular = [f for f in found if _is_regular(f, gone)] or [f for f in found if _is_possible(f, gone)]
    else:
        regular = _fitting([_by_price(rows) for rows in by_root.values()], list(by_root.values()), shares, cash_usd)
    if len(regular) > 1:
        # Two wings of one width cost the same: the price of the close tells which it was.
        regular = [found for found in regular if all(_is_plausible(row, found[row.symbol]) for row in gone)]
    if len(regular) != 1:
        return None
    (only,) = regular
    if cash_usd is None and any(only[row.symbol] != row.contracts for row in gone):
        return None  # worthless or settled in cash: only cash could tell
    if any(row.in_the_money and only[row.symbol] < row.contracts for row in gone):
        return None  # its shares are still to come
    return only


def is_possible(gone: Sequence[Gone], shares: Mapping[str, int], cash_usd: Decimal | None) -> bool:
    """Whether figures have a reading that the prices of the close do not contradict, be it one of several."""
    by_root: dict[str, list[Gone]] = {}
    for row in gone:
        by_root.setdefault(row.contract.root, []).append(row)
    few = prod(_readings(row) for row in gone) <= MAX_READINGS
    readings = [list(_all(rows)) if few else _by_price(rows) for rows in by_root.values()]
    found = _fitting(readings, list(by_root.values()), shares, cash_usd)
    return any(all(_is_plausible(row, reading[row.symbol]) for row in gone) for reading in found)


def _is_plausible(row: Gone, brought: int) -> bool:
    return row.in_the_money is None or (brought > 0) is row.in_the_money


def _readings(row: Gone) -> int:
    return row.contracts + 1 if row.over else 1


def _all(rows: Sequence[Gone]) -> Iterator[dict[str, int]]:
    ranges = [range(row.contracts + 1) if row.over else (row.contracts,) for row in rows]
    for counts in product(*ranges):
        yield {row.symbol: count for row, count in zip(rows, counts, strict=True)}


def _by_price(rows: Sequence[Gone]) -> list[dict[str, int]]:
    """One reading for each settlement price that makes a difference: all of a kind in the money, none of the others."""
    strikes = sorted({row.contract.strike_usd for row in rows})
    prices = [strikes[0] - 1, *strikes, *(a + (b - a) / 2 for a, b in pairwise(strikes))]
    found: list[dict[str, int]] = []
    for price in (*prices, strikes[-1] + 1):
        reading = {r.symbol: r.contracts if not r.over or _in_the_money(r.contract, price) else 0 for r in rows}
        if reading not in found:
            found.append(reading)
    return found


def _is_regular(reading: Mapping[str, int], gone: Sequence[Gone]) -> bool:
    by_root: dict[str, list[Gone]] = {}
    for row in gone:
        by_root.setdefault(row.contract.root, []).append(row)
    return all({r.symbol: reading[r.symbol] for r in rows} in _by_price(rows) for rows in by_root.values())


def _is_possible(reading: Mapping[str, int], gone: Sequence[Gone]) -> bool:
    """Whether each underlying can have had one price at which all that brought shares was in the money."""
    ended = [row.contract for row in gone if row.over and reading[row.symbol] > 0]
    for root in sorted({contract.root for contract in ended}):
        calls = [c.strike_milli for c in ended if c.root == root and c.is_call]
        puts = [c.strike_milli for c in ended if c.root == root and not c.is_call]
        if calls and puts and max(calls) >= min(puts):
            return False
    return True


def _in_the_money(contract: OptionContract, price: Decimal) -> bool:
    return price > contract.strike_usd if contract.is_call else price < contract.strike_usd


def _fitting(
    readings: Sequence[Sequence[dict[str, int]]],
    groups: Sequence[Sequence[Gone]],
    shares: Mapping[str, int],
    cash_usd: Decimal | None,
) -> list[dict[str, int]]:
    """The readings of all underlyings together whose shares, and cash where it is known, are those that were seen."""
    fitting: list[list[tuple[dict[str, int], Decimal]]] = []
    for rows, candidates in zip(groups, readings, strict=True):
        wanted = shares.get(rows[0].contract.root, 0)
        fitting.append([(c, _cash(rows, c)) for c in candidates if _shares(rows, c) == wanted])
    if prod(map(len, fitting)) > MAX_READINGS:
        return []
    found = []
    for combination in product(*fitting):
        if cash_usd is None or abs(sum((cash for _, cash in combination), ZERO) - cash_usd) < CENT:
            found.append({symbol: n for reading, _ in combination for symbol, n in reading.items()})
    return found


def _shares(rows: Iterable[Gone], reading: Mapping[str, int]) -> int:
    return sum(reading[row.symbol] * row.shares_each for row in rows)


def _cash(rows: Iterable[Gone], reading: Mapping[str, int]) -> Decimal:
    return sum((-reading[r.symbol] * r.shares_each * r.contract.strike_usd for r in rows), ZERO)


# ------------------------------------------------------------------------------------------ the broker's sell-out


def sold_out(
    executions: Iterable[ExecutionReported], context: Context, fee_usd: Decimal
) -> tuple[list[PositionSettled], list[ExecutionReported]]:
    """Split executions of orders that are not ours: the broker's own sell-outs of what expires today, and foreign ones.

    A sell-out reduces what open trades hold of a contract in the last hour of its last session; it is shared among
    them in order of trade id. The modelled fee is that of any trade in an option.
    """
    rows: list[PositionSettled] = []
    foreign: list[ExecutionReported] = []
    taken: dict[tuple[str, str], int] = {}
    for execution in executions:
        late = _is_late(execution.symbol, execution.at_ns, context.table)
        shares = _shared(execution, context, taken) if late else []
        if not shares:
            foreign.append(execution)
        for number, (trade_id, contracts) in enumerate(shares, 1):
            taken[trade_id, execution.symbol] = taken.get((trade_id, execution.symbol), 0) + contracts
            rows.append(
                PositionSettled(
                    settlement_id=f"{execution.execution_id}:{number}",
                    trade_id=trade_id,
                    ending=Ending.SOLD_OUT,
                    symbol=execution.symbol,
                    contracts=contracts,
                    price_usd=execution.price_usd,
                    shares_symbol="",
                    shares=0,
                    share_price_usd=None,
                    fees_modelled_usd=modelled_fee(fee_usd, execution.symbol, contracts),
                    source="execution",
                    covers=(execution.execution_id,),
                    at_ns=execution.at_ns,
                )
            )
    return rows, foreign


def is_sell_out(order: BrokerOrder, context: Context) -> bool:
    """Whether another's order can be the broker's sell-out: it reduces what we hold and what expires in the hour."""
    if order.side is None or not _is_late(order.symbol, context.at_ns, context.table):
        return False
    held = sum(contracts for _, contracts in holders(context, order.symbol, -order.side.sign))
    return order.qty - order.filled_qty <= held


def _is_late(symbol: str, at_ns: int, table: SessionTable) -> bool:
    if not is_option(symbol):
        return False
    end_ns = table.expiry_ns(parse_occ(symbol).expiry)
    return end_ns is not None and end_ns - SELL_OUT_NS <= at_ns <= end_ns


def _shared(
    execution: ExecutionReported, context: Context, taken: Mapping[tuple[str, str], int]
) -> list[tuple[str, int]]:
    """Trades that an execution reduces, with contracts; nothing when they do not hold all that it did."""
    wanted = int(execution.qty)
    rows = []
    for trade_id, qty in holders(context, execution.symbol, -execution.side.sign):
        share = min(wanted, qty - taken.get((trade_id, execution.symbol), 0))
        if share > 0:
            rows.append((trade_id, share))
            wanted -= share
    return rows if wanted == 0 and int(execution.qty) == execution.qty else []


def holders(context: Context, symbol: str, sign: int) -> list[tuple[str, int]]:
    """Open trades that are long (``sign`` 1) or short (−1) a symbol, in order of trade id, with contracts (> 0)."""
    legs = ((trade.trade_id, leg) for trade in context.ledger.open_trades() for leg in trade.legs)
    return [(trade_id, abs(leg.qty)) for trade_id, leg in legs if leg.symbol == symbol and leg.qty * sign > 0]
