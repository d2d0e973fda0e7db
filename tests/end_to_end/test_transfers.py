"""Money comes and goes while the daemon trades: real processes, and the exchange's records as the judge."""

from decimal import Decimal
from pathlib import Path

import pytest

from tests.crash import checks
from tests.crash.harness import Play, books_of
from tests.crash.victim import Plan
from tests.end_to_end.test_operator import OPEN_S, desk, ledger_of, oracle_rows
from tests.end_to_end.test_restart import BUSY_S, SEED, check_journals

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.long
async def test_deposits_and_withdrawals_are_booked_and_trading_goes_on(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    async with desk(tmp_path, clean_environment) as one:

        async def move(kind: str, amount: str) -> None:
            made = await one.exchange("/sim/v1/transfers", {"kind": kind, "amount": amount})
            assert (made["activity_type"], made["net_amount"]) == (kind, amount)

        async def booked(kind: str, amount: str) -> None:
            line = await one.until("cash_transferred", kind=kind, amount_usd=amount)
            assert line["date"] == "2026-11-27"

        await one.run_until(OPEN_S + 70 * 60)
        await one.start(30)
        await move("CSD", "25000")
        await booked("CSD", "25000")
        # Nobody had to do anything: the breakout is traded.
        await one.until("trade_opened")
        await move("CSW", "-40000.01")
        await booked("CSW", "-40000.01")
        await one.kill()
        await move("INT", "1.23")  # while nobody looks
        await move("CSD", "500")
        await one.start(5)
        assert sum(line["event"] == "cash_transferred" for line in one.lines) == 4
        status = await one.oracle("status")
        moved = [(row["kind"], Decimal(row["amount_usd"])) for row in status["transfers"]]
        assert sorted(moved) == [
            ("CSD", Decimal(500)), ("CSD", Decimal(25_000)), ("CSW", Decimal("-40000.01")), ("INT", Decimal("1.23")),
        ]  # fmt: skip
        assert status["latches"] == []
        assert status["open_trades"] == 1
        assert (await one.oracle("reconcile"))["text"] == "ledger and broker agree"
        total = Decimal(25_000) - Decimal("40000.01") + Decimal("501.23")
        await one.stop()

        # The rest of the day at full speed; it ends with books and broker equal.
        await one.start(0)
        assert one.process is not None
        assert one.process.stderr is not None
        rest = [line async for line in one.process.stderr]
        assert await one.process.wait() == 0, rest[-3:]
        events = [line["event"] for line in one.lines]
        assert events.count("cash_transferred") == 4
        assert "latch_changed" not in events
        assert not any(b'"latch_changed"' in line or b'"cash_transferred"' in line for line in rest)
        account = await one.exchange("/v2/account")
        assert await one.exchange("/v2/positions") == []
        (trade,) = await oracle_rows(one, "trades")
        ledger = await ledger_of(one.state)
        assert ledger.cash_usd == Decimal(account["cash"])
        status = await one.oracle("status")
        equity = {name: Decimal(status["equity"][f"{name}_usd"]) for name in ("equity", "day_start_equity", "cash")}
        assert equity["day_start_equity"] == 100_000 + total
        assert equity["equity"] == equity["cash"] == ledger.cash_usd
        assert status["latches"] == []
        # The P&L of the day is the trade's alone.
        assert ledger.cash_usd - 100_000 - total == Decimal(str(trade["gross_pnl_usd"]))
        await one.run_command("replay", str(one.state), "--check")


@pytest.mark.long
async def test_a_deposit_that_is_not_listed_yet_is_a_difference_by_name(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    """Cash has moved and no activity explains it: entries wait."""
    async with desk(tmp_path, clean_environment) as one:
        await one.start(5)
        made = await one.exchange("/sim/v1/transfers", {"amount": "1000", "listed": "next_day"})
        assert made["activity_type"] == "CSD"
        line = await one.until("reconciled", level="error")
        assert line["differences"][0].startswith("cash: 101000 USD at the broker, 100000 USD by the ledger")
        assert (await one.oracle("reconcile", code=1))["ok"] is False
        await one.stop()


@pytest.mark.long
async def test_a_kill_between_a_report_and_its_commit_leaves_nothing_half_booked(tmp_path: Path) -> None:
    """Cash, the day's start and the peak are compared at every death and every start, and with the exchange's own."""
    planned = (
        ("09:50", "CSD", "12000.34"),
        ("10:20", "CSW", "-30000"),
        ("10:50", "JNLC", "7.77"),
        ("11:20", "INT", "5"),
    )
    rows = [{"at": f"2026-11-27 {at}", "kind": kind, "amount_usd": amount} for at, kind, amount in planned]
    play = Play(SEED, tmp_path, ready_limit_s=BUSY_S, behaviour={"transfers": rows})
    plans = (
        Plan("commit_before", 1, "transfer"),
        Plan("commit_within", 1, "transfer", armed=True),
        Plan("commit_after", 1, "transfer", armed=True),
        Plan("commit_within", 2, "transfer"),
    )
    session = await play.go(len(plans), plans=plans)
    assert session.violations == []
    assert [kill.point for kill in session.kills] == [f"{plan.point}:transfer" for plan in plans]
    assert session.trades >= 1
    assert session.memories >= 1
    books = books_of(Path(session.state))
    assert sorted((row.kind, str(row.amount_usd)) for row in checks.transfers(books)) == sorted(
        (kind, amount) for _, kind, amount in planned
    )
    assert books.last_equity is not None
    moved = sum(Decimal(amount) for _, _, amount in planned)
    assert books.last_equity.day_start_equity_usd == 100_000 + moved
    check_journals(session)
