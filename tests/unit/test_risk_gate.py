"""The gate as an actor: answers, memory, halts."""

import ast
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oracle.core.errors import ProtocolError
from oracle.core.marketdata import TradingStatus
from oracle.core.messages import (
    CancelOrder,
    DrainRequested,
    ForeignExecution,
    Intent,
    IntentApproved,
    IntentRefused,
    LatchChanged,
    Leg,
    Reconciled,
    SendOrder,
    StrategyFailed,
    SubmitOrder,
    TimerFired,
    TradeClosed,
)
from oracle.core.ports import OptionQuote
from oracle.core.reports import OrderReported, SubmitReturned
from oracle.core.sessions import NS
from oracle.core.vocabulary import BrokerEvent, Outcome, Side
from oracle.risk.limits import LadderSettings
from tests.unit.builders import (
    CALL,
    NICKEL_CALL,
    OTHER_CALL,
    PUT,
    START_NS,
    House,
    account,
    broker_order,
    chain_quotes,
    execution,
    gate_settings,
    intent,
    of,
    one,
)
from tests.unit.test_risk_execution_flow import filled_entry


def refused(house: House, wish: Intent) -> list[str]:
    return [refusal.rule for refusal in one(IntentRefused, house.tell(wish)).refusals]


def small(n: int, symbol: str = PUT, **changes: Any) -> Intent:
    """An intent to buy an option quoted 1.95 at 2.00."""
    return intent(n, symbol, bid="1.95", ask="2.00", **changes)


def test_only_the_gate_makes_submit_orders() -> None:
    root = Path(__file__).parents[2] / "oracle"
    makers = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.func if isinstance(node, ast.Call) else None
            if getattr(name, "id", getattr(name, "attr", "")) == "SubmitOrder":
                makers.add(path.relative_to(root).as_posix())
    assert makers == {"risk/gate.py"}


def test_a_house_that_is_not_ready_refuses_with_every_reason() -> None:
    house = House(ready=False)
    rules = refused(house, intent())
    assert rules[:4] == ["day_loss", "drawdown", "feeds", "reconciled"]
    assert {"quote_age", "two_sided", "options_level", "account_blocked", "buying_power"} <= set(rules)


def test_an_intent_is_answered_once_and_its_decision_has_a_name_of_its_own() -> None:
    house = House()
    first = one(IntentApproved, house.tell(intent()))
    again = one(IntentRefused, house.tell(intent()))
    assert "duplicate_intent" in [refusal.rule for refusal in again.refusals]
    assert again.decision_id == first.decision_id + ".1"
    other = intent(2)
    assert "duplicate_intent" in refused(house, other)  # another intent, but the same entry is working


def test_two_intents_cannot_use_the_same_headroom() -> None:
    house = House()
    house.quote(OTHER_CALL, 9.95, 10.0)
    house.quote(PUT, 9.95, 10.0)
    house.tell(intent())
    second = one(IntentApproved, house.tell(intent(2, OTHER_CALL)))
    assert (second.contracts, second.bound_by) == (2, "day_budget")
    third = one(IntentRefused, house.tell(intent(3, PUT)))
    assert third.refusals[0].rule == "day_budget"


def test_premium_of_a_rejected_order_is_free_again() -> None:
    house = House()
    sent = one(SendOrder, house.tell(intent()))
    house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "", "no"))
    assert one(IntentApproved, house.tell(intent(2))).contracts == 4


def test_sells_pairs_and_unlisted_contracts_are_refused() -> None:
    house = House()
    leg = intent().legs[0]
    assert "naked_short" in refused(house, intent(1, legs=(msgspec.structs.replace(leg, side=Side.SELL),)))
    assert "structure" in refused(house, intent(2, legs=(leg, leg)))
    strange = Leg(NICKEL_CALL, Side.BUY, 1, Decimal(1), Decimal(2), START_NS)
    assert {"contract_listed", "net_delta"} <= set(refused(house, intent(3, legs=(strange,), underlying="XYZ")))
    nonsense = msgspec.structs.replace(leg, symbol="SPY")
    assert {"contract_listed", "expiry_window"} <= set(refused(house, intent(4, legs=(nonsense,))))
    unlisted = msgspec.structs.replace(leg, symbol="SPY260105C00999000")
    assert "contract_listed" in refused(house, intent(5, legs=(unlisted,)))
    crossed = house.quote(CALL, 10.1, 10.0)
    assert crossed == []
    assert {"two_sided", "spread", "price_collar", "trade_loss"} <= set(refused(house, intent(6)))


def test_stale_spot_unknown_beta_and_no_delta_refuse() -> None:
    house = House()
    house.wait(16)
    house.quote(CALL, 9.95, 10.0)
    assert refused(house, intent(at_ns=house.at_ns)) == ["net_delta"]
    house = House(gate_settings(betas={}))
    assert refused(house, intent()) == ["net_delta"]
    house = House()
    house.quote(CALL, 9.95, 10.0, delta=None)
    assert refused(house, intent()) == ["net_delta"]


def test_a_working_order_of_unknown_delta_refuses_the_next() -> None:
    house = House()
    house.quote(OTHER_CALL, 1.95, 2.0)
    house.tell(intent())
    house.chains.deltas[CALL] = None
    assert refused(house, small(2, OTHER_CALL)) == ["net_delta"]
    house = House()
    filled_entry(house)
    house.quote(OTHER_CALL, 1.95, 2.0)
    house.chains.deltas[CALL] = None
    assert refused(house, small(2, OTHER_CALL)) == ["net_delta"]


def test_a_strategy_that_is_not_as_sure_as_it_must_be_is_refused() -> None:
    assert refused(House(), intent(confidence=0.79, confidence_needed=0.8)) == ["confidence"]


def test_halted_underlying_and_an_exit_at_work_refuse() -> None:
    house = House()
    filled_entry(house)
    house.quote(CALL, 15.0, 15.1)
    house.tell(TradingStatus("SPY", START_NS, "H", "halted", True))
    assert {"self_cross", "underlying_halted"} <= set(refused(house, intent(2)))


def test_order_rate_counts_every_attempt() -> None:
    house = House(gate_settings(ladder=LadderSettings(stand_s=1)))
    sent = one(SendOrder, house.tell(intent()))
    for n in range(3):
        house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent), "", ""))
        house.wait(1)
        out = house.tell(OrderReported(BrokerEvent.CANCELED, broker_order(sent, "canceled"), house.at_ns))
        sent = one(SendOrder, out)
        assert house.gate._book.orders_last_min(house.at_ns) == n + 2
    house.wait(61)
    assert house.gate._book.orders_last_min(house.at_ns) == 0


def test_an_unknown_order_blocks_at_once_until_it_is_known() -> None:
    house = House()
    house.quote(PUT, 1.95, 2.0)
    sent = one(SendOrder, house.tell(intent()))
    house.tell(SubmitReturned(sent.client_order_id, Outcome.UNKNOWN, None, "", "timed out"))
    assert refused(house, small(2, PUT)) == ["order_unknown"]
    house.tell(OrderReported(BrokerEvent.CANCELED, broker_order(sent, "canceled"), house.at_ns))
    assert of(IntentApproved, house.tell(small(3, PUT, at_ns=house.at_ns))) != []


def test_the_day_loss_takes_working_entries_back() -> None:
    house = House()
    filled_entry(house)
    house.quote(PUT, 1.95, 2.0)
    entry = one(SubmitOrder, house.tell(small(2, PUT)))
    house.wait(50)
    house.chains.quotes[CALL] = OptionQuote(CALL, 2.0, 50, 2.1, 50, house.at_ns, house.at_ns)
    house.chains.quotes[PUT] = OptionQuote(PUT, 1.95, 50, 2.0, 50, house.at_ns, house.at_ns)
    out = house.wait(10)
    latch = of(LatchChanged, out)[0]
    assert (latch.latch, latch.active) == ("day_loss", True)
    assert entry.order_id in [cancel.order_id for cancel in of(CancelOrder, out)]
    house.quote(PUT, 1.95, 2.0)
    assert {"trading_state", "day_loss"} <= set(refused(house, small(3, PUT, at_ns=house.at_ns)))


def test_three_losing_trades_stop_entries() -> None:
    house = House(cash="1000000")
    for n in range(3):
        house.spot(600.0)
        house.quote(CALL, 0.99, 1.00)
        sent = one(SendOrder, house.tell(intent(n, at_ns=house.at_ns, legs=(cheap(house),))))
        house.tell(execution(sent, f"in{n}", sent.contracts, sent.contracts, "0.99"))
        out = house.tell(execution(sent_exit(house), f"out{n}", sent.contracts, sent.contracts, "0.40"))
        assert of(TradeClosed, out) != []
        assert len(of(LatchChanged, out)) == (n == 2)
    house.quote(CALL, 0.99, 1.00)
    assert {"trading_state", "loss_streak"} <= set(refused(house, intent(9, legs=(cheap(house),))))


def cheap(house: House) -> Leg:
    return Leg(CALL, Side.BUY, 1, Decimal("0.99"), Decimal("1.00"), house.at_ns)


def sent_exit(house: House) -> SendOrder:
    sent = one(SendOrder, house.quote(CALL, 0.40, 0.41))
    assert isinstance(sent, SendOrder)
    return sent


def test_a_failed_strategy_loses_its_entries_and_no_other() -> None:
    house = House()
    house.quote(PUT, 1.95, 2.0)
    mine = one(SubmitOrder, house.tell(intent()))
    other = one(SubmitOrder, house.tell(small(2, PUT, strategy="scalp")))
    out = house.tell(StrategyFailed("scalp", "ValueError: x"))
    assert [cancel.order_id for cancel in of(CancelOrder, out)] == [other.order_id]
    assert other.order_id != mine.order_id
    assert "strategy_failed" in refused(house, small(3, OTHER_CALL, strategy="scalp"))


def test_an_operators_latch_halts_and_its_clearing_resumes() -> None:
    house = House()
    entry = one(SubmitOrder, house.tell(intent()))
    out = house.tell(LatchChanged("operator", True, "halt", "", "", None, START_NS))
    assert one(CancelOrder, out).order_id == entry.order_id
    assert "trading_state" in refused(house, small(2, PUT))
    house.tell(LatchChanged("operator", False, "resume", "", "", None, START_NS))
    assert "trading_state" not in refused(house, small(3, PUT))


def test_a_foreign_execution_blocks_until_a_reconcile_agrees() -> None:
    house = House()
    house.tell(ForeignExecution("x9", "theirs", PUT, Side.BUY, Decimal(1), Decimal(1)))
    assert refused(house, intent()) == ["reconciled"]
    house.tell(Reconciled(START_NS, "", ("position: SPY",)))
    assert refused(house, intent(2)) == ["reconciled"]
    house.tell(account(house.at_ns))
    assert of(IntentApproved, house.tell(intent(3))) != []


def test_draining_takes_entries_back_and_opens_nothing() -> None:
    house = House()
    entry = one(SubmitOrder, house.tell(intent()))
    assert one(CancelOrder, house.tell(DrainRequested("operator", "stop"))).order_id == entry.order_id
    assert of(CancelOrder, house.tell(DrainRequested("operator", "stop"))) == []
    assert "draining" in refused(house, small(2, PUT))


def test_premium_spent_since_the_brokers_report_is_not_spent_twice() -> None:
    house = House(cash="100000")
    house.tell(account(house.at_ns, options_buying_power_usd=Decimal(5_000)))
    house.quote(PUT, 1.95, 2.0)
    house.tell(intent())
    second = one(IntentApproved, house.tell(small(2, PUT)))
    assert (second.contracts, second.headroom["buying_power"]) == (5, 5)
    report = account(house.at_ns + 60 * NS, options_buying_power_usd=Decimal(5_000))
    house.tell(report, after_s=60)
    assert house.gate._book.unreported_usd(report.at_ns) == 0


def test_without_trades_quotes_bars_and_foreign_timers_cost_nothing() -> None:
    house = House()
    assert house.tell(chain_quotes()) == []
    assert house.tell(TimerFired("risk:flat:gone", START_NS)) == []
    assert house.tell(TimerFired("desk:step:gone", START_NS)) == []
    assert house.tell(TimerFired("other:x", START_NS)) == []


def test_a_strategy_without_a_word_for_order_ids_is_our_fault() -> None:
    house = House()
    with pytest.raises(ProtocolError, match="no abbreviation"):
        house.tell(intent(strategy="nobody"))


def test_sequence_and_window() -> None:
    house = House(gate_settings(next_sequence=41))
    order = one(SubmitOrder, house.tell(intent(valid_until_ns=START_NS + 7 * NS)))
    assert order.order_id == "tok-20260105-bo-000041"
    assert order.window_end_ns == START_NS + 7 * NS
