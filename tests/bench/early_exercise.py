"""What treating American options as European costs, in price and in volatility, over a grid; and whether marks hold.

Inputs: none but QuantLib's finite differences (American less European on one grid, cash dividends escrowed). Outputs:
tables for docs/pricing.md on standard output; exit code 1 when a contract whose error exceeds half its spread is not
marked. ``python -m tests.bench.early_exercise`` takes about 15 s; ``--vol 0.25`` chooses the table that is printed.
"""

import argparse
import itertools
import math
import sys
from dataclasses import dataclass

import numpy as np
import QuantLib as ql  # noqa: N813 the name the library is known by

from oracle.options.early_exercise import early_exercise_premium, early_exercise_suspect
from oracle.options.forwards import Dividend, carried_forward
from oracle.options.pricing import black_forward, implied_vol

SPOT, RATE = 100.0, 0.04
STRIKES = (80.0, 90.0, 95.0, 98.0, 100.0, 102.0, 105.0, 110.0, 120.0)
DAYS = (1, 7, 30, 45, 90)
VOLS = (0.12, 0.25, 0.6)
# Name, dollars per 100 of spot, and the share of the life after which it leaves; the last is after expiry.
DIVIDENDS = (
    ("none", 0.0, 0.0),
    ("0.30 half-way", 0.30, 0.5),
    ("0.30 at the end", 0.30, 1.0),
    ("1.00 half-way", 1.00, 0.5),
    ("1.00 at the end", 1.00, 1.0),
    ("1.00 after expiry", 1.00, 2.0),
)
SPREADS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_TODAY = ql.Date(2, 1, 2025)


@dataclass(frozen=True, slots=True)
class Cell:
    """One contract of the grid; ``dividend`` is an index into ``DIVIDENDS``."""

    is_call: bool
    dividend: int
    days: int
    vol: float
    strike: float

    @property
    def ex_day(self) -> int:
        """The day of the dividend: QuantLib's wheel knows whole days, so the end is the last day but one."""
        share = DIVIDENDS[self.dividend][2]
        return max(1, self.days - 1) if share == 1.0 else max(1, round(share * self.days))

    @property
    def usd(self) -> float:
        """Dollars of the dividend."""
        return DIVIDENDS[self.dividend][1]

    @property
    def dividends(self) -> tuple[Dividend, ...]:
        """As the product takes them."""
        return (Dividend(self.ex_day / 365, self.usd),) if self.usd else ()


@dataclass(frozen=True, slots=True)
class Error:
    """What early exercise adds to a contract's price in dollars, by QuantLib and by the tree, and to its volatility."""

    cell: Cell
    premium_usd: float
    tree_usd: float
    vol_error: float


def grid() -> list[Cell]:
    """All cells."""
    made = itertools.product((True, False), range(len(DIVIDENDS)), DAYS, VOLS, STRIKES)
    return [Cell(*values) for values in made]


def quantlib_premium(cell: Cell) -> float:
    """American less European by finite differences; dollars, not below 0."""
    count, ex = ql.Actual365Fixed(), cell.ex_day
    ql.Settings.instance().evaluationDate = _TODAY
    process = ql.BlackScholesProcess(
        ql.QuoteHandle(ql.SimpleQuote(SPOT)),
        ql.YieldTermStructureHandle(ql.FlatForward(_TODAY, RATE, count)),
        ql.BlackVolTermStructureHandle(ql.BlackConstantVol(_TODAY, ql.NullCalendar(), cell.vol, count)),
    )
    paid = [ql.FixedDividend(cell.usd, _TODAY + ex)] if cell.usd and ex <= cell.days else []
    payoff = ql.PlainVanillaPayoff(ql.Option.Call if cell.is_call else ql.Option.Put, cell.strike)
    engine = ql.FdBlackScholesVanillaEngine(
        process, paid, max(200, 4 * cell.days), 400, 0, ql.FdmSchemeDesc.Douglas(), False, -1.0,
        ql.FdBlackScholesVanillaEngine.Escrowed,
    )  # fmt: skip
    values = []
    for exercise in (ql.AmericanExercise(_TODAY, _TODAY + cell.days), ql.EuropeanExercise(_TODAY + cell.days)):
        option = ql.VanillaOption(payoff, exercise)
        option.setPricingEngine(engine)
        values.append(option.NPV())
    return max(values[0] - values[1], 0.0)


def measure(cells: list[Cell]) -> list[Error]:
    """Premiums and errors of cells."""
    found = []
    for cell in cells:
        years, premium = cell.days / 365, quantlib_premium(cell)
        dividends, discount = cell.dividends, math.exp(-RATE * cell.days / 365)
        forward = carried_forward(SPOT, years, RATE, dividends)
        european = float(black_forward(forward, cell.strike, years, cell.vol, cell.is_call, discount))
        seen = float(implied_vol(european + premium, forward, cell.strike, years, cell.is_call, discount))
        tree = early_exercise_premium(SPOT, cell.strike, years, cell.vol, cell.is_call, RATE, dividends)
        found.append(Error(cell, premium, float(tree), seen - cell.vol))
    return found


def unmarked(errors: list[Error]) -> tuple[int, int, int]:
    """Over ``SPREADS``: contracts whose error exceeds half the spread, those of them not marked, and marks too many."""
    wrong = missed = extra = 0
    spreads = np.array(SPREADS)
    for error in errors:
        cell = error.cell
        marks = early_exercise_suspect(
            spreads, SPOT, cell.strike, cell.days / 365, cell.vol, cell.is_call, RATE, cell.dividends
        )
        truly = error.premium_usd > 0.5 * spreads
        wrong += int(np.count_nonzero(truly))
        missed += int(np.count_nonzero(truly & ~marks))
        extra += int(np.count_nonzero(marks & ~truly))
    return wrong, missed, extra


def table(errors: list[Error], vol: float) -> str:
    """Markdown: cents per 100 dollars of spot, and points of volatility after the slash ("–": no volatility exists)."""
    told = {error.cell: error for error in errors}
    lines = ["| right | dividend | days | " + " | ".join(f"K {strike:.0f}" for strike in STRIKES) + " |"]
    lines.append("|---" * (3 + len(STRIKES)) + "|")
    for is_call, dividend, days in itertools.product((True, False), range(len(DIVIDENDS)), DAYS):
        row = [told[Cell(is_call, dividend, days, vol, strike)] for strike in STRIKES]
        if all(round(100 * error.premium_usd, 1) == 0 for error in row):
            continue
        name = ("call" if is_call else "put", DIVIDENDS[dividend][0], str(days))
        lines.append("| " + " | ".join((*name, *(_entry(error) for error in row))) + " |")
    return "\n".join(lines)


def _entry(error: Error) -> str:
    cents = 100 * error.premium_usd
    if round(cents, 1) == 0:
        return "0"
    # Where the European price carries no volatility, its error has no size.
    points = "–" if math.isnan(error.vol_error) or error.vol_error > 10 else f"{100 * error.vol_error:.1f}"
    return f"{cents:.1f} / {points}"


def main() -> int:
    """Print the table and the judgement of the marks; 1 when one is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.early_exercise", description=__doc__.splitlines()[0])
    parser.add_argument("--vol", type=float, default=0.25, choices=VOLS, help="volatility of the table printed")
    asked = parser.parse_args()
    errors = measure(grid())
    print(f"Early exercise by QuantLib {ql.__version__}: cents per 100 dollars of spot / points of volatility.")
    print(f"Rate {RATE:.0%}, volatility {asked.vol:.0%}; rows without half a tenth of a cent are left out.\n")
    print(table(errors, asked.vol))
    short = [error.premium_usd - error.tree_usd for error in errors]
    worst = errors[int(np.argmax(short))]
    shares = [gap / error.premium_usd for gap, error in zip(short, errors, strict=True) if error.premium_usd > 0.005]
    wrong, missed, extra = unmarked(errors)
    print(f"\nThe tree beside QuantLib, {len(errors)} contracts: at most {100 * max(short):.2f} cents too little")
    print(f"(at {worst.cell}), {100 * -min(short):.2f} cents too much;")
    print(f"of premiums above half a cent at most {max(shares):.1%} too little, {-min(shares):.1%} too much.")
    print(
        f"Marks at spreads of {', '.join(f'{spread:g}' for spread in SPREADS)} dollars: {wrong} contracts are wrong by"
    )
    print(
        f"more than half their spread, {missed} of them are not marked; {extra} of {7 * len(errors)} marked needlessly."
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
