"""Fault plans and which fault strikes when: settings, windows, dice, counts, frames made by hand. Pure."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from oracle.core.errors import ConfigurationError
from oracle.core.sessions import NS, SessionTable
from oracle.sim.config import ExchangeConfig
from oracle.sim.exchange import Exchange
from oracle.sim.faultlines import Item, Line, close_frame, fragments, oversized, whole_frame
from oracle.sim.faultplan import KINDS, MOST_FAULTS, RULES, load_plan, read_plan, second_of_session
from oracle.sim.faults import Faults
from oracle.sim.sockets import update_item
from tests.protocol.scripted_source import ScriptedSource, make_sessions

OPEN_NS = make_sessions(1)[0].open_ns


def exchange_at(second: float = 60) -> Exchange:
    sessions = make_sessions(1)
    table = SessionTable([*sessions, make_sessions(4)[-1]])
    exchange = Exchange(ExchangeConfig(key="K", secret="S"), ScriptedSource(sessions), table)
    exchange.now_ns = OPEN_NS + round(second * NS)
    return exchange


def armed(second: float = 60, seed: int = 1, **fault: Any) -> tuple[Exchange, Faults, Line]:
    exchange = exchange_at(second)
    faults = Faults(exchange, read_plan({"seed": seed, "fault": [fault]}))
    return exchange, faults, Line(faults, "stock")


def quotes(count: int, symbol: str = "SPY") -> list[Item]:
    return [Item("quotes", symbol, bytes([n % 256])) for n in range(count)]


class TestPlan:
    def test_every_kind_has_its_rule_and_can_be_made(self) -> None:
        needed: dict[str, Any] = {"seconds": 1, "code": 406}
        assert set(KINDS) == set(RULES)
        for kind in KINDS:
            fields = {name: needed[name] for name in RULES[kind].needs}
            assert read_plan({"fault": [{"kind": kind, **fields}]}).fault[0].places

    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            ({"kind": "dorp"}, ("fault[1].kind", "unknown")),
            ({}, ("fault[1].kind", "required")),
            ({"kind": "drop", "on": ["submit"]}, ("fault[1]", "on: drop cannot strike 'submit'")),
            ({"kind": "delay"}, ("fault[1]", "seconds: delay needs it")),
            ({"kind": "cut", "seconds": 3}, ("fault[1]", "seconds: cut does not have it")),
            ({"kind": "drop", "probability": 0}, ("fault[1].probability", "greater than 0")),
            ({"kind": "drop", "count": 0}, ("fault[1].count",)),
            ({"kind": "drop", "from": "9:40"}, ("fault[1]", "no moment")),
            ({"kind": "drop", "from": "10:00", "until": "09:59:59"}, ("fault[1]", "until")),
            ({"kind": "error", "code": 7}, ("fault[1]", "no error code")),
            ({"kind": "refuse_login", "code": 405}, ("fault[1]", "does not answer a login")),
            ({"kind": "lose_reply", "reply": 200}, ("fault[1]", "no error status")),
            ({"kind": "lose_reply", "reply": "vanish"}, ("fault[1].reply",)),
            ({"kind": "drop", "symbol": "SPY"}, ("fault[1].symbol", "Extra")),
            ({"kind": "drop", "messages": ["nosuch"]}, ("fault[1]", "messages", "never carry 'nosuch'", "updatedBars")),
            ({"kind": "drop", "on": ["option"], "messages": ["bars"]}, ("messages: option never carry 'bars'",)),
            (
                {"kind": "drop", "on": ["trade"], "messages": ["quotes"]},
                ("messages: trade never carry", "partial_fill"),
            ),
            ({"kind": "drop", "messages": ["bars", "bars"]}, ("fault[1]", "messages: 'bars' stands twice")),
            ({"kind": "drop", "on": ["stock", "stock"]}, ("fault[1]", "on: 'stock' stands twice")),
            ({"kind": "drop", "symbols": ["SPY", "SPY"]}, ("fault[1]", "symbols: 'SPY' stands twice")),
            ({"kind": "drop", "date": "2026-99-99"}, ("fault[1]", "date: '2026-99-99' is no day")),
            ({"kind": "drop", "date": "05.01.2026"}, ("fault[1].date",)),
            ({"kind": "drop", "count": 16**5000}, ("fault[1].count",)),
            ({"kind": "error", "code": 16**5000}, ("fault[1]",)),
            ({"kind": "drop", "from": 16**5000}, ("fault[1]",)),
        ],
    )
    def test_a_wrong_field_is_named(self, fault: dict[str, Any], words: tuple[str, ...]) -> None:
        with pytest.raises(ConfigurationError) as raised:
            read_plan({"fault": [fault]})
        assert all(word in str(raised.value) for word in words), raised.value

    def test_a_toml_file(self, tmp_path: Path) -> None:
        file = tmp_path / "plan.toml"
        file.write_text('seed = 7\n[[fault]]\nkind = "mute"\non = ["stock"]\nfrom = "09:45:00"\ncount = 1\n')
        plan = load_plan(file)
        assert plan.seed == 7
        assert plan.fault[0].window_s == (900.0, None)

    @pytest.mark.parametrize(
        "text",
        [
            None, "seed = ", "\udcff", "faults = 1",
            "[[fault]]\nkind = 'drop'\n" * (MOST_FAULTS + 1), "fault = " + "[" * 20_000 + "]" * 20_000,
            "seed = " + "7" * 5_000, "seed = 0x" + "7" * 5_000,
        ],
        ids=[
            "absent", "half_a_line", "no_text", "unknown_field", "too_many", "too_deep", "too_long_a_number",
            "too_large_a_number",
        ],
    )  # fmt: skip
    def test_a_file_that_is_no_plan(self, tmp_path: Path, text: str | None) -> None:
        file = tmp_path / "plan.toml"
        if text is not None:
            file.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(ConfigurationError):
            load_plan(file)

    def test_moments(self) -> None:
        assert [second_of_session(v) for v in ("09:30", "09:29:59", "16:00:01", 12, -5.5)] == [0, -1, 23_401, 12, -5.5]
        for bad in ("24:00", "09:60", "", True, None, 1e9):
            with pytest.raises(ValueError):
                second_of_session(bad)


class TestWhen:
    def test_a_window_is_open_from_its_start_until_before_its_end(self) -> None:
        for second, expected in ((59, False), (60, True), (89, True), (90, False)):
            _, faults, _ = armed(second, kind="drop", **{"from": "09:31", "until": 90})
            assert (faults.first("drop", "stock") is not None) is expected, second

    def test_a_date_limits_it_to_one_session(self) -> None:
        assert armed(kind="drop", date="2026-01-05")[1].first("drop", "stock") is not None
        assert armed(kind="drop", date="2026-01-06")[1].first("drop", "stock") is None

    def test_counts_are_kept_by_place(self) -> None:
        _, faults, _ = armed(kind="drop", on=["stock", "option"], count=2)
        found = [faults.first("drop", place) is not None for place in ("stock",) * 3 + ("option",) * 3 + ("trade",)]
        assert found == [True, True, False, True, True, False, False]
        (row,) = faults.report()["faults"]
        assert (row["injected"], row["injected_on"]) == (4, {"option": 2, "stock": 2})

    def test_what_ends_a_connection_strikes_once_by_default(self) -> None:
        _, faults, _ = armed(kind="cut")
        assert [faults.first("cut", "stock") is not None for _ in range(3)] == [True, False, False]

    def test_dice_depend_on_seed_and_number_and_nothing_else(self) -> None:
        def throws(seed: int, before: int) -> list[bool]:
            exchange = exchange_at()
            other = {"kind": "drop", "probability": 0.5}
            plan = read_plan({"seed": seed, "fault": [other] * before + [{"kind": "duplicate", "probability": 0.5}]})
            faults = Faults(exchange, plan)
            faults.first("drop", "stock")
            return [faults.first("duplicate", "stock") is not None for _ in range(200)]

        assert throws(1, 0) == throws(1, 0)
        assert throws(1, 0) != throws(2, 0)
        assert throws(1, 0) != throws(1, 1)
        assert 70 < sum(throws(1, 0)) < 130

    def test_faults_come_and_go_at_run_time(self) -> None:
        _, faults, line = armed(kind="drop")
        (number,) = faults.add(read_plan({"fault": [{"kind": "delay", "seconds": 2}]}))
        assert faults.remove(number) == 1
        assert faults.remove(number) == 0
        assert faults.remove() == 1
        assert line.idle
        most = read_plan({"fault": [{"kind": "drop"}] * MOST_FAULTS})
        faults.add(most)
        with pytest.raises(ValueError, match="more than"):
            faults.add(read_plan({"fault": [{"kind": "drop"}]}))


class TestLine:
    def test_without_faults_it_is_idle(self) -> None:
        assert Line(Faults(exchange_at()), "stock").idle

    def test_drop_takes_what_it_names(self) -> None:
        exchange, _, line = armed(kind="drop", symbols=["SPY"], messages=["bars"])
        items = [Item("bars", "SPY", b"1"), Item("bars", "QQQ", b"2"), Item("quotes", "SPY", b"3")]
        assert line.shape(items, exchange.now_ns) == [items[1:]]

    def test_an_underlying_stands_for_its_options(self) -> None:
        exchange, _, line = armed(kind="drop", symbols=["SPY"])
        items = quotes(1, "SPY260116C00600000") + quotes(1, "SPYG260116C00600000")
        assert line.shape(items, exchange.now_ns) == [items[1:]]

    def test_an_update_of_a_structure_is_about_its_legs(self) -> None:
        exchange, faults, _ = armed(on=["trade"], kind="drop", symbols=["SPY"])
        line = Line(faults, "trade")
        legs = [{"symbol": "SPY260116C00600000"}, {"symbol": "SPY260116C00605000"}]
        rows = [{"event": "fill", "order": {"symbol": "", "legs": legs}}]
        rows += [{"event": "fill", "order": {"symbol": "QQQ", "legs": None}}]
        items = [update_item(row) for row in rows]
        assert line.shape(items, exchange.now_ns) == [items[1:]]

    def test_duplicates_follow_their_first(self) -> None:
        exchange, _, line = armed(kind="duplicate")
        a, b = quotes(2)
        assert line.shape([a, b], exchange.now_ns) == [[a, a, b, b]]

    def test_a_late_stream_stays_in_order_until_it_has_caught_up(self) -> None:
        exchange, _, line = armed(60, kind="delay", seconds=3, until=62)
        items, out = quotes(8), []
        for n in range(8):
            exchange.now_ns = OPEN_NS + (60 + n) * NS
            out += [(n, item) for frame in line.shape([items[n]], exchange.now_ns) for item in frame]
        assert [item for _, item in out] == items
        # Those of seconds 0 and 1 are three seconds late; those behind them wait for them and no longer.
        assert [n for n, _ in out] == [3, 4, 4, 4, 4, 5, 6, 7]
        assert line.shape([], exchange.now_ns) == []

    def test_single_late_messages_are_overtaken(self) -> None:
        exchange, _, line = armed(kind="delay", seconds=1, probability=0.5)
        items, out = quotes(40), []
        for n, item in enumerate([*items, None]):
            exchange.now_ns = OPEN_NS + (60 + n) * NS
            out += [i for frame in line.shape([] if item is None else [item], exchange.now_ns) for i in frame]
        exchange.now_ns += 5 * NS
        out += [i for frame in line.shape([], exchange.now_ns) for i in frame]
        assert sorted(out, key=items.index) == items

    def test_a_batch_is_one_frame(self) -> None:
        exchange, _, line = armed(kind="batch", seconds=2)
        items = quotes(6)
        frames = []
        for n in range(3):
            exchange.now_ns = OPEN_NS + (60 + n) * NS
            frames += line.shape(items[2 * n : 2 * n + 2], exchange.now_ns)
        assert frames == [items]

    def test_a_shuffle_loses_nothing_and_repeats(self) -> None:
        found = []
        for _ in range(2):
            exchange, _, line = armed(kind="reorder")
            found.append(line.shape(quotes(30), exchange.now_ns)[0])
        assert found[0] == found[1] != quotes(30)
        assert sorted(found[0], key=lambda item: item.data) == quotes(30)

    def test_mute_sticks_to_the_connection_and_spares_the_next(self) -> None:
        exchange, faults, line = armed(kind="mute", count=1)
        other = Line(faults, "stock")
        for _ in range(3):
            assert line.shape(quotes(2), exchange.now_ns) == []
            assert other.shape(quotes(2), exchange.now_ns) == [quotes(2)]
        faults.remove()
        assert line.shape(quotes(2), exchange.now_ns) == [quotes(2)]


def parse(raw: bytes) -> list[tuple[int, bool, bytes]]:
    """(opcode, final, payload) of each websocket frame."""
    out = []
    while raw:
        size, at = raw[1], 2
        if size in (126, 127):
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(raw[2 : 2 + width], "big"), 2 + width
        out.append((raw[0] & 0xF, bool(raw[0] & 0x80), raw[at : at + size]))
        raw = raw[at + size :]
    return out


class TestFrames:
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
    def test_a_whole_frame(self, size: int) -> None:
        assert parse(whole_frame(b"x" * size, text=False)) == [(2, True, b"x" * size)]

    @pytest.mark.parametrize("size", [1, 3, 4, 1000])
    def test_fragments_make_the_message(self, size: int) -> None:
        payload = bytes(n % 256 for n in range(size))
        frames = parse(fragments(payload, text=True))
        assert b"".join(part for _, _, part in frames) == payload
        assert [code for code, _, _ in frames] == [1] + [0] * (len(frames) - 1)
        assert [final for _, final, _ in frames] == [False] * (len(frames) - 1) + [True]
        assert b"" in [part for _, _, part in frames]

    def test_a_close_frame_says_why(self) -> None:
        assert parse(close_frame(1001, "bye")) == [(8, True, (1001).to_bytes(2, "big") + b"bye")]

    @pytest.mark.parametrize("text", [True, False])
    def test_an_oversized_message_is_sound_but_for_its_size(self, text: bool) -> None:
        ((_, _, payload),) = parse(oversized(5_000, text))
        assert len(payload) == 5_000
        decoded = msgspec.json.decode(payload) if text else msgspec.msgpack.decode(payload)
        assert isinstance(decoded[0], str)
