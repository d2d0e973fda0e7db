"""The control endpoint of faults and the command's options, over real sockets."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from oracle.core.errors import ConfigurationError
from oracle.exchange_process import ExchangeProcess
from oracle.sim.faultplan import load_plan
from tests.conftest import ROOT
from tests.protocol.conftest import HEADERS, Running, Start


class TestControl:
    def test_faults_are_armed_listed_and_cleared(self, open_market: Running) -> None:
        assert open_market.call("GET", "/sim/v1/faults").json()["faults"] == []
        found = open_market.call("POST", "/sim/v1/faults", {"kind": "refuse_request", "on": ["account"], "count": 1})
        assert found.json() == {"ids": [1]}
        plan = {"seed": 9, "fault": [{"kind": "cut"}, {"kind": "lose_reply"}]}
        assert open_market.call("POST", "/sim/v1/faults", plan).json() == {"ids": [2, 3]}
        assert open_market.call("GET", "/v2/account").status_code == 503
        assert open_market.call("GET", "/v2/account").status_code == 200
        rows = open_market.call("GET", "/sim/v1/faults").json()["faults"]
        assert [(row["id"], row["kind"], row["injected"]) for row in rows] == [
            (1, "refuse_request", 1), (2, "cut", 0), (3, "lose_reply", 0),
        ]  # fmt: skip
        assert open_market.call("DELETE", "/sim/v1/faults/2").json() == {"cleared": 1}
        assert open_market.call("DELETE", "/sim/v1/faults/2").status_code == 404
        assert open_market.call("DELETE", "/sim/v1/faults/x").status_code == 404
        assert open_market.call("DELETE", "/sim/v1/faults").json() == {"cleared": 2}

    @pytest.mark.parametrize("body", [{"kind": "dorp"}, {"fault": 3}, [], 7, {"kind": "delay"}])
    def test_what_is_no_fault_is_refused_with_the_reason(self, open_market: Running, body: object) -> None:
        answer = open_market.call("POST", "/sim/v1/faults", body)
        assert answer.status_code == 422
        assert "faults" in answer.json()["message"]

    def test_a_key_is_needed(self, open_market: Running) -> None:
        for method in ("GET", "POST", "DELETE"):
            answer = open_market.http.request(
                method, open_market.url + "/sim/v1/faults", headers={"APCA-API-SECRET-KEY": "x"}, timeout=5
            )
            assert answer.status_code == 403

    @pytest.mark.parametrize(
        ("reply", "status", "body"),
        [(401, 401, "unauthorized."), (429, 429, "42910000"), (504, 504, "<html>"), (403, 403, "40300000")],
    )
    def test_an_order_is_taken_and_its_reply_lost(
        self, open_market: Running, reply: int, status: int, body: str
    ) -> None:
        open_market.call("POST", "/sim/v1/faults", {"kind": "lose_reply", "reply": reply})
        order = {"symbol": "SPY", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
        answer = open_market.post({**order, "client_order_id": "lost"})
        assert answer.status_code == status
        assert body in answer.text
        looked = open_market.call("GET", "/v2/orders:by_client_order_id", client_order_id="lost")
        assert looked.json()["status"] == "filled"

    def test_a_hidden_order_is_not_found_and_then_is(self, start: Start) -> None:
        running = start(trading_requests_per_min=10_000)
        running.call("POST", "/sim/v1/faults", {"kind": "hide_order", "seconds": 5, "count": 2})
        order = {
            "symbol": "SPY",
            "qty": "1",
            "side": "buy",
            "type": "limit",
            "limit_price": "1",
            "time_in_force": "day",
        }
        placed = running.post({**order, "client_order_id": "young"}).json()
        found = [
            running.call("GET", "/v2/orders:by_client_order_id", client_order_id="young").status_code for _ in range(3)
        ]
        assert found == [404, 404, 200]
        assert running.call("GET", f"/v2/orders/{placed['id']}").status_code == 404

    def test_an_upgrade_is_refused(self, open_market: Running) -> None:
        open_market.call("POST", "/sim/v1/faults", {"kind": "refuse_upgrade", "status": 429, "on": ["stock", "trade"]})

        async def knock(path: str) -> int:
            async with aiohttp.ClientSession(headers=HEADERS) as http:
                try:
                    async with http.ws_connect(open_market.ws + path):
                        return 101
                except aiohttp.WSServerHandshakeError as error:
                    return error.status

        async def all_doors() -> list[int]:
            return [await knock(path) for path in ("/v2/sip", "/v1beta1/opra", "/stream")]

        assert asyncio.run(all_doors()) == [429, 101, 429]


class TestCommand:
    async def test_a_plan_and_an_early_end_are_options(self) -> None:
        arguments = ["--port", "0", "--hold", "--until", "10:00", "--faults", str(ROOT / "examples" / "faults.toml")]
        keys = {"ORACLE_SIM__KEY": "SIMKEY", "ORACLE_SIM__SECRET": "SIMSECRET"}
        async with ExchangeProcess(arguments, keys) as it, aiohttp.ClientSession(headers=HEADERS) as http:
            found = await (await http.get(it.url + "/sim/v1/faults")).json()
        assert found["seed"] == 7
        assert len(found["faults"]) == len(load_plan(ROOT / "examples" / "faults.toml").fault)

    @pytest.mark.parametrize(
        ("text", "words"),
        [('[[fault]]\nkind = "dorp"', "fault[1].kind"), ("seed = ", "not TOML"), (None, "--faults")],
    )
    async def test_a_wrong_plan_ends_the_start(self, tmp_path: Path, text: str | None, words: str) -> None:
        plan = tmp_path / "plan.toml"
        if text is not None:
            plan.write_text(text)
        with pytest.raises(ConfigurationError) as raised:
            async with ExchangeProcess(["--port", "0", "--faults", str(plan)]):
                pass
        assert words in str(raised.value)

    async def test_a_wrong_end_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match="--until"):
            async with ExchangeProcess(["--port", "0", "--until", "9:00"]):
                pass
