"""What every registered strategy must keep, whatever it does."""

import ast
import inspect
import random
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from oracle.core.errors import ConfigurationError, InvariantError
from oracle.core.instruments import parse_occ
from oracle.core.messages import Intent, NoData, NoSignal, OptionsWanted
from oracle.core.sessions import MINUTE_NS
from oracle.core.structures import OrderLeg, legs_of, payoff
from oracle.strategies import registry
from oracle.strategies.base import StrategyParams, rounded

NAMES = tuple(registry.BUILT_IN)
DATE = "2025-11-19"
SYMBOLS = ("QQQ", "SPY")
# What makes a wandering market one in which a strategy trades.
REHEARSED = {
    "iron_condor": {},
    "iv_mean_reversion": {},
    "momentum_scalping": {"volume_sessions": 5},
    "opening_range_breakout": {"volume_sessions": 5},
}


def rehearsed(name, make_stage):
    """A stage on which the strategy finds what it looks for on some days."""
    stage = make_stage(make(name, **REHEARSED[name]), DATE)
    if name == "iron_condor":
        stage.vol = 0.30
    if name == "iv_mean_reversion":
        stage.reach_usd = 75
        stage.expire_in(23, 30, 37)
        for symbol in SYMBOLS:
            stage.remember_ivs(symbol, 0.2, 0.5)
    return stage


def wander(stage, sessions=3, seed=7, backfilled_today=False, listed=True):
    """Back-filled sessions, then one live session of random walks with bursts of volume; all that was said."""
    draw = random.Random(seed)
    prices, said = dict.fromkeys(SYMBOLS, 600.0), []
    if listed:
        for symbol in SYMBOLS:
            stage.list_chain(symbol, prices[symbol])
    days = (*stage.table.before(DATE, sessions), stage.session)
    for session in days:
        live = session is stage.session and not backfilled_today
        if live:
            stage.open()
        for minute in range(390):
            start_ns = session.open_ns + minute * MINUTE_NS
            for symbol in SYMBOLS:
                prices[symbol] *= 1 + draw.gauss(0, 0.0005)
                volume = round(1000 * draw.lognormvariate(0, 0.7))
                said += stage.bar(symbol, start_ns, round(prices[symbol], 2), volume, backfilled=not live)
    return said


def make(name, **settings):
    return registry.load(name, settings)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def wandered(make_stage):
    """A strategy's rehearsal with a seed, played once for all tests that only look at it: its stage, what was said."""
    played = {}

    def play(name, seed=7):
        if (name, seed) not in played:
            stage = rehearsed(name, make_stage)
            played[name, seed] = stage, wander(stage, 6, seed)
        return played[name, seed]

    return play


def test_a_strategy_is_one_documented_file_named_after_it(name):
    kind = registry.find(name)
    module = inspect.getmodule(kind)
    assert kind.name == name
    assert module.__name__ == f"oracle.strategies.{name}"
    assert module.__doc__
    assert len(module.__doc__.strip().splitlines()) <= 8
    assert kind.Params.model_config["frozen"]
    assert kind.Params.model_config["extra"] == "forbid"


def test_every_parameter_has_description_unit_and_bounds(name):
    for field, schema in registry.find(name).Params.model_json_schema()["properties"].items():
        assert schema.get("description"), field
        assert schema.get("unit"), field
        assert "default" in schema, field
        kind = schema.get("type")
        if kind in ("integer", "number"):
            assert {"minimum", "maximum"} <= schema.keys(), field
        elif kind == "string":
            assert schema.get("pattern") or schema.get("enum"), field
        elif kind == "array":
            assert {"minItems", "maxItems"} <= schema.keys(), field
        else:
            assert kind == "boolean", field


def test_parameters_have_no_second_home(name):
    """Defaults live in Params only: handlers take no numeric default arguments."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(registry.find(name))))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    defaults = [d for f in functions for d in (*f.args.defaults, *f.args.kw_defaults) if d is not None]
    assert not [d for d in defaults if isinstance(d, ast.Constant) and isinstance(d.value, int | float)]


def test_the_name_of_adopted_trades_is_reserved(monkeypatch):
    class Point:
        name = "operator"

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point()])
    assert "operator" not in registry.known()
    with pytest.raises(ConfigurationError, match="reserved"):
        registry.find("operator")


def test_hash_covers_code_and_parameters(name):
    kind = registry.find(name)
    first, same = make(name), make(name)
    assert first.code_hash == same.code_hash
    assert len(first.code_hash) == 64
    changed = kind.Params.model_validate({"confidence": 0.9123})
    assert registry.code_hash(kind, changed) != first.code_hash
    stated = kind.Params(universe=kind.Params().universe)
    assert registry.canonical_params(kind.Params()) == registry.canonical_params(stated)


def test_the_same_bars_give_the_same_bytes(name, make_stage, wandered):
    said = msgspec.msgpack.encode(wandered(name)[1])
    assert said == msgspec.msgpack.encode(wander(rehearsed(name, make_stage), 6))
    assert said != msgspec.msgpack.encode([])


def test_back_filled_bars_say_nothing(name, make_stage):
    stage = make_stage(make(name), DATE)
    assert wander(stage, backfilled_today=True) == []


def test_nothing_known_is_no_data_and_never_an_intent(name, make_stage):
    stage = make_stage(make(name), DATE)
    said = wander(stage, sessions=0, listed=False)
    assert any(isinstance(m, NoData) for m in said)
    assert not any(isinstance(m, Intent) for m in said)


def test_what_it_says_is_plain_and_rounded(name, wandered):
    _, said = wandered(name)
    assert {type(m) for m in said} <= {Intent, NoSignal, NoData, OptionsWanted}
    for message in (m for m in said if not isinstance(m, OptionsWanted)):
        assert message.facts == rounded(message.facts)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=type(message)) == message
        word = getattr(message, "reason", None) or message.what
        assert isinstance(message, Intent) or word == word.lower().replace(" ", "_")


def test_intents_are_complete_and_their_ids_differ(name, wandered):
    found = []
    for seed in (1, 2, 3, 4, 5, 7):
        stage, told = wandered(name, seed)
        said = [m for m in told if isinstance(m, Intent)]
        assert len({m.intent_id for m in said}) == len(said)
        found += [(m, stage) for m in said]
    assert found, "six wandering sessions without one intent test nothing"
    for intent, stage in found:
        assert intent.intent_id.startswith(f"{name}:{DATE}:{intent.underlying}:")
        assert intent.strategy_hash == stage.strategy.code_hash
        assert intent.confidence >= intent.confidence_needed
        last_ns = min(stage.table.expiry_ns(parse_occ(leg.symbol).expiry) for leg in intent.legs)
        assert intent.valid_until_ns <= intent.exit_plan.flat_ns <= last_ns
        assert intent.valid_until_ns <= stage.session.close_ns
        assert all(0 < leg.bid_usd <= leg.ask_usd for leg in intent.legs)
        assert all(leg.delta is not None and leg.iv is not None for leg in intent.legs)
        assert legs_of(intent.symbol)
        assert payoff([OrderLeg(leg.symbol, leg.side, leg.ratio) for leg in intent.legs], Decimal(0)).covered


def test_bars_of_other_symbols_are_ignored(name, make_stage):
    stage = make_stage(make(name), DATE)
    assert stage.bar("ZZZ", stage.session.open_ns, 10.0) == []


def test_it_says_how_much_warming_and_which_expiries_it_needs(name):
    strategy = make(name)
    assert strategy.warmup_sessions >= 1
    assert strategy.max_expiry_sessions >= 0
    assert strategy.universe == tuple(dict.fromkeys(strategy.universe))


def test_unknown_strategies_are_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match="opening_range_breakout"):
        registry.load("opening_range", {})


def test_outside_strategies_come_by_entry_point(monkeypatch):
    class Point:
        name = "outside"

        def load(self):
            return Outside

    class Outside(registry.find("opening_range_breakout")):
        name = "outside"

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point()] if group == "oracle.strategies" else [])
    assert registry.known() == tuple(sorted({*NAMES, "outside"}))
    assert isinstance(registry.load("outside", {}), Outside)
    Outside.name = "another"
    with pytest.raises(ConfigurationError, match="not a Strategy called outside"):
        registry.load("outside", {})
    monkeypatch.setattr(registry, "entry_points", lambda group: [Point(), Point()])
    with pytest.raises(ConfigurationError, match="several packages"):
        registry.load("outside", {})


def test_wrong_parameters_of_another_strategy_are_an_invariant(name):
    class Other(StrategyParams):
        pass

    with pytest.raises(InvariantError):
        registry.find(name)(Other(), "hash")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1], {"a": 1}])
def test_facts_that_cannot_be_recorded_are_refused(value):
    with pytest.raises(InvariantError):
        rounded({"fact": value})


def documented(field, schema):
    """One row of the parameter table in docs/strategies.md."""
    low = schema.get("minimum", schema.get("minItems"))
    high = schema.get("maximum", schema.get("maxItems"))
    value = schema["default"]
    shown = ", ".join(value) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else value
    bounds = f"{low} to {high}" if low is not None else " or ".join(schema.get("enum", ())) or "-"
    return f"| `{field}` | {shown} | {schema['unit']} | {bounds} | {schema['description']} |"


def test_the_page_prints_the_parameters_as_they_are(name):
    page = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()
    for field, schema in registry.find(name).Params.model_json_schema()["properties"].items():
        assert documented(field, schema) in page.splitlines(), f"docs/strategies.md: {documented(field, schema)}"
