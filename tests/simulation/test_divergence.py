"""Recorded sessions of the real exchange, played again on the exchange in process: equal where nothing was planted.

Planted are a broker that refuses an entry, one that fills late at the order's own limit, a market without offers, and a
death with an order at work. Seed 2 enters at 09:46 in two attempts and leaves at 09:48.
"""

import math
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest

from oracle.carried import carried
from oracle.core.marketdata import ChainQuotes
from oracle.core.message import Message
from oracle.core.messages import Stamped
from oracle.divergence import diverge
from oracle.opening import reopen
from oracle.replay import segments
from oracle.store.journal import JournalReader, JournalWriter
from oracle.store.loading import Loaded
from oracle.store.sqlite import durable
from tests.simulation.rehearsal import DATE, exchange, finish, rehearse
from tests.simulation.test_known_failures import run_and_kill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(110)]
UNTIL = "09:53"
# Nothing that an actor restores itself from.
FIGURES = {"results": (), "unmarked": ()}


def rewritten(source: Path, target: Path, change: Callable[[Stamped], Stamped]) -> None:
    """A journal with other inputs and the same outputs, as if another market had been told."""
    reader = JournalReader(source)
    writer = JournalWriter(target, reader.opened)
    for record in reader:
        if isinstance(record, Stamped):
            writer.write_input(change(record))
        else:
            writer.write_outputs(record.seq, record.messages)
    writer.close()


def without_offers(since_ns: int) -> Callable[[Stamped], Stamped]:
    """No option has an ask from an instant on."""

    def change(stamped: Stamped) -> Stamped:
        told = stamped.input
        if not isinstance(told, ChainQuotes) or stamped.at_ns < since_ns:
            return stamped
        absent = np.full(len(told.ask) // 8, math.nan, dtype="<f8").tobytes()
        return msgspec.structs.replace(stamped, input=msgspec.structs.replace(told, ask=absent))

    return change


async def test_a_session_of_the_embedded_exchange_is_filled_alike_and_a_market_without_offers_is_missed(
    tmp_path: Path,
) -> None:
    played = await rehearse(tmp_path / "state", seed=2, until=UNTIL)
    found = await diverge(None, tmp_path / "state")
    assert found.session == DATE
    assert found.agrees
    assert (len(found.matched), found.missed, found.extra) == (1, (), ())
    (pair,) = found.matched
    assert pair.real == pair.replay, "the same fills to the cent and second"
    assert pair.real.net_pnl_usd == played.result.tally.trades[0].net_pnl_usd
    assert (found.fills.compared, found.fills.equal) == (2, 2)
    assert found.slippage.difference_usd == found.pnl.matched_difference_usd == 0
    assert found.real_entries == found.replay_entries
    assert found.summary.endswith("1 trade matched, 0 missed, 0 extra; all fills at the same prices")

    # What the next segment's core would be built from is what a store would have loaded.
    journal = played.result.journal
    assert as_loaded(carried(loaded(journal), stored(journal))) == as_loaded(played.books)

    path = tmp_path / "no_offers.oj"
    rewritten(journal, path, without_offers(pair.real.decided_ns))
    other = await diverge(str(path), tmp_path)
    assert not other.agrees
    assert (len(other.matched), len(other.missed), len(other.extra)) == (0, 1, 0)
    assert other.missed[0].trade == pair.real
    assert other.missed[0].instead == "order not filled (window)"
    assert (other.real_entries.fill_rate, other.replay_entries.fill_rate) == (1.0, 0.0)
    assert other.pnl.replay_usd == 0
    assert "1 missed" in other.summary


@pytest.mark.long
async def test_an_entry_that_the_broker_refused_is_extra_in_the_replay(tmp_path: Path) -> None:
    faults = [{"kind": "refuse_request", "reply": 503, "count": 1}]
    await rehearse(tmp_path / "state", faults, seed=2, until=UNTIL)
    found = await diverge(DATE, tmp_path / "state")
    assert not found.agrees
    assert (found.matched, found.missed, len(found.extra)) == ((), (), 1)
    assert found.extra[0].instead.startswith("order not filled (rejected")
    assert (found.real_entries.filled, found.replay_entries.filled) == (0, 1)
    assert found.fills.mean_better_usd is None
    assert "no fills to compare" in found.summary


@pytest.mark.long
async def test_a_broker_that_fills_at_the_orders_own_limit_is_shown_to_the_cent(tmp_path: Path) -> None:
    """Its cancel came too late: the rest filled at the first limit, where the replay has to walk up the ladder."""
    faults = [{"kind": "fill_after_cancel", "seconds": 0.5, "count": 1}]
    played = await rehearse(tmp_path / "state", faults, seed=2, until=UNTIL)
    assert played.injected("fill_after_cancel") == 1
    found = await diverge(str(tmp_path / "state"), tmp_path)
    (pair,) = found.matched
    assert pair.real.symbol == pair.replay.symbol
    assert pair.entry_better_usd is not None
    assert pair.entry_better_usd == (pair.real.entry_price_usd - pair.replay.entry_price_usd).quantize(Decimal("1e-6"))
    assert pair.entry_better_usd < 0, "reality bought cheaper"
    assert found.fills.most_worse_usd == pair.entry_better_usd
    assert found.slippage.difference_usd > 0
    assert "worse in replay on average" in found.summary
    strict = await diverge(str(tmp_path / "state"), tmp_path, Decimal(0))
    assert (found.agrees, strict.agrees) == (not pair.apart and abs(pair.entry_better_usd) <= Decimal("0.05"), False)


@pytest.mark.long
async def test_a_killed_and_restarted_session_is_joined(tmp_path: Path, clean_environment: dict[str, str]) -> None:
    state = tmp_path / "state"
    faults = [{"kind": "refuse_request", "on": ["cancel"], "reply": "hang", "count": 1}]
    async with exchange(faults, UNTIL, seed=2) as url:
        await run_and_kill(url, state, clean_environment)
        await finish(url, state)
    first, last = segments(DATE, state)
    found = await diverge(DATE, state)
    assert found.segments == (str(first), str(last))
    assert len(found.matched) == 1
    assert (found.missed, found.extra) == ((), ())
    assert found.matched[0].real.contracts == found.matched[0].replay.contracts
    assert f"{last.name}: no input is on record" in " ".join(found.notes)


def stored(path: Path) -> list[tuple[int, Message]]:
    """The durable messages of a segment's turns, with their times."""
    rows: list[tuple[int, Message]] = []
    held: Stamped | None = None
    for record in JournalReader(path):
        if isinstance(record, Stamped):
            rows += [] if held is None else [(held.at_ns, m) for m in durable(held, ())]
            held = record
        elif held is not None:
            rows += [(held.at_ns, m) for m in durable(held, record.messages)]
            held = None
    return rows


def loaded(path: Path) -> Loaded:
    reader = JournalReader(path)
    deque(reader, maxlen=0)
    return reopen(reader.opened).loaded


def as_loaded(state: Loaded) -> Loaded:
    return msgspec.structs.replace(state, **FIGURES)
