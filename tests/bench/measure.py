"""What the benches share: percentiles, rounds in turn, figures against their floors, the table that is printed.

Inputs: durations in seconds, or any two figures of one unit. Outputs: ``Figure`` rows, a table, JSON.
Invariant: a figure is judged by its ratio to a floor that was measured in the same run, in turn with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

Sense = Literal["at_most", "at_least"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing beside its floor; ``target`` bounds ours / floor, None only reports."""

    name: str
    ours: float
    floor: float | None
    unit: str
    target: float | None = None
    sense: Sense = "at_most"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over the floor."""
        return None if self.floor is None or self.floor <= 0 else self.ours / self.floor

    @property
    def met(self) -> bool | None:
        """Whether the target holds; None where there is none. A ratio that is unknown misses."""
        if self.target is None:
            return None
        ratio = self.ratio
        if ratio is None:
            return False
        return ratio <= self.target if self.sense == "at_most" else ratio >= self.target

    def row(self) -> dict[str, Any]:
        """The figure for machines."""
        return {
            "name": self.name, "ours": self.ours, "floor": self.floor, "unit": self.unit, "ratio": self.ratio,
            "target": self.target, "sense": self.sense, "met": self.met, "note": self.note,
        }  # fmt: skip


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which ``percent`` (1 … 99) of the values lie, by linear interpolation.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values were measured")
    return values[0] if len(values) == 1 else quantiles(values, n=100, method="inclusive")[percent - 1]


def best(rounds: Sequence[float]) -> float:
    """The best of several rounds: what the machine's other work disturbed least."""
    return min(rounds)


def print_table(figures: Sequence[Figure], console: Console) -> None:
    """Print name, ours, floor, ratio, target and verdict, aligned."""
    table = Table(box=None, pad_edge=False)
    for name in ("what", "ours", "floor", "unit", "ratio", "target", "verdict"):
        table.add_column(
            name, justify="right" if name in ("ours", "floor", "ratio", "target") else "left", no_wrap=True
        )
    for figure in figures:
        table.add_row(*_cells(figure))
    console.print(table)
    for figure in figures:
        if figure.note:
            console.print(f"{figure.name}: {figure.note}", highlight=False, soft_wrap=True)


def _cells(figure: Figure) -> tuple[str, ...]:
    sign = "≤" if figure.sense == "at_most" else "≥"
    verdict = {None: "", True: "met", False: "[bold red]missed[/]"}[figure.met]
    return (
        figure.name,
        _number(figure.ours),
        _number(figure.floor),
        figure.unit,
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        "" if figure.target is None else f"{sign} {figure.target:g}",
        verdict,
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"
