"""Ours: the real daemon in paper mode, as a process of its own, with a strategy that wants a trade on every bar.

Inputs: the broker's address, a key, a state folder, the bench's clock file. Everything is the product's (edges, core,
risk, store, gateway) but the clock, which the bench moves, and the strategy. ``--no-commit`` leaves the store's commit
out, for the one figure that is compared without it.
"""

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from oracle import app, logs
from oracle.config import load
from oracle.core.errors import InvariantError
from oracle.core.marketdata import Bar
from oracle.core.message import Message
from oracle.core.messages import ExitPlan, Intent, Leg, Stamped
from oracle.core.money import price_from_float
from oracle.core.ports import Context, DeltaRequest, Selected
from oracle.core.sessions import NS
from oracle.core.vocabulary import Side
from oracle.store.sqlite import Store
from oracle.strategies import registry
from oracle.strategies.base import Strategy, StrategyParams, Verdict, param
from tests.bench import market
from tests.bench.bench_clock import BenchClock

NAME = "every_bar"
# A bar that closes this far under the spot ends every trade that the strategy has opened.
STOP_SHARE = 0.99
FLAT_BEFORE_CLOSE_S = 600


class EveryBar(Strategy):
    """Wants one call near 0.5 delta on each bar until ``entries`` have been wished for."""

    name = NAME

    class Params(StrategyParams):
        """Its settings."""

        universe: tuple[str, ...] = param(("IWM", "QQQ", "SPY"), "", "underlyings")
        entries: int = param(1_000_000, "intents", "how many intents at most", ge=0)

    def __init__(self, params: StrategyParams, code_hash: str) -> None:
        super().__init__(params, code_hash)
        assert isinstance(params, self.Params)
        self.params = params
        self._sent = 0

    @property
    def universe(self) -> tuple[str, ...]:
        return self.params.universe

    @property
    def warmup_sessions(self) -> int:
        return 0

    @property
    def max_expiry_sessions(self) -> int:
        return 4

    def on_warmup_bar(self, bar: Bar, context: Context) -> None:
        """Nothing to warm."""

    def on_intent_sent(self, intent_id: str) -> None:
        self._sent += 1

    def evaluate(self, symbol: str, context: Context) -> Verdict | None:
        """Select by delta as the shipped strategies do."""
        session = context.session
        if session is None or self._sent >= self.params.entries:
            return self.no_signal(symbol, "done", {})
        request = DeltaRequest(symbol, (market.EXPIRY,), True, 0.40, 0.60, 0.50, 0.10, 15.0)
        found = context.chains.select(request, context.at_ns)
        if not isinstance(found, Selected):
            return self.no_data(symbol, found.reason, {})
        quote = found.quote
        if quote.bid is None or quote.ask is None:
            raise InvariantError(f"{found.symbol} was chosen without a two-sided quote")
        leg = Leg(
            found.symbol, Side.BUY, 1, price_from_float(quote.bid), price_from_float(quote.ask), quote.quoted_ns,
            round(found.delta, 9), round(found.iv, 9),
        )  # fmt: skip
        flat_ns = session.close_ns - FLAT_BEFORE_CLOSE_S * NS
        stop = round(found.spot * STOP_SHARE, 2)
        plan = ExitPlan(None, 0.5, None, None, stop, 1, flat_ns)
        return Intent(
            f"{NAME}:{session.date}:{symbol}:{self._sent + 1}", NAME, self.code_hash, symbol, (leg,), plan, 1.0, 0.5,
            "a bar came", {"spot": found.spot}, flat_ns,
        )  # fmt: skip


async def _no_commit(_store: Store, _messages: Sequence[Message], _stamped: Stamped) -> int:
    """Store nothing: only for the figure without the commit."""
    return 0


def main() -> None:
    """Be the daemon until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--clock", type=Path, required=True)
    parser.add_argument("--no-commit", action="store_true")
    parser.add_argument("--burst", type=int, default=0, help="one underlying, and so many entries at most")
    asked = parser.parse_args()
    registry.BUILT_IN[NAME] = "tests.bench.ours:EveryBar"
    if asked.no_commit:
        Store.commit = _no_commit  # type: ignore[method-assign]
    os.environ.update(ORACLE_ALPACA__KEY=asked.key, ORACLE_ALPACA__SECRET="bench-secret")
    wish = {"universe": ("SPY",), "entries": asked.burst} if asked.burst else {}
    settings = load(None, [
        "mode=paper", f"alpaca.trading_url={asked.url}", f"alpaca.data_url={asked.url}",
        f"alpaca.stream_url={asked.url.replace('http', 'ws', 1)}", "console.port=0", "logs.format=json",
        # The bench's hours pass in jumps, which are no silence of the feed.
        "feeds.stale_after_s=900",
        # One contract and one price for each order; an entry that does not fill is taken back before the next bar.
        "risk.max_contracts_per_order=1", "risk.max_round_trips_per_session=50", "ladder.fractions=[0.5]",
        "ladder.stand_s=5.0", "ladder.window_s=5.0",
    ], base={"strategies": {NAME: wish}})  # fmt: skip
    logs.configure_logging(settings.logs.level, secrets=settings.secrets(), colour=False)
    asyncio.run(app.run(settings, asked.state, wall_clock=BenchClock(asked.clock)))


if __name__ == "__main__":
    main()
