"""The edges of a backtest: an account read that repeats what stands tells the same as one that asks anew."""

import json
from decimal import Decimal
from pathlib import Path

import msgspec

from oracle.alpaca.translate import trade_update
from oracle.backtest import Backtest, make_exchange
from oracle.backtest_edges import InProcessEdges
from oracle.config import load
from oracle.core.messages import ReadAccount, SendOrder
from oracle.core.reports import OrderReported, StructureExecuted, SubmitReturned
from oracle.core.sessions import MINUTE_NS
from oracle.core.structures import legs_of
from oracle.core.vocabulary import Side
from oracle.execution.outcomes import as_traded, mismatch
from oracle.inbox import Inbox
from oracle.sim.exchange import Exchange
from tests.bench.small_market import make_market
from tests.simulation.orphan_market import TABLE, SmallMarket


def make(folder: Path) -> tuple[Exchange, InProcessEdges]:
    table, _, source = make_market(800)
    exchange = make_exchange(load(base={"mode": "sim", "strategies": {}}), source, table, Backtest(folder, "", ""))
    return exchange, InProcessEdges(exchange, Inbox(), ("SPY",))


async def test_a_flat_accounts_read_is_that_of_its_moment(tmp_path: Path) -> None:
    exchange, edges = make(tmp_path)
    since_ns = exchange.now_ns - MINUTE_NS
    first = await edges.gateway.read_account(ReadAccount(since_ns, "first"))
    exchange.now_ns += MINUTE_NS
    again = await edges.gateway.read_account(ReadAccount(since_ns + MINUTE_NS, "again"))
    _, anew = make(tmp_path)
    anew_exchange = anew._exchange
    anew_exchange.now_ns = exchange.now_ns
    assert again == await anew.gateway.read_account(ReadAccount(since_ns + MINUTE_NS, "anew"))
    assert again == msgspec.structs.replace(first, at_ns=first.at_ns + MINUTE_NS, fills_since_ns=since_ns + MINUTE_NS)


async def test_what_changes_a_flat_account_is_in_the_next_read(tmp_path: Path) -> None:
    exchange, edges = make(tmp_path)
    ask = ReadAccount(exchange.now_ns - MINUTE_NS, "")
    before = await edges.gateway.read_account(ask)
    assert before.cash_usd is not None
    exchange.account.cash_usd -= Decimal("1.25")
    exchange.account.record_event("FEE", exchange.now_ns, "fee", net_usd=Decimal("-1.25"), description="a fee")
    after = await edges.gateway.read_account(ask)
    assert after.cash_usd == before.cash_usd - Decimal("1.25")
    assert (len(before.fees), len(after.fees)) == (0, 1)
    exchange.account.last_equity_usd += 7
    assert before.last_equity_usd is not None
    assert (await edges.gateway.read_account(ask)).last_equity_usd == before.last_equity_usd + 7


CONDOR = "SPY:+260105C607-260105C605-260105P595+260105P593"


def small() -> tuple[Exchange, InProcessEdges, Inbox]:
    source = SmallMarket(3)
    what = Backtest(None, "", "", Decimal(100_000), 3, {"behaviour": {"activities_next_day": False}})
    exchange, inbox = make_exchange(load(base={"mode": "sim", "strategies": {}}), source, TABLE, what), Inbox()
    return exchange, InProcessEdges(exchange, inbox, ("SPY",)), inbox


def move(exchange: Exchange, to_ns: int) -> None:
    exchange.source.advance(to_ns)
    exchange.step(to_ns)


async def test_a_structure_is_told_as_on_the_wire_from_its_order_to_its_settlement() -> None:
    exchange, edges, inbox = small()
    move(exchange, exchange.session.open_ns + MINUTE_NS)
    for number, side in enumerate((Side.BUY, Side.SELL), 1):
        sent = SendOrder(f"t-{number}", CONDOR, side, side is Side.BUY, 1 + (side is Side.BUY), None, side is Side.SELL)
        edges.send(sent)
        await edges.perform()
        new, filled, executed, answer = inbox.take()
        assert isinstance(new, OrderReported)
        assert isinstance(filled, OrderReported)
        assert isinstance(executed, StructureExecuted)
        assert isinstance(answer, SubmitReturned)
        assert answer.order is not None
        for order in (new.order, filled.order, answer.order):
            assert mismatch(sent, exchange.now_ns, order) == ""
        bought = {leg.symbol: leg.side.sign for leg in executed.legs}
        assert bought == {leg.symbol: leg.signed * side.sign for leg in legs_of(CONDOR)}
        assert {int(leg.qty) for leg in executed.legs} == {sent.contracts}
    report = await edges.gateway.read_account(ReadAccount(exchange.session.open_ns, ""))
    assert {p.symbol: p.qty for p in report.positions} == {leg.symbol: leg.signed for leg in legs_of(CONDOR)}
    assert {(f.order.client_order_id, f.order.symbol) for f in report.fills} == {
        ("t-1", answer_name(Side.BUY)),
        ("t-2", answer_name(Side.SELL)),
    }
    move(exchange, exchange.session.close_ns)
    report = await edges.gateway.read_account(ReadAccount(exchange.session.open_ns, ""))
    ended = [row for row in report.settlements if row.kind != "OPTRD"]
    assert {row.symbol: int(row.qty) for row in ended} == {leg.symbol: -leg.signed for leg in legs_of(CONDOR)}
    assert {row.kind for row in ended} <= {"OPEXP", "OPASN", "OPEXC"}


def answer_name(side: Side) -> str:
    return as_traded(SendOrder("", CONDOR, side, True, 1, None, False))[0]


async def test_the_streams_json_says_the_same_as_the_exchange_in_process() -> None:
    exchange, edges, _ = small()
    move(exchange, exchange.session.open_ns + MINUTE_NS)
    await edges.gateway.submit(SendOrder("t-1", CONDOR, Side.BUY, True, 2, None, False))
    updates = exchange.drain()
    assert [trade_update(json.loads(json.dumps(update))) for update in updates] == list(map(trade_update, updates))
    assert any(isinstance(message, StructureExecuted) for update in updates for message in trade_update(update)[0])
