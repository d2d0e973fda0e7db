"""Option trades over real sockets, and a chain read over REST by the commands ``chain`` and ``gamma``."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from oracle.alpaca.feeds import OptionFeed
from oracle.alpaca.tradebatch import TradeBatcher
from oracle.core.marketdata import OptionTrades
from oracle.core.sessions import NS, SessionTable
from oracle.core.vocabulary import Feed, FeedState
from tests.protocol.edge_fixtures import CREDENTIALS, OPEN_NS, PacedEdge, exchange_edge, running
from tests.protocol.scripted_source import FAR, make_sessions, occ

SESSIONS = SessionTable([*make_sessions(1), make_sessions(4)[-1]])


def with_trades(edge: PacedEdge) -> TradeBatcher:
    """Give an edge an option feed that hears trades too."""
    trades = TradeBatcher(edge.quotes)
    edge.option = OptionFeed(
        edge.endpoints, CREDENTIALS, table=SESSIONS, timers=edge.timers, sink=edge.heard, quotes=edge.quotes,
        trades=trades, limit=3,
    )  # fmt: skip
    edge.feeds = (edge.stock, edge.option, edge.trading)
    return trades


async def test_trades_of_the_subscribed_contracts_arrive_with_the_quote_in_force() -> None:
    async with exchange_edge() as edge:
        trades = with_trades(edge)
        edge.quotes.set_chain(await edge.data.option_contracts("SPY", "2026-01-05", [FAR]))
        edge.option.set_option_symbols([occ(600), occ(605)])
        async with running(*edge.feeds):
            await edge.until(OPEN_NS + 5 * NS)
            assert edge.heard.states(Feed.OPTION)[-1] is FeedState.LIVE
            assert edge.option.subscribed == {occ(600), occ(605)}
            (message,) = trades.drain(OPEN_NS + 5 * NS)
            assert isinstance(message, OptionTrades)
            times = np.frombuffer(message.traded_ns, "<i8")
            assert len(times) >= 4
            assert (np.diff(times) > 0).all()
            assert set(np.frombuffer(message.price, "<f8").tolist()) == {1.25}
            assert set(np.frombuffer(message.size, "<i4").tolist()) == {3}
            assert message.venue == b"C" * len(times)
            bid, ask = np.frombuffer(message.bid, "<f8"), np.frombuffer(message.ask, "<f8")
            assert math.isnan(bid[0])  # nothing was known of the contract before its first trade
            assert set(bid[1:].tolist()) == {1.20}
            assert set(ask[1:].tolist()) == {1.30}

            # Leaving a contract leaves both of its channels; at no step are more than the limit subscribed.
            edge.option.set_option_symbols([occ(605), occ(595), occ(590)])
            await edge.until(OPEN_NS + 8 * NS)
            assert edge.option.subscribed == {occ(605), occ(595), occ(590)}
            trades.drain(OPEN_NS + 8 * NS)
            await edge.until(OPEN_NS + 12 * NS)
            assert trades.pending == 0
            assert edge.option.rejections.total == 0


# --------------------------------------------------------------------------------------------------- the commands


def invoke(exchange, *words: str):
    from oracle.cli.root import app

    keys = {"ORACLE_SIM__KEY": exchange.config.key, "ORACLE_SIM__SECRET": exchange.config.secret}
    done = CliRunner().invoke(app, [*words, "--set", f"sim.url={exchange.url}"], env=keys)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_a_running_venue_shows_its_chain_with_ages_and_reasons(start) -> None:
    exchange = start()
    exchange.source.set_touch(occ(605), 1.50, None)
    done = invoke(exchange, "chain", "spy", "--expiry", FAR, "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert (told["underlying"], told["expiry"], told["open_interest_date"]) == ("SPY", FAR, "2026-01-02")
    by_symbol = {row["symbol"]: row for row in told["contracts"]}
    assert len(by_symbol) == 10
    call = by_symbol[occ(610)]
    assert (call["bid"], call["ask"], call["mid"], call["open_interest"]) == (1.20, 1.30, 1.25, 1610)
    assert call["state"] == "usable"
    assert 0 < call["iv"] < 1
    assert 0 < call["delta"] < 0.5
    assert call["bid_age_s"] is not None
    one_sided = by_symbol[occ(605)]
    assert (one_sided["ask"], one_sided["ask_age_s"], one_sided["iv"]) == (None, None, None)
    assert one_sided["state"] == "one_sided"
    assert by_symbol[occ(590)]["state"] == "below_intrinsic"
    assert "indicative quotes" in told["labels"]
    shown = invoke(exchange, "chain", "SPY", "--strikes", "3")
    assert shown.exit_code == 0
    assert "2026-01-05" in shown.stdout  # the nearest expiry
    assert "open interest of 2026-01-02" in shown.stdout


def test_a_running_venue_shows_its_gamma_and_draws_it(start, tmp_path: Path) -> None:
    exchange = start()
    page, image = tmp_path / "gamma.html", tmp_path / "gamma.png"
    done = invoke(exchange, "gamma", "SPY", "--plot", str(page))
    assert done.exit_code == 0
    for words in ("call wall", "put wall", "pin", "flip", "assumes dealers long calls", "open interest of 2026-01-02"):
        assert words in done.stdout
    assert "<svg" in page.read_text()
    assert "http://" not in page.read_text().split("<svg")[0]
    assert invoke(exchange, "gamma", "SPY", "--plot", str(image), "--json").exit_code == 0
    assert image.read_bytes().startswith(b"\x89PNG")
    told = json.loads(invoke(exchange, "gamma", "SPY", "--expiry", FAR, "--json").stdout)
    assert told["assumption"]
    assert told["contracts_used"] > 0
    assert told["call_wall"] in (600.0, 605.0, 610.0)


@pytest.mark.parametrize("command", ["chain", "gamma"])
def test_what_is_not_there_is_no_data_with_the_reason_and_never_a_traceback(start, command: str) -> None:
    exchange = start()
    for words in (["QQQ"], ["NOPE"], ["SPY", "--expiry", "2026-03-20"]):
        done = invoke(exchange, command, *words)
        assert done.exit_code == 1, done.output
        assert "no data: no chain" in done.stderr
        assert "Traceback" not in done.output
    done = invoke(exchange, command, "QQQ", "--json")
    assert done.exit_code == 1
    assert "no chain" in json.loads(done.stdout)["no_data"]


def test_without_any_open_interest_gamma_is_no_data_and_the_chain_is_shown(start) -> None:
    import msgspec

    exchange = start()
    plain = exchange.source.listings
    exchange.source.listings = lambda u, d: [
        msgspec.structs.replace(row, open_interest=None, open_interest_date=None) for row in plain(u, d)
    ]
    done = invoke(exchange, "gamma", "SPY")
    assert done.exit_code == 1
    assert "no open interest" in done.stderr
    shown = invoke(exchange, "chain", "SPY", "--expiry", FAR)
    assert shown.exit_code == 0
    assert "open interest of an unknown date" in shown.stdout
