"""Sums of floats that do not depend on the order or the way in which they were added.

Inputs: finite floats. Outputs: counts, sums and sums of squares as integers in units of 2^-120 and 2^-240, and the mean
and the deviation that follow from them. Invariants: batch and running forms hold the same integers, therefore give the
same bits; a series without variance has exactly none; what needs more values than there are is None.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Doubles of 1e-20 and more are whole in these units; what is smaller is cut, alike in both forms.
_BITS = 120
_MANTISSA = 53
_LIMB = 18
_MASK = (1 << _LIMB) - 1


@dataclass(slots=True)
class Moments:
    """Count, sum and sum of squares of a series of floats, exact."""

    count: int = 0
    total: int = 0
    squares: int = 0

    def add(self, value: float) -> None:
        """Count one value; finite."""
        scaled = int(math.ldexp(value, _BITS))
        self.count += 1
        self.total += scaled
        self.squares += scaled * scaled

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "Moments":
        """Count all values of an array; shape (n,), finite."""
        if not values.size:
            return cls()
        # Sorted by exponent, so that each run is of integers with one power of two before them.
        fractions, exponents = np.frexp(np.trunc(np.ldexp(values, _BITS)))
        order = np.argsort(exponents.astype(np.int16), kind="stable")
        exponents = exponents[order]
        starts = np.flatnonzero(np.concatenate(([True], exponents[1:] != exponents[:-1])))
        # Three limbs of 18 bits: their products add up in 64 bits for as many as 2^24 values.
        mantissas = np.ldexp(fractions[order], _MANTISSA).astype(np.int64)
        a, b, c = mantissas >> 2 * _LIMB, (mantissas >> _LIMB) & _MASK, mantissas & _MASK
        limbs = (c, b, a), (c * c, 2 * b * c, 2 * a * c + b * b, 2 * a * b, a * a)
        total, squares = (_combine(parts, starts, exponents, power) for power, parts in enumerate(limbs, 1))
        return cls(values.size, total, squares)

    @property
    def mean(self) -> float | None:
        """The arithmetic mean, Σx / n; None without a value."""
        return None if self.count == 0 else self.total / (self.count << _BITS)

    @property
    def mean_square(self) -> float | None:
        """Σx² / n; None without a value."""
        return None if self.count == 0 else self.squares / (self.count << 2 * _BITS)

    @property
    def deviation(self) -> float | None:
        """The sample's standard deviation, √(Σ(x − mean)² / (n − 1)); None with fewer than two values."""
        n = self.count
        if n < 2:
            return None
        return math.sqrt((n * self.squares - self.total * self.total) / (n * (n - 1) << 2 * _BITS))


def _combine(
    limbs: tuple[NDArray[np.int64], ...], starts: NDArray[np.intp], exponents: NDArray[np.int32], power: int
) -> int:
    """Add limbs (lowest first) of mantissas to a power, in runs of one exponent each; a whole number of units."""
    out = 0
    sums = [np.add.reduceat(limb, starts).tolist() for limb in limbs]
    for exponent, *parts in zip(exponents[starts].tolist(), *sums, strict=True):
        whole = sum(part << _LIMB * place for place, part in enumerate(parts))
        shift = power * (exponent - _MANTISSA)
        out += whole << shift if shift >= 0 else whole >> -shift
    return out


def integer_sum(values: NDArray[np.int64]) -> int:
    """Add integers without overflow; shape (n,)."""
    return int(values.sum()) if fits(values) else sum(values.tolist())


def fits(values: NDArray[np.int64]) -> bool:
    """Say whether no sum of some of the integers leaves 64 bits; shape (n,)."""
    return not values.size or int(np.abs(values).max()) <= (1 << 62) // values.size
