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
from oracle.core.messages import CashTransferred
from oracle.core.structures import legs_of
from oracle.core.vocabulary import Ending, OrderState, Purpose
from oracle.execution.orders import TERMINAL
from oracle.sim.exchange import Exchange
from oracle.store.loading import Loaded

ZERO = Decimal(0)
SETTLEMENTS = frozenset({"OPEXP", "OPEXC", "OPASN", "OPTRD", "OPCSH"})
TRANSFERS = frozenset({"CSD", "CSW", "JNLC", "ACATC", "INT"})


class Fill(msgspec.Struct, frozen=True):
    """One execution by the exchange's FILL activity."""

    execution_id: str
    order_id: str
    symbol: str
    side: str
    contracts: int
    price_usd: Decimal


class Settlement(msgspec.Struct, frozen=True):
    """What the exchange did to a position by itself: signed change of a symbol and of cash."""

    symbol: str
    quantity: int
    cash_usd: Decimal


class Truth(msgspec.Struct, frozen=True):
    """The exchange's account at one moment."""

    at_ns: int
    cash_usd: Decimal
    positions: dict[str, int]
    fills: dict[str, Fill]
    orders: tuple[dict[str, Any], ...]
    fees_usd: Decimal
    settlements: tuple[Settlement, ...] = ()
    transfers_usd: Decimal = ZERO

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
            "id": order.id, "legs": [leg.id for leg in order.legs], "client": order.client_order_id,
            "symbol": "/".join(leg.line.symbol for leg in order.legs), "side": order.legs[0].side,
            "qty": order.qty, "filled": order.filled, "status": order.status,
            "working": order.working, "created_ns": order.created_ns, "ended_ns": max(order.stamps.values(), default=0),
        }
        for order in exchange.book.orders.values()
        if order.source is None  # else the broker's own, which sells what it will not let expire
    )  # fmt: skip
    account = exchange.account
    # Those that the account does not list before the next day have happened all the same.
    bodies = [(a.kind, a.body) for a in account.activities] + [(kind, body) for _, kind, _, body in account.unlisted]
    settlements = tuple(
        Settlement(body["symbol"], int(body["qty"]), Decimal(body["net_amount"]))
        for kind, body in bodies
        if kind in SETTLEMENTS
    )
    moved = sum((Decimal(body["net_amount"]) for kind, body in bodies if kind in TRANSFERS), ZERO)
    return Truth(
        exchange.now_ns, account.cash_usd, account.quantities(), fills, orders, account.fees_usd, settlements, moved
    )  # fmt: skip


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
    clients = {name: o["client"] for o in truth.orders for name in (o["id"], *o.get("legs", ()))}
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
    return out + _turned(books)


def _turned(books: Loaded) -> list[str]:
    """No leg of a trade may go through zero: what is sold was bought, and what is bought back was sold."""
    signs = _signs(books)
    held: Counter[tuple[str, str]] = Counter()
    for fill in books.fills:
        held[fill.trade_id, fill.symbol] += fill.side.sign * fill.contracts
    for settled in books.settlements:
        sign = signs.get((settled.trade_id, settled.symbol), 0)
        held[settled.trade_id, settled.symbol] -= sign * settled.contracts
    return [
        f"trade {trade}: {abs(n)} more sold than bought of {symbol}, or bought back than sold"
        for (trade, symbol), n in held.items()
        if n * signs.get((trade, symbol), 0) < 0
    ]


def _signs(books: Loaded) -> dict[tuple[str, str], int]:
    """Whether a trade is long (1) or short (-1) in each leg that it was entered with."""
    return {
        (order.trade_id, leg.symbol): order.side.sign * leg.side.sign
        for order in books.submits
        if order.purpose is Purpose.ENTRY
        for leg in legs_of(order.symbol)
    }


def booked_ids(books: Loaded) -> set[str]:
    """The exchange's executions that the books hold: fills, and the broker's own sales that are settlements."""
    return {fill.execution_id for fill in books.fills} | {i for one in books.settlements for i in one.covers}


def _to_come(truth: Truth, books: Loaded) -> tuple[Decimal, Counter[str]]:
    """What the exchange has settled and the books have not: signed cash, and changes of positions."""
    cash, changes = ZERO, Counter[str]()
    for real in truth.settlements:
        cash += real.cash_usd
        changes[real.symbol] += real.quantity
    signs = _signs(books)
    for ours in books.settlements:
        if ours.ending is Ending.SOLD_OUT:  # a fill of the exchange's
            continue
        sign = signs.get((ours.trade_id, ours.symbol), 0)
        changes[ours.symbol] += sign * ours.contracts
        cash -= sign * ours.contracts * ours.price_usd * multiplier(ours.symbol)
        if ours.share_price_usd is not None:
            changes[ours.shares_symbol] -= ours.shares
            cash += ours.shares * ours.share_price_usd
    return cash, Counter({symbol: n for symbol, n in changes.items() if n != 0})


def _money(truth: Truth, books: Loaded) -> list[str]:
    """The ledger with what it has not heard of yet equals the exchange, to the cent."""
    ledger = ledger_of(books)
    if not ledger.seeded:
        return []
    known_fills = booked_ids(books)
    missing = [fill for name, fill in truth.fills.items() if name not in known_fills]
    cash, positions = ledger.cash_usd, {p.symbol: p.qty for p in ledger.positions()}
    for fill in missing:
        signed = fill.contracts if fill.side == "buy" else -fill.contracts
        cash -= signed * fill.price_usd * multiplier(fill.symbol)
        positions[fill.symbol] = positions.get(fill.symbol, 0) + signed
    settled_usd, changes = _to_come(truth, books)
    cash += settled_usd
    for symbol, change in changes.items():
        positions[symbol] = positions.get(symbol, 0) + change
    known = sum((fee.amount_usd for fee in _fees(books)), ZERO)
    cash -= truth.fees_usd - known
    cash += truth.transfers_usd - sum((row.amount_usd for row in transfers(books)), ZERO)
    out = []
    if cash != truth.cash_usd:
        out.append(f"cash: {cash} USD by the ledger and the fills to come, {truth.cash_usd} USD at the exchange")
    held = {symbol: n for symbol, n in positions.items() if n}
    if held != truth.positions:
        out.append(f"positions: {held} by the ledger and the fills to come, {truth.positions} at the exchange")
    return out


def _fees(books: Loaded) -> Iterable[Any]:
    return (message for message in books.books if type(message).__name__ == "FeeCharged")


def transfers(books: Loaded) -> list[CashTransferred]:
    """The transfers that the books hold."""
    return [message for message in books.books if isinstance(message, CashTransferred)]


def ledger_of(books: Loaded) -> Ledger:
    """The ledger that a start would fold."""
    ledger = Ledger()
    ledger.restore(books.books)
    return ledger


def learnt(seen: Mapping[str, Fill], books: Loaded) -> list[str]:
    """A daemon that was ready knows every fill of before its start."""
    booked = booked_ids(books)
    return [f"fill {name} of before the start was not booked by the time it was ready" for name in seen.keys() - booked]


def at_end(truth: Truth, books: Loaded) -> list[str]:
    """After the last bell nothing is left, and every figure is equal."""
    out = at_death(truth, books)
    booked = booked_ids(books)
    out += [f"fill {name} of the exchange is not booked" for name in truth.fills.keys() - booked]
    ledger = ledger_of(books)
    if not ledger.seeded or ledger.cash_usd != truth.cash_usd:
        out.append(f"final cash: {ledger.cash_usd if ledger.seeded else None} and {truth.cash_usd} at the exchange")
    settled_usd, changes = _to_come(truth, books)
    if settled_usd != 0 or changes:
        out.append(f"settlements of {dict(changes)} and {settled_usd} USD are not booked")
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
