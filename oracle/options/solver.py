"""Total volatility (volatility times root of years) from normalised out-of-the-money prices: the inverse of Black.

Inputs: prices over ``sqrt(forward * strike)``, undiscounted, of the side out of the money, and ``a`` = |log(forward /
strike)|. Output: total volatilities, NaN for what is not strictly inside the bounds. A table that is built at import by
the slow solver starts one fourth-order step for what chains hold; the rest goes to the slow solver. Invariant: a
contract's result does not depend on its neighbours.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import erfcx, ndtri

Array = npt.NDArray[np.float64]

CHUNK = 4096  # rows at a time: measured; fewer cost more calls, and more leave the second-level cache
MAX_TOTAL_VOL = 70.0  # beyond it the price equals its upper bound in double precision, and erfcx overflows
SQRT2 = float(np.sqrt(2.0))
SQRT2PI = float(np.sqrt(2.0 * np.pi))
_LOG_SQRT2PI = float(np.log(SQRT2PI))
_SQRT_HALF_PI = float(np.sqrt(np.pi / 2.0))
_LOW_STEPS = 3  # measured over log moneyness 0 to 16 and total volatility 1e-5 to 10: full precision after these
_HIGH_STEPS = 4

# The table's two axes: z, a simple function of a / price that is nearly a / total vol, and w, a first guess of the
# total volatility that is right for the normal model. It holds total vol / w, from 0.90 to 1.40 and smooth in both.
_Z_MAX, _Z_ROWS = 12.5, 256  # prices down to 1e-35 of the underlying
_W_MAX, _W_COLUMNS = 2.0, 66
_TABLE_VOL_MAX = 3.0  # 300 % over a year; beyond it the ratio rises too steeply for straight lines between nodes
_Z_STEP, _W_STEP = _Z_MAX / (_Z_ROWS - 2), _W_MAX / (_W_COLUMNS - 2)


def total_vol(target: Array, a: Array) -> Array:
    """Invert normalised prices; one-dimensional arrays of one length, NaN where no volatility exists."""
    count = target.size
    if count <= CHUNK:
        return _invert(target, a)
    out = np.empty_like(target)
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        out[part] = _invert(target[part], a[part])
    return out


def ratio(a: Array, s: Array) -> Array:
    """Normalised out-of-the-money price over its slope in s: free of underflow."""
    h, u = a / s, 0.5 * s
    value: Array = _SQRT_HALF_PI * (erfcx((h - u) / SQRT2) - erfcx((h + u) / SQRT2))
    return value


def slope(a: Array, s: Array) -> Array:
    """Derivative of the normalised price in total volatility s."""
    h, u = a / s, 0.5 * s
    value: Array = np.exp(-0.5 * (h * h + u * u)) / SQRT2PI
    return value


def _invert(target: Array, a: Array) -> Array:
    with np.errstate(all="ignore"):
        s = _guess(target, a)
        out = _step(np.log(target), a, s)
        rest = np.flatnonzero(np.isnan(s))
        if rest.size:
            out[rest] = np.nan
            rest = rest[(target[rest] > 0) & (target[rest] < np.exp(-0.5 * a[rest])) & np.isfinite(a[rest])]
            out[rest] = _solve(target[rest], a[rest])
    return out


def _step(goal: Array, a: Array, s: Array) -> Array:
    """One step of Householder's method of the fourth order on log(price) - goal."""
    h, u = a / s, 0.5 * s
    r = (erfcx((h - u) * (1.0 / SQRT2)) - erfcx((h + u) * (1.0 / SQRT2))) * _SQRT_HALF_PI
    hh = h * h
    newton = r * (goal - np.log(r) + 0.5 * (hh + u * u) + _LOG_SQRT2PI)
    inverse, turn = 1.0 / r, hh / s - 0.5 * u  # the latter: second derivative of the price over its first
    bend = turn - inverse
    twist = turn * turn - 3.0 * hh / (s * s) - 0.25 + inverse * (2.0 * inverse - 3.0 * turn)
    stepped: Array = s + newton * (1.0 + 0.5 * newton * bend) / (1.0 + newton * (bend + newton * twist * (1.0 / 6.0)))
    return stepped


def _solve(target: Array, a: Array) -> Array:
    """Total volatility of any price inside its bounds, without the table."""
    turning = np.sqrt(2.0 * np.maximum(a, 1e-300))
    low = target < ratio(a, turning) * slope(a, turning)
    out = np.empty_like(target)
    out[low] = _solve_low(target[low], a[low], turning[low])
    high = ~low
    out[high] = _solve_high(target[high], a[high], turning[high])
    return out


def _normal_table() -> tuple[Array, Array]:
    """Rows (log price / moneyness, log moneyness / total vol) of the normal model, by rising price."""
    h = np.exp(np.linspace(np.log(60.0), np.log(1e-8), 2048))
    price = 1.0 - h * _SQRT_HALF_PI * erfcx(h / SQRT2)
    return np.log(price / h) - 0.5 * h * h - _LOG_SQRT2PI, np.log(h)


_NORMAL_PRICE, _NORMAL_H = _normal_table()


def _solve_low(target: Array, a: Array, turning: Array) -> Array:
    goal = np.log(target)
    base = goal - np.log(a)
    # Below the turning point the price is nearly the normal model's times exp(-s**2 / 8): look it up twice.
    s: Array = a * np.exp(-np.interp(base, _NORMAL_PRICE, _NORMAL_H))
    s = a * np.exp(-np.interp(base + 0.125 * s * s, _NORMAL_PRICE, _NORMAL_H))
    s = np.minimum(s, turning)
    for _ in range(_LOW_STEPS):
        r = ratio(a, s)
        h, u = a / s, 0.5 * s
        level = np.log(r) - 0.5 * (h * h + u * u) - _LOG_SQRT2PI
        newton = level * (goal - level) / goal * r
        curve = a * a / s**3 - 0.25 * s - (1.0 + 2.0 / level) / r
        s = np.minimum(s + newton / (1.0 + 0.5 * newton * curve), turning)
    return s


def _solve_high(target: Array, a: Array, turning: Array) -> Array:
    ceiling = np.exp(-0.5 * a)
    room = ceiling - target
    s: Array = np.maximum(turning, -2.0 * ndtri(room / (2.0 * np.cosh(0.5 * a))))  # exact at the money
    for _ in range(_HIGH_STEPS):
        steep = slope(a, s)
        price = ratio(a, s) * steep
        left = np.maximum(ceiling - price, 1e-300)
        newton = np.log1p((target - price) / room) * left / steep
        curve = a * a / s**3 - 0.25 * s + steep / left
        step = newton / (1.0 + 0.5 * newton * curve)
        s = np.minimum(np.maximum(s + step, turning), MAX_TOTAL_VOL)
    return s


def _first_guess(z: Array, a: Array) -> Array:
    """The axis w: total volatility of the normal model to a few percent."""
    return a * (1.0 + 0.3 * z) / (z * (0.4 + 0.3 * z))


def _guess_table() -> Array:
    """Total vol over first guess at the nodes, row by row of z; NaN outside the table's range and at its far edges."""
    z = np.maximum(np.arange(_Z_ROWS) * _Z_STEP, 1e-7)[:, None]
    w = np.maximum(np.arange(_W_COLUMNS) * _W_STEP, 1e-6)[None, :]
    a = w / _first_guess(z, np.ones(1))
    q = 0.25 * z * z + np.sqrt(0.0625 * z**4 + z * z)
    target = a / np.expm1(q)
    inside = target < np.exp(-0.5 * a) * (1.0 - 1e-9)
    table = np.full(a.shape, np.nan)
    with np.errstate(all="ignore"):
        table[inside] = _solve(target[inside], a[inside])
    table[~(table <= _TABLE_VOL_MAX)] = np.nan
    table /= w
    table[-1, :] = table[:, -1] = np.nan
    return table.ravel()


_RATIOS = _guess_table()


def _guess(target: Array, a: Array) -> Array:
    """Total volatility to 2e-4 of itself by straight lines between the table's nodes; NaN outside its range."""
    a = np.maximum(a, 1e-8 * target)  # at the money z would be zero
    q = np.log1p(a / target)
    z = q / np.sqrt(1.0 + 0.5 * q)
    w = _first_guess(z, a)
    # fmin takes the number when the other is NaN: what is outside or unknown lands on the far edges, which are NaN.
    row, column = np.fmin(z * (1.0 / _Z_STEP), _Z_ROWS - 1.5), np.fmin(w * (1.0 / _W_STEP), _W_COLUMNS - 1.5)
    i, j = row.astype(np.int32), column.astype(np.int32)
    row -= i
    column -= j
    i *= _W_COLUMNS
    i += j
    near, far = _RATIOS[i], _RATIOS[i + _W_COLUMNS]
    near += (_RATIOS[i + 1] - near) * column
    far += (_RATIOS[i + (_W_COLUMNS + 1)] - far) * column
    near += (far - near) * row
    near *= w
    return near
