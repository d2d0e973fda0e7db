"""Bars that a connection leaves out while it goes on: never traded, or lost, over real sockets."""

from typing import Any

import structlog

from oracle.alpaca.supervisor import Phase
from oracle.core.marketdata import Bar, FeedChanged
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Feed, FeedState
from tests.protocol.edge_fixtures import OPEN_NS, Edge, bar, running
from tests.protocol.test_feeds import LIFE, NOW_NS, Vendor, settle, vendor


def seen(edge: Edge, symbol: str) -> list[tuple[int, bool]]:
    """The starts of a symbol's bars, and whether each came as back-filled."""
    return [(b.start_ns, b.backfilled) for b in edge.bars() if b.symbol == symbol]


async def rest(edge: Edge) -> None:
    """Do a round of the daemon's, and wait for what it started."""
    edge.stock.note_alive()
    await settle(lambda: not edge.stock.in_flight)


async def begin(double: Vendor, edge: Edge, symbols: tuple[str, ...], start_ns: int) -> None:
    """Be LIVE with a first bar of each symbol."""
    await edge.heard.state(Feed.STOCK, FeedState.LIVE)
    await double.stock.send([bar(symbol, start_ns) for symbol in symbols])
    await settle(lambda: len(edge.bars()) == len(symbols))


class TestCanary:
    """It trades in every minute: what is missing of it is a fault of the connection."""

    async def test_a_bar_after_a_hole_waits_for_what_is_missing_and_is_acted_on(self) -> None:
        """The archive has the fresh bar too by then; the socket's stands, or its evaluation would be lost."""
        async with vendor() as (double, edge), running(edge.stock):
            starts = [NOW_NS - n * MINUTE_NS for n in (5, 4, 3, 2, 1)]
            await begin(double, edge, ("SPY",), starts[0])
            double.archive.rows["SPY"] = starts
            await double.stock.send([bar("SPY", starts[4])])
            await edge.heard.until(lambda: len(edge.bars()) == 5)
            assert seen(edge, "SPY") == list(zip(starts, (False, True, True, True, False), strict=True))
            assert edge.heard.states(Feed.STOCK) == [*LIFE, FeedState.BACKFILLING, FeedState.LIVE]
            order = [m for _, m in edge.heard.all if isinstance(m, Bar | FeedChanged)]
            assert isinstance(order[-1], Bar)
            assert order[-2].state is FeedState.LIVE  # type: ignore[union-attr]

    async def test_a_bar_that_is_overdue_is_fetched(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            await begin(double, edge, ("SPY",), NOW_NS - MINUTE_NS)
            double.archive.rows["SPY"] = [NOW_NS]
            for second in range(1, 73):
                assert edge.heard.states(Feed.STOCK) == LIFE, second
                edge.stock._heard = True  # its quotes go on
                edge.timers.advance(1)
                edge.stock.note_alive()
            await edge.heard.until(lambda: len(edge.bars()) == 2)
            assert "no bar of SPY" in edge.heard.of(FeedChanged)[-2].reason
            await edge.heard.state(Feed.STOCK, FeedState.LIVE, 2)
            edge.stock.note_alive()
            assert len(double.archive.asked) == 1


class TestOthers:
    """Bars come only if a trade happened: a minute without one is no fault, and nobody else waits for it."""

    async def test_an_hour_of_a_symbol_that_trades_every_other_minute(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            for minute in range(60):
                start_ns = OPEN_NS + (10 + minute) * MINUTE_NS
                edge.timers.at_ns = start_ns + MINUTE_NS
                edge.stock._heard = True  # the canary's quotes go on
                symbols = ("SPY", "QQQ") if minute % 2 else ("SPY",)
                await double.stock.send([bar(symbol, start_ns) for symbol in symbols])
                await settle(lambda n=minute: edge.stock.received == n + 1 + (n + 1) // 2)
                await rest(edge)
            assert edge.heard.states(Feed.STOCK) == LIFE
            minutes = [OPEN_NS + (10 + minute) * MINUTE_NS for minute in range(60)]
            assert seen(edge, "SPY") == [(start_ns, False) for start_ns in minutes]
            assert seen(edge, "QQQ") == [(start_ns, False) for start_ns in minutes[1::2]]
            # Each minute is asked for once, and by itself.
            assert [(q["symbols"], q["start"] == q["end"]) for q in double.archive.asked] == [("QQQ", True)] * 29

    async def test_a_lost_bar_comes_before_the_fresh_one_and_holds_nobody_else_back(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            starts = [NOW_NS - n * MINUTE_NS for n in (3, 2, 1)]
            await begin(double, edge, ("SPY", "QQQ"), starts[0])
            await double.stock.send([bar("SPY", starts[1])])
            double.archive.rows["QQQ"] = starts
            await double.stock.send([bar("QQQ", starts[2]), bar("SPY", starts[2])])
            await settle(lambda: edge.stock.received == 5)
            assert seen(edge, "SPY")[-1] == (starts[2], False)
            assert seen(edge, "QQQ") == [(starts[0], False)]
            await rest(edge)
            assert seen(edge, "QQQ") == [(starts[0], False), (starts[1], True), (starts[2], False)]
            assert edge.heard.states(Feed.STOCK) == LIFE

    async def test_holes_of_several_symbols_are_one_question(self) -> None:
        async with vendor(symbols=("IWM", "QQQ", "SPY")) as (double, edge), running(edge.stock):
            starts = [NOW_NS - n * MINUTE_NS for n in (4, 3, 2, 1)]
            await begin(double, edge, ("SPY", "QQQ", "IWM"), starts[0])
            await double.stock.send([bar("SPY", starts[1]), bar("QQQ", starts[1]), bar("SPY", starts[2])])
            double.archive.rows = dict.fromkeys(("IWM", "QQQ", "SPY"), starts)
            await double.stock.send([bar(symbol, starts[3]) for symbol in ("SPY", "QQQ", "IWM")])
            await settle(lambda: edge.stock.received == 9)
            await rest(edge)
            assert {query["symbols"] for query in double.archive.asked} == {"IWM,QQQ"}
            for symbol, late in (("QQQ", starts[2:3]), ("IWM", starts[1:3])):
                assert seen(edge, symbol) == [(start_ns, start_ns in late) for start_ns in starts]

    async def test_an_archive_that_fails_costs_no_more_than_the_answer(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            await begin(double, edge, ("QQQ",), NOW_NS - 3 * MINUTE_NS)
            double.archive.failures = 9
            with structlog.testing.capture_logs() as logged:
                await double.stock.send([bar("QQQ", NOW_NS - MINUTE_NS)])
                await settle(lambda: edge.stock.received == 2)
                await rest(edge)
            assert seen(edge, "QQQ")[-1] == (NOW_NS - MINUTE_NS, False)
            assert [(row["event"], row["symbols"]) for row in logged if row["log_level"] == "warning"] == [
                ("hole_unread", ["QQQ"])
            ]
            assert edge.heard.states(Feed.STOCK) == LIFE

    async def test_a_hole_of_the_canary_meanwhile(self) -> None:
        """Both are fetched, each bar comes once and in order, and what waited is acted on."""
        async with vendor() as (double, edge), running(edge.stock):
            starts = [NOW_NS - n * MINUTE_NS for n in (3, 2, 1)]
            await begin(double, edge, ("SPY", "QQQ"), starts[0])
            double.archive.rows = dict.fromkeys(("QQQ", "SPY"), starts)
            await double.stock.send([bar("QQQ", starts[2])])
            await settle(lambda: edge.stock.received == 3)
            edge.stock.note_alive()
            await double.stock.send([bar("SPY", starts[2])])
            await edge.heard.until(lambda: len(edge.bars()) == 6)
            await rest(edge)
            for symbol in ("QQQ", "SPY"):
                assert seen(edge, symbol) == [(starts[0], False), (starts[1], True), (starts[2], False)]

    async def test_a_cut_before_the_archive_was_asked(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            starts = [NOW_NS - n * MINUTE_NS for n in (3, 2, 1)]
            await begin(double, edge, ("SPY", "QQQ"), starts[0])
            await double.stock.send([bar("QQQ", starts[2])])
            await settle(lambda: edge.stock.received == 3)
            await double.stock.cut()
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            edge.stock.note_alive()
            assert not edge.stock.in_flight
            double.archive.rows = dict.fromkeys(("QQQ", "SPY"), starts)
            edge.timers.advance(2)
            await edge.heard.state(Feed.STOCK, FeedState.LIVE, 2)
            await settle(lambda: len(edge.bars()) == 6)
            assert seen(edge, "QQQ") == [(starts[0], False), (starts[1], True), (starts[2], False)]

    async def test_holes_are_looked_for_while_a_part_is_denied(self) -> None:
        """Exits use what flows; the canary's hole is no reason to claim more than DOWN."""
        async with vendor() as (double, edge), running(edge.stock):

            def in_part(message: dict[str, Any]) -> list[dict[str, Any]]:
                return [{"T": "subscription", **{c: ["SPY"] for c in message if c != "action"}}]

            double.stock.answer = in_part
            await edge.heard.state(Feed.STOCK, FeedState.DOWN)
            await settle(lambda: not edge.stock.in_flight)
            starts = [NOW_NS - n * MINUTE_NS for n in (3, 2, 1)]
            double.archive.rows["SPY"] = starts
            for n, start_ns in enumerate((starts[0], starts[2]), 1):
                await double.stock.send([bar("SPY", start_ns)])
                await settle(lambda n=n: edge.stock.received == n)
            await rest(edge)
            assert seen(edge, "SPY") == [(starts[0], False), (starts[1], True), (starts[2], False)]
            assert edge.stock.supervisor.phase is Phase.DENIED

    async def test_a_symbol_that_falls_silent_is_told_once_until_it_comes_back(self) -> None:
        async with vendor() as (double, edge), running(edge.stock):
            await edge.heard.state(Feed.STOCK, FeedState.LIVE)
            told: list[list[tuple[str, int]]] = []
            for minute in range(26):
                start_ns = OPEN_NS + (10 + minute) * MINUTE_NS
                edge.timers.at_ns = start_ns + MINUTE_NS + 12 * NS
                edge.stock._heard = True
                symbols = ("SPY", "QQQ") if minute in (0, 13) else ("SPY",)
                count = edge.stock.received + len(symbols)
                await double.stock.send([bar(symbol, start_ns) for symbol in symbols])
                await settle(lambda n=count: edge.stock.received == n)
                with structlog.testing.capture_logs() as logged:
                    await rest(edge)
                told.append([(r["symbol"], r["minutes"]) for r in logged if r["event"] == "bars_overdue"])
            assert [(minute, rows) for minute, rows in enumerate(told) if rows] == [
                (10, [("QQQ", 10)]),
                (23, [("QQQ", 10)]),
            ]
            assert edge.heard.states(Feed.STOCK) == LIFE
