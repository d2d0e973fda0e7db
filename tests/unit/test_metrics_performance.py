"""Each figure against arithmetic done by hand, and what is defined when there is little or nothing."""

import math

import msgspec
import pytest
from scipy.stats import binomtest

from oracle.core.trackrecord import ClosedTrade, DayResult, StrategyKey
from oracle.metrics.performance import Accumulator, drawdown_curve, equity_curve, figures, r_multiples, wilson

KEY = StrategyKey("momentum_scalping", "abc")
HOUR_NS, SESSION_NS = 3_600 * 10**9, 23_400 * 10**9


def micros(dollars: float) -> int:
    return round(dollars * 1_000_000)


def trade(number: int, net: float, fees: float = 1.30, **changed: object) -> ClosedTrade:
    """A trade of one contract, 100 dollars at risk, 200 at worst, 10,000 in the account; dollars."""
    plain = ClosedTrade(
        log_id=number, trade_id=f"T-{number}", key=KEY, underlying="SPY", symbol="SPY260116C00600000",
        opened_ns=number * HOUR_NS, closed_ns=number * HOUR_NS + 600 * 10**9, session="2026-01-05", contracts=1,
        leg_contracts=2, gross_micros=micros(net + fees), net_micros=micros(net), fees_modelled_micros=micros(fees),
        fees_broker_micros=0, slippage_micros=None, slippage_bps=None, planned_risk_micros=micros(100),
        worst_case_micros=micros(200), equity_micros=micros(10_000), mae_micros=None, mfe_micros=None,
        exit_rule="target", feed="sip",
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changed)


def day(number: int, pnl: float | None, start: float = 10_000, transfers: float = 0, open_ns: int = 0) -> DayResult:
    """The session of the ``number``-th of January; dollars."""
    pnl_micros = None if pnl is None else micros(pnl)
    return DayResult(f"2026-01-{number:02d}", pnl_micros, micros(start), micros(transfers), open_ns, SESSION_NS)


def chain(*changes: float) -> list[DayResult]:
    """Sessions with these returns, each on 10,000 dollars."""
    return [day(n, 10_000 * change) for n, change in enumerate(changes, 1)]


class TestTrades:
    # In dollars, net: two wins, a scratch of half a dollar (fees 1.30), two losses.
    TRADES = (trade(1, 120), trade(2, 60), trade(3, 0.50), trade(4, -80), trade(5, -40))

    def test_counts_and_averages(self) -> None:
        found = figures(self.TRADES, [])
        assert (found.trades, found.wins, found.losses, found.scratches) == (5, 2, 2, 1)
        assert found.win_rate == 2 / 5
        assert found.average_win_usd == (120 + 60) / 2
        assert found.average_loss_usd == (80 + 40) / 2
        assert (found.largest_win_usd, found.largest_loss_usd) == (120, 80)
        assert found.payoff == 90 / 60
        assert found.net_pnl_usd == 120 + 60 + 0.5 - 80 - 40
        assert found.expectancy_usd == pytest.approx(60.5 / 5, rel=1e-15)

    def test_profit_factor_counts_scratches_so_that_profit_less_loss_is_the_net(self) -> None:
        found = figures(self.TRADES, [])
        assert (found.gross_profit_usd, found.gross_loss_usd) == (180.5, 120)
        assert found.profit_factor == 180.5 / 120
        assert found.gross_profit_usd - found.gross_loss_usd == found.net_pnl_usd

    def test_break_even_is_of_the_realised_averages_and_the_bound_is_given(self) -> None:
        found = figures(self.TRADES, [], bound=0.8)
        assert found.break_even_win_rate == 60 / (90 + 60)  # W = 90, L = 60
        assert found.break_even_bound == 0.8
        # At that share of wins the averages earn nothing: 0.4 · 90 − 0.6 · 60 = 0.
        assert 0.4 * 90 - 0.6 * 60 == 0

    def test_a_scratch_is_within_its_fees_on_both_sides(self) -> None:
        found = figures([trade(1, 1.30), trade(2, -1.30), trade(3, 1.300001), trade(4, -1.300001), trade(5, 0, 0)], [])
        assert (found.wins, found.losses, found.scratches) == (1, 1, 3)

    def test_multiples_of_risk(self) -> None:
        # R: 1.2, 0.6, 0.005, −0.8, −0.4; the sixth has no planned risk.
        trades = [*self.TRADES, trade(6, 50, planned_risk_micros=0)]
        found = figures(trades, [])
        mean = (1.2 + 0.6 + 0.005 - 0.8 - 0.4) / 5
        squares = sum((r - mean) ** 2 for r in (1.2, 0.6, 0.005, -0.8, -0.4))
        assert found.r_trades == 5
        assert found.expectancy_r == pytest.approx(mean, rel=1e-14)
        assert found.sqn == pytest.approx(math.sqrt(5) * mean / math.sqrt(squares / 4), rel=1e-14)
        assert r_multiples(trades).tolist() == [1.2, 0.6, 0.005, -0.8, -0.4]

    def test_system_quality_counts_a_hundred_trades_at_most(self) -> None:
        found = figures([trade(n, 100 if n % 2 else -50) for n in range(400)], [])
        deviation = math.sqrt(400 * 0.75**2 / 399)  # R is 1 or −0.5, 0.75 from their mean 0.25
        assert found.sqn == pytest.approx(10 * 0.25 / deviation, rel=1e-14)

    def test_costs(self) -> None:
        trades = [
            trade(1, 10, 1.30, slippage_micros=micros(2), slippage_bps=40.0, fees_broker_micros=micros(0.04)),
            trade(2, 10, 2.60, slippage_micros=micros(-0.5), slippage_bps=-10.0, leg_contracts=4),
            trade(3, 10, 1.30),
        ]
        found = figures(trades, [])
        assert found.fees_modelled_usd == 5.20
        assert found.fees_broker_usd == 0.04
        assert (found.slippage_usd, found.slippage_bps, found.slippage_trades) == (1.5, 15.0, 2)
        # The third trade's slippage is unknown: its fees and legs are not in the quotient either.
        assert found.cost_per_leg_usd == pytest.approx((1.30 + 2.60 + 2 - 0.5) / (2 + 4), rel=1e-15)

    def test_excursions_are_means_over_planned_risk_where_known(self) -> None:
        trades = [
            trade(1, 10, mae_micros=micros(-30), mfe_micros=micros(50)),
            trade(2, 10, mae_micros=micros(-10), mfe_micros=None),
            trade(3, 10, mae_micros=0, mfe_micros=micros(20), planned_risk_micros=micros(50)),
            trade(4, 10),
        ]
        found = figures(trades, [])
        assert found.mae_mean_r == pytest.approx((-0.3 - 0.1 + 0) / 3, rel=1e-15)
        assert found.mfe_mean_r == pytest.approx((0.5 + 0.4) / 2, rel=1e-15)

    def test_capacity_is_in_whole_contracts_at_five_percent_of_the_equity_then(self) -> None:
        trades = [
            trade(1, 10),  # 500 of 10,000 at 200 a contract: 2 contracts, 400
            trade(2, 10, contracts=3, worst_case_micros=micros(450)),  # at 150: 3 contracts, 450
            trade(3, 10, worst_case_micros=micros(600)),  # one contract is above the ceiling: 0
            trade(4, 10, equity_micros=0),  # unknown equity: not in the mean
        ]
        assert figures(trades, []).capacity_usd == pytest.approx((400 + 450 + 0) / 3, rel=1e-15)

    def test_a_ceiling_that_fits_exactly_is_used(self) -> None:
        exact = trade(1, 10, worst_case_micros=micros(500))
        assert figures([exact], []).capacity_usd == 500

    def test_streaks_end_with_a_scratch(self) -> None:
        nets = [10, 10, 10, 0, 10, -10, -10, 0, -10, -10, -10]
        found = figures([trade(n, net) for n, net in enumerate(nets)], [])
        assert (found.win_streak, found.loss_streak, found.streak) == (3, 3, -3)
        found = figures([trade(n, net) for n, net in enumerate([-10, 10, 10])], [])
        assert (found.win_streak, found.loss_streak, found.streak) == (2, 1, 2)
        assert figures([trade(1, 10), trade(2, 0)], []).streak == 0

    def test_trades_count_in_the_order_of_their_log_ids(self) -> None:
        shuffled = [trade(3, -10), trade(1, 10), trade(2, 10)]
        assert figures(shuffled, []).streak == -1
        assert figures(shuffled, []).win_streak == 2

    def test_holding_is_the_mean(self) -> None:
        assert figures([trade(1, 1), trade(2, 1, opened_ns=0, closed_ns=1_800 * 10**9)], []).holding_s == 1_200


class TestSessions:
    def test_sharpe_sortino_and_volatility(self) -> None:
        # Returns 1 %, −1 %, 2 %, 0: mean 0.5 %; deviations 0.5, −1.5, 1.5, −0.5 %, their squares sum to 5 of 1e-4.
        found = figures([], chain(0.01, -0.01, 0.02, 0.0))
        deviation = math.sqrt(5e-4 / 3)
        assert found.sharpe == pytest.approx(0.005 / deviation * math.sqrt(252), rel=1e-14)
        assert found.annual_volatility == pytest.approx(deviation * math.sqrt(252), rel=1e-14)
        # One of four sessions lost, 1 %: downside √(0.0001 / 4) = 0.005, as much as the mean.
        assert found.sortino == pytest.approx(math.sqrt(252), rel=1e-14)

    def test_flat_sessions_count(self) -> None:
        busy, with_flat = figures([], chain(0.01, -0.005)), figures([], chain(0.01, 0.0, -0.005, 0.0))
        assert busy.sharpe is not None
        assert with_flat.sharpe is not None
        assert with_flat.sharpe < busy.sharpe
        assert with_flat.sessions == 4

    def test_drawdown_duration_and_ulcer(self) -> None:
        # Equity 11,000, 8,800, 9,900, 11,000, 11,000, 11,550: below 11,000 for two sessions, then at it.
        equity, days = 10_000, []
        for n, pnl in enumerate((1_000, -2_200, 1_100, 1_100, 0, 550), 1):
            days.append(day(n, pnl, start=equity))
            equity += pnl
        found = figures([], days)
        assert found.max_drawdown == pytest.approx(0.2, rel=1e-14)
        assert found.drawdown_sessions == 2
        assert found.current_drawdown == 0
        assert found.ulcer_index == pytest.approx(math.sqrt((0.2**2 + 0.1**2) / 6), rel=1e-14)
        assert found.total_return == pytest.approx(0.155, rel=1e-12)
        assert found.max_drawdown_usd == 2_200

    def test_a_losing_only_curve_has_a_drawdown_from_the_starting_capital(self) -> None:
        found = figures([], chain(-0.1, -0.1, -0.1))
        assert found.max_drawdown == pytest.approx(1 - 0.9**3, rel=1e-14)
        assert found.current_drawdown == found.max_drawdown
        assert found.max_drawdown_usd == 3_000
        assert found.drawdown_sessions == 3
        assert found.ulcer_index == pytest.approx(math.sqrt((0.1**2 + 0.19**2 + 0.271**2) / 3), rel=1e-14)
        assert found.sharpe is None  # three equal sessions have no variance
        assert figures([], chain(-0.01)).max_drawdown == pytest.approx(0.01, rel=1e-14)

    def test_a_drawdown_that_has_not_ended_counts(self) -> None:
        assert figures([], chain(0.1, -0.1, 0.01, 0.01, 0.01)).drawdown_sessions == 4

    def test_transfers_are_no_return(self) -> None:
        # 10,000 gains 10 %; 9,000 is taken out; the 2,000 that are left gain 10 %: 21 % in all, though 1,200 dollars.
        days = [day(1, 1_000), day(2, 200, start=2_000, transfers=-9_000)]
        found = figures([], days)
        assert found.total_return == pytest.approx(0.21, rel=1e-14)
        assert found.max_drawdown == 0
        # A deposit hides no loss: 10 % of 10,000, then 10 % of 109,000.
        found = figures([], [day(1, -1_000), day(2, -10_900, start=109_000, transfers=100_000)])
        assert found.max_drawdown == pytest.approx(0.19, rel=1e-14)

    def test_an_unknown_session_is_held_by_the_next_known_one(self) -> None:
        days = [day(1, 100), day(2, None), day(3, -300), day(4, None)]
        found = figures([], days)
        assert (found.sessions, found.unknown_sessions) == (4, 2)
        assert found.total_return == pytest.approx(1.01 * 0.97 - 1, rel=1e-13)
        dates, index = equity_curve(days)
        assert dates == ("", "2026-01-01", "2026-01-03")
        assert index.tolist() == pytest.approx([1.0, 1.01, 1.01 * 0.97], rel=1e-14)

    def test_equity_that_is_gone_has_no_return_but_its_dollars_count(self) -> None:
        found = figures([], [day(1, -100, start=100), day(2, -50, start=0), day(3, 10, start=100)])
        assert found.unknown_sessions == 1
        assert found.total_return == -1
        assert found.max_drawdown == 1
        assert found.max_drawdown_usd == 150

    def test_a_loss_of_more_than_all_is_a_loss_of_all_for_good(self) -> None:
        found = figures([], chain(-1.5, 0.5))
        assert (found.max_drawdown, found.total_return, found.current_drawdown) == (1, -1, 1)

    def test_exposure_is_time_open_over_time_of_sessions(self) -> None:
        days = [day(1, 5, open_ns=SESSION_NS // 2), day(2, 0), day(3, None, open_ns=SESSION_NS), day(4, 0)]
        assert figures([], days).exposure == 1.5 / 4

    def test_a_session_twice_is_refused(self) -> None:
        with pytest.raises(ValueError, match="2026-01-02 is there twice"):
            figures([], [day(2, 1), day(1, 1), day(2, 3)])

    def test_drawdown_curve(self) -> None:
        _, index = equity_curve(chain(-0.5, 1.5, -0.2))
        assert drawdown_curve(index).tolist() == pytest.approx([0, 0.5, 0, 0.2], rel=1e-14)


class TestLittle:
    NUMBERS = (
        "trades", "wins", "losses", "scratches", "r_trades", "gross_profit_usd", "gross_loss_usd", "net_pnl_usd",
        "fees_modelled_usd", "fees_broker_usd", "slippage_trades", "win_streak", "loss_streak", "streak", "sessions",
        "unknown_sessions",
    )  # fmt: skip

    def test_nothing_is_zero_in_counts_and_sums_and_unknown_otherwise(self) -> None:
        found = figures([], []).as_dict()
        assert {name: value for name, value in found.items() if value is not None} == dict.fromkeys(self.NUMBERS, 0)

    def test_one_trade(self) -> None:
        found = figures([trade(1, 50)], [day(1, 50)])
        assert (found.trades, found.wins, found.win_rate, found.expectancy_usd) == (1, 1, 1.0, 50)
        assert found.win_rate_high == 1
        assert found.win_rate_low == pytest.approx(0.2065493143772375, rel=1e-14)  # 1 / (1 + z²)
        assert found.sqn is found.sharpe is found.annual_volatility is found.profit_factor is None
        assert found.total_return == pytest.approx(0.005)
        assert (found.max_drawdown, found.drawdown_sessions, found.ulcer_index) == (0, 0, 0)

    def test_all_wins(self) -> None:
        found = figures([trade(n, 50 + n) for n in range(4)], chain(0.01, 0.02))
        assert found.win_rate == 1
        assert found.profit_factor is found.payoff is found.break_even_win_rate is found.average_loss_usd is None
        assert found.largest_loss_usd is found.sortino is None
        assert found.gross_loss_usd == 0
        assert found.sharpe is not None

    def test_all_losses(self) -> None:
        found = figures([trade(n, -50 - n) for n in range(4)], chain(-0.01, -0.02))
        assert (found.win_rate, found.win_rate_low, found.profit_factor) == (0, 0, 0)
        assert found.payoff is found.break_even_win_rate is found.average_win_usd is None
        assert found.sharpe is not None
        assert found.sharpe < 0

    def test_nothing_gained_or_lost(self) -> None:
        found = figures([trade(n, 0, fees=0) for n in range(3)], chain(0.0, 0.0, 0.0))
        assert (found.scratches, found.win_rate, found.net_pnl_usd, found.expectancy_usd) == (3, 0, 0, 0)
        assert found.profit_factor is found.sharpe is found.sortino is found.sqn is None
        assert (found.expectancy_r, found.annual_volatility, found.max_drawdown, found.ulcer_index) == (0, 0, 0, 0)

    def test_equal_sessions_have_no_sharpe(self) -> None:
        found = figures([], chain(0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001))
        assert found.sharpe is None
        assert found.annual_volatility == 0

    def test_unknown_sessions_alone(self) -> None:
        found = figures([], [day(1, None), day(2, None)])
        assert (found.sessions, found.unknown_sessions) == (2, 2)
        assert found.max_drawdown is found.total_return is found.max_drawdown_usd is found.ulcer_index is None

    def test_what_is_not_finite_is_named(self) -> None:
        broken = trade(7, 1, slippage_micros=0, slippage_bps=math.inf)
        with pytest.raises(ValueError, match="trade T-7: slippage of inf"):
            figures([broken], [])
        with pytest.raises(ValueError, match="trade T-7: slippage of inf"):
            Accumulator().add(broken)

    def test_amounts_beyond_64_bits_in_sum_are_exact(self) -> None:
        most = 2**62
        trades = [trade(n, 0, fees=0, net_micros=most - n) for n in range(8)]
        days = [DayResult(f"2026-01-0{n}", most * (1 if n < 5 else -1), most, 0, 0, 0) for n in range(1, 10)]
        found = figures(trades, days)
        assert found.net_pnl_usd == (8 * most - 28) / 1_000_000
        assert found.max_drawdown_usd == 5 * most / 1_000_000


class TestInterval:
    @pytest.mark.parametrize(("wins", "trades"), [(0, 1), (1, 1), (0, 40), (40, 40), (7, 10), (65, 100), (650, 1_000)])
    def test_wilson_is_scipys(self, wins: int, trades: int) -> None:
        told = binomtest(wins, trades).proportion_ci(confidence_level=0.95, method="wilson")
        assert wilson(wins, trades) == pytest.approx((told.low, told.high), abs=1e-13)
