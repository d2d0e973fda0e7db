"""The life of a feed over real sockets: the embedded exchange, and servers that misbehave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from oracle.alpaca import feed as feed_module
from oracle.alpaca.feed import SupervisedFeed
from oracle.alpaca.feeds import subscription_steps
from oracle.alpaca.streams import OptionConnection, StockConnection, TradingConnection
from oracle.core.errors import ConfigurationError, ProtocolError
from oracle.core.instruments import OptionContract, Right
from oracle.core.marketdata import (
    Bar,
    ChainListed,
    ChainQuotes,
    FeedChanged,
    ListedContract,
    Quote,
    TradingStatus,
    UpdatedBar,
)
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Feed, FeedState
from tests.protocol.edge_fixtures import (
    CREDENTIALS,
    OPEN_NS,
    Archive,
    Edge,
    StreamDouble,
    bar,
    edge_at,
    exchange_edge,
    quote,
    running,
    serving,
    wire_time,
)
from tests.protocol.scripted_source import FAR, occ

LIFE = [FeedState.CONNECTING, FeedState.BACKFILLING, FeedState.LIVE]
NOW_NS = OPEN_NS + 10 * MINUTE_NS


def alive_at(feed: SupervisedFeed, at_ns: int) -> bool:
    """Do a round of the daemon's, then say whether the canary was heard at this instant."""
    feed.note_alive()
    return feed.supervisor._alive_ns == at_ns


class Vendor:
    """A stock stream, an option stream and an archive of one misbehaving vendor."""

    def __init__(self) -> None:
        self.stock, self.option, self.archive = StreamDouble(), StreamDouble(), Archive()


@asynccontextmanager
async def vendor(**options: Any) -> AsyncIterator[tuple[Vendor, Edge]]:
    found = Vendor()
    routes = (
        ("GET", "/v2/sip", found.stock.handle),
        ("GET", "/v1beta1/opra", found.option.handle),
        ("GET", "/v2/stocks/bars", found.archive.handle),
    )
    async with serving(*routes) as url, edge_at(url, **options) as edge:
        yield found, edge


async def settle(condition: Any) -> None:
    """Let the loop run until something on the other side of a socket has happened."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the condition is on the far side of a socket
            await asyncio.sleep(0)


class TestExchange:
    async def test_all_feeds_come_up_and_carry_data(self) -> None:
        async with exchange_edge() as edge, running(*edge.feeds):
            chain = await edge.data.option_contracts("SPY", "2026-01-05", [FAR])
            edge.quotes.set_chain(chain)
            edge.option.set_option_symbols([occ(600), occ(605)])
            for feed in (Feed.STOCK, Feed.OPTION, Feed.TRADING):
                await edge.heard.state(feed, FeedState.LIVE)
                assert edge.heard.states(feed) == LIFE
            await edge.until(OPEN_NS + 3 * MINUTE_NS)
            bars = edge.heard.of(Bar)
            assert [(b.symbol, b.start_ns) for b in bars] == [
                (s, OPEN_NS + m * MINUTE_NS) for m in range(3) for s in ("QQQ", "SPY")
            ]
            assert not any(b.backfilled for b in bars)
            drained = edge.quotes.drain(edge.timers.now_ns())
            assert [type(m) for m in drained] == [Quote, Quote, ChainQuotes]
            assert edge.option.subscribed == {occ(600), occ(605)}
            assert edge.stock.rejections.total == edge.option.rejections.total == edge.trading.rejections.total == 0
            assert all(feed.connection_id for feed in edge.feeds)

    async def test_a_cut_in_mid_session_leaves_no_gap(self) -> None:
        async with exchange_edge() as edge, running(*edge.feeds):
            await edge.until(OPEN_NS + 5 * MINUTE_NS)
            assert edge.stock._connection is not None
            edge.stock._connection._ws.transport.abort()
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            assert edge.stock.connection_id is None
            await edge.until(OPEN_NS + 20 * MINUTE_NS)
            assert edge.heard.states(Feed.STOCK) == [*LIFE, FeedState.DOWN, *LIFE]
            starts = [(b.start_ns, b.symbol) for b in edge.bars()]
            assert starts == [(OPEN_NS + m * MINUTE_NS, s) for m in range(20) for s in ("QQQ", "SPY")]

    async def test_warm_up_emits_earlier_sessions_once(self) -> None:
        async with exchange_edge() as edge:
            await edge.until(OPEN_NS + 4 * MINUTE_NS)
            assert await edge.stock.warm_up(["QQQ", "SPY"], OPEN_NS, edge.timers.now_ns()) == 8
            assert await edge.stock.warm_up(["QQQ", "SPY"], OPEN_NS, edge.timers.now_ns()) == 0
            assert all(b.backfilled for b in edge.bars())
            async with running(*edge.feeds):
                await edge.until(OPEN_NS + 6 * MINUTE_NS)
            assert [(b.start_ns, b.symbol) for b in edge.bars()] == [
                (OPEN_NS + m * MINUTE_NS, s) for m in range(6) for s in ("QQQ", "SPY")
            ]
            assert sum(b.backfilled for b in edge.bars()) == 8


class TestGap:
    async def test_missed_bars_come_before_live_and_held_ones_after(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            edge.timers.at_ns = OPEN_NS + 11 * MINUTE_NS
            first = OPEN_NS + 10 * MINUTE_NS
            await double.stock.send([bar("SPY", first)])
            await edge.heard.until(lambda: len(edge.bars()) == 1)
            # Four minutes are missed; the archive says them in pages, and what was seen again.
            minutes = [first + m * MINUTE_NS for m in range(-3, 5)]
            double.archive.rows = {"SPY": minutes, "QQQ": minutes[4:]}
            edge.timers.at_ns = OPEN_NS + 15 * MINUTE_NS
            held = OPEN_NS + 15 * MINUTE_NS

            def with_early_bar(message: dict[str, Any]) -> list[dict[str, Any]]:
                ack = double.stock.full_ack(message)
                edge.timers.at_ns = OPEN_NS + 16 * MINUTE_NS
                return [*ack, bar("SPY", held), bar("SPY", held)]

            double.stock.answer = with_early_bar
            await double.stock.cut()
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            edge.timers.advance(2)
            await edge.heard.state(Feed.STOCK, FeedState.LIVE, 2)
            story = [m for f, m in edge.heard.all if f is Feed.STOCK][4:]
            back = [m for m in story if isinstance(m, Bar) and m.backfilled]
            later = minutes[4:]
            expected = sorted([(at, "SPY") for at in later] + [(at, "QQQ") for at in minutes[4:]])
            assert [(b.start_ns, b.symbol) for b in back] == expected
            live_at = next(i for i, m in enumerate(story) if isinstance(m, FeedChanged) and m.state is FeedState.LIVE)
            assert max(story.index(b) for b in back) < live_at
            fresh = [b for b in story[live_at:] if isinstance(b, Bar)]
            assert [(b.start_ns, b.symbol, b.backfilled) for b in fresh] == [(held, "SPY", False)]
            assert edge.stock.gate.duplicates > 0
            assert double.archive.asked[0]["start"] == "2026-01-05T14:38:00Z"
            assert {q.get("page_token") for q in double.archive.asked} > {None, "2"}

    async def test_not_live_until_the_archive_answers(self) -> None:
        async with vendor() as (double, edge):
            double.archive.rows = {"SPY": [NOW_NS - 2 * MINUTE_NS, NOW_NS - MINUTE_NS]}
            await edge.stock.warm_up(["SPY"], OPEN_NS, NOW_NS)
            double.archive.failures = 2
            async with running(edge.stock):
                for _ in range(2):
                    await edge.heard.until(lambda: "back-fill failed" in edge.heard.last_reason(Feed.STOCK))
                    await double.stock.send([quote("SPY", NOW_NS)])
                    count = len(edge.heard.all)
                    edge.timers.advance(5)
                    await edge.heard.until(lambda n=count: len(edge.heard.all) > n)
                await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            assert edge.heard.states(Feed.STOCK).count(FeedState.BACKFILLING) == 3

    async def test_an_archive_that_lags_behind_the_last_minute_is_asked_again(self) -> None:
        async with vendor() as (double, edge):
            double.archive.rows = {"SPY": [NOW_NS - 2 * MINUTE_NS]}
            await edge.stock.warm_up(["SPY"], OPEN_NS, NOW_NS)
            async with running(edge.stock):
                await edge.heard.until(lambda: "last minute of SPY" in edge.heard.last_reason(Feed.STOCK))
                double.archive.rows["SPY"].append(NOW_NS - MINUTE_NS)
                edge.timers.advance(3)
                await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            assert [b.start_ns for b in edge.bars()] == [NOW_NS - 2 * MINUTE_NS, NOW_NS - MINUTE_NS]


class TestWatchdog:
    async def test_a_mute_socket_is_noticed_closed_and_replaced(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            for _ in range(5):
                edge.timers.advance(10)
                double_at = edge.timers.now_ns()
                await double.stock.send([quote("SPY", double_at)])
                await settle(lambda at=double_at: alive_at(edge.stock, at))
            # Other symbols go on: the socket is alive, the canary is not.
            for _ in range(11):
                edge.timers.advance(1)
                await double.stock.send([quote("QQQ", edge.timers.now_ns())])
            assert FeedState.STALE not in edge.heard.states(Feed.STOCK)
            edge.timers.advance(1)
            await edge.heard.state(Feed.STOCK, FeedState.STALE)
            await settle(lambda: double.stock.open == 0 and not edge.stock.in_flight)
            edge.timers.advance(2)
            await edge.heard.state(Feed.STOCK, FeedState.LIVE, 2)
            assert edge.heard.states(Feed.STOCK) == [*LIFE, FeedState.STALE, *LIFE]
            assert double.stock.connections == 2

    async def test_quiet_outside_the_session_is_no_fault(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            edge.timers.at_ns = OPEN_NS - 3600 * NS
            await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            edge.timers.advance(3590)
            assert edge.heard.states(Feed.STOCK) == LIFE
            assert double.stock.connections == 1

    async def test_the_option_feed_rests_while_nothing_is_subscribed(self) -> None:
        async with vendor() as (double, edge), running(edge.option):
            await edge.heard.state(Feed.OPTION, FeedState.LIVE)
            edge.timers.advance(600)
            assert edge.heard.states(Feed.OPTION) == LIFE
            edge.option.set_option_symbols([occ(600), occ(605)])
            await settle(lambda: not edge.option.in_flight)
            edge.timers.advance(11)
            await double.option.send([quote(occ(605), edge.timers.now_ns(), 1.2, 1.3)])
            await settle(lambda: edge.option.received == 1 and alive_at(edge.option, edge.timers.now_ns()))
            edge.timers.advance(11)
            assert FeedState.STALE not in edge.heard.states(Feed.OPTION)
            edge.timers.advance(1)
            await edge.heard.state(Feed.OPTION, FeedState.STALE)
            assert "no option quote for 12.0 s" in edge.heard.last_reason(Feed.OPTION)

    async def test_the_canary_must_be_subscribed(self) -> None:
        with pytest.raises(ConfigurationError, match="canary"):
            async with edge_at("http://127.0.0.1:9", symbols=("QQQ",)):
                pass


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "text", "least_s"),
        [(406, "connection limit exceeded", 10), (402, "auth failed", 30), (409, "insufficient subscription", 30)],
    )
    async def test_a_refused_login_says_why_and_waits(self, code: int, text: str, least_s: int) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            double.stock.auth = [{"T": "error", "code": code, "msg": text}]
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            assert text in edge.heard.last_reason(Feed.STOCK)
            assert "SIMSECRET" not in edge.heard.last_reason(Feed.STOCK)
            await settle(lambda: double.stock.open == 0)
            edge.timers.advance(least_s - 0.01)
            assert edge.heard.states(Feed.STOCK).count(FeedState.CONNECTING) == 1
            double.stock.auth = [{"T": "success", "msg": "authenticated"}]
            edge.timers.advance(60)
            await edge.heard.state(Feed.STOCK, FeedState.LIVE)

    @pytest.mark.parametrize(("status", "least_s"), [(429, 15), (401, 30), (503, 1), (302, 2)])
    async def test_a_refused_upgrade_waits(self, status: int, least_s: int) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            double.stock.refuse_upgrade = status
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            assert "throttled" in edge.heard.last_reason(Feed.STOCK) or status != 429
            edge.timers.advance(least_s - 0.01)
            assert edge.heard.states(Feed.STOCK).count(FeedState.CONNECTING) == 1

    async def test_a_vendor_that_is_not_there(self) -> None:
        async with edge_at("http://127.0.0.1:9") as edge, running(edge.stock, edge.trading):
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            await edge.heard.state(Feed.TRADING, FeedState.DOWN)
            assert "unreachable" in edge.heard.last_reason(Feed.STOCK)
            for n in range(2, 6):
                edge.timers.advance(60)
                await edge.heard.state(Feed.STOCK, FeedState.DOWN, n)

    async def test_a_partial_acknowledgement_is_not_live_but_its_data_flow(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            double.stock.answer = lambda m: [
                {"T": "subscription", **{c: ["SPY"] for c in m if c != "action"}, "trades": []}
            ]
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            assert "bars lacks QQQ" in edge.heard.last_reason(Feed.STOCK)
            await settle(lambda: not edge.stock.in_flight)
            await double.stock.send([bar("SPY", NOW_NS - MINUTE_NS), quote("SPY", NOW_NS)])
            await edge.heard.until(lambda: len(edge.bars()) == 1)
            assert FeedState.LIVE not in edge.heard.states(Feed.STOCK)
            double.stock.answer = double.stock.full_ack
            double.archive.rows = {"SPY": [NOW_NS - MINUTE_NS, NOW_NS]}
            for _ in range(6):
                edge.timers.advance(10)
                await double.stock.send([quote("SPY", edge.timers.now_ns())])
                await settle(lambda: alive_at(edge.stock, edge.timers.now_ns()))
            await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            assert double.stock.connections == 1

    @pytest.mark.parametrize("code", [400, 405, 410, 413])
    async def test_an_error_that_answers_the_subscription(self, code: int) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            double.stock.answer = lambda _: [{"T": "error", "code": code, "msg": "refused so"}]
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            assert f"subscription denied: {code} refused so" in edge.heard.last_reason(Feed.STOCK)

    async def test_an_acknowledgement_that_never_comes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feed_module, "ACK_TIMEOUT_S", 0.05)
        async with vendor() as (double, edge), running(edge.stock):
            double.stock.answer = lambda _: None
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            assert "no acknowledgement" in edge.heard.last_reason(Feed.STOCK)
            await settle(lambda: double.stock.open == 0)

    async def test_a_server_that_accepts_and_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feed_module, "HANDSHAKE_TIMEOUT_S", 0.05)

        async def mute(request: web.Request) -> web.StreamResponse:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.receive()
            return socket

        async with serving(("GET", "/v2/sip", mute)) as url, edge_at(url) as edge, running(edge.stock):
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            assert "timeout" in edge.heard.last_reason(Feed.STOCK)

    @pytest.mark.parametrize("greeting", [[], [{}], {"T": "success"}, "connected", [{"T": "error", "code": 406}]])
    async def test_a_greeting_that_is_not_understood(self, greeting: Any) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            double.stock.auth = greeting
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            await settle(lambda: double.stock.open == 0)


async def test_wishes_that_pile_up_are_one_subscription() -> None:
    async with exchange_edge() as edge, running(*edge.feeds):
        await edge.heard.state(Feed.OPTION, FeedState.LIVE)
        for strike in (590, 595, 600, 605, 610) * 20:
            edge.option.set_option_symbols([occ(strike)])
            assert edge.option._jobs.qsize() <= 1
        await settle(lambda: not edge.option.in_flight)
        assert edge.option.subscribed == {occ(610)}


class TestFrames:
    async def test_a_malformed_message_costs_itself_only(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            start = NOW_NS - MINUTE_NS
            frame = [
                bar("SPY", start),
                {**bar("QQQ", start), "h": float("nan")},
                {**bar("QQQ", start), "v": "many"},
                {"T": "q", "S": "SPY"},
                "text",
                None,
                {"no": "type"},
                {"T": "i", "S": "SPY"},
                {**bar("QQQ", start), "T": "u"},
                {
                    "T": "s",
                    "S": "QQQ",
                    "sc": "H",
                    "sm": "Trading Halt",
                    "rc": "T1",
                    "rm": "News",
                    "t": wire_time(start),
                },
                bar("QQQ", start),
            ]
            await double.stock.send(frame)
            await edge.heard.until(lambda: len(edge.bars()) == 2)
            assert [b.symbol for b in edge.bars()] == ["SPY", "QQQ"]
            assert len(edge.heard.of(UpdatedBar)) == 1
            assert [s.halted for s in edge.heard.of(TradingStatus)] == [True]
            assert edge.stock.received == 7
            assert edge.stock.rejections.counts == {
                "bar.h": 1,
                "bar.v": 1,
                "quote.bp": 1,
                "frame.element": 2,
                "frame.unknown_type": 2,
            }
            assert edge.heard.states(Feed.STOCK) == LIFE

    async def test_an_undecodable_frame_is_counted(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            await double.stock.sockets[-1].send_bytes(b"\xc1\xff")
            await double.stock.sockets[-1].send_str("text")
            await double.stock.send([bar("SPY", NOW_NS - MINUTE_NS)])
            await edge.heard.until(lambda: len(edge.bars()) == 1)
            assert edge.stock.rejections.counts == {"frame.element": 2}

    async def test_an_oversized_frame_ends_the_connection_and_says_so(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            with suppress(ConnectionError):  # the client hangs up in the middle of it
                await double.stock.sockets[-1].send_bytes(b"\0" * (2**24 + 1))
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            assert "larger than" in edge.heard.last_reason(Feed.STOCK)

    async def test_a_frame_larger_than_the_libraries_default_is_read(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            await double.stock.send([quote("SPY", NOW_NS + n) for n in range(30_000)])
            await settle(lambda: edge.stock.received == 30_000)

    @pytest.mark.parametrize("close_first", [True, False])
    async def test_slow_client_is_told_and_reconnected(self, close_first: bool) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            await double.stock.send([{"T": "error", "code": 407, "msg": "slow client"}])
            if close_first:
                await double.stock.sockets[-1].close()
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            assert "slow_client: 407 slow client" in edge.heard.last_reason(Feed.STOCK)
            edge.timers.advance(2)
            await edge.heard.state(Feed.STOCK, FeedState.LIVE, 2)

    async def test_an_orderly_close_is_a_failure_too(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            await double.stock.sockets[-1].close(code=1000, message=b"bye")
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            assert "closed by the vendor with code 1000 bye" in edge.heard.last_reason(Feed.STOCK)

    async def test_cancelling_a_feed_closes_its_socket(self) -> None:
        async with vendor() as (double, edge):
            async with running(edge.stock):
                await edge.heard.state(Feed.STOCK, FeedState.LIVE)
                assert double.stock.open == 1
            await settle(lambda: double.stock.open == 0)
            assert edge.timers.next_ns() is None

    async def test_a_fault_of_ours_ends_the_feed_loudly(self) -> None:
        async with vendor() as (double, edge):

            def broken(_: Feed, message: Any) -> None:
                if isinstance(message, Bar):
                    raise ZeroDivisionError("our bug")

            edge.stock._sink = broken
            task = asyncio.create_task(edge.stock.run())
            await settle(lambda: edge.stock.supervisor.phase == "live")
            await double.stock.send([bar("SPY", NOW_NS - MINUTE_NS)])
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(task, 5)
            await settle(lambda: double.stock.open == 0)


def contracts(first: int, last: int) -> list[str]:
    return [OptionContract("SPY", FAR, Right.CALL, k * 1000).occ for k in range(first, last)]


class TestOptionSubscriptions:
    async def test_new_contracts_are_subscribed_before_old_ones_go(self) -> None:
        async with vendor(limit=8) as (double, edge), running(edge.option):
            await edge.heard.state(Feed.OPTION, FeedState.LIVE)
            edge.option.set_option_symbols(contracts(600, 604))
            await settle(lambda: not edge.option.in_flight)
            edge.option.set_option_symbols(contracts(602, 606))
            assert edge.option.in_flight
            await settle(lambda: not edge.option.in_flight)
            asked = [(m["action"], sorted(m["quotes"])) for m in double.option.asked]
            assert asked == [
                ("subscribe", contracts(600, 604)),
                ("subscribe", contracts(600, 606)),
                ("unsubscribe", contracts(600, 602)),
            ]
            assert edge.option.subscribed == set(contracts(602, 606))
            assert edge.heard.states(Feed.OPTION) == LIFE

    async def test_the_plan_limit_is_never_exceeded(self) -> None:
        async with vendor(limit=4) as (double, edge), running(edge.option):
            most = 0

            def counting(message: dict[str, Any]) -> Any:
                nonlocal most
                ack = double.option.full_ack(message)
                most = max(most, len(double.option.current["quotes"]))
                return ack

            double.option.answer = counting
            await edge.heard.state(Feed.OPTION, FeedState.LIVE)
            edge.option.set_option_symbols(contracts(600, 604))
            await settle(lambda: not edge.option.in_flight)
            edge.option.set_option_symbols(contracts(602, 606))
            await settle(lambda: not edge.option.in_flight)
            assert most == 4
            assert edge.option.subscribed == set(contracts(602, 606))
            with pytest.raises(ProtocolError):
                edge.option.set_option_symbols(contracts(600, 605))

    async def test_a_denied_change_is_a_fact_and_is_repeated_on_reconnect(self) -> None:
        async with vendor() as (double, edge), running(edge.option):
            await edge.heard.state(Feed.OPTION, FeedState.LIVE)
            double.option.answer = lambda _: [{"T": "error", "code": 405, "msg": "symbol limit exceeded"}]
            edge.option.set_option_symbols(contracts(600, 604))
            await edge.heard.state(Feed.OPTION, FeedState.DOWN)
            assert "405 symbol limit exceeded" in edge.heard.last_reason(Feed.OPTION)
            double.option.answer = double.option.full_ack
            await double.option.cut()
            await edge.heard.state(Feed.OPTION, FeedState.DOWN, 2)
            edge.timers.advance(3)
            await edge.heard.state(Feed.OPTION, FeedState.LIVE, 2)
            assert edge.option.subscribed == set(contracts(600, 604))

    async def test_a_wish_made_while_a_connection_closes_is_not_work_in_flight(self) -> None:
        async with vendor() as (double, edge), running(edge.option):
            await edge.heard.state(Feed.OPTION, FeedState.LIVE)
            connection = edge.option._connection
            assert connection is not None
            shut = connection.shut

            async def wish_and_shut() -> None:
                await shut()
                edge.option.set_option_symbols(contracts(600, 602))

            connection.shut = wish_and_shut  # type: ignore[method-assign]
            await double.option.cut()
            await edge.heard.state(Feed.OPTION, FeedState.DOWN)
            assert not edge.option.in_flight
            edge.timers.advance(3)
            await edge.heard.state(Feed.OPTION, FeedState.LIVE, 2)
            assert edge.option.subscribed == set(contracts(600, 602))

    async def test_quotes_become_columns(self) -> None:
        async with vendor() as (double, edge), running(edge.option):
            names = contracts(600, 603)
            rows = tuple(ListedContract(name, 10, None, True) for name in names)
            edge.quotes.set_chain(ChainListed("SPY", "2026-01-05", rows))
            edge.option.set_option_symbols(names)
            await edge.heard.state(Feed.OPTION, FeedState.LIVE)
            await double.option.send(
                [
                    quote(names[2], NOW_NS, 1.0, 1.1),
                    {**quote(names[1], NOW_NS), "bp": -1.0},
                    quote(names[0], NOW_NS, 0, 2),
                ]
            )
            await settle(lambda: edge.option.received == 3)
            (columns,) = edge.quotes.drain(NOW_NS)
            assert isinstance(columns, ChainQuotes)
            assert columns.rows == (0).to_bytes(4, "little") + (2).to_bytes(4, "little")
            assert edge.option.rejections.counts == {"option_quote.bp, ap": 1}

    def test_steps_reach_the_wish_within_the_limit(self) -> None:
        have, wanted = frozenset("abcd"), frozenset("cdefg")
        for limit in range(5, 10):
            now, most = have, 0
            for adding, symbols in subscription_steps(have, wanted, limit):
                now = now | symbols if adding else now - symbols
                most = max(most, len(now))
                assert have & wanted <= now
            assert now == wanted
            assert most <= limit


class TestLibraries:
    async def test_aiohttp_can_be_told_not_to_repeat(self) -> None:
        async with aiohttp.ClientSession() as session:
            assert session._retry_connection is True

    async def test_closing_what_was_never_opened(self) -> None:
        for connection in (StockConnection, OptionConnection, TradingConnection):
            async with asyncio.timeout(1):
                await connection("ws://host/path", CREDENTIALS, lambda _: None).shut()
