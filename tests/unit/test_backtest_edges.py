"""The edges of a backtest: an account read that repeats what stands tells the same as one that asks anew."""

from decimal import Decimal
from pathlib import Path

import msgspec

from oracle.backtest import Backtest, make_exchange
from oracle.backtest_edges import InProcessEdges
from oracle.config import load
from oracle.core.messages import ReadAccount
from oracle.core.sessions import MINUTE_NS
from oracle.inbox import Inbox
from oracle.sim.exchange import Exchange
from tests.bench.small_market import make_market


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
