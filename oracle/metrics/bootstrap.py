"""What the profit factor and the next 250 trades' drawdown could be, by resampling the trades seen in blocks.

Inputs: a strategy's trades as ``Evidence``, its key. Outputs: shares of resamples that meet a limit, and intervals. The
stationary bootstrap (Politis, Romano 1994) draws blocks of geometric length from the trades laid in a circle, so that
what clusters stays clustered. Invariants: the pool holds one phantom trade at the stored worst case; the seed follows
from strategy, hash and number of trades alone; sums are of integers and paths are products, so the bits repeat.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from oracle.core.trackrecord import StrategyKey
from oracle.metrics.arrays import Floats, Ints
from oracle.metrics.evidence import Evidence, best_of
from oracle.metrics.exact import Moments

RESAMPLES: Final = 2000
# The drawdown criterion looks ahead over so many trades.
HORIZON_TRADES: Final = 250
_TAIL: Final = 0.025


@dataclass(frozen=True, slots=True)
class Share:
    """The share of resamples that meet a limit, and the middle 95 % of their values; None where a bound is infinite."""

    probability: float
    low: float | None
    high: float | None


def mean_block(evidence: Evidence, n: int, inflation: float) -> float:
    """Give the mean length of a block after ``n`` trades, in trades.

    The longest of: the trades made during one holding period (trades open at a time, by Little's law: time held over
    time passed); n^(1/3), the order that is best for independent trades; and that times ``inflation``^(2/3), as the
    best length grows with the correlation (Politis, White 2004).
    """
    opened, closed = evidence.opened_ns[:n], evidence.closed_ns[:n]
    passed = int(closed.max()) - int(opened.min())
    open_at_once = math.fsum((closed - opened).tolist()) / passed if passed > 0 else 1.0
    return min(max(open_at_once, math.cbrt(n * inflation * inflation), 1.0), float(n))


class Resampler:
    """Draws blocks of the trades until the ``n``-th, for one strategy; the same draws whenever it is asked again.

    Args:
        parameter_sets: each trade of the pool is lowered by what luck adds to the mean of the best of so many.
    """

    def __init__(self, key: StrategyKey, evidence: Evidence, n: int, inflation: float, parameter_sets: int) -> None:
        self.block = mean_block(evidence, n, inflation)
        self._key, self._n = key, n
        self._net = np.append(evidence.net[:n], -evidence.phantom[n - 1])
        self._returns = np.append(evidence.returns[:n], -evidence.phantom_return[n - 1])
        # The best of many variants owes this many deviations of its mean trade to luck.
        self._luck = best_of(parameter_sets) * math.sqrt(inflation / n)

    def profit_factor(self, required: float) -> Share:
        """Tell in how many resamples, each as long as the record, the profit factor is at least ``required``."""
        net = self._net
        if self._luck > 0:
            lowered = self._luck * (Moments.of(net.astype(np.float64)).deviation or 0.0)
            net = net - round(lowered)
        starts, lengths = self._blocks("profit factor", self._n)
        ends = starts + lengths
        gained, lost = _circular(np.maximum(net, 0)), _circular(np.maximum(-net, 0))
        gains = (gained[ends] - gained[starts]).sum(axis=1).astype(np.float64)
        losses = (lost[ends] - lost[starts]).sum(axis=1).astype(np.float64)
        met = np.count_nonzero((gains >= required * losses) & (gains > 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = np.where(losses > 0, gains / losses, np.where(gains > 0, np.inf, 0.0))
        return _share(int(met), factors)

    def drawdown(self, limit: float) -> Share | None:
        """Tell in how many paths of the next 250 trades the largest fall from a peak stays under ``limit``, a fraction.

        Each trade moves the account by its share of the equity at its entry. None: that equity is not known for each.
        """
        returns = self._returns
        if not np.isfinite(returns).all():
            return None
        if self._luck > 0:
            returns = returns - self._luck * (Moments.of(returns).deviation or 0.0)
        starts, lengths = self._blocks("drawdown", HORIZON_TRADES)
        flat = lengths.ravel()
        first = np.cumsum(flat) - flat
        drawn = np.repeat(starts.ravel() - first, flat) + np.arange(RESAMPLES * HORIZON_TRADES)
        growth = np.maximum(1.0 + returns, 0.0)[drawn % returns.size].reshape(RESAMPLES, HORIZON_TRADES)
        paths = np.multiply.accumulate(growth, axis=1)
        peaks = np.maximum(np.maximum.accumulate(paths, axis=1), 1.0)
        falls = (1.0 - paths / peaks).max(axis=1)
        return _share(int(np.count_nonzero(falls < limit)), falls)

    def _blocks(self, purpose: str, length: int) -> tuple[Ints, Ints]:
        """Draw starts and lengths of blocks; rows of ``RESAMPLES`` whose lengths add up to ``length`` each."""
        generator = np.random.Generator(np.random.PCG64(seed_of(self._key, self._n, purpose)))
        pool = self._net.size
        expected = length / self.block
        columns = math.ceil(expected + 4 * math.sqrt(expected)) + 8
        starts = np.floor(generator.random((RESAMPLES, columns)) * pool).astype(np.int64)
        # P(longer than k) = qᵏ. Products, not logarithms: these are the same bits on any processor.
        still = np.multiply.accumulate(np.full(math.ceil(20 * self.block), 1 - 1 / self.block))
        lengths = 1 + np.searchsorted(-still, -generator.random((RESAMPLES, columns)))
        ends = np.minimum(np.cumsum(lengths, axis=1), length)
        ends[:, -1] = length
        return starts, np.diff(ends, axis=1, prepend=0)


def seed_of(key: StrategyKey, n: int, purpose: str) -> int:
    """Give the seed of a strategy's resamples after ``n`` trades."""
    text = f"{key.strategy}\n{key.strategy_hash}\n{n}\n{purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])


def _circular(column: Ints) -> Ints:
    """Sum up a column that is walked around twice; shape (2 n + 1,)."""
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(np.concatenate((column, column)))))


def _share(met: int, values: Floats) -> Share:
    ordered = np.sort(values)
    low, high = float(ordered[int(_TAIL * values.size)]), float(ordered[int((1 - _TAIL) * values.size)])
    return Share(met / values.size, low if math.isfinite(low) else None, high if math.isfinite(high) else None)
