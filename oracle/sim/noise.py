"""Named random numbers: a generator per name, and a hash that gives a number per (key, counter).

Everything random in the synthetic market is addressed by what it is for, never by when it was asked for, so
nothing depends on the order of requests, on the process or on PYTHONHASHSEED.
"""

import hashlib

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)


def stream(seed: int, *names: str) -> np.random.Generator:
    """Open the generator that belongs to these names under this seed."""
    words = np.frombuffer(_digest(names), dtype="<u4").tolist()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words])))


def key(seed: int, *names: str) -> int:
    """Hash a seed and names to 64 bits: the address of a counted random sequence."""
    return int.from_bytes(_digest((str(seed), *names))[:8], "little")


def uniform(keys: Keys, counter: Ints | int, purpose: int) -> Floats:
    """Give numbers in (0, 1), one for each key and counter (broadcast), independent between purposes."""
    with np.errstate(over="ignore"):
        mixed = keys + np.asarray(counter, dtype=np.int64).astype(np.uint64) * _GOLDEN
        mixed = _mix(mixed + np.uint64(purpose) * _MIX_B)
    return ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _digest(names: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\x1f".join(names).encode()).digest()[:16]


def _mix(value: Keys) -> Keys:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014): every input bit moves about half the output bits."""
    value = (value ^ (value >> np.uint64(30))) * _MIX_A
    value = (value ^ (value >> np.uint64(27))) * _MIX_B
    return value ^ (value >> np.uint64(31))
