"""Two trades that share contracts in random weather: no exit may uncover a short, and in the end all is closed.

Legs lose quotes, exits fill in part or unevenly, are refused or taken back, the broker sells legs out, assigns and
exercises, and the gate is built anew from what a store keeps. The books are real; the test is the broker.
"""

from collections import Counter
from random import Random
from typing import Any

import pytest

from oracle.core.instruments import is_option, parse_occ
from oracle.core.marketdata import FeedChanged, Quote
from oracle.core.message import Message
from oracle.core.messages import (
    ExitPlanAdvanced,
    ExitTriggered,
    Intent,
    LatchChanged,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    SessionOpened,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.ports import OptionQuote
from oracle.core.structures import legs_of
from oracle.core.vocabulary import Ending, Feed, FeedState, Purpose
from oracle.risk.gate import Gate
from oracle.risk.stored import Stored
from tests.unit.builders import TABLE, account, chain_quotes, gate_settings, of
from tests.unit.structures_house import QUOTES, StructureHouse, condor, condor_plan

SEEDS = range(60)
STEPS = 30


def naked(held: dict[str, int]) -> int:
    """Short options that no long option of the same right covers."""
    total = 0
    for is_call in (True, False):
        total += max(-sum(q for s, q in held.items() if is_option(s) and parse_occ(s).is_call is is_call), 0)
    return total


class Recorded(StructureHouse):
    """A house that also remembers what it was told, as a store would."""

    def __init__(self, cash: str) -> None:
        self.heard: list[Message] = []
        super().__init__(cash)

    def tell(self, message: Any, after_s: float = 0) -> list[Message]:
        self.heard.append(message)
        return super().tell(message, after_s)


class Storm:
    """One seed's weather over a house with two condors of the same contracts."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.house = Recorded("400000")
        self.seen = 0
        self.restarts = 0
        for n, strategy in enumerate(("breakout", "scalp"), 1):
            wish = condor(n, strategy=strategy, intent_id=f"{strategy}:2026-01-05:SPY:{n}", exit_plan=condor_plan())
            order = of(SubmitOrder, self.house.tell(wish))[0]
            self.house.done(order, ("0.70", "0.20", "0.20", "0.70"), units=self.random.randint(1, order.contracts))
        self.check()

    def held(self, trade_id: str) -> dict[str, int]:
        trade = self.house.ledger.trade(trade_id)
        return {} if trade is None else {leg.symbol: leg.qty for leg in trade.legs}

    def check(self) -> None:
        """Judge every exit that has left since the last look by what its whole units would leave."""
        orders = self.house.orders()
        for order in orders[self.seen :]:
            if order.purpose is Purpose.ENTRY:
                continue
            before = self.held(order.trade_id)
            for units in range(1, order.contracts + 1):
                after = dict(before)
                for leg in legs_of(order.symbol):
                    change = order.side.sign * leg.signed * units
                    after[leg.symbol] = after.get(leg.symbol, 0) + change
                    assert after[leg.symbol] * before[leg.symbol] >= 0, f"{order} closes more than {before}"
                    assert change * before[leg.symbol] < 0, f"{order} opens against {before}"
                assert naked(after) <= naked(before), f"{order} uncovers {before}"
        self.seen = len(orders)
        working = Counter(order.trade_id for order in self.house.open_orders())
        assert all(count == 1 for count in working.values()), working

    def weather(self) -> None:
        """Quote each leg anew: as usual, far away, on one side, on none, crossed, or not at all."""
        for symbol, (bid, ask) in QUOTES.items():
            scale = self.random.choice((0.05, 0.4, 1.0, 1.0, 5.0))
            sides = (round(bid * scale, 2), round(ask * scale, 2))
            kind = self.random.random()
            if kind < 0.15:
                continue
            quote: tuple[float | None, float | None] = (
                sides if kind < 0.7 else (None, sides[1]) if kind < 0.85 else (0.0, sides[1])
            )
            quote = (sides[0], None) if kind > 0.95 else quote
            self.house.chains.quotes[symbol] = OptionQuote(symbol, quote[0], 9, quote[1], 9, *(self.house.at_ns,) * 2)
            self.house.chains.deltas[symbol] = self.random.choice((None, 0.1, 0.2, 0.5))
        self.house.tell(Quote("SPY", self.house.at_ns, 599.9, 1, 600.1, 1))
        self.house.tell(chain_quotes())

    def end_order(self, calm: bool = False) -> None:
        """Let one working order end: filled, in part, unevenly, refused or taken back."""
        orders = self.house.open_orders()
        if not orders:
            return
        order = self.random.choice(orders)
        held = self.held(order.trade_id)
        legs = legs_of(order.symbol)
        # The broker closes no more than is held.
        most = min([order.contracts, *(abs(held.get(leg.symbol, 0)) // leg.ratio for leg in legs)])
        kind = 1.0 if calm else self.random.random()
        if most == 0 or kind < 0.2:
            self.house.done(order, units=0, end="rejected: not now" if kind < 0.1 or most == 0 else "window")
        elif kind < 0.3 and len(legs) > 1:
            only = [leg.symbol for leg in legs if self.random.random() < 0.5]
            self.house.done(order, units=self.random.randint(1, most), end="canceled: torn", only=only)
        elif kind < 0.6:
            self.house.done(order, units=self.random.randint(1, most), end="window")
        else:
            self.house.done(order, units=most)

    def broker(self) -> None:
        """Let a leg end without an order of ours."""
        trades = self.house.ledger.open_trades()
        if not trades:
            return
        trade = self.random.choice(trades)
        legs = [leg for leg in trade.legs if is_option(leg.symbol)]
        if not legs:
            return
        leg = self.random.choice(legs)
        contracts = self.random.randint(1, abs(leg.qty))
        if self.random.random() < 0.5:
            self.house.settle(trade.trade_id, leg.symbol, contracts, Ending.SOLD_OUT, "0.30")
            return
        contract = parse_occ(leg.symbol)
        sign = (1 if leg.qty > 0 else -1) * (1 if contract.is_call else -1)
        ending = Ending.EXERCISED if leg.qty > 0 else Ending.ASSIGNED
        self.house.settle(
            trade.trade_id, leg.symbol, contracts, ending, shares=100 * contracts * sign,
            share_price=str(contract.strike_usd),
        )  # fmt: skip

    def report(self) -> None:
        """The account, as the books have it."""
        house = self.house
        positions = tuple(house.position(p.symbol, p.qty) for p in house.ledger.positions())
        house.tell(account(house.at_ns, str(house.ledger.cash_usd), positions=positions))

    def restart(self) -> None:
        """Build the gate anew from what it has said."""
        self.restarts += 1
        said, heard = self.house.all, self.house.heard
        gate = Gate(gate_settings(next_sequence=1000 * self.restarts))
        gate.restore(
            Stored(
                orders=of(SubmitOrder, said), advanced=of(OrderAdvanced, said),
                fills=of(OrderFilled, heard), ended=of(OrderClosed, heard), intents=of(Intent, heard),
                opened=of(TradeOpened, said), closed=of(TradeClosed, said),
                plans=of(ExitPlanAdvanced, said), exits=of(ExitTriggered, said), latches=of(LatchChanged, said),
            )
        )  # fmt: skip
        self.house.gate = gate
        handlers = self.house.engine.bus._handlers
        for kind, handler in gate.handlers():
            others = [h for h in handlers[kind] if not isinstance(getattr(h, "__self__", None), Gate)]
            handlers[kind] = [*others, handler]
        first = TABLE.sessions[0]
        self.house.tell(SessionOpened(first.date, first.open_ns, first.close_ns))
        for feed in Feed:
            self.house.tell(FeedChanged(feed, self.restarts + 1, FeedState.LIVE, "connected"))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_exit_uncovers_a_short_and_in_the_end_all_is_closed(seed: int) -> None:
    storm = Storm(seed)
    house = storm.house
    acts = (storm.weather, storm.weather, storm.end_order, storm.broker, storm.report)
    for _ in range(STEPS):
        storm.random.choice(acts)()
        storm.check()
        if storm.random.random() < 0.05:
            storm.restart()
        house.wait(storm.random.choice((0.001, 1, 3, 20, 61)))
        storm.check()
    # Then the weather is fine, the broker does what it is asked, and somebody wants all of it flat.
    house.at_ns = max(house.at_ns, condor_plan().flat_ns)
    for _ in range(12):
        house.requote()
        storm.check()
        storm.end_order(calm=True)
        storm.check()
        storm.report()
        house.wait(61)
    assert house.ledger.open_trades() == ()
    assert house.ledger.positions() == []
    assert house.gate._exits.watches == {}
