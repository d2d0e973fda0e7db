"""Each fault of the streams, injected into a session of the real exchange: what the daemon makes of it, by its journal.

Several faults share a session, at different times; every test looks at its own part, and each session must end right.
"""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from oracle.core.marketdata import Bar, FeedChanged
from oracle.core.messages import SubmitOrder
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Feed, FeedState
from tests.simulation.rehearsal import Rehearsal, clock_ns, rehearse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(110)]
ALL = ["stock", "option", "trade"]
LIFE = [FeedState.CONNECTING, FeedState.BACKFILLING, FeedState.LIVE]
LOST = [FeedState.DOWN, *LIFE]
DISTURBED: list[dict[str, Any]] = [
    {"kind": "fragment", "from": "09:31", "until": "09:33"},
    {"kind": "batch", "seconds": 8, "from": "09:33", "until": "09:35"},
    {"kind": "duplicate", "on": ALL, "probability": 0.5, "from": "09:36", "until": "09:40"},
    {"kind": "reorder", "on": ALL, "from": "09:36", "until": "09:40"},
    {"kind": "drop", "on": ["stock"], "messages": ["bars"], "from": "09:41", "until": "09:44"},
    {"kind": "garbage", "on": ["stock", "option"], "from": "09:44:55", "until": "09:45:04"},
    {"kind": "delay", "on": ["stock", "option"], "seconds": 5, "from": "09:46", "until": "09:48"},
    {"kind": "drop", "on": ["stock"], "messages": ["quotes"], "probability": 0.3, "from": "09:49"},
]
LOSSES: list[dict[str, Any]] = [
    {"kind": "mute", "on": ["stock"], "count": 1, "from": "09:33"},
    {"kind": "cut", "on": ALL, "from": "09:40"},
    {"kind": "cut", "on": ALL, "how": "close", "from": "09:41:30"},
    {"kind": "error", "on": ["stock", "option"], "code": 407, "from": "09:43"},
    {"kind": "error", "on": ALL, "code": 500, "from": "09:44"},
    {"kind": "error", "on": ["stock", "option"], "code": 400, "from": "09:45"},
    {"kind": "oversize", "on": ALL, "from": "09:46"},
    {"kind": "mute", "on": ["option"], "count": 1, "from": "09:48"},
]
REFUSALS: list[dict[str, Any]] = [
    {"kind": "cut", "on": ALL, "from": "09:40:30"},
    {"kind": "refuse_login", "on": ALL, "code": 406, "from": "09:40:30", "until": "09:41"},
    {"kind": "cut", "on": ALL, "from": "09:45"},
    {"kind": "refuse_upgrade", "on": ALL, "status": 429, "from": "09:45", "until": "09:46"},
]
# The breakout's bar ends at 09:37:00.
BLOCKED: list[dict[str, Any]] = [
    {"kind": "cut", "on": ["trade"], "from": "09:36:30"},
    {"kind": "refuse_upgrade", "on": ["trade"], "status": 503, "from": "09:36:30", "until": "09:37:30"},
]


def played(folder: Path, faults: list[dict[str, Any]], **options: Any) -> Rehearsal:
    """Play a session in a fixture, which has no loop of its own."""
    return asyncio.run(rehearse(folder / "state", faults, **options))


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """Connections that stay, with messages that are not as they should be."""
    return played(tmp_path_factory.mktemp("disturbed"), DISTURBED, seed=4, until="09:52")


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """Connections that are lost in every way."""
    return played(tmp_path_factory.mktemp("losses"), LOSSES, seed=4, until="09:50")


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """Connections that are lost and refused anew."""
    return played(tmp_path_factory.mktemp("refusals"), REFUSALS, seed=4, until="09:49")


class TestDisturbed:
    """The connection stays, so no feed ever goes down."""

    def test_the_day_ends_right(self, disturbed: Rehearsal) -> None:
        disturbed.check()

    def test_no_connection_was_given_up(self, disturbed: Rehearsal) -> None:
        for feed in Feed:
            assert {m.epoch for _, m in disturbed.states(feed)} == {1}
        assert not {FeedState.DOWN, FeedState.STALE} & {m.state for _, m in disturbed.of(FeedChanged)}

    def test_fragmented_frames_are_put_together(self, disturbed: Rehearsal) -> None:
        assert disturbed.injected("fragment") > 100
        assert [m.backfilled for _, m in bars_ending(disturbed, "09:32", "09:33")] == [False, False]

    def test_a_frame_of_many_messages_is_read_whole(self, disturbed: Rehearsal) -> None:
        assert disturbed.injected("batch") > 2_000
        # The bar that ended at 09:34:00 came with its batch, at most eight seconds late.
        ((at_ns, bar),) = bars_ending(disturbed, "09:34", "09:34")
        assert 0 < at_ns - clock_ns("09:34") <= 8 * NS
        assert not bar.backfilled

    def test_duplicates_are_booked_and_seen_once(self, disturbed: Rehearsal) -> None:
        assert disturbed.injected("duplicate") > 1_000
        disturbed.check_bars()
        disturbed.check_books()

    def test_a_shuffled_step_changes_nothing_that_counts(self, disturbed: Rehearsal) -> None:
        assert disturbed.injected("reorder") > 100
        orders = disturbed.of(SubmitOrder)
        assert [clock_ns("09:36") < at < clock_ns("09:40") for at, _ in orders] == [True, True]

    def test_dropped_bars_are_missed_and_fetched(self, disturbed: Rehearsal) -> None:
        """Quotes go on, so the feed is not mute: each minute's bar is overdue after 12 s and comes by REST."""
        changes = disturbed.states(Feed.STOCK, "09:41", "09:44:30")
        assert [m.state for _, m in changes] == [FeedState.BACKFILLING, FeedState.LIVE] * 3
        late = bars_ending(disturbed, "09:41", "09:43")
        assert [bar.backfilled for _, bar in late] == [True] * 3
        assert [(at - bar.start_ns) / NS - 60 for at, bar in late] == [12, 12, 12]
        # Each was there before the feed counted as live again.
        assert all(journal_place(disturbed, bar) < journal_place(disturbed, live) for (_, bar), (_, live) in zip(
            late, changes[1::2], strict=True
        ))  # fmt: skip

    def test_garbage_costs_the_frame_only(self, disturbed: Rehearsal) -> None:
        """Nine seconds of frames that cannot be decoded: the bar among them is fetched, the connection is kept."""
        assert disturbed.injected("garbage") > 9
        ((_, bar),) = bars_ending(disturbed, "09:45", "09:45")
        assert bar.backfilled

    def test_late_frames_are_late_and_in_order(self, disturbed: Rehearsal) -> None:
        late = bars_ending(disturbed, "09:46", "09:47")
        assert [(at - bar.start_ns) / NS - 60 for at, bar in late] == [5, 5]
        assert not any(bar.backfilled for _, bar in late)

    def test_dropped_quotes_are_no_reason_to_reconnect(self, disturbed: Rehearsal) -> None:
        assert disturbed.words(Feed.STOCK, "09:48:30") == []


class TestLosses:
    """Every way of losing a connection: noticed, reconnected with a wait, back-filled."""

    def test_the_day_ends_right(self, losses: Rehearsal) -> None:
        losses.check()

    def test_a_mute_socket_is_noticed_within_15_s(self, losses: Rehearsal) -> None:
        at_ns, change = losses.states(Feed.STOCK, "09:33")[0]
        assert change.state is FeedState.STALE
        assert 0 < at_ns - clock_ns("09:33") <= 15 * NS
        assert losses.words(Feed.STOCK, "09:33", "09:34") == [FeedState.STALE, *LIFE]
        # The others were not blamed.
        assert losses.words(Feed.OPTION, "09:33", "09:34") == losses.words(Feed.TRADING, "09:33", "09:34") == []

    def test_a_mute_option_socket_is_noticed_within_15_s(self, losses: Rehearsal) -> None:
        at_ns, change = losses.states(Feed.OPTION, "09:48")[0]
        assert change.state is FeedState.STALE
        assert 0 < at_ns - clock_ns("09:48") <= 15 * NS

    @pytest.mark.parametrize(
        ("since", "feeds", "words"),
        [
            ("09:40", ALL, "closed"),
            ("09:41:30", ALL, "code 1001"),
            ("09:43", ["stock", "option"], "slow_client"),
            ("09:44", ALL, "server"),
            ("09:46", ALL, "larger than 16777216 bytes"),
        ],
        ids=["cut", "closed", "error_407_slow_client", "error_500", "oversized_frame"],
    )
    def test_a_lost_connection_comes_back(self, losses: Rehearsal, since: str, feeds: list[str], words: str) -> None:
        until = f"09:{int(since[3:5]) + 1}:00"
        for name in feeds:
            changes = losses.states(Feed({"trade": "trading"}.get(name, name)), since, until)
            assert [m.state for _, m in changes] == LOST, name
            assert words in changes[0][1].reason
            # It is noticed in the very second of the loss, and tried again after a wait, not at once.
            assert changes[0][0] == clock_ns(since)
            assert NS <= changes[1][0] - changes[0][0] <= 30 * NS

    def test_an_error_frame_that_only_answers_leaves_the_connection(self, losses: Rehearsal) -> None:
        assert losses.injected("error") >= 7
        assert losses.words(Feed.STOCK, "09:45", "09:46") == losses.words(Feed.OPTION, "09:45", "09:46") == []

    def test_every_missed_bar_is_there_before_the_feed_is_live(self, losses: Rehearsal) -> None:
        """The bar that went into the cut at 09:40:00 comes between the reconnect and LIVE, as back-filled."""
        ((_, bar),) = bars_ending(losses, "09:40", "09:40")
        assert bar.backfilled
        _, live = losses.states(Feed.STOCK, "09:40", "09:41")[-1]
        _, connecting = losses.states(Feed.STOCK, "09:40", "09:41")[1]
        places = [journal_place(losses, m) for m in (connecting, bar, live)]
        assert places == sorted(places)


class TestRefusals:
    """A vendor that refuses to be connected to is asked rarely."""

    def test_the_day_ends_right(self, refusals: Rehearsal) -> None:
        refusals.check()

    @pytest.mark.parametrize(
        ("since", "until", "word", "least_s"),
        [("09:40:30", "09:45", "connection_limit", 10), ("09:45", "09:50", "throttled", 15)],
        ids=["login_refused_with_406", "upgrade_refused_with_429"],
    )
    def test_it_waits(self, refusals: Rehearsal, since: str, until: str, word: str, least_s: int) -> None:
        for feed in Feed:
            changes = refusals.states(feed, since, until)
            refused = [at for at, m in changes if m.state is FeedState.DOWN and m.reason.startswith(word)]
            tries = [at for at, m in changes if m.state is FeedState.CONNECTING]
            assert 1 <= len(refused) <= 3
            gaps_s = [(after - before) / NS for before, after in pairwise(tries)]
            assert len(gaps_s) == len(refused)
            assert all(gap_s >= least_s for gap_s in gaps_s), gaps_s
            assert changes[-1][1].state is FeedState.LIVE

    def test_waits_differ_so_that_feeds_do_not_come_together(self, refusals: Rehearsal) -> None:
        reasons = [refusals.states(feed, "09:45:01", "09:45:30")[1][1].reason for feed in Feed]
        assert len({reason.split("next attempt in")[1] for reason in reasons}) == len(reasons)


async def test_entries_wait_until_every_feed_is_back(tmp_path: Path) -> None:
    """The trade updates are away at the breakout: the intent is refused with the reason, and nothing is sent."""
    day = await rehearse(tmp_path / "state", BLOCKED, seed=4, until="09:42")
    day.check(trades=0)
    assert day.entries() == []
    assert "feeds" in day.refusals()
    assert day.words(Feed.TRADING, "09:37:30", "09:40")[-1] is FeedState.LIVE


async def test_a_mute_socket_at_the_breakout_delays_the_entry_until_the_bars_are_there(tmp_path: Path) -> None:
    day = await rehearse(
        tmp_path / "state", [{"kind": "mute", "on": ["stock"], "count": 1, "from": "09:36:50"}], seed=4, until="09:44"
    )
    day.check()
    stale_ns = day.states(Feed.STOCK, "09:36:50")[0][0]
    live_ns = day.states(Feed.STOCK, "09:36:50")[-1][0]
    assert stale_ns - clock_ns("09:36:50") <= 15 * NS
    ((at_ns, bar),) = bars_ending(day, "09:37", "09:37")
    assert bar.backfilled
    assert at_ns <= live_ns < day.entries()[0]


async def test_exits_leave_while_the_data_feeds_are_down(tmp_path: Path) -> None:
    """Entered at 09:38; no market data from 09:40 on; the forced exit of 09:45 is sent and filled all the same."""
    data = ["stock", "option"]
    faults: list[dict[str, Any]] = [
        {"kind": "cut", "on": data, "from": "09:40"},
        {"kind": "refuse_upgrade", "on": data, "status": 503, "from": "09:40", "until": "09:47"},
    ]
    day = await rehearse(tmp_path / "state", faults, seed=3, until="09:50", entry_end="09:43", flat_at="09:45")
    day.check()
    exit_ns = day.of(SubmitOrder)[-1][0]
    down = {m.feed: m.state for at, m in day.of(FeedChanged) if at <= exit_ns}
    assert clock_ns("09:45") <= exit_ns < clock_ns("09:46"), day.story()
    assert FeedState.LIVE not in (down[Feed.STOCK], down[Feed.OPTION])


def bars_ending(day: Rehearsal, first: str, last: str) -> list[tuple[int, Bar]]:
    """The bars whose minutes ended in a part of the session, with when they were handled."""
    return [(at, m) for at, m in day.of(Bar) if clock_ns(first) <= m.start_ns + MINUTE_NS <= clock_ns(last)]


def journal_place(day: Rehearsal, message: object) -> int:
    """Where a message stands in the journal."""
    return next(i for i, (_, m) in enumerate(day.journal) if m is message)
