"""The filters of momentum scalping: walls refuse, the pin and unusual activity move the confidence, unknown is told."""

import pytest

from oracle.core.messages import Intent, NoData, NoSignal
from oracle.core.positioning import FlowSeen, GammaLevels, NotKnown
from oracle.strategies.positioning import PositioningParams, judge
from oracle.strategies.registry import canonical_params, code_hash, find, load

SPOT = 600.0


class Seen:
    """A settable view of positioning; remembers whether fresh levels were asked for."""

    def __init__(self, levels=None, flow=None):
        self.levels = NotKnown("open_interest", {}) if levels is None else levels
        self.seen = NotKnown("indicative_feed", {}) if flow is None else flow
        self.fresh = []

    def gamma(self, underlying, at_ns, *, fresh=True):
        self.fresh.append(fresh)
        return self.levels

    def flow(self, underlying, at_ns):
        return self.seen


class Around:
    """The part of a context that the filters look at."""

    def __init__(self, positioning, spot=SPOT):
        self.positioning, self.at_ns, self._spot = positioning, 0, spot
        self.chains = self

    def spot(self, underlying, at_ns):
        return self._spot


def levels(call_wall=650.0, put_wall=550.0, pin=None):
    return GammaLevels(0, SPOT, call_wall, put_wall, pin, 590.0, 1e8, "2026-01-02", 0.9, 100, {})


def flow(bullish=0.0, bearish=0.0, bullish_n=0, bearish_n=0):
    return FlowSeen(0, bullish, bearish, 0.0, bullish_n, bearish_n)


def judged(direction, seen, **settings):
    facts = {}
    return judge(PositioningParams(**settings), "SPY", direction, 599.0, Around(seen), facts), facts


@pytest.mark.parametrize(
    ("direction", "at", "reason"),
    [
        (1, {"call_wall": 603.0}, "below_call_wall"), (1, {"call_wall": 600.0}, "below_call_wall"),
        (1, {"call_wall": 603.1}, None), (1, {"call_wall": 599.9}, None), (1, {"put_wall": 599.0}, None),
        (-1, {"put_wall": 597.0}, "above_put_wall"), (-1, {"put_wall": 600.0}, "above_put_wall"),
        (-1, {"put_wall": 596.9}, None), (-1, {"put_wall": 600.1}, None), (-1, {"call_wall": 601.0}, None),
        (1, {"call_wall": None}, None), (-1, {"put_wall": None}, None),
    ],
)  # fmt: skip
def test_a_wall_just_ahead_refuses(direction, at, reason):
    assert judged(direction, Seen(levels(**at)))[0].reason == reason


@pytest.mark.parametrize(
    ("direction", "pin", "confidence"),
    [
        (1, 602.0, 0.90), (1, 601.2, 0.80), (1, 600.0, 0.80), (1, 598.8, 0.80), (1, 598.0, 0.85), (1, None, 0.85),
        (-1, 598.0, 0.90), (-1, 599.0, 0.80), (-1, 602.0, 0.85),
    ],
)  # fmt: skip
def test_the_pin_draws_ahead_and_holds_on_the_spot(direction, pin, confidence):
    found, facts = judged(direction, Seen(levels(pin=pin)))
    assert found.confidence == confidence
    assert facts["confidence"] == confidence
    assert found.reason is None  # 0.85 - 0.05 is not below 0.80


def test_a_lower_base_on_the_pin_is_too_low():
    found, _ = judged(1, Seen(levels(pin=600.0)), confidence=0.84)
    assert (found.reason, found.missing) == ("confidence_too_low", False)


@pytest.mark.parametrize(
    ("direction", "seen", "confidence"),
    [
        (1, flow(2.0, 1.0, 1, 5), 0.88), (1, flow(2.0, 1.0, 9, 0), 0.95), (1, flow(1.0, 2.0, 9, 0), 0.85),
        (1, flow(1.0, 1.0, 9, 0), 0.85), (-1, flow(1.0, 2.0, 9, 2), 0.91), (-1, flow(), 0.85),
    ],
)  # fmt: skip
def test_unusual_activity_adds_and_never_takes_off(direction, seen, confidence):
    found, facts = judged(direction, Seen(levels(), seen))
    assert found.confidence == confidence
    assert found.reason is None
    assert facts["flow"] == "known"


def test_confidence_stays_a_probability():
    assert judged(1, Seen(levels(pin=602.0), flow(2.0, 1.0, 9)), confidence=0.99)[0].confidence == 1.0


def test_the_unknown_is_told_and_changes_nothing():
    found, facts = judged(1, Seen())
    assert (found.reason, found.missing, found.confidence) == (None, False, 0.85)
    assert (facts["gamma"], facts["flow"]) == ("no data: open_interest", "no data: indicative_feed")


def test_required_gamma_that_is_unknown_is_no_data():
    found, _ = judged(1, Seen(), require_gamma=True)
    assert (found.reason, found.missing) == ("gamma", True)


def test_without_a_direction_nothing_is_computed_and_what_is_known_is_told():
    seen = Seen(levels(pin=606.0))
    found, facts = judged(0, seen)
    assert found.reason is None
    assert seen.fresh == [False]
    assert facts["call_wall"] == 650.0
    assert facts["pin_away"] == pytest.approx(0.01)
    assert "confidence" not in facts


def test_facts_tell_all_that_was_seen():
    _, facts = judged(1, Seen(levels(pin=606.0), flow(2.0, 1.0, 1, 5)))
    told = {
        "spot", "gamma", "flow", "call_wall", "put_wall", "pin", "gamma_flip", "net_gamma_usd", "call_wall_away",
        "put_wall_away", "pin_away", "open_interest_date", "gamma_contracts", "flow_bullish_usd", "flow_bearish_usd",
        "flow_bullish_n", "flow_bearish_n", "confidence_by_pin", "confidence_by_flow", "confidence",
    }  # fmt: skip
    assert facts.keys() == told
    assert facts["call_wall_away"] == pytest.approx(650 / 600 - 1)


def test_without_a_spot_the_close_stands_for_it():
    facts = {}
    judge(PositioningParams(), "SPY", 1, 599.0, Around(Seen(levels()), spot=None), facts)
    assert facts["spot"] == 599.0


def test_the_hash_of_the_strategy_covers_the_filters(monkeypatch):
    kind = find("momentum_scalping")
    params = kind.Params()
    before = code_hash(kind, params)
    monkeypatch.setattr(kind, "helpers", ())
    assert code_hash(kind, params) != before
    assert canonical_params(params) == canonical_params(kind.Params())


# --------------------------------------------------------------------------------------- in the strategy itself


def crossed(make_stage, seen, **settings):
    """What the strategy says of a cross up at 601 (spot 601) with this view of positioning."""
    from tests.strategies import test_momentum_scalping as momentum

    stage = momentum.ready(make_stage, **settings)
    plain = stage.context
    stage.context = lambda at_ns: _with(plain(at_ns), seen)
    return momentum.cross(stage)


def _with(context, seen):
    import msgspec

    return msgspec.structs.replace(context, positioning=seen)


def test_a_call_just_below_the_wall_is_refused_with_the_distances(make_stage):
    said = crossed(make_stage, Seen(levels(call_wall=602.0)))
    assert isinstance(said, NoSignal)
    assert said.reason == "below_call_wall"
    assert said.facts["call_wall_away"] == pytest.approx(602 / 601 - 1, abs=1e-4)


def test_an_intent_carries_the_moved_confidence_and_what_was_seen(make_stage):
    said = crossed(make_stage, Seen(levels(pin=606.0), flow(3e5, 1e5, 2, 1)))
    assert isinstance(said, Intent)
    assert said.confidence == 0.96
    assert said.confidence_needed == 0.80
    assert said.facts["pin"] == 606.0
    assert said.facts["flow_bullish_usd"] == 3e5


def test_unknown_positioning_leaves_the_base_unless_it_is_required(make_stage):
    said = crossed(make_stage, Seen())
    assert isinstance(said, Intent)
    assert said.confidence == 0.85
    assert said.facts["gamma"] == "no data: open_interest"
    said = crossed(make_stage, Seen(), require_gamma=True)
    assert isinstance(said, NoData)
    assert said.what == "gamma"


def test_params_of_the_filters_are_the_strategys_own():
    strategy = load("momentum_scalping", {"wall_within": 0.01})
    assert strategy.params.wall_within == 0.01
