"""The pricing bench runs and judges its ratios; its figures are taken by ``scripts/bench``, not here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench import pricing_speed
from tests.bench.measure import Figure
from tests.bench.peers_pricing import PEERS
from tests.bench.pricing_speed import SIZES, figures, make_chain, measure, ours, quantlib


def told(contracts_per_s: float, sizes: tuple[int, ...] = SIZES) -> dict[int, dict[str, Any]]:
    return {n: {"version": "1", "greeks": 5, "vol_error": 1e-9, "call_s": n / contracts_per_s} for n in sizes}


def result(peers: dict[str, Any]) -> dict[str, Any]:
    contracts = {"ours": told(3e6), "quantlib": told(9e5), **peers}
    return {"load": 0.5, "easy": True, "contracts": contracts}


def judged(found: list[Figure]) -> dict[str, bool | None]:
    return {figure.name: figure.met for figure in found if figure.target is not None}


def test_the_faster_peer_and_quantlib_are_judged():
    found = judged(figures(result({"fast-vollib": told(1e6), "pyfeng": told(2.1e6)})))
    assert found == {
        "IV and greeks of 200, beside quantlib": True,
        "IV and greeks of 2,000, beside pyfeng": False,
        "IV and greeks of 10,000, beside pyfeng": False,
    }


def test_without_peers_the_targets_are_missed():
    absent = {n: {"absent": "no .venv-peers"} for n in SIZES}
    found = figures(result(dict.fromkeys(PEERS, absent)))
    assert list(judged(found).values()).count(False) == 4
    assert all(figure.note == "no .venv-peers" for figure in found if figure.floor is None)


@pytest.mark.parametrize("easy", [True, False])
def test_ours_and_quantlib_find_the_volatilities_of_the_chain(easy):
    chain = make_chain(60, easy=easy)
    np.testing.assert_allclose(ours(chain)(), chain["vol"], atol=1e-10)
    np.testing.assert_allclose(quantlib(chain)(), chain["vol"], atol=1e-4)


def test_all_take_turns_and_a_peer_that_is_not_there_says_so(monkeypatch):
    monkeypatch.setattr(pricing_speed, "PEERS_PYTHON", Path("not-there"))
    found = measure(1, (20,), easy=True)["contracts"]
    assert found["ours"][20]["vol_error"] < 1e-10
    # No order of the two is asked for: one call of 20 contracts beside other tests says nothing about speed.
    assert all(found[name][20]["call_s"] > 0 for name in ("ours", "quantlib"))
    assert all("peers.txt" in found[peer][20]["absent"] for peer in PEERS)


@pytest.mark.slow
@pytest.mark.skipif(not pricing_speed.PEERS_PYTHON.exists(), reason="requirements/peers.txt is not installed")
def test_the_peers_find_the_same_volatilities():
    found = measure(1, (100,), easy=True)["contracts"]
    assert all(found[peer][100].get("vol_error", 1.0) < 1e-6 for peer in PEERS)
