"""Base of strategies that buy one option: what such a strategy would buy now, whatever its signal says.

Inputs: its ``params`` (band of delta, spread, exits) and the chain. Output: the intent that a preflight sizes; nothing
here is ever sent. Invariant: a call stands for both directions, because a put of the same |delta| costs about as much.
"""

from typing import Any

from oracle.core.messages import ExitPlan, Intent
from oracle.core.ports import Context, DeltaRequest, Selected
from oracle.core.sessions import Session
from oracle.options.selection import Missing
from oracle.strategies.base import Facts, Strategy, Verdict, bought, rounded

_MISSING = frozenset(reason.value for reason in Missing)


class SingleOption(Strategy):
    """A strategy whose trades are one bought option; a subclass declares ``params`` with its own type."""

    params: Any

    def structure_now(self, symbol: str, context: Context) -> Verdict | None:
        """What it wants to buy; without a signal the call that it would, with the exits that need no signal."""
        verdict, session, p = self.evaluate(symbol, context), context.session, self.params
        if verdict is None or isinstance(verdict, Intent) or session is None:
            return verdict
        facts: Facts = {"date": session.date}
        expiries = self._expiries(session, context)
        if not expiries:
            return self.no_signal(symbol, "no_expiry_allowed", facts)
        request = DeltaRequest(
            underlying=symbol, expiries=expiries, is_call=True, abs_delta_low=p.abs_delta_low,
            abs_delta_high=p.abs_delta_high, max_spread_usd=p.max_spread_usd, max_spread_of_mid=p.max_spread_of_mid,
            max_age_s=p.max_quote_age_s,
        )  # fmt: skip
        found = context.chains.select(request, context.at_ns)
        if not isinstance(found, Selected):
            facts |= {f"option_{name}": value for name, value in found.facts.items()}
            return (self.no_data if found.reason in _MISSING else self.no_signal)(symbol, found.reason, facts)
        return Intent(
            intent_id=f"{self.name}:{session.date}:{symbol}:now",
            strategy=self.name,
            strategy_hash=self.code_hash,
            underlying=symbol,
            legs=(bought(found),),
            exit_plan=ExitPlan(
                target_fraction=p.target_fraction, stop_fraction=p.stop_fraction,
                breakeven_after_fraction=p.breakeven_after_fraction, underlying_target=None, underlying_stop=None,
                direction=1, flat_ns=session.late(p.flat_at),
            ),
            confidence=p.confidence,
            confidence_needed=p.min_confidence,
            reason=f"{symbol}: no signal now; the call that an entry would buy",
            facts=rounded(facts),
            valid_until_ns=session.late(p.entry_end),
        )  # fmt: skip

    def _expiries(self, session: Session, context: Context) -> tuple[str, ...]:  # noqa: ARG002 - for subclasses
        """Expiry dates allowed, nearest first: today's, on a half-day only when a parameter says so."""
        return () if session.is_half_day and not self.params.zero_dte_on_half_days else (session.date,)
