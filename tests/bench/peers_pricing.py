"""One pricing peer on the benchmark's chains, in the peers' own environment: one turn, one JSON line per input line.

Arguments: peer, a file of arrays, contracts per call. Peers get what they do vectorised: volatility, and those of the
five greeks that they have. Loading, flags and the first call, which warms, are not timed.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version

import numpy as np

Chain = dict[str, np.ndarray]
TURN_S = 0.05


def fast_vollib(chain: Chain, rate: float, dividend_yield: float) -> Callable[[], np.ndarray]:
    """Its numpy backend, volatility and then all greeks in one call."""
    import fast_vollib as library

    flag = np.where(chain["is_call"], "c", "p")
    spot, strike, years = chain["spot"], chain["strike"], chain["years"]
    model = {"model": "black_scholes_merton", "backend": "numpy", "return_as": "numpy"}

    def run() -> np.ndarray:
        vol = library.fast_implied_volatility(
            chain["price"], spot, strike, years, rate, flag, q=dividend_yield, on_error="ignore", **model
        )
        library.get_all_greeks(flag, spot, strike, years, rate, vol, q=dividend_yield, **model)
        return vol

    return run


def pyfeng(chain: Chain, rate: float, dividend_yield: float) -> Callable[[], np.ndarray]:
    """Its Black-Scholes-Merton model; it has no rho."""
    import pyfeng as library

    side = np.where(chain["is_call"], 1, -1)
    spot, strike, years = chain["spot"], chain["strike"], chain["years"]
    model = library.Bsm(0.2, intr=rate, divr=dividend_yield)

    def run() -> np.ndarray:
        vol = model.impvol(chain["price"], strike, spot, years, side, setval=True)
        for greek in (model.delta, model.gamma, model.vega, model.theta):
            greek(strike, spot, years, side)
        return vol

    return run


PEERS = {"fast-vollib": (fast_vollib, 5), "pyfeng": (pyfeng, 4)}


def best_call_s(run: Callable[[], object]) -> float:
    """Seconds of the quickest call within a turn."""
    best, ends = float("inf"), time.perf_counter() + TURN_S
    while (begun := time.perf_counter()) < ends:
        run()
        best = min(best, time.perf_counter() - begun)
    return best


def main() -> None:
    """Take a turn whenever a line comes; the line is the number of contracts."""
    warnings.simplefilter("ignore")
    peer, path = sys.argv[1:]
    arrays = dict(np.load(path))
    rate, dividend_yield = float(arrays.pop("rate")), float(arrays.pop("dividend_yield"))
    make, greeks = PEERS[peer]
    runs = {}
    for line in sys.stdin:
        count = int(line)
        if count not in runs:
            runs[count] = make({name: column[:count].copy() for name, column in arrays.items()}, rate, dividend_yield)
        vol_error = float(np.max(np.abs(runs[count]() - arrays["vol"][:count])))
        told = {"version": version(peer), "greeks": greeks, "vol_error": vol_error, "call_s": best_call_s(runs[count])}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
