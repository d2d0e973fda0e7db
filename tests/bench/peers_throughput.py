"""One peer on the benchmark's bars and rule, in the peers' own environment: one run, one JSON line for each input line.

Rule: buy the underlying when the fast average of closes crosses above the slow one, leave after some minutes.
Arguments: peer, CSV of start_ns,o,h,l,c,v, fast, slow, hold minutes. Reading the file is not timed.
"""

import asyncio
import csv
import datetime as dt
import json
import sys
import time
from decimal import Decimal
from importlib.metadata import version


class Rule:
    """The averages, and what to do after a close: 1 buy, -1 sell, 0 nothing."""

    def __init__(self, fast: int, slow: int, hold: int) -> None:
        self.fast_share, self.slow_share = 2.0 / (fast + 1), 2.0 / (slow + 1)
        self.slow_length, self.hold = slow, hold
        self.fast = self.slow = 0.0
        self.bars = 0
        self.above = False
        self.bought_at: int | None = None
        self.trades = 0

    def on_close(self, close: float) -> int:
        """Take a close."""
        if self.bars == 0:
            self.fast = self.slow = close
        else:
            self.fast += self.fast_share * (close - self.fast)
            self.slow += self.slow_share * (close - self.slow)
        self.bars += 1
        above = self.fast > self.slow
        crossed, self.above = above and not self.above and self.bars > self.slow_length, above
        if self.bought_at is not None and self.bars - self.bought_at >= self.hold:
            self.bought_at = None
            return -1
        if crossed and self.bought_at is None:
            self.bought_at = self.bars
            self.trades += 1
            return 1
        return 0


def run_backtesting(rows: list[list[str]], rule: Rule) -> float:
    """CPU seconds of backtesting.py."""
    import pandas as pd
    from backtesting import Backtest, Strategy

    index = pd.to_datetime([int(row[0]) for row in rows], unit="ns", utc=True)
    values = list(zip(*(row[1:] for row in rows), strict=True))
    columns = dict(zip(("Open", "High", "Low", "Close", "Volume"), values, strict=True))
    frame = pd.DataFrame({name: [float(x) for x in texts] for name, texts in columns.items()}, index=index)

    class Cross(Strategy):
        def init(self) -> None:
            pass

        def next(self) -> None:
            action = rule.on_close(float(self.data.Close[-1]))
            if action > 0:
                self.buy(size=10)
            elif action < 0:
                self.position.close()

    # The library gives no bar before the second one; warm-up is the rule's own.
    started_s = time.process_time()
    Backtest(frame, Cross, cash=100_000, finalize_trades=True).run()
    return time.process_time() - started_s


def run_basana(rows: list[list[str]], rule: Rule) -> float:
    """CPU seconds of basana."""
    import basana as bs
    from basana.backtesting import exchange as backtesting_exchange

    pair = bs.Pair("SPY", "USD")
    minute = dt.timedelta(minutes=1)
    events = []
    for row in rows:
        begin = dt.datetime.fromtimestamp(int(row[0]) // 10**9, dt.UTC)
        bar = bs.Bar(begin, pair, *(Decimal(x) for x in row[1:]), minute)
        events.append(bs.BarEvent(begin + minute, bar))

    async def main() -> None:
        dispatcher = bs.backtesting_dispatcher()
        exchange = backtesting_exchange.Exchange(dispatcher, {"USD": Decimal(100_000)})
        exchange.set_pair_info(pair, bs.PairInfo(base_precision=0, quote_precision=2))

        async def on_bar(event: bs.BarEvent) -> None:
            action = rule.on_close(float(event.bar.close))
            if action:
                side = bs.OrderOperation.BUY if action > 0 else bs.OrderOperation.SELL
                await exchange.create_market_order(side, pair, Decimal(10))

        exchange.add_bar_source(bs.FifoQueueEventSource(events=events))
        exchange.subscribe_to_bar_events(pair, on_bar)
        await dispatcher.run()

    started_s = time.process_time()
    asyncio.run(main())
    return time.process_time() - started_s


def main() -> None:
    """Run the peer whenever a line comes."""
    peer, path, *numbers = sys.argv[1:]
    fast, slow, hold = (int(n) for n in numbers)
    with open(path, newline="") as file:
        rows = list(csv.reader(file))[1:]
    run = {"backtesting": run_backtesting, "basana": run_basana}[peer]
    for _ in sys.stdin:
        rule = Rule(fast, slow, hold)
        took_s = run(rows, rule)
        told = {"version": version(peer), "bars_per_cpu_s": round(len(rows) / took_s), "trades": rule.trades}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
