"""The end of a session: the broker's late sell-outs, day orders that expire, options that cease to exist.

Kept minimal until exercise and assignment exist: worthless contracts leave by OPEXP at zero; long contracts in the
money whose underlying has no short of the same expiry are sold by the broker at the bid from 15 minutes before the
close; what is still in the money at the close is settled in cash at intrinsic value
of the last underlying mark (OPCSH).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from oracle.core.instruments import OptionContract, is_option, parse_occ
from oracle.core.money import ZERO
from oracle.core.sessions import MINUTE_NS, Session
from oracle.sim.margin import intrinsic
from oracle.sim.shapes import make_id

if TYPE_CHECKING:
    from oracle.sim.exchange import Exchange

SELL_OUT_NS = 15 * MINUTE_NS


class SessionEnd:
    """What happens by the clock at the end of a session, once each."""

    __slots__ = ("_exchange", "_finished", "_sold")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._finished = ""
        self._sold: set[str] = set()

    def on_time(self, at_ns: int) -> None:
        """Act when the moment has come; cheap when it has not."""
        session = self._exchange.session
        if at_ns < session.close_ns - SELL_OUT_NS:
            return
        if at_ns >= session.close_ns:
            self.finish(session)
        elif self._exchange.account.positions:
            self._sell_out(session)

    def finish(self, session: Session) -> None:
        """Expire day orders, settle expired options and close the account's day; once per session."""
        if self._finished == session.date:
            return
        self._finished = session.date
        self._sold.clear()
        exchange = self._exchange
        for order in list(exchange.book.working.values()):
            if order.expires_ns <= exchange.now_ns:
                exchange.fills.apply(order, "expired")
        for symbol, contract in self._expiring(session):
            self._settle(symbol, contract)
        exchange.valuation.close_day()
        exchange.account.equity_history.append((session.close_ns, exchange.account.last_equity_usd))

    def _expiring(self, session: Session) -> list[tuple[str, OptionContract]]:
        held = sorted(s for s in self._exchange.account.positions if is_option(s))
        return [(s, parse_occ(s)) for s in held if self._is_last_day(parse_occ(s).expiry, session)]

    def _is_last_day(self, expiry: str, session: Session) -> bool:
        if expiry <= session.date:
            return True
        last = self._exchange.table.last_trading(expiry)
        return last is not None and last.date <= session.date

    def _value(self, contract: OptionContract) -> Decimal | None:
        spot = self._exchange.valuation.mark(contract.root)
        return None if spot is None else intrinsic(contract, spot)

    def _sell_out(self, session: Session) -> None:
        expiring = self._expiring(session)
        account = self._exchange.account
        short = {(c.root, c.expiry) for s, c in expiring if account.quantity(s) < 0}
        for symbol, contract in expiring:
            if symbol in self._sold or (contract.root, contract.expiry) in short:
                continue
            value = self._value(contract)
            if value is None or value <= ZERO:
                continue
            self._sold.add(symbol)
            for order in list(self._exchange.book.working.values()):
                if order.held_units(symbol, -1):
                    self._exchange.fills.apply(order, "canceled")
            self._exchange.sell_out(symbol, account.quantity(symbol), session.date)

    def _settle(self, symbol: str, contract: OptionContract) -> None:
        exchange = self._exchange
        value = self._value(contract)
        if value is None:  # no price of the underlying was ever known: the position stays, visible, for the operator
            return
        quantity = exchange.account.quantity(symbol)
        cash = exchange.account.settle(symbol, value)
        kind, words = ("OPEXP", "Option Expiry") if value <= ZERO else ("OPCSH", "Option cash settlement")
        id_text = make_id(exchange.space, kind, f"{symbol}/{exchange.session.date}")
        price = None if value <= ZERO else value
        exchange.account.record_event(
            kind,
            exchange.now_ns,
            id_text,
            net_usd=cash,
            description=words,
            symbol=symbol,
            quantity=-quantity,
            price=price,
        )
