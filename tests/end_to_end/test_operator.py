"""A person at the controls: real processes, a real socket, and the exchange's own records as the judge.

The exchange stands still while no daemon is connected, so a daemon that was killed can be started again at another
speed at the same moment of the market. Commands run as a user would run them.
"""

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from oracle.cli.control import ask_daemon
from oracle.config import SimSettings
from oracle.core.control import Evaluate, Halt, Switch
from oracle.core.ledger import Ledger
from oracle.exchange_process import ExchangeProcess
from oracle.store.sqlite import Store
from tests.end_to_end.commands import ORACLE

# A half-day; SPY breaks out of its opening range with the bar that closes at 10:42.
EXCHANGE = ("--hold", "--port", "0", "--seed", "2", "--date", "2026-11-27")
ORB = "opening_range_breakout"
OPEN_S = 1_795_789_800  # 2026-11-27 09:30 New York
Facts = dict[str, Any]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


class Desk:
    """One exchange, one state folder, a daemon that is started and killed, and commands as processes."""

    def __init__(self, url: str, state: Path, env: dict[str, str], *settings: str) -> None:
        self.url, self.state, self.env, self.settings = url, state, env, settings
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.process: asyncio.subprocess.Process | None = None
        self.lines: list[Facts] = []

    async def start(self, speed: float) -> None:
        """Start the daemon and read its log until ledger and broker agree."""
        settings = (
            f"sim.url={self.url}", f"sim.speed={speed}", f"console.port={self.port}", "logs.format=json",
            f'strategies.{ORB}.universe=["SPY"]', *self.settings,
        )  # fmt: skip
        self.process = await asyncio.create_subprocess_exec(
            *ORACLE, "run", "--state", str(self.state), *(part for s in settings for part in ("--set", s)),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=self.env, limit=2**20,
        )  # fmt: skip
        await self.until("reconciled", differences=[])

    async def until(self, event: str, **fields: Any) -> Facts:
        """Read the log up to a line."""
        assert self.process is not None
        assert self.process.stderr is not None
        while raw := await self.process.stderr.readline():
            line = json.loads(raw) if raw.startswith(b"{") else {"event": raw.decode().rstrip()}
            self.lines.append(line)
            if line["event"] == event and all(line.get(name) == value for name, value in fields.items()):
                return line
        raise AssertionError(f"the daemon ended before {event}: {self.lines[-3:]}")

    async def market_s(self) -> float:
        """The market's time by the daemon's console, UTC seconds."""
        async with aiohttp.ClientSession() as http:
            return await self._market_s(http)

    async def _market_s(self, http: aiohttp.ClientSession) -> float:
        async with http.get(f"http://127.0.0.1:{self.port}/status") as answer:
            return float((await answer.json())["market_time_ns"]) / 1e9

    async def run_until(self, market_s: float, speed: float = 0) -> None:
        """Let the market run to a moment, at full speed unless told otherwise, then kill the daemon there."""
        await self.start(speed)
        drained = asyncio.create_task(self._drain())
        async with aiohttp.ClientSession() as http:  # one connection: each answer takes the daemon's time
            while await self._market_s(http) < market_s:
                pass
        await self.kill()
        await drained

    async def _drain(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        while await self.process.stderr.readline():
            pass

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        assert await self.process.wait() == -signal.SIGKILL

    async def stop(self) -> None:
        """SIGTERM, as systemd does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        drained = asyncio.create_task(self._drain())
        assert await self.process.wait() == 0
        await drained

    async def oracle(self, *arguments: str, code: int = 0) -> Facts:
        """Run a command with ``--json``, check its exit code, and read what it printed."""
        found: Facts = json.loads(await self.run_command(*arguments, code=code))
        return found

    async def run_command(self, *arguments: str, code: int = 0) -> bytes:
        """Run a command and check its exit code."""
        process = await asyncio.create_subprocess_exec(
            *ORACLE, *arguments, "--state", str(self.state), "--json", env=self.env,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == code, (arguments, process.returncode, out.decode()[-1500:], err.decode()[-500:])
        return out

    async def look(self) -> list[str]:
        """What stands in the way of an entry in SPY now: the strategy's reason, or risk's rules; empty is nothing."""
        seen = await asyncio.to_thread(ask_daemon, self.state, Evaluate(ORB, "SPY"), "", 10.0)
        (verdict,) = seen.facts["verdicts"]
        if verdict["verdict"] != "intent":
            return [verdict["reason"]]
        return [refusal["rule"] for refusal in verdict["decision"]["refusals"]]

    async def exchange(self, path: str, body: Facts | None = None) -> Any:
        """The exchange's own records, or an order by hand."""
        sim = SimSettings()
        keys = {"APCA-API-KEY-ID": sim.key.get_secret_value(), "APCA-API-SECRET-KEY": sim.secret.get_secret_value()}
        async with aiohttp.ClientSession(headers=keys) as http:
            method = "GET" if body is None else "POST"
            async with http.request(method, self.url + path, json=body) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.json()


@asynccontextmanager
async def desk(tmp_path: Path, env: dict[str, str], *settings: str) -> AsyncIterator[Desk]:
    async with ExchangeProcess(EXCHANGE) as exchange:
        one = Desk(exchange.url, tmp_path / "state", env, *settings)
        try:
            yield one
        finally:
            if one.process is not None and one.process.returncode is None:
                one.process.kill()
                await one.process.wait()


async def ledger_of(state: Path) -> Ledger:
    """The books as a starting process would fold them."""
    store = await Store.open(state, "sim", 0)
    try:
        ledger = Ledger()
        ledger.restore((await store.load()).books)
        return ledger
    finally:
        await store.close()


async def test_halt_survives_a_kill_and_flatten_ends_flat_at_the_exchange(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    async with desk(tmp_path, clean_environment) as one:
        await one.run_until(OPEN_S + 70 * 60)
        await one.start(60)
        await one.until("trade_opened")
        await one.kill()
        await one.start(5)
        assert len(await one.exchange("/v2/positions")) == 1
        assert (await one.oracle("reconcile"))["text"] == "ledger and broker agree"

        # PRODUCT section 5: a halt works within 2 s and is confirmed from the broker's own records.
        began_s = time.monotonic()
        answer = await asyncio.to_thread(ask_daemon, one.state, Halt(), "drill", 10.0)
        assert time.monotonic() - began_s < 2.0
        assert (answer.ok, answer.done, answer.facts["confirmed"]) == (True, True, True)
        assert await one.exchange("/v2/orders?status=open") == []
        assert len(await one.exchange("/v2/positions")) == 1  # a halt closes nothing

        await one.kill()
        await one.start(5)
        latches = {row["latch"]: row for row in (await one.oracle("status"))["latches"]}
        assert "drill" in latches["operator"]["reason"]
        shown = (await one.oracle("trade", ORB))["facts"]["verdicts"]
        assert [row["symbol"] for row in shown] == ["SPY"]
        assert (await one.oracle("disable", ORB))["facts"] == {"strategy": ORB, "enabled": False}
        assert ORB in (await one.oracle("disable", "nothing", code=1))["text"]
        assert "day_loss" in (await one.oracle("resume", "--latch", "day_loss", code=1))["text"]

        flat = await one.oracle("flatten", "--why", "drill")
        assert (flat["facts"]["confirmed"], flat["facts"]["positions"], flat["facts"]["orders"]) == (True, [], [])
        assert await one.exchange("/v2/positions") == []
        assert await one.exchange("/v2/orders?status=open") == []
        assert (await one.oracle("resume"))["facts"]["cleared"] == ["flatten", "operator"]
        assert (await one.oracle("enable", ORB))["ok"]
        account = await one.exchange("/v2/account")
        await one.stop()
        (trade,) = await oracle_rows(one, "trades")
        assert trade["exit_rule"] == "operator"
        ledger = await ledger_of(one.state)
        assert ledger.cash_usd == Decimal(account["cash"])
        await one.run_command("halt", code=69)  # nobody answers any more
        await one.run_command("replay", str(one.state), "--check")


async def oracle_rows(one: Desk, command: str) -> list[Facts]:
    rows: Any = await one.oracle(command)
    found: list[Facts] = rows
    return found


async def test_trading_by_hand_and_adopting_what_others_did(tmp_path: Path, clean_environment: dict[str, str]) -> None:
    # Without a volume rule and with a far target the breakout stands until 11:00, so a person has the time to look.
    lasting = (f"strategies.{ORB}.min_relative_volume=0", f"strategies.{ORB}.target_range_multiple=10")
    async with desk(tmp_path, clean_environment, *lasting) as one:
        await one.start(5)
        await one.oracle("disable", ORB, "--why", "by hand today")
        await one.kill()
        await one.run_until(OPEN_S + 68 * 60)
        await one.run_until(OPEN_S + 72 * 60 + 5, speed=60)
        await one.start(2)
        assert await one.exchange("/v2/orders?status=all") == []  # it was switched off when its signal came

        # The one button: look, then yes, between two bars.
        # After the restart chain and feeds have to be there again: then the switch is all that stands in its way.
        while (await one.look()) != ["strategy_disabled"] or not 5 < await one.market_s() % 60 < 25:
            pass
        await asyncio.to_thread(ask_daemon, one.state, Switch(ORB, True), "", 10.0)
        assert await one.look() == []
        sent = await one.oracle("trade", ORB, "--symbol", "SPY", "--yes", "--why", "I like it")
        assert sent["text"].startswith("sent: ")
        symbol = sent["facts"]["verdicts"][0]["contract"]
        assert symbol in [row["symbol"] for row in await one.exchange("/v2/orders?status=all")]
        await one.oracle("flatten")
        assert await one.exchange("/v2/positions") == []
        before = len(await oracle_rows(one, "trades"))

        # Somebody buys a contract behind our back: shown, blocked, adopted with a plan, and equal to the cent.
        order = {"symbol": symbol, "qty": "2", "side": "buy", "type": "market", "time_in_force": "day"}
        await one.exchange("/v2/orders", order)
        differs = await one.oracle("reconcile", code=1)
        assert [p["ours"] for p in differs["facts"]["positions"]] == [False]
        assert len(differs["facts"]["executions"]) >= 1
        adopted = await one.oracle("adopt", "--position", symbol, "--stop-fraction", "0.9", "--flat-at", "12:30")
        assert adopted["facts"]["differences"] == []
        assert adopted["facts"]["positions"][0]["trade_id"] is not None
        assert [p["qty"] for p in await oracle_rows(one, "positions")] == [2]
        await one.exchange("/v2/orders", {**order, "side": "sell"})
        assert (await one.oracle("adopt", "--position", symbol, "--stop-fraction", "0.9"))["facts"]["differences"] == []
        trades = await oracle_rows(one, "trades")
        assert len(trades) == before + 1
        assert (trades[0]["strategy"], trades[0]["exit_rule"]) == ("operator", "operator")
        account = await one.exchange("/v2/account")
        await one.stop()
        assert (await ledger_of(one.state)).cash_usd == Decimal(account["cash"])
        # What a person did is an input like any other: every decision comes out the same again.
        await one.run_command("replay", str(one.state), "--check")
