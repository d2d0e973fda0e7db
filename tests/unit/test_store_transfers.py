"""Transfers of cash in the store: once, folded again, with the day's start and the peak that they moved, or nothing."""

from decimal import Decimal
from pathlib import Path

import pytest

from oracle.cli.show import status
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.errors import StoreError
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.messages import CashTransferred, EquityMarked, LedgerSeeded, Reconciled, SessionClosed
from oracle.execution.reconcile import Reconciler
from oracle.store import read
from oracle.store.loading import Loaded
from oracle.store.sqlite import Store
from tests.unit.builders import Chains
from tests.unit.test_store_operator import stamped

D, T0 = Decimal, 1_768_919_400_000_000_000
SEED = LedgerSeeded(D(100_000), D(100_000), T0, ("csd-0",))
DEPOSIT = CashTransferred("csd-1", "CSD", D("2500.05"), "2026-01-20", "Cash Deposit", T0 + 1)
INTEREST = CashTransferred("int-1", "INT", D("0.01"), "2026-01-20", "", T0 + 2)


def mark(at_ns: int, moved: Decimal) -> EquityMarked:
    start = D(100_000) + moved
    return EquityMarked("2026-01-20", at_ns, "transfer", start, start - 500, start, start + 1000, D(-500), D(0), 0)


def equity_of(loaded: Loaded) -> tuple[Decimal | None, Decimal | None]:
    """The day's start and the peak that a restart begins with."""
    ledger = Ledger()
    keeper = EquityKeeper(ledger, Marks(MarketState(), Chains(), 15, ledger.held))  # type: ignore[arg-type]
    keeper.restore(loaded.equity, loaded.seed, loaded.latches, loaded.unmarked)
    view = keeper.view(T0)
    return view.day_start_usd, view.peak_usd


async def test_what_is_committed_is_folded_again_and_what_was_marked_is_not_moved_twice(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, "sim", T0, token="tok")
    await store.commit([SEED], stamped(1))
    assert equity_of(await store.load()) == (D(100_000), D(100_000))
    # Equity was unknown: no mark followed, and the start and the peak have moved all the same.
    await store.commit([DEPOSIT, Reconciled(T0 + 1, "account report", ())], stamped(2, T0 + 1))
    loaded = await store.load()
    assert (loaded.unmarked, equity_of(loaded)) == ((DEPOSIT,), (D("102500.05"), D("102500.05")))
    # At the very instant of the mark: what follows it is told by the order of commit, not by the time.
    await store.commit([mark(T0 + 2, DEPOSIT.amount_usd)], stamped(3, T0 + 2))
    assert equity_of(await store.load()) == (D("102500.05"), D("103500.05"))
    await store.commit([INTEREST], stamped(4, T0 + 2))
    loaded = await store.load()
    await store.close()
    # 500 USD under the start and 1,500 under the peak: the start moves by the cent, the peak with the equity's share.
    assert (loaded.unmarked, equity_of(loaded)) == ((INTEREST,), (D("102500.06"), D("103500.060147")))
    assert loaded.seed == SEED
    assert [m for m in loaded.books if isinstance(m, CashTransferred)] == [DEPOSIT, INTEREST]
    ledger = Ledger()
    ledger.restore(loaded.books)
    assert (ledger.cash_usd, ledger.realized_since(0)) == (D("102500.06"), 0)
    with read.reading(tmp_path) as db:
        rows = read.status(db)["transfers"]
    assert [(row["kind"], row["amount_usd"], row["text"]) for row in rows] == [
        ("INT", D("0.01"), ""),
        ("CSD", D("2500.05"), "Cash Deposit"),
    ]


async def test_status_shows_the_newest_transfers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = await Store.open(tmp_path, "sim", T0, token="tok")
    await store.commit([SEED, DEPOSIT], stamped(1))
    await store.close()
    status(tmp_path)
    assert "+2,500.05 USD CSD Cash Deposit" in capsys.readouterr().out


async def test_an_activity_is_stored_once_and_a_turn_whole_or_not_at_all(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, "sim", T0, token="tok")
    await store.commit([SEED], stamped(1))
    await store.commit([DEPOSIT, mark(T0 + 1, DEPOSIT.amount_usd)], stamped(2, T0 + 1))
    before = await store.load()
    with pytest.raises(StoreError, match="UNIQUE"):
        await store.commit([INTEREST, mark(T0 + 2, D(1)), DEPOSIT, SessionClosed("2026-01-20", T0)], stamped(3, T0 + 2))
    assert await store.load() == before
    await store.close()


async def test_a_restarted_reconciler_knows_what_is_booked_and_what_the_opening_cash_holds(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, "sim", T0, token="tok")
    await store.commit([SEED, DEPOSIT], stamped(1))
    loaded = await store.load()
    await store.close()
    reconciler = Reconciler()
    reconciler.restore_transfers(loaded.books)
    assert reconciler._transfers._known == {"csd-0", "csd-1"}
