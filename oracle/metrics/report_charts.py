"""Charts of a report as inline SVG: no script, no font and no picture from elsewhere, so that a page opens offline.

Inputs: plain lists. Outputs: SVG text with a label for screen readers. Invariants: the same values give the same bytes;
ids differ between the charts of a page; what is unknown is a gap, and too little for a chart gives None.
"""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = npt.NDArray[np.float64]
# Okabe and Ito's blue and vermilion: told apart by the colour-blind, and in grey by their lightness.
GAIN, LOSS, INK, GRID = "#0072b2", "#c44e00", "#1f2937", "#d5dae1"
# As wide as a phone in points: text keeps a readable size there, and grows with the page elsewhere.
WIDTH_IN, HEIGHT_IN = 5.4, 2.7
_STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": "#6b7280",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
MOST_BINS: Final = 31


def equity(
    dates: Sequence[str | None], index: Sequence[float | None], drawdown: Sequence[float | None], ident: str
) -> str | None:
    """Equity from 100 with its drawdown below: the start, which has no date, and one value a session."""
    known = [date for date in dates if date is not None]
    if len(known) < 2:
        return None
    with _style(ident):
        drawing = Figure(figsize=(WIDTH_IN, HEIGHT_IN * 1.25), layout="constrained")
        above, below = drawing.subplots(2, 1, sharex=True, height_ratios=(3, 1.3))
        days = np.array([known[0] if date is None else date for date in dates], dtype="datetime64[D]")
        days[0] -= dates[0] is None
        level, fall = 100 * _floats(index), -100 * np.abs(_floats(drawdown))
        above.axhline(100, color="#6b7280", linewidth=0.8, linestyle="--")
        above.plot(days, level, color=GAIN, linewidth=1.6, marker="." if len(days) < 12 else None)
        above.set_ylabel("equity, start = 100")
        below.fill_between(days, fall, 0, color=LOSS, alpha=0.35, linewidth=0)
        below.plot(days, fall, color=LOSS, linewidth=1.0)
        below.set_ylabel("drawdown")
        below.yaxis.set_major_formatter(_percent())
        below.yaxis.set_major_locator(MaxNLocator(3))
        if not np.nanmin(np.append(fall, 0.0)) < 0:
            below.set_ylim(-1, 0.05)
        locator = AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
        below.xaxis.set_major_locator(locator)
        below.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        drawing.align_ylabels((above, below))
        last = level[~np.isnan(level)]
        end = f"{last[-1]:.1f}" if len(last) else "unknown"
        deepest = "unknown" if np.isnan(fall).all() else f"{-np.nanmin(fall):.1f} %"
        label = f"Equity from {known[0]} to {known[-1]}: from 100 to {end}; largest drawdown {deepest}"
        return _svg(drawing, ident, label)


def months(names: Sequence[str], net_usd: Sequence[float | None], ident: str) -> str | None:
    """Net P&L of each month as bars; a month that is not known has none."""
    if not names:
        return None
    with _style(ident):
        drawing = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
        axes = drawing.subplots()
        values = _floats(net_usd)
        spots = np.arange(len(names))
        axes.bar(spots, np.nan_to_num(values), color=[LOSS if value < 0 else GAIN for value in values], width=0.7)
        step = max(1, math.ceil(len(names) / 8))
        axes.set_xticks(spots[::step], [name[2:] if len(names) > 6 else name for name in names[::step]])
        axes.set_xlim(-0.6, max(len(names), 4) - 0.4)
        axes.grid(visible=False, axis="x")
        _dollars(axes)
        return _svg(drawing, ident, f"Net P&L by month, {names[0]} to {names[-1]}")


def distribution(values: Sequence[float | None], unit: str, ident: str) -> str | None:
    """How often results of each size came, losses and gains apart, with the mean marked.

    ``unit``: ``USD`` or ``R``. A bin never holds both losses and gains.
    """
    known = _floats(values)
    known = known[np.isfinite(known)]
    if len(known) < 2:
        return None
    with _style(ident):
        drawing = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
        axes = drawing.subplots()
        edges = _edges(known)
        counts, _ = np.histogram(known, edges)
        colours = [LOSS if right <= 0 else GAIN for right in edges[1:]]
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours, edgecolor="white", linewidth=0.6)
        mean = float(known.mean())
        axes.axvline(0, color=INK, linewidth=0.8)
        written = _minus(f"{mean:+,.0f} USD" if unit == "USD" else f"{mean:+.2f} R")
        axes.axvline(mean, color=INK, linewidth=1.2, linestyle="--", label=f"mean {written}")
        axes.legend(frameon=False, loc="upper right", handlelength=1.6)
        axes.set_ylabel("trades")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_ylim(0, float(counts.max()) * 1.22)
        if unit == "USD":
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _minus(f"{value:,.0f}")))
        axes.set_xlabel("net P&L of a trade, USD" if unit == "USD" else "net P&L of a trade over its planned risk, R")
        return _svg(drawing, ident, f"Distribution of {len(known)} trades in {unit}, mean {written}")


def _edges(known: Array) -> Array:
    """Edges of bins of one width with zero among them: Freedman and Diaconis' width, at most 31 bins."""
    low, high = min(float(known.min()), 0.0), max(float(known.max()), 0.0)
    span = high - low
    if span == 0:
        return np.array([-0.5, 0.0, 0.5])
    quartiles = np.percentile(known, (25, 75))
    width = 2 * float(quartiles[1] - quartiles[0]) / len(known) ** (1 / 3)
    width = min(max(width, span / (MOST_BINS - 2)), span / 6)
    # floor + 1: a result of exactly zero lies to the right of zero, the largest inside the last bin.
    edges: Array = np.arange(math.floor(low / width), math.floor(high / width) + 2, dtype=np.float64) * width
    return edges


@contextmanager
def _style(ident: str) -> Iterator[None]:
    """The page's style, and ids that depend on the chart alone."""
    with mpl.rc_context():
        for name, value in (_STYLE | {"svg.hashsalt": ident}).items():
            mpl.rcParams[name] = value  # type: ignore[index]
        yield


def _floats(values: Sequence[float | None]) -> Array:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _percent() -> FuncFormatter:
    return FuncFormatter(lambda value, _: _minus(f"{value:.3g} %"))


def _dollars(axes: "Axes") -> None:
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _minus(f"{value:,.0f}")))
    axes.set_ylabel("net P&L, USD")


def _svg(drawing: Figure, ident: str, label: str) -> str:
    """The drawing as an element for a page: ids made unique, no style of its own, a label."""
    buffer = io.StringIO()
    drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{ident}-\1"', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\1{ident}-", text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"\n\s*", "\n", text)
    _, _, rest = text.partition(">")
    size = re.search(r'viewBox="([^"]+)"', text)
    box = size.group(1) if size else ""
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'{head} viewBox="{box}" role="img" aria-label="{escape(label)}" class="chart">{rest}'.rstrip()
