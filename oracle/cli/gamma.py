"""``oracle gamma``: dealers' gamma by strike, the walls, the pin and the flip of one underlying.

Inputs: the configured venue over REST, or a recorded day. Outputs: tables, JSON, a plot. Nothing is traded.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.options import ConfigOption, JsonOption, SetOption
from oracle.cli.pictures import (
    DataOption,
    DateOption,
    ExpiryOption,
    PlotOption,
    RateOption,
    TimeOption,
    check_plot,
    load_model,
    no_data,
    number,
    print_json,
    saying_no_data,
    write_plot,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from oracle.options.gamma import GammaProfile
    from oracle.picture import ChainModel

MILLION = 1e6
WITHIN = 0.15


def gamma(
    symbol: Annotated[str, typer.Argument(help="The underlying, e.g. SPY.")],
    expiry: ExpiryOption = None,
    strikes: Annotated[int, typer.Option("--strikes", min=1, max=500, help="How many strikes, largest first.")] = 10,
    data: DataOption = None,
    date: DateOption = None,
    time: TimeOption = None,
    rate: RateOption = 0.0,
    plot: PlotOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Show dollar gamma per 1 % move by strike from open interest: call wall, put wall, pin, flip, net.

    It assumes dealers long calls and short puts; open interest is that of the session before. Exit code 1: no data.
    """
    from oracle.options.gamma import gamma_profile

    check_plot(plot)
    with saying_no_data(json):
        found = load_model(
            symbol.upper(), data=data, date=date, time=time, expiry=expiry, rate=rate, config=config, set_=set_
        )
    profile = gamma_profile(_rows(found, expiry), found.picture.spot)
    if profile is None:
        no_data(_why_none(found), json)
    if plot is not None:
        title = f"{found.picture.underlying} dealer gamma, {_when(found)}"
        write_plot(draw(found, profile), title, _notes(found, profile), plot)
    if json:
        print_json(as_json(found, profile))
    else:
        _print(found, profile, strikes)


def _rows(found: "ChainModel", expiry: str | None) -> Any:
    import numpy as np

    rows = found.gamma_rows()
    if expiry is None:
        return rows
    return rows.take(np.array([c.expiry == expiry for c in found.picture.contracts], dtype=np.bool_))


def _why_none(found: "ChainModel") -> str:
    """Which of the two inputs is missing."""
    import numpy as np

    picture = found.picture
    if not bool((picture.open_interest > 0).any()):
        told = "is told" if bool(np.isnan(picture.open_interest).all()) else "above zero is told"
        return f"no open interest {told} for any of {len(picture.contracts)} contracts of {picture.underlying}"
    return f"no implied volatility of any contract of {picture.underlying} with open interest at {_when(found)}"


def as_json(found: "ChainModel", profile: "GammaProfile") -> dict[str, Any]:
    """The profile as plain values; dollars of the underlying, gamma in dollars per 1 % move."""
    from oracle.options.gamma import ASSUMPTION

    picture = found.picture
    levels = {name: getattr(profile, name) for name in ("call_wall", "put_wall", "pin", "flip")}
    return {
        "underlying": picture.underlying,
        "at_ns": picture.at_ns,
        "spot": picture.spot,
        "labels": list(picture.labels),
        "assumption": ASSUMPTION,
        "open_interest_date": picture.open_interest_date,
        **{name: None if level is None else number(level, 4) for name, level in levels.items()},
        "near": {name: profile.near(level) for name, level in levels.items()},
        "net_gamma_usd": number(profile.total_usd, 2),
        "contracts_used": profile.used,
        "left_out": profile.left_out,
        "open_interest_share": number(profile.open_interest_share),
        "strikes": [
            {"strike": k, "call_usd": number(c, 2), "put_usd": number(p, 2), "net_usd": number(n, 2)}
            for k, c, p, n in zip(
                profile.strike.tolist(), profile.call_usd.tolist(), profile.put_usd.tolist(),
                profile.net_usd.tolist(), strict=True,
            )
        ],
    }  # fmt: skip


def _when(found: "ChainModel") -> str:
    from oracle.cli.newyork import new_york

    return new_york(found.picture.at_ns, "%Y-%m-%d %H:%M:%S New York")


def _notes(found: "ChainModel", profile: "GammaProfile") -> list[str]:
    """What a reader must know beside the figures."""
    from oracle.options.gamma import ASSUMPTION

    picture = found.picture
    left = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in profile.left_out.items())
    sign = "positive: damps and pins" if profile.total_usd > 0 else "negative: amplifies"
    return [
        f"{ASSUMPTION}; open interest of {picture.open_interest_date or 'an unknown date'}",
        f"net {profile.total_usd / MILLION:+,.2f} M USD per 1 % move ({sign})",
        f"{profile.used} contracts with {profile.open_interest_share:.1%} of the open interest"
        + (f"; left out: {left}" if left else ""),
        *([f"data: {', '.join(picture.labels)}"] if picture.labels else []),
    ]


def _print(found: "ChainModel", profile: "GammaProfile", strikes: int) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{found.picture.underlying} {found.picture.spot:.2f} at {_when(found)}", style="bold", markup=False)
    for note in _notes(found, profile):
        console.print(note, markup=False)
    levels = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("level", "USD", "from spot", ""):
        levels.add_column(name, justify="left" if name in ("level", "") else "right")
    for name in ("call_wall", "put_wall", "pin", "flip"):
        level = getattr(profile, name)
        if level is None:
            levels.add_row(name.replace("_", " "), "none", "", "")
        else:
            near = "near" if profile.near(level) else ""
            levels.add_row(name.replace("_", " "), f"{level:.2f}", f"{level / profile.spot - 1:+.2%}", near)
    console.print(levels)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("strike", "calls M USD", "puts M USD", "net M USD"):
        table.add_column(name, justify="right")
    largest = np.argsort(-np.maximum(profile.call_usd, -profile.put_usd), kind="stable")[:strikes]
    for i in sorted(largest.tolist()):
        figures = (profile.call_usd[i], profile.put_usd[i], profile.net_usd[i])
        table.add_row(f"{profile.strike[i]:g}", *(f"{value / MILLION:,.2f}" for value in figures))
    console.print(table)


def draw(found: "ChainModel", profile: "GammaProfile") -> "Figure":
    """Bars by strike within 15 % of spot: call side up, put side down, net as a line; spot and flip as vertical lines.

    The walls and the pin are markers at the end of their bars and on the net line; one beyond the 15 % is only named.
    """
    import numpy as np
    from matplotlib.figure import Figure

    near = np.abs(profile.strike / profile.spot - 1.0) <= WITHIN
    strike, scale = profile.strike[near], MILLION
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.subplots()
    gaps = np.diff(strike)
    width = 0.8 * float(np.median(gaps)) if len(gaps) else 0.8
    axes.bar(strike, profile.call_usd[near] / scale, width=width, color="#2a7f62", label="calls")
    axes.bar(strike, profile.put_usd[near] / scale, width=width, color="#b5473c", label="puts")
    axes.plot(strike, profile.net_usd[near] / scale, color="#333333", linewidth=1.0, label="net")
    axes.axvline(profile.spot, color="#1f4e9c", linewidth=1.4, label=f"spot {profile.spot:.2f}")
    if profile.flip is not None:
        axes.axvline(profile.flip, color="#8a6d00", linewidth=1.2, linestyle="--", label=f"flip {profile.flip:.2f}")
    for name, level, values, marker, color in (
        ("call wall", profile.call_wall, profile.call_usd, "^", "#14513c"),
        ("put wall", profile.put_wall, profile.put_usd, "v", "#7a2018"),
        ("pin", profile.pin, profile.net_usd, "D", "#c47f00"),
    ):
        if level is None:
            continue
        if level in strike:
            height = float(values[profile.strike == level][0]) / scale
            axes.plot([level], [height], marker, color=color, markersize=9, zorder=3, label=f"{name} {level:g}")
        else:
            axes.plot([], [], " ", label=f"{name} {level:g} (outside the picture)")
    axes.axhline(0, color="#999999", linewidth=0.6)
    axes.set_xlabel("strike, USD")
    axes.set_ylabel("dollar gamma per 1 % move, M USD")
    axes.set_title(f"{found.picture.underlying} at {_when(found)}")
    axes.legend(loc="upper left", fontsize="small")
    return figure
