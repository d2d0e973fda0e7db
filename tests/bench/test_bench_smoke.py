"""The benches run and print their ratios. Targets are judged by ``scripts/bench`` on a quiet machine, not here."""

import io
import time
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from rich.console import Console

from tests.bench import market
from tests.bench.__main__ import throughput_figures
from tests.bench.bar_to_order import BURST, Client, bench, burst, repeats, rounds, single
from tests.bench.bench_clock import BenchClock
from tests.bench.measure import Figure, percentile, print_table
from tests.bench.soak import Session, Soak, memory_mb, report


def printed(figures: list[Figure]) -> str:
    out = io.StringIO()
    print_table(figures, Console(file=out, width=130))
    return out.getvalue()


class TestMeasure:
    def test_percentiles_are_interpolated(self) -> None:
        values = [float(n) for n in range(101)]
        assert [percentile(values, percent) for percent in (1, 50, 99)] == [1.0, 50.0, 99.0]
        assert percentile([7.0], 99) == 7.0
        with pytest.raises(ValueError, match="no values"):
            percentile([], 50)

    @pytest.mark.parametrize(
        ("ours", "floor", "sense", "met"),
        [(2.9, 1.0, "at_most", True), (3.1, 1.0, "at_most", False), (3.1, 1.0, "at_least", True),
         (2.9, 1.0, "at_least", False), (1.0, None, "at_most", False)],
    )  # fmt: skip
    def test_a_target_bounds_the_ratio(self, ours: float, floor: float | None, sense: str, met: bool) -> None:
        figure = Figure("x", ours, floor, "µs", 3.0, sense)  # type: ignore[arg-type]
        assert figure.met is met
        assert ("missed" in printed([figure])) is not met

    def test_without_a_target_there_is_no_verdict(self) -> None:
        figure = Figure("p99", 8.0, 2.0, "µs")
        assert figure.met is None
        assert "4.00" in printed([figure])


class TestThroughput:
    RESULT: ClassVar[dict[str, Any]] = {
        "bars": 200_000, "bars_per_cpu_s": {"floor": 400_000, "bare_floor": 800_000, "ours": 110_000},
        "least_ratio": 0.25, "repeatable": True, "trades": 5,
        "peers": {"basana": {"bars_per_cpu_s": 11_000}, "other": {"absent": "it is not installed"}},
    }  # fmt: skip

    def test_the_floor_is_judged_and_peers_are_shown(self) -> None:
        figures = throughput_figures(self.RESULT)
        assert [figure.met for figure in figures] == [True, None, None, None]
        assert figures[2].ratio == pytest.approx(10)
        assert figures[3].ratio is None
        assert "not installed" in printed(figures)

    def test_decisions_that_differ_miss(self) -> None:
        assert throughput_figures({**self.RESULT, "repeatable": False})[0].met is False


class TestClock:
    def test_it_runs_at_the_true_pace_and_jumps_only_ahead(self, tmp_path: Path) -> None:
        path = tmp_path / "clock"
        begin_ns = market.sessions()[1].open_ns
        clock, reader = BenchClock.create(path, begin_ns), BenchClock(path)
        ahead_ns = begin_ns + 3_600_000_000_000
        clock.move_to(ahead_ns)
        clock.move_to(begin_ns)
        before_ns, seen_ns = time.time_ns(), reader.now_ns()
        assert ahead_ns <= seen_ns
        assert abs((reader.now_ns() - seen_ns) - (time.time_ns() - before_ns)) < 1_000_000_000


class TestSoak:
    @staticmethod
    def of(*rss_mb: float) -> Soak:
        sessions = [Session(f"day {n}", 40.0, mb, max(rss_mb[: n + 1]) + 1, 80.0) for n, mb in enumerate(rss_mb)]
        return Soak(sessions, 0, max(rss_mb) + 1)

    @pytest.mark.parametrize(
        ("rss_mb", "met"),
        [((100, 200, 209), True), ((100, 200, 211), False), ((100, 200, 399.5), False), ((100, 400, 400), False)],
    )
    def test_limits_are_the_highest_and_the_growth_after_the_second(self, rss_mb: tuple[float, ...], met: bool) -> None:
        soak = self.of(*rss_mb)
        assert soak.met(3) is met
        assert not soak.met(4)  # a session is missing
        out = io.StringIO()
        report(soak, 3, Console(file=out, width=120))
        assert ("MISSED" in out.getvalue()) is not met

    def test_an_unknown_growth_misses(self) -> None:
        soak = self.of(100, 100)
        assert soak.growth is None
        assert not soak.met(2)

    def test_the_highest_is_the_kernels_mark(self, tmp_path: Path) -> None:
        status = tmp_path / "status"
        status.write_text("Name:\toracle\nVmPeak:\t  900000 kB\nVmHWM:\t  300000 kB\nVmRSS:\t  200000 kB\n")
        assert memory_mb(status) == (204.8, 307.2)
        status.write_text("Name:\toracle\nState:\tZ (zombie)\n")
        assert memory_mb(status) is None
        assert memory_mb(tmp_path / "gone") is None

    def test_a_daemon_that_failed_misses(self) -> None:
        soak = self.of(100, 100, 100)
        soak.code = 70
        assert not soak.met(3)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_bar_to_order_runs_and_prints_ratios(tmp_path: Path) -> None:
    figures = await single(tmp_path, 4, 1)
    names = [figure.name.rpartition(" ")[2] for figure in figures]
    assert names == ["p50", "p99", "again", "p50", "p99", "again", "p50", "p99"]
    assert all(figure.ratio is not None and figure.ratio > 0 for figure in figures if figure.unit == "µs")
    assert printed(figures).count("≤ 3") == 2
    assert [figure.floor for figure in figures if figure.unit == "events"] == [4, 4]


@pytest.mark.parametrize(("repeated", "met"), [(0, True), (2, True), (3, False)])
def test_more_than_two_repeats_of_a_hundred_events_miss(repeated: int, met: bool) -> None:
    client = Client("ours", cast(Any, None), cast(Any, None), None, 0, (), [[0.001] * 50] * 2, repeated=repeated)
    figure = repeats(client, "bar to order")
    assert figure.met is met
    assert str(repeated) in printed([figure])


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_burst_arrives_whole(tmp_path: Path) -> None:
    judged, beside = await burst(tmp_path, 1)
    assert str(BURST) in judged.name
    assert judged.target is not None
    assert beside.target is None
    for figure in (judged, beside):
        assert figure.ratio is not None
        assert figure.ratio > 0


@pytest.mark.timeout(60)
async def test_the_floor_with_a_commit_stores_each_order_before_it_leaves(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        floor = await it.floor("committing", "--state", "{state}")
        await rounds((floor,), ("SPY",), 3, 1)
        sent = len(floor.account.orders)
    assert sent == 8
    assert (tmp_path / "committing" / "floor.db").stat().st_size > 0
