"""A whole session over real sockets: what the demo promises, and the books against the exchange's own records."""

import asyncio
import json
import shlex
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from oracle.app import Result, run
from oracle.cli.demo import demo_config, summary_json
from oracle.core.money import from_micros
from oracle.exchange_process import ExchangeProcess
from oracle.store.journal import JournalReader
from tests.conftest import ROOT
from tests.end_to_end.commands import demo_json, oracle, settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SEED = 1
# The shortest whole session, in which SPY breaks out.
HALF_DAY = ("--seed", "2", "--date", "2026-11-27")
KEYS = {
    "sessions", "bars", "intents", "refusals", "orders", "fills", "trades", "realized_pnl", "fees_broker", "equity",
    "inputs_sha256", "decisions_sha256",
}  # fmt: skip


@dataclass
class Played:
    """A finished session and what the exchange says of it."""

    result: Result
    state: Path
    account: dict[str, Any]
    positions: list[dict[str, Any]]
    fills: list[dict[str, Any]]
    orders: list[dict[str, Any]]


async def _exchange_records(url: str, key: str, secret: str) -> dict[str, Any]:
    headers = {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret}
    found: dict[str, Any] = {}
    async with aiohttp.ClientSession(headers=headers) as http:
        for name, path in (
            ("account", "/v2/account"),
            ("positions", "/v2/positions"),
            ("fills", "/v2/account/activities/FILL?page_size=100&direction=asc"),
            ("orders", "/v2/orders?status=all&limit=500"),
        ):
            async with http.get(url + path) as reply:
                assert reply.status == 200, await reply.text()
                found[name] = await reply.json()
    return found


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """One session with broker fees, so that cash is more than prices; the exchange is asked before it ends."""
    return asyncio.run(_play(tmp_path_factory.mktemp("played") / "state"))


async def _play(state: Path) -> Played:
    arguments = ["--port", "0", "--hold", "--seed", str(SEED), "--fee-per-contract", "0.03"]
    async with ExchangeProcess(arguments) as exchange:
        config = demo_config(None, [], None, None, 0.0)
        config = config.model_copy(update={"sim": config.sim.model_copy(update={"url": exchange.url})})
        result = await run(config, state, token="played")
        records = await _exchange_records(
            exchange.url, config.sim.key.get_secret_value(), config.sim.secret.get_secret_value()
        )
    return Played(result, state, records["account"], records["positions"], records["fills"], records["orders"])


class TestBooks:
    """Ledger, store, command and exchange agree to the cent."""

    def test_there_is_something_to_compare(self, played: Played) -> None:
        assert len(played.result.tally.trades) >= 3
        assert len(played.fills) == played.result.tally.fills > 0

    def test_fills_are_the_exchanges_fills(self, played: Played, clean_environment: dict[str, str]) -> None:
        ours = Counter(
            (m.symbol, m.side.value, m.contracts, m.price_usd)
            for record in JournalReader(played.result.journal)
            for m in getattr(record, "messages", ())
            if type(m).__name__ == "OrderFilled"
        )
        theirs = Counter((f["symbol"], f["side"], int(f["qty"]), Decimal(f["price"])) for f in played.fills)
        assert ours == theirs

    def test_positions_and_cash(self, played: Played, clean_environment: dict[str, str]) -> None:
        done = oracle("positions", "--json", "--state", str(played.state), env=clean_environment)
        held = {row["symbol"]: row["qty"] for row in json.loads(done.stdout)}
        assert held == {row["symbol"]: int(row["qty"]) for row in played.positions}
        done = oracle("status", "--json", "--state", str(played.state), env=clean_environment)
        status = json.loads(done.stdout)
        assert Decimal(status["equity"]["cash_usd"]) == Decimal(played.account["cash"])
        assert Decimal(status["equity"]["equity_usd"]) == Decimal(played.account["equity"])
        assert status["reconcile"]["differences"] == []

    def test_trades_sum_to_the_change_in_cash(self, played: Played, clean_environment: dict[str, str]) -> None:
        done = oracle("trades", "--json", "--state", str(played.state), env=clean_environment)
        trades = json.loads(done.stdout)
        assert len(trades) == len(played.result.tally.trades)
        gross = sum(Decimal(t["gross_pnl_usd"]) for t in trades)
        fees = played.result.tally.fees_broker_usd
        contracts = sum(int(f["qty"]) for f in played.fills)
        assert fees == contracts * Decimal("0.03")
        assert Decimal(played.account["cash"]) == 100_000 + gross - fees
        assert all(
            Decimal(t["net_pnl_usd"]) == Decimal(t["gross_pnl_usd"]) - Decimal(t["fees_modelled_usd"]) for t in trades
        )
        assert all(Decimal(t["planned_risk_share"]) <= Decimal("0.02") for t in trades)
        assert all(Decimal(t["worst_case_share"]) <= Decimal("0.05") for t in trades)

    def test_every_order_has_one_client_id_of_ours(self, played: Played) -> None:
        ids = [order["client_order_id"] for order in played.orders]
        assert len(set(ids)) == len(ids)
        assert all(name.startswith("played-20260105-orb-") for name in ids)

    def test_ids_tie_a_fill_to_its_intent(self, played: Played) -> None:
        import sqlite3

        with sqlite3.connect(f"file:{played.result.database}?mode=ro", uri=True) as db:
            rows = db.execute(
                "SELECT f.execution_id, o.order_id, d.decision_id, i.intent_id FROM fills f"
                " JOIN orders o USING (order_id) JOIN decisions d USING (decision_id) JOIN intents i USING (intent_id)"
            ).fetchall()
            cash = db.execute("SELECT cash_micros FROM equity_snapshots ORDER BY at_ns DESC LIMIT 1").fetchone()[0]
        db.close()
        assert len(rows) == len(played.fills)
        assert from_micros(cash) == Decimal(played.account["cash"])

    def test_the_journal_is_whole_and_its_hashes_are_the_summarys(self, played: Played) -> None:
        reader = JournalReader(played.result.journal)
        records = sum(1 for _ in reader)
        assert records > 20_000
        assert reader.complete
        assert reader.inputs_sha256 == played.result.inputs_sha256
        assert reader.decisions_sha256 == played.result.decisions_sha256

    def test_declared_breakouts_are_the_ones_traded(self, played: Played) -> None:
        declared = {(row["symbol"], row["direction"]) for row in played.result.declared}
        words = {"C": "up", "P": "down"}
        traded = {(t.underlying, words[t.symbol[len(t.underlying) + 6]]) for t in played.result.tally.trades}
        assert traded <= declared
        assert summary_json(played.result, SEED)["differences"] == []


@pytest.mark.long
def test_two_runs_with_one_seed_agree_in_all_of_it(tmp_path: Path, clean_environment: dict[str, str]) -> None:
    runs = [
        demo_json(
            *HALF_DAY, "--state", str(tmp_path / name), *settings("opening_range_breakout", ["universe=['SPY']"]),
            env={**clean_environment, "PYTHONHASHSEED": hash_seed},
        )
        for name, hash_seed in (("a", "1"), ("b", "4242"))
    ]  # fmt: skip
    assert set(runs[0]) >= KEYS
    assert runs[0] == runs[1]
    assert runs[0]["sessions"] == 1
    assert runs[0]["bars"] == 210
    assert runs[0]["fills"] > 0


def documented(underlying: str) -> list[list[str]]:
    """The commands of docs/recorded-days.md for an underlying, as words: as they come, and with market settings."""
    page = (ROOT / "docs" / "recorded-days.md").read_text()
    lines = [shlex.split(line) for line in page.splitlines() if line.startswith("oracle demo --source")]
    return [words[2:] for words in lines if underlying in words]


@pytest.mark.real_data
@pytest.mark.parametrize(("underlying", "bars"), [("GOOG", 210), pytest.param("TWX", 390, marks=pytest.mark.long)])
def test_a_recorded_day_is_played_whole_and_traded_on_its_real_quotes(
    real_data: Path, tmp_path: Path, clean_environment: dict[str, str], underlying: str, bars: int
) -> None:
    found = []
    for n, words in enumerate(documented(underlying)):
        words[words.index("--source") + 1] = str(real_data)
        found.append(demo_json(*words, "--state", str(tmp_path / str(n)), env=clean_environment))
    plain, traded = found
    assert plain["bars"] == traded["bars"] == bars
    assert plain["differences"] == traded["differences"] == []
    assert "recorded" in plain["labels"]
    assert traded["trades"] >= 1
    assert traded["fills"] >= 2
