"""Contracts a second for implied volatility and five greeks, beside QuantLib contract by contract and vectorised peers.

Inputs: a generated chain, the same for all; the peers run as processes in ``.venv-peers``. Outputs: figures with
targets for ``tests.bench``, and the numbers behind them. All take turns, as often, warm; the best call of each counts.
"""

import contextlib
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import QuantLib as ql  # noqa: N813 the name the library is known by

from oracle.options.forwards import carried_forward
from oracle.options.greeks import chain_greeks
from oracle.options.pricing import black_forward
from tests.bench.measure import Figure
from tests.bench.peers_pricing import PEERS, best_call_s

PEERS_PYTHON = Path(__file__).resolve().parents[2] / ".venv-peers" / "bin" / "python"
SIZES = (200, 2_000, 10_000)
ROUNDS, QUICK_ROUNDS = 12, 3
OVER_QUANTLIB, OVER_PEERS = 3.0, 1.5
SPOT, RATE, DIVIDEND_YIELD = 600.0, 0.043, 0.012

Chain = dict[str, np.ndarray]


@dataclass(slots=True)
class Runner:
    """One contestant: a turn with so many contracts says its seconds a call, or why there is none."""

    name: str
    turn: Callable[[int], dict[str, Any]]


def make_chain(count: int, *, easy: bool) -> Chain:
    """Calls and puts of seven expiries from a day to 90, two deviations about the money, all with a volatility.

    ``easy`` has the sides out of the money alone, between 20 and 30 %: there fast-vollib's iteration ends without the
    bisection that costs it most of its time elsewhere, so each of the peers is at its best. Prices are not rounded to
    cents: what has no volatility would make the peers warn, iterate in vain or invent one.
    """
    random = np.random.default_rng(20)
    years = random.choice(np.array([1, 3, 7, 14, 30, 45, 90]) / 365, count)
    vol = random.uniform(0.2, 0.3, count) if easy else random.uniform(0.12, 0.8, count)
    strike = SPOT * np.exp(random.uniform(-2, 2, count) * (0.2 if easy else vol) * np.sqrt(years))
    forward = carried_forward(SPOT, years, RATE, (), DIVIDEND_YIELD)
    is_call = strike > forward if easy else random.random(count) < 0.5
    price = black_forward(forward, strike, years, vol, is_call, np.exp(-RATE * years))
    spot = np.full(count, SPOT)
    return {"price": price, "spot": spot, "strike": strike, "years": years, "is_call": is_call, "vol": vol}


def ours(chain: Chain) -> Callable[[], np.ndarray]:
    """The product's call, with the forward from spot, rate and yield, which is the peers' input."""

    def run() -> np.ndarray:
        forward = carried_forward(chain["spot"], chain["years"], RATE, (), DIVIDEND_YIELD)
        found = chain_greeks(
            chain["price"], forward, chain["strike"], chain["years"], chain["is_call"], RATE, DIVIDEND_YIELD
        )
        return found.iv

    return run


def quantlib(chain: Chain) -> Callable[[], np.ndarray]:
    """QuantLib's formulae, one contract after another; its default accuracy, from a guess of 30 %."""
    names = ("price", "spot", "strike", "years", "is_call")
    rows = list(zip(*(chain[name].tolist() for name in names), strict=True))

    def run() -> np.ndarray:
        out = np.empty((6, len(rows)))
        for i, (price, spot, strike, years, is_call) in enumerate(rows):
            right = ql.Option.Call if is_call else ql.Option.Put
            discount, forward = math.exp(-RATE * years), spot * math.exp((RATE - DIVIDEND_YIELD) * years)
            root = math.sqrt(years)
            total = ql.blackFormulaImpliedStdDev(right, strike, forward, price, discount, 0.0, 0.3 * root)
            at = ql.BlackCalculator(ql.PlainVanillaPayoff(right, strike), forward, total, discount)
            greeks = (at.delta(spot), at.gamma(spot), at.theta(spot, years), at.vega(years), at.rho(years))
            out[:, i] = (total / root, *greeks)
        return out[0]

    return run


def in_process(name: str, chain: Chain, make: Callable[[Chain], Callable[[], np.ndarray]], version: str) -> Runner:
    """A contestant of this process."""
    runs: dict[int, Callable[[], np.ndarray]] = {}

    def turn(count: int) -> dict[str, Any]:
        if count not in runs:
            runs[count] = make({key: column[:count].copy() for key, column in chain.items()})
        error = float(np.max(np.abs(runs[count]() - chain["vol"][:count])))
        return {"version": version, "greeks": 5, "vol_error": error, "call_s": best_call_s(runs[count])}

    return Runner(name, turn)


@contextlib.contextmanager
def peer(name: str, path: Path) -> Iterator[Runner]:
    """A contestant in the peers' environment; without that, one that says so."""
    if not PEERS_PYTHON.exists():
        yield Runner(name, lambda _: {"absent": "no .venv-peers; requirements/peers.txt says how"})
        return
    script, errors = Path(__file__).with_name("peers_pricing.py"), path.with_name(f"{name}.err")
    with errors.open("w") as said, subprocess.Popen(
        [PEERS_PYTHON, script, name, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        ask, answers = process.stdin, process.stdout

        def turn(count: int) -> dict[str, Any]:
            with contextlib.suppress(BrokenPipeError):  # it has ended: what it said last is read below
                ask.write(f"{count}\n")
                ask.flush()
            line = answers.readline()
            if not line:
                last = errors.read_text().strip().splitlines()
                return {"absent": last[-1] if last else f"exit {process.wait()}"}
            told: dict[str, Any] = json.loads(line)
            return told

        try:
            yield Runner(name, turn)
        finally:
            process.kill()


def measure(rounds: int, sizes: tuple[int, ...] = SIZES, *, easy: bool) -> dict[str, Any]:
    """Let all take turns; the best call of each, by name and number of contracts, and the load before."""
    chain = make_chain(max(sizes), easy=easy)
    found: dict[str, dict[int, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="oracle-bench-") as folder, contextlib.ExitStack() as stack:
        path = Path(folder) / "chain.npz"
        np.savez(path, rate=RATE, dividend_yield=DIVIDEND_YIELD, **chain)
        runners = [in_process("ours", chain, ours, ""), in_process("quantlib", chain, quantlib, ql.__version__)]
        runners += [stack.enter_context(peer(name, path)) for name in PEERS]
        load = os.getloadavg()[0]
        for _ in range(rounds):
            for count in sizes:
                for runner in runners:
                    told, best = runner.turn(count), found.setdefault(runner.name, {})
                    if "absent" in told or told["call_s"] < best.get(count, {}).get("call_s", math.inf):
                        best[count] = told
    return {"load": load, "easy": easy, "contracts": found}


def figures(result: dict[str, Any]) -> list[Figure]:
    """Contracts a second beside each of the others; on the easy chain with targets, 200 and the faster peer."""
    found, made, easy = result["contracts"], [], result["easy"]
    for count in found["ours"]:
        speeds = {name: count / told[count]["call_s"] for name, told in found.items() if "call_s" in told[count]}
        beside = {name: speeds[name] for name in PEERS if name in speeds}
        fastest = max(beside, key=lambda name: beside[name]) if beside else None
        for name, told in found.items():
            if name == "ours":
                continue
            target = None
            if easy and count == min(SIZES):
                target = OVER_QUANTLIB if name == "quantlib" else None
            elif easy and (name == fastest or (fastest is None and name in PEERS)):
                target = OVER_PEERS
            title = f"IV and greeks of {count:,}{'' if easy else ', whole chain'}, beside {name}"
            note = _note(told[count], found["ours"][count]["vol_error"], result["load"])
            made.append(Figure(title, speeds["ours"], speeds.get(name), "contracts/s", target, "at_least", note))
    return made


def _note(told: dict[str, Any], own_error: float, load: float) -> str:
    if "absent" in told:
        return str(told["absent"])
    has = "" if told["greeks"] == 5 else f", {told['greeks']} of the five greeks"
    errors = f"greatest error of its volatilities {told['vol_error']:.0e}, of ours {own_error:.0e}"
    return f"version {told['version']}{has}, {errors}; load before {load:.1f}"


def run(quick: bool) -> list[Figure]:
    """All figures: the easy chain in all sizes, a whole one in the middle size."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    return figures(measure(rounds, easy=True)) + figures(measure(rounds, SIZES[1:2], easy=False))
