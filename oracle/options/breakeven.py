"""Which share of trades must win for an exit plan to pay: the two-outcome bound, and the figure from realised averages.

Inputs: an entry price a share (negative is a credit), an exit plan, fees; or realised results. Outputs: win rates as
fractions. The bound takes every trade to end at its target or at its stop, so that trades ended in between, by a
delta or by the clock, are what makes the realised figure differ. Pure functions.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from oracle.core.instruments import CONTRACT_MULTIPLIER
from oracle.core.messages import ExitPlan


@dataclass(slots=True, frozen=True)
class Bound:
    """The two outcomes of one unit in dollars, fees taken off the gain and added to the loss, and the win rate."""

    gain_usd: float
    loss_usd: float
    fees_usd: float

    @property
    def win_rate(self) -> float | None:
        """The share of winners at which gains and losses are equal; None when even a winner gains nothing."""
        return break_even(self.gain_usd, self.loss_usd)


def break_even(win_usd: float, loss_usd: float) -> float | None:
    """L / (W + L): the win rate at which an average win and an average loss cancel; None when a win gains nothing."""
    return loss_usd / (win_usd + loss_usd) if win_usd > 0 and loss_usd >= 0 else None


def plan_bound(
    entry_usd: float, plan: ExitPlan, *, contracts: int, fee_usd: float, max_loss_usd: float | None = None
) -> Bound | None:
    """The two-outcome bound of an exit plan for one unit.

    Args:
        entry_usd: net price a share at which the unit is bought; negative is a credit.
        plan: target and stop are fractions of the size of that price; part taken off early counts at its own target.
        contracts: contracts of one unit over all legs, each of which pays the fee when it opens and when it closes.
        fee_usd: fee a contract and side.
        max_loss_usd: what a unit can lose at most, where that is less than the stop.

    Returns:
        None where the plan has no target, because the gain has no bound.
    """
    if plan.target_fraction is None or entry_usd == 0:
        return None
    premium = abs(entry_usd) * CONTRACT_MULTIPLIER
    share = plan.scale_out_share or 0.0
    gain = premium * ((1.0 - share) * plan.target_fraction + share * (plan.scale_out_at_fraction or 0.0))
    loss = premium * plan.stop_fraction
    if max_loss_usd is not None:
        loss = min(loss, max_loss_usd)
    fees = 2 * contracts * fee_usd
    return Bound(gain - fees, loss + fees, fees)


def realised_break_even(net_results_usd: Iterable[float]) -> float | None:
    """L / (W + L) of realised results net of fees, from their average win and loss; None without one of each."""
    results = list(net_results_usd)
    wins = [result for result in results if result > 0]
    losses = [-result for result in results if result < 0]
    if not wins or not losses:
        return None
    return break_even(sum(wins) / len(wins), sum(losses) / len(losses))
