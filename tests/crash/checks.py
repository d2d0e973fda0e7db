"""What must hold at every death and after every restart, against the exchange's own records. Pure.

Inputs: the exchange's orders, fills and account as they stand still, the store as a starting process reads it, what
the core held. Outputs: violations in words; empty is good.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from oracle.core.instruments import multiplier
from oracle.core.ledger import Ledger
from oracle.core.vocabulary import OrderState, Purpose
from oracle.execution.orders import TERMINAL
from oracle.sim.exchange import Exchange
from oracle.store.loading import Loaded

ZERO = Decimal(0)


class Fill(msgspec.Struct, frozen=True):
    """One execution by the exchange's FILL activity."""

    execution_id: str
    order_id: str
    symbol: str
    side: str
    contracts: int
    price_usd: Decimal


class Truth(msgspec.Struct, frozen=True):
    """The exchange's account at one moment."""

    at_ns: int
    cash_usd: Decimal
    positions: dict[str, int]
    fills: dict[str, Fill]
    orders: tuple[dict[str, Any], ...]
    fees_usd: Decimal

    @property
    def live(self) -> list[dict[str, Any]]:
        """Orders that can still fill."""
        return [order for order in self.orders if order["working"]]


def truth_of(exchange: Exchange) -> Truth:
    """Read the exchange itself: no request, no clock, nothing that the daemon's limits would notice."""
    fills = {}
    repeated = []
    for activity in exchange.account.activities:
        if activity.kind == "FILL":
            body, name = activity.body, activity.id.rpartition("::")[2]
            if name in fills:
                repeated.append(name)
            fills[name] = Fill(
                name, body["order_id"], body["symbol"], body["side"], int(body["qty"]), Decimal(body["price"])
            )
    assert not repeated, f"the exchange itself tells fills twice: {repeated}"
    orders = tuple(
        {
            "id": order.id, "client": order.client_order_id, "symbol": order.legs[0].line.symbol,
            "side": order.legs[0].side, "qty": order.qty, "filled": order.filled, "status": order.status,
            "working": order.working, "created_ns": order.created_ns, "ended_ns": max(order.stamps.values(), default=0),
        }
        for order in exchange.book.orders.values()
    )  # fmt: skip
    account = exchange.account
    return Truth(exchange.now_ns, account.cash_usd, account.quantities(), fills, orders, account.fees_usd)


def at_death(truth: Truth, books: Loaded) -> list[str]:
    """Orders and fills at the moment of a kill, when the daemon may lack news but must not have done wrong."""
    return [*_orders(truth, books), *_fills(truth, books), *_money(truth, books)]


def _orders(truth: Truth, books: Loaded) -> list[str]:
    out = []
    submits = {order.order_id: order for order in books.submits}
    recorded = {step.client_order_id for step in books.order_events}
    counts = Counter(order["client"] for order in truth.orders)
    out += [f"client order id {name} is at the exchange {n} times" for name, n in counts.items() if n > 1]
    out += [f"order {name} is at the exchange and not in the store" for name in counts if name not in recorded]
    by_order: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for order in truth.orders:
        by_order[order["client"].rpartition("-")[0]].append(order)
    live_of_trade: dict[str, list[str]] = defaultdict(list)
    for order_id, attempts in by_order.items():
        if (command := submits.get(order_id)) is None:
            continue
        filled = sum(a["filled"] for a in attempts)
        if filled > command.contracts:
            out.append(f"order {order_id}: {filled} filled of {command.contracts} commanded")
        out += _overlaps(order_id, attempts)
        live_of_trade[command.trade_id] += [a["client"] for a in attempts if a["working"]]
    out += [f"trade {trade}: {names} live together" for trade, names in live_of_trade.items() if len(names) > 1]
    entries = Counter(order.decision_id for order in books.submits if order.purpose is Purpose.ENTRY)
    out += [f"decision {name} has {n} entry orders" for name, n in entries.items() if n > 1]
    intents = Counter(intent.intent_id for intent in books.intents)
    out += [f"intent {name} was stored {n} times" for name, n in intents.items() if n > 1]
    return out


def _overlaps(order_id: str, attempts: list[dict[str, Any]]) -> list[str]:
    ordered = sorted(attempts, key=lambda a: int(a["client"].rpartition("-")[2]))
    pairs = itertools.pairwise(ordered)
    return [
        f"order {order_id}: {later['client']} was made while {earlier['client']} lived"
        for earlier, later in pairs
        if earlier["working"] or earlier["ended_ns"] > later["created_ns"]
    ]


def _fills(truth: Truth, books: Loaded) -> list[str]:
    out = [f"execution {f.execution_id} of {f.client_order_id} is foreign" for f in books.foreign]
    clients = {order["id"]: order["client"] for order in truth.orders}
    counts = Counter(fill.execution_id for fill in books.fills)
    out += [f"fill {name} is booked {n} times" for name, n in counts.items() if n > 1]
    for fill in books.fills:
        real = truth.fills.get(fill.execution_id)
        if real is None:
            out.append(f"fill {fill.execution_id} is booked and not at the exchange")
            continue
        ours = (fill.client_order_id, fill.symbol, fill.side.value, fill.contracts, fill.price_usd)
        theirs = (clients[real.order_id], real.symbol, real.side, real.contracts, real.price_usd)
        if ours != theirs:
            out.append(f"fill {fill.execution_id}: booked as {ours}, at the exchange {theirs}")
    sold: Counter[str] = Counter()
    for fill in books.fills:
        sold[fill.trade_id] += fill.side.sign * fill.contracts
    return out + [f"trade {trade}: {-n} more sold than bought" for trade, n in sold.items() if n < 0]


def _money(truth: Truth, books: Loaded) -> list[str]:
    """The ledger with what it has not heard of yet equals the exchange, to the cent."""
    ledger = ledger_of(books)
    if not ledger.seeded:
        return []
    booked = {fill.execution_id for fill in books.fills}
    missing = [fill for name, fill in truth.fills.items() if name not in booked]
    cash, positions = ledger.cash_usd, {p.symbol: p.qty for p in ledger.positions()}
    for fill in missing:
        signed = fill.contracts if fill.side == "buy" else -fill.contracts
        cash -= signed * fill.price_usd * multiplier(fill.symbol)
        positions[fill.symbol] = positions.get(fill.symbol, 0) + signed
    known = sum((fee.amount_usd for fee in _fees(books)), ZERO)
    cash -= truth.fees_usd - known
    out = []
    if cash != truth.cash_usd:
        out.append(f"cash: {cash} USD by the ledger and the fills to come, {truth.cash_usd} USD at the exchange")
    held = {symbol: n for symbol, n in positions.items() if n}
    if held != truth.positions:
        out.append(f"positions: {held} by the ledger and the fills to come, {truth.positions} at the exchange")
    return out


def _fees(books: Loaded) -> Iterable[Any]:
    return (message for message in books.books if type(message).__name__ == "FeeCharged")


def ledger_of(books: Loaded) -> Ledger:
    """The ledger that a start would fold."""
    ledger = Ledger()
    ledger.restore(books.books)
    return ledger


def learnt(seen: Mapping[str, Fill], books: Loaded) -> list[str]:
    """A daemon that was ready knows every fill of before its start."""
    booked = {fill.execution_id for fill in books.fills}
    return [f"fill {name} of before the start was not booked by the time it was ready" for name in seen.keys() - booked]


def at_end(truth: Truth, books: Loaded) -> list[str]:
    """After the last bell nothing is left, and every figure is equal."""
    out = at_death(truth, books)
    booked = {fill.execution_id for fill in books.fills}
    out += [f"fill {name} of the exchange is not booked" for name in truth.fills.keys() - booked]
    ledger = ledger_of(books)
    if not ledger.seeded or ledger.cash_usd != truth.cash_usd:
        out.append(f"final cash: {ledger.cash_usd if ledger.seeded else None} and {truth.cash_usd} at the exchange")
    out += [f"order {order.order_id} has no end" for order in books.working]
    out += [f"order {order['client']} still lives at the exchange" for order in truth.live]
    ended = {trade.trade_id for trade in books.closed}
    out += [f"trade {t.trade_id} never closed" for t in books.opened if t.trade_id not in ended]
    return out


def differences(before: Mapping[str, Any], after: Mapping[str, Any], what: str) -> list[str]:
    """Compare two memories key by key."""
    return [
        f"{what}: {key} was {before.get(key)}, is {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


class Held(msgspec.Struct, frozen=True):
    """What a kill struck."""

    working: int
    trades: int
    unknown: int
    latches: int
    live: int


def struck(truth: Truth, books: Loaded) -> Held:
    """Count what was going on when the daemon died."""
    states = {step.client_order_id: step.to_state for step in books.order_events}
    over = {end.order_id for end in books.order_ends}
    doubtful = {OrderState.SENT, OrderState.UNKNOWN}
    unknown = sum(state in doubtful and c.rpartition("-")[0] not in over for c, state in states.items())
    alive = sum(state not in TERMINAL for state in states.values())
    closed = Counter(trade.trade_id for trade in books.closed)
    open_trades = sum((Counter(trade.trade_id for trade in books.opened) - closed).values())
    latches = sum(latch.active for latch in books.latches)
    return Held(max(len(books.working), alive), open_trades, unknown, latches, len(truth.live))


def restored(books: Loaded, born: Mapping[str, Any]) -> list[str]:
    """A restarted core's latches, plans and positions against the store's own rows, folded here once more."""
    ledger = ledger_of(books)
    submits = {order.trade_id: order for order in books.submits if order.purpose is Purpose.ENTRY}
    trades = {trade.trade_id: trade for trade in ledger.open_trades()}
    plain = msgspec.json.decode(msgspec.json.encode({t: submits[t].exit_plan for t in trades}))
    expected = {
        "latches": {latch.latch: latch.until_date for latch in books.latches if latch.active},
        "positions": {p.symbol: p.qty for p in ledger.positions()},
        "plans": {t: [plain[t], view.contracts_open] for t, view in trades.items()},
    }
    found = {
        "latches": born["latches"],
        "positions": born["positions"],
        "plans": {t: [held["plan"], held["open"]] for t, held in born["trades"].items()},
    }
    return differences(expected, found, "restored from the store")
