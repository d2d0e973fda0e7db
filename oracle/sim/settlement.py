"""How options end: sell-outs before the close, exercise, assignment and expiry at it, early assignment before the open.

Inputs: positions, prices, the switches of ``Behaviour``. Outputs: changed positions and cash, at once, and non-trade
activities, at once or on the next trading day. Invariants: cash changes by exactly shares x strike; a contract ends
once; what the dice decide depends on (seed, contract, date) alone.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from oracle.core.instruments import OptionContract, is_option, parse_occ
from oracle.core.money import ZERO
from oracle.core.sessions import MINUTE_NS, Session
from oracle.sim.expiring import is_exercised, is_last_day, not_carried, shares_of
from oracle.sim.margin import intrinsic
from oracle.sim.noise import key
from oracle.sim.shapes import make_id

if TYPE_CHECKING:
    from oracle.sim.exchange import Exchange

SELL_OUT_NS = 15 * MINUTE_NS
CENT = Decimal("0.01")
NO_TIME_VALUE_USD = Decimal("0.05")
"""A mark this near to intrinsic value: whoever holds the contract gains nothing by waiting."""
WORDS = {
    "OPEXP": "Option Expiry",
    "OPEXC": "Option Exercise",
    "OPASN": "Option Assignment",
    "OPTRD": "Option Trade",
    "OPCSH": "Option cash settlement",
    "DIV": "Cash dividend",
}


class SessionEnd:
    """What happens to options by the clock, once each."""

    __slots__ = ("_exchange", "_finished", "_looked", "_sold")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._finished = ""
        self._looked = -1
        self._sold: set[str] = set()

    def on_time(self, at_ns: int) -> None:
        """Act when the moment has come; cheap when it has not."""
        session = self._exchange.session
        if at_ns < session.close_ns - SELL_OUT_NS:
            return
        if at_ns >= session.close_ns:
            self.finish(session)
        elif self._exchange.account.positions and self._looked != at_ns // MINUTE_NS:
            first = self._looked < (session.close_ns - SELL_OUT_NS) // MINUTE_NS
            self._looked = at_ns // MINUTE_NS
            self._before_close(session, first)

    # -- before the open ----------------------------------------------------------------------------------------

    def begin(self, session: Session) -> None:
        """Assign shorts that were exercised overnight and pay dividends, before a session's open.

        Assignments come first: whoever exercised the evening before an ex-date did so to have the shares on it.
        """
        behaviour = self._exchange.config.behaviour
        if behaviour.early_assignment > 0:
            for symbol in sorted(s for s, q in self._exchange.account.quantities().items() if q < 0 and is_option(s)):
                self._assign_early(symbol, session)
        if behaviour.dividends:
            self._pay_dividends(session)

    def _pay_dividends(self, session: Session) -> None:
        exchange = self._exchange
        for symbol, quantity in sorted(exchange.account.quantities().items()):
            amount = exchange.config.behaviour.dividends.get(symbol, {}).get(session.date)
            if amount is not None:
                paid = (amount * quantity).quantize(CENT)
                exchange.account.cash_usd += paid
                self._tell("DIV", symbol, quantity, net_usd=paid)

    def _assign_early(self, symbol: str, session: Session) -> None:
        exchange, contract = self._exchange, parse_occ(symbol)
        spot, mark = exchange.valuation.mark(contract.root), exchange.valuation.mark(symbol)
        if spot is None or mark is None or not is_exercised(contract, spot):
            return
        behaviour = exchange.config.behaviour
        dividend = behaviour.dividends.get(contract.root, {}).get(session.date, ZERO) if contract.is_call else ZERO
        if mark - intrinsic(contract, spot) > max(dividend, NO_TIME_VALUE_USD):
            return
        if self._draw("early", symbol) >= behaviour.early_assignment:
            return
        held = -exchange.account.quantity(symbol)
        whole = self._draw("early whole", symbol) < 0.5
        quantity = held if whole else 1 + int(self._draw("early part", symbol) * held)
        exchange.cancel_closing(symbol)
        self._deliver("OPASN", symbol, contract, -min(quantity, held))

    # -- before the close ---------------------------------------------------------------------------------------

    def _before_close(self, session: Session, first: bool) -> None:
        exchange, behaviour = self._exchange, self._exchange.config.behaviour
        expiring = {s: c for s, c in self._expiring(session) if c.root not in behaviour.cash_settled_roots}
        spots = self._spots(expiring)
        expiring = {s: c for s, c in expiring.items() if c.root in spots and s not in self._sold}
        if not expiring:
            return
        if first and behaviour.pin_risk_sell_out > 0:
            self._take_a_leg(session, expiring)
            expiring = {s: c for s, c in expiring.items() if s not in self._sold}
        if behaviour.sell_out and behaviour.exercise:
            account = exchange.account
            closing = not_carried(
                account.quantities(),
                {s: c for s, c in expiring.items() if s in account.positions},
                cash_usd=account.cash_usd,
                spots=spots,
                marks=exchange.valuation.marks(),
            )
            for symbol in closing:
                self._close_out(symbol, session)

    def _take_a_leg(self, session: Session, expiring: dict[str, OptionContract]) -> None:
        """Close one leg of each structure that the dice choose: legs long and short of one underlying and expiry."""
        groups: dict[tuple[str, str], list[str]] = {}
        for symbol, contract in expiring.items():
            groups.setdefault((contract.root, contract.expiry), []).append(symbol)
        for (root, expiry), symbols in sorted(groups.items()):
            signs = {self._exchange.account.quantity(s) > 0 for s in symbols}
            name = f"{root}{expiry}"
            if len(signs) == 2 and self._draw("pin", name) < self._exchange.config.behaviour.pin_risk_sell_out:
                symbol = sorted(symbols)[int(self._draw("pin leg", name) * len(symbols))]
                self._close_out(symbol, session)

    def _close_out(self, symbol: str, session: Session) -> None:
        self._sold.add(symbol)
        self._exchange.sell_out(symbol, abs(self._exchange.account.quantity(symbol)), session.date)

    # -- at the close -------------------------------------------------------------------------------------------

    def finish(self, session: Session) -> None:
        """Expire day orders and those in contracts that end, end options, close the account's day; once per session."""
        if self._finished == session.date:
            return
        self._finished = session.date
        exchange = self._exchange
        for order in list(exchange.book.working.values()):
            ends = any(
                is_option(line.symbol) and self._is_last_day(parse_occ(line.symbol).expiry, session)
                for line in order.lines
            )
            if ends or order.expires_ns <= exchange.now_ns:
                exchange.fills.apply(order, "expired")
        self._end_options(session)
        self._sold.clear()
        for symbol in exchange.account.positions:
            if is_option(symbol):
                exchange.valuation.mark(parse_occ(symbol).root)  # remembered: the night asks for it
        exchange.valuation.close_day()
        exchange.account.equity_history.append((session.close_ns, exchange.account.last_equity_usd))

    def _end_options(self, session: Session) -> None:
        exchange, behaviour = self._exchange, self._exchange.config.behaviour
        # Without a price of the underlying a position stays, visible, for the operator.
        everything = dict(self._expiring(session))
        spots = self._spots(everything)
        everything = {s: c for s, c in everything.items() if c.root in spots}
        in_shares = {
            s: c for s, c in everything.items() if behaviour.exercise and c.root not in behaviour.cash_settled_roots
        }
        account = exchange.account
        lapse = not_carried(
            account.quantities(), in_shares, cash_usd=account.cash_usd, spots=spots, marks=exchange.valuation.marks()
        )
        for symbol, contract in everything.items():
            spot, quantity = spots[contract.root], account.quantity(symbol)
            if symbol not in in_shares and intrinsic(contract, spot) > ZERO:
                cash = account.settle(symbol, intrinsic(contract, spot))
                self._tell("OPCSH", symbol, -quantity, net_usd=cash, price=intrinsic(contract, spot))
            elif not is_exercised(contract, spot) or (quantity > 0 and symbol in lapse):
                account.settle(symbol, ZERO)
                self._tell("OPEXP", symbol, -quantity)
            else:
                self._deliver("OPEXC" if quantity > 0 else "OPASN", symbol, contract, quantity)

    def _deliver(self, kind: str, symbol: str, contract: OptionContract, quantity: int) -> None:
        """End ``quantity`` signed contracts in shares at the strike; shares held the other way are closed by it."""
        account, shares = self._exchange.account, shares_of(contract, quantity)
        account.remove(symbol, abs(quantity))
        account.trade(contract.root, 1 if shares > 0 else -1, abs(shares), contract.strike_usd, ZERO)
        self._tell(kind, symbol, -quantity)
        cash = -shares * contract.strike_usd
        self._tell("OPTRD", contract.root, shares, net_usd=cash, price=contract.strike_usd)

    # -- shared -------------------------------------------------------------------------------------------------

    def _expiring(self, session: Session) -> list[tuple[str, OptionContract]]:
        held = sorted(s for s in self._exchange.account.positions if is_option(s))
        return [(s, parse_occ(s)) for s in held if self._is_last_day(parse_occ(s).expiry, session)]

    def _is_last_day(self, expiry: str, session: Session) -> bool:
        return is_last_day(expiry, session, self._exchange.table)

    def _spots(self, contracts: dict[str, OptionContract]) -> dict[str, Decimal]:
        """Marks of the contracts' underlyings that have one."""
        found = {root: self._exchange.valuation.mark(root) for root in sorted({c.root for c in contracts.values()})}
        return {root: spot for root, spot in found.items() if spot is not None}

    def _draw(self, what: str, name: str) -> float:
        """A number in [0, 1) of the seed, the date and the name."""
        return key(self._exchange.config.seed, what, self._exchange.session.date, name) / 2**64

    def _tell(
        self,
        kind: str,
        symbol: str,
        quantity: int,
        *,
        net_usd: Decimal = ZERO,
        price: Decimal | None = None,
    ) -> None:
        """Record an activity, now or on the next trading day."""
        exchange = self._exchange
        number = len(exchange.account.activities) + len(exchange.account.unlisted)
        due_ns = exchange.now_ns
        if exchange.config.behaviour.activities_next_day:
            following = exchange.table.after(exchange.session.date)
            due_ns = exchange.now_ns if following is None else exchange.starts_ns(following)
        exchange.account.record_event(
            kind,
            exchange.now_ns,
            make_id(exchange.space, kind, f"{symbol}/{exchange.session.date}/{number}"),
            net_usd=net_usd,
            description=WORDS[kind],
            symbol=symbol,
            quantity=quantity,
            price=price,
            due_ns=due_ns,
        )
