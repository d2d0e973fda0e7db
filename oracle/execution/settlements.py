"""What ended without an order of ours: noticed from the broker's positions, or from its activities, and told once.

Inputs: account reports that hold no fill we have not booked, the ledger's view, others' executions that it does not
hold. Output: PositionSettled for open trades, in order of trade id. Invariants: only a real difference of positions is
settled, so nothing is booked twice; what somebody closed by hand has not ended; an activity that comes later is matched
to what positions had told; what the figures leave open stays a difference.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from oracle.core.instruments import CONTRACT_MULTIPLIER, is_option, multiplier, parse_occ
from oracle.core.messages import ForeignExecution, PositionSettled
from oracle.core.money import ZERO
from oracle.core.ports import Context
from oracle.core.reports import AccountReported, BrokerSettlement
from oracle.core.sessions import MINUTE_NS
from oracle.core.vocabulary import Ending
from oracle.execution.endings import DELIVERED, Gone, delivered, holders, is_over, is_possible

ENDING_OF: Final[Mapping[str, Ending]] = MappingProxyType(
    {
        "OPEXP": Ending.EXPIRED,
        "OPASN": Ending.ASSIGNED,
        "OPEXC": Ending.EXERCISED,
        "OPCSH": Ending.CASH_SETTLED,
    }
)
"""Activities that end contracts. OPTRD is the shares' side of an assignment or exercise and ends nothing itself."""

SETTLEMENT_KINDS: Final = frozenset({*ENDING_OF, "OPTRD"})
# A price of the underlying from later than this after the close says nothing about an expiry.
CLOSING_PRICE_NS: Final = 15 * MINUTE_NS
# The official close can differ from the last quote by this fraction of the strike.
NEAR_THE_MONEY: Final = 0.0025


@dataclass(slots=True)
class _Evidence:
    """What is left of one activity: contracts that it ended and that are not booked, and a price each."""

    activity_id: str
    contracts: int
    price_usd: Decimal


@dataclass(slots=True, frozen=True)
class _Ended:
    """Contracts of one symbol that ended in one way."""

    row: Gone
    ending: Ending
    contracts: int
    price_usd: Decimal
    covers: tuple[str, ...]

    @property
    def shares(self) -> int:
        return self.row.shares_each * self.contracts if self.ending in DELIVERED else 0

    @property
    def cash_usd(self) -> Decimal:
        paid = self.row.sign * self.contracts * self.price_usd * CONTRACT_MULTIPLIER
        return paid - self.shares * self.row.contract.strike_usd

    @property
    def is_plausible(self) -> bool:
        return self.row.in_the_money is None or (self.ending is not Ending.EXPIRED) is self.row.in_the_money


class Settlements:
    """The memory of what has ended. The reconciler owns it, so that it compares with what this settles."""

    __slots__ = ("_evidence", "_known", "_numbers", "_unmatched")

    def __init__(self) -> None:
        self._known: set[str] = set()
        # Contracts that were settled from positions and whose activities have not been seen.
        self._unmatched: Counter[tuple[str, Ending]] = Counter()
        self._evidence: dict[tuple[str, Ending], list[_Evidence]] = {}
        self._numbers: Counter[tuple[str, str, Ending]] = Counter()

    def restore(self, settled: Iterable[PositionSettled]) -> None:
        """Rebuild from stored facts, in order of commit."""
        for row in settled:
            self._note(row)

    def settle(
        self,
        report: AccountReported,
        context: Context,
        comparable: bool,
        others: Sequence[ForeignExecution] = (),
        transfers: Sequence[Decimal] = (ZERO,),
    ) -> list[PositionSettled]:
        """Tell what has ended by a report that was read well and holds no fill of ours that is not in the books.

        Args:
            report: the account.
            context: the books.
            comparable: whether no order of ours is working, so that cash can be compared.
            others: executions of others that the books do not hold; the account does.
            transfers: what listed transfers that are not booked can have done to cash, each sum in dollars.
        """
        self._hear(report.settlements)
        gone = gone_contracts(report, context, others)
        if not gone or report.cash_usd is None:
            return []
        shares = _share_changes(gone, report, context, others)
        if shares is None:
            return []
        paid = sum((e.side.sign * e.qty * e.price_usd * multiplier(e.symbol) for e in others), ZERO)
        change = report.cash_usd - context.ledger.cash_usd + paid
        cash: list[Decimal | None] = [change - moved for moved in transfers] if comparable else [None]
        rows = self._shared(self._read(gone, shares, cash), context)
        for row in rows:
            self._note(row)
        return rows

    def _note(self, settled: PositionSettled) -> None:
        key = (settled.symbol, settled.ending)
        self._numbers[settled.trade_id, settled.symbol, settled.ending] += 1
        self._known.update(settled.covers)
        if settled.source == "positions":
            self._unmatched[key] += settled.contracts
        for found in self._evidence.get(key, ()):
            if found.activity_id in settled.covers:
                found.contracts -= settled.contracts
        self._evidence[key] = [found for found in self._evidence.get(key, ()) if found.contracts > 0]

    # ------------------------------------------------------------------------------------------------- evidence

    def _hear(self, activities: Iterable[BrokerSettlement]) -> None:
        """Take up activities that are new; what positions had told of them before is only confirmed."""
        for activity in sorted(activities, key=lambda a: a.activity_id):
            ending, contracts = ENDING_OF.get(activity.kind), abs(int(activity.qty))
            if ending is None or contracts == 0 or activity.activity_id in self._known:
                continue
            self._known.add(activity.activity_id)
            key = (activity.symbol, ending)
            confirmed = min(contracts, self._unmatched[key])
            self._unmatched[key] -= confirmed
            if contracts > confirmed:
                found = _Evidence(activity.activity_id, contracts - confirmed, _price_of(activity, contracts))
                self._evidence.setdefault(key, []).append(found)

    def _told(self, row: Gone) -> list[_Ended]:
        """What activities say of contracts that are gone, no more than are."""
        out: list[_Ended] = []
        left = row.contracts
        for ending in Ending:
            if ending in DELIVERED and ending is not row.delivery:
                continue
            for found in self._evidence.get((row.symbol, ending), ()):
                contracts = min(left, found.contracts)
                if contracts > 0:
                    out.append(_Ended(row, ending, contracts, found.price_usd, (found.activity_id,)))
                    left -= contracts
        return out

    # -------------------------------------------------------------------------------------------------- reading

    def _read(self, gone: Sequence[Gone], shares: Mapping[str, int], cash: Sequence[Decimal | None]) -> list[_Ended]:
        """What the figures prove: of all underlyings together, else of each whose activities tell everything.

        ``cash`` are the changes, in dollars, that endings can have made of it. Where there are several, one reading of
        all must fit, or one that the prices of the close do not contradict.
        """
        told = {row.symbol: self._told(row) for row in gone}
        readings: list[list[_Ended]] = []
        unclear = False
        for cash_usd in cash:
            everything = _resolved(gone, told, shares, cash_usd)
            if everything is None:
                unclear |= len(cash) > 1 and is_possible(gone, shares, cash_usd)
            elif everything not in readings:
                readings.append(everything)
        if len(readings) > 1:
            readings = [reading for reading in readings if all(part.is_plausible for part in reading)]
        if len(readings) == 1 and not unclear:
            return readings[0]
        out: list[_Ended] = []
        for root in sorted({row.contract.root for row in gone}):
            rows = [row for row in gone if row.contract.root == root]
            out += _resolved(rows, told, shares, None) or []
        return out

    # -------------------------------------------------------------------------------------------------- telling

    def _shared(self, ended: Sequence[_Ended], context: Context) -> list[PositionSettled]:
        """Share contracts among the trades that hold them, in order of trade id; none of a symbol held too little."""
        rows: list[PositionSettled] = []
        numbers = Counter(self._numbers)
        for symbol in sorted({part.row.symbol for part in ended}):
            parts = [part for part in ended if part.row.symbol == symbol]
            held = holders(context, symbol, parts[0].row.sign)
            if sum(qty for _, qty in held) < sum(part.contracts for part in parts):
                continue
            for part in parts:
                left = part.contracts
                while left > 0:
                    trade_id, qty = held.pop(0)
                    contracts = min(left, qty)
                    if qty > contracts:
                        held.insert(0, (trade_id, qty - contracts))
                    left -= contracts
                    numbers[trade_id, symbol, part.ending] += 1
                    number = numbers[trade_id, symbol, part.ending]
                    rows.append(_settled(part, trade_id, contracts, number, context.at_ns))
        return rows


def _settled(ended: _Ended, trade_id: str, contracts: int, number: int, at_ns: int) -> PositionSettled:
    symbol, contract = ended.row.symbol, ended.row.contract
    shares = contracts * ended.row.shares_each if ended.ending in DELIVERED else 0
    return PositionSettled(
        settlement_id=f"{trade_id}:{symbol}:{ended.ending.value}:{number}",
        trade_id=trade_id,
        ending=ended.ending,
        symbol=symbol,
        contracts=contracts,
        price_usd=ended.price_usd,
        shares_symbol=contract.root if shares != 0 else "",
        shares=shares,
        share_price_usd=contract.strike_usd if shares != 0 else None,
        fees_modelled_usd=ZERO,
        source="activities" if ended.covers else "positions",
        covers=ended.covers,
        at_ns=at_ns,
    )


def gone_contracts(report: AccountReported, context: Context, others: Sequence[ForeignExecution] = ()) -> list[Gone]:
    """Option contracts that the books hold and the broker holds fewer of, sorted by symbol.

    What others have closed of them is not gone but traded. Where they have added to them nothing is told.
    """
    broker = {position.symbol: position.qty for position in report.positions}
    traded = _net(others)
    out = []
    for position in context.ledger.positions():
        if not is_option(position.symbol):
            continue
        sign = 1 if position.qty > 0 else -1
        theirs, by_hand = broker.get(position.symbol, ZERO) * sign, traded.get(position.symbol, ZERO) * sign
        missing = abs(position.qty) + by_hand - theirs
        if by_hand > 0 or theirs < 0 or missing <= 0 or missing != int(missing):
            continue
        over = is_over(context.table, position.symbol, report.at_ns)
        out.append(Gone(position.symbol, sign, int(missing), over, _was_in_the_money(position.symbol, context)))
    return out


def _net(others: Iterable[ForeignExecution]) -> dict[str, Decimal]:
    net: dict[str, Decimal] = {}
    for execution in others:
        net[execution.symbol] = net.get(execution.symbol, ZERO) + execution.side.sign * execution.qty
    return net


def _was_in_the_money(symbol: str, context: Context) -> bool | None:
    """Whether a contract was clearly in the money at its close; None near the strike, or without a price of then."""
    contract = parse_occ(symbol)
    quote, end_ns = context.market.quote(contract.root), context.table.expiry_ns(contract.expiry)
    if quote is None or quote.mid is None or end_ns is None or abs(quote.quoted_ns - end_ns) > CLOSING_PRICE_NS:
        return None
    above = quote.mid - contract.strike if contract.is_call else contract.strike - quote.mid
    return None if abs(above) <= NEAR_THE_MONEY * contract.strike else above > 0


def _share_changes(
    gone: Iterable[Gone], report: AccountReported, context: Context, others: Sequence[ForeignExecution]
) -> dict[str, int] | None:
    """Shares that the broker has more (or less) of than books and others explain, of the underlyings of what is gone.

    None where a fraction of a share is unexplained: no contract brings one.
    """
    broker, traded = {position.symbol: position.qty for position in report.positions}, _net(others)
    out = {}
    for root in sorted({row.contract.root for row in gone}):
        change = broker.get(root, ZERO) - context.ledger.position(root) - traded.get(root, ZERO)
        if change != int(change):
            return None
        out[root] = int(change)
    return out


def _resolved(
    gone: Sequence[Gone], told: Mapping[str, list[_Ended]], shares: Mapping[str, int], cash_usd: Decimal | None
) -> list[_Ended] | None:
    """Take what activities tell as given and work the rest out from the figures; None when they do not fit."""
    given = [part for row in gone for part in told[row.symbol]]
    left = []
    for row in gone:
        known = sum(part.contracts for part in told[row.symbol])
        if known < row.contracts:
            left.append(Gone(row.symbol, row.sign, row.contracts - known, row.over, row.in_the_money))
    rest = {root: shares[root] for root in sorted({row.contract.root for row in gone})}
    for part in given:
        rest[part.row.contract.root] -= part.shares
    if not left:
        return given if not any(rest.values()) else None
    if any(rest[root] != 0 for root in rest.keys() - {row.contract.root for row in left}):
        return None
    early = {(row.contract.root, row.shares_each > 0) for row in left if not row.over}
    if len({root for root, _ in early}) < len(early):
        return None  # before the last close only shares prove an ending, and these would cancel each other out
    cash = None if cash_usd is None else cash_usd - sum((part.cash_usd for part in given), ZERO)
    counts = delivered(left, rest, cash)
    if counts is None:
        return None
    for row in left:
        brought = counts[row.symbol]
        for ending, contracts in ((row.delivery, brought), (Ending.EXPIRED, row.contracts - brought)):
            if contracts > 0:
                given.append(_Ended(row, ending, contracts, ZERO, ()))
    return given


def _price_of(activity: BrokerSettlement, contracts: int) -> Decimal:
    """Cash paid for each share of a contract that ended; nothing unless it was settled in cash."""
    if activity.kind != "OPCSH":
        return ZERO
    if activity.price_usd is not None:
        return activity.price_usd
    return (abs(activity.cash_usd) / (contracts * CONTRACT_MULTIPLIER)).quantize(Decimal("0.000001"))
