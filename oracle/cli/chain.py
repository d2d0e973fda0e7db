"""``oracle chain``: the contracts of one underlying with quotes, model values, open interest, and which are usable.

Inputs: the configured venue over REST, or a recorded day. Outputs: a table per expiry, JSON, a plot. Nothing is traded.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.options import ConfigOption, JsonOption, SetOption
from oracle.cli.pictures import (
    DataOption,
    DateOption,
    DividendOption,
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
    shown,
    write_plot,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from oracle.picture import ChainModel

COLUMNS = (
    "right", "strike", "bid", "age s", "ask", "age s", "mid", "IV", "delta", "gamma", "theta", "vega", "rho", "OI",
    "volume", "state",
)  # fmt: skip


def chain(
    symbol: Annotated[str, typer.Argument(help="The underlying, e.g. SPY.")],
    expiry: ExpiryOption = None,
    strikes: Annotated[int, typer.Option("--strikes", min=1, max=2000, help="Strikes nearest to spot.")] = 12,
    data: DataOption = None,
    date: DateOption = None,
    time: TimeOption = None,
    rate: RateOption = 0.0,
    dividend: DividendOption = None,
    plot: PlotOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Show a chain: both sides with their ages, IV and greeks from the quotes, open interest, usable or why not.

    Theta is per calendar day, vega per point of volatility, rho per point of rate (JSON: per 1.00). "early exercise":
    the volatility rests on European exercise, whose error may exceed half the spread at this --rate and --dividend.
    Without --expiry the nearest one that still lives. Exit code 1: no data.
    """
    check_plot(plot)
    with saying_no_data(json):
        found = load_model(
            symbol.upper(), data=data, date=date, time=time, expiry=expiry, rate=rate, config=config, set_=set_,
            dividend=dividend,
        )  # fmt: skip
    chosen = _expiry(found, expiry)
    if chosen is None:
        which = "that still lives" if expiry is None else expiry
        no_data(f"{found.picture.underlying} has no expiry {which} at {_when(found)}", json)
    rows = _nearest(found, chosen, strikes)
    if plot is not None:
        title = f"{found.picture.underlying} {chosen}, {_when(found)}"
        write_plot(_draw(found, chosen), title, [_head(found, chosen)], plot)
    if json:
        print_json(_as_json(found, chosen, rows))
    else:
        _print(found, chosen, rows)


def _expiry(found: "ChainModel", asked: str | None) -> str | None:
    """The expiry to show: the one asked for when it is listed, else the nearest with time left."""
    contracts, years = found.picture.contracts, found.years
    if asked is not None:
        return asked if any(c.expiry == asked for c in contracts) else None
    alive = {c.expiry for c, left in zip(contracts, years.tolist(), strict=True) if left > 0}
    return min(alive) if alive else None


def _nearest(found: "ChainModel", expiry: str, strikes: int) -> list[int]:
    """Rows of the strikes nearest to spot, by strike, calls first."""
    picture = found.picture
    rows = [i for i, c in enumerate(picture.contracts) if c.expiry == expiry]
    by_distance = sorted({picture.contracts[i].strike for i in rows}, key=lambda k: (abs(k - picture.spot), k))
    keep = set(by_distance[:strikes])
    wanted = [i for i in rows if picture.contracts[i].strike in keep]
    return sorted(wanted, key=lambda i: (picture.contracts[i].strike, picture.contracts[i].right.value))


def _as_json(found: "ChainModel", expiry: str, rows: list[int]) -> dict[str, Any]:
    picture, greeks = found.picture, found.greeks
    bid_age, ask_age = picture.age_s(picture.bid_ns), picture.age_s(picture.ask_ns)
    mid = (picture.bid + picture.ask) / 2
    return {
        "underlying": picture.underlying,
        "at_ns": picture.at_ns,
        "spot": picture.spot,
        "spot_source": picture.spot_source,
        "expiry": expiry,
        "forward_source": found.forward_source.get(expiry),
        "open_interest_date": picture.open_interest_date,
        "labels": list(picture.labels),
        "contracts": [
            {
                "symbol": picture.contracts[i].occ,
                "bid": number(picture.bid[i]),
                "bid_age_s": number(bid_age[i], 3),
                "ask": number(picture.ask[i]),
                "ask_age_s": number(ask_age[i], 3),
                "mid": number(mid[i]),
                "iv": number(greeks.iv[i], 9),
                "delta": number(greeks.delta[i], 9),
                "gamma": number(greeks.gamma[i], 9),
                "theta": number(greeks.theta[i], 9),
                "vega": number(greeks.vega[i], 9),
                "rho": number(greeks.rho[i], 9),
                "open_interest": number(picture.open_interest[i], 0),
                "volume": number(picture.volume[i], 0),
                "state": found.reason[i],
            }
            for i in rows
        ],
    }


def _when(found: "ChainModel") -> str:
    from oracle.cli.newyork import new_york

    return new_york(found.picture.at_ns, "%Y-%m-%d %H:%M:%S New York")


def _head(found: "ChainModel", expiry: str) -> str:
    picture = found.picture
    forward = found.forward_source.get(expiry)
    parts = [
        f"forward by {forward}" if forward else "no forward",
        f"open interest of {picture.open_interest_date or 'an unknown date'}",
        *picture.labels,
    ]
    return "; ".join(parts)


def _print(found: "ChainModel", expiry: str, rows: list[int]) -> None:
    from rich.console import Console
    from rich.table import Table

    picture, greeks = found.picture, found.greeks
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    title = f"{picture.underlying} {picture.spot:.2f} ({picture.spot_source}) at {_when(found)}, expiry {expiry}"
    console.print(title, style="bold", markup=False)
    console.print(_head(found, expiry), markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("right", "state") else "right", no_wrap=True)
    bid_age, ask_age = picture.age_s(picture.bid_ns), picture.age_s(picture.ask_ns)
    for i in rows:
        contract, mid = picture.contracts[i], (picture.bid[i] + picture.ask[i]) / 2
        table.add_row(
            "call" if contract.is_call else "put", f"{contract.strike:g}",
            shown(picture.bid[i], ".2f"), shown(bid_age[i], ".0f"), shown(picture.ask[i], ".2f"),
            shown(ask_age[i], ".0f"), shown(mid, ".3f"), shown(greeks.iv[i], ".2%"), shown(greeks.delta[i], "+.3f"),
            shown(greeks.gamma[i], ".4f"), shown(greeks.theta[i], ".3f"), shown(greeks.vega[i] / 100, ".3f"),
            shown(greeks.rho[i] / 100, ".3f"), shown(picture.open_interest[i], ",.0f"),
            shown(picture.volume[i], ",.0f"), found.reason[i].replace("_", " "),
        )  # fmt: skip
    console.print(table)
    counts: dict[str, int] = {}
    for contract, reason in zip(picture.contracts, found.reason, strict=True):
        if contract.expiry == expiry:
            counts[reason] = counts.get(reason, 0) + 1
    told = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in sorted(counts.items()))
    console.print(f"{expiry}: {told}", markup=False)


def _draw(found: "ChainModel", expiry: str) -> "Figure":
    """Implied volatility of the out-of-the-money side by strike above, open interest of both sides below."""
    import numpy as np
    from matplotlib.figure import Figure

    picture, iv, forward = found.picture, found.greeks.iv, found.forward
    figure = Figure(figsize=(11, 7), layout="constrained")
    smile, interest = figure.subplots(2, 1, sharex=True)
    for is_call, color, label, sign in ((True, "#2a7f62", "calls", 1.0), (False, "#b5473c", "puts", -1.0)):
        rows = [i for i, c in enumerate(picture.contracts) if c.expiry == expiry and c.is_call is is_call]
        rows.sort(key=lambda i: picture.contracts[i].strike)
        strike = np.array([picture.contracts[i].strike for i in rows])
        # In the money the spread is worth many points of volatility: below the forward puts, from there on calls.
        shown = strike >= forward[rows] if is_call else strike < forward[rows]
        smile.plot(strike[shown], 100.0 * iv[rows][shown], ".", markersize=4, color=color, label=label)
        told = np.nan_to_num(picture.open_interest[rows])
        gaps = np.diff(strike)
        interest.bar(strike, sign * told, width=0.8 * float(np.median(gaps)) if len(gaps) else 0.8, color=color)
    for axes in (smile, interest):
        axes.axvline(picture.spot, color="#1f4e9c", linewidth=1.2, label=f"spot {picture.spot:.2f}")
    smile.set_ylabel("implied volatility out of the money, %")
    interest.set_ylabel("open interest, contracts (puts below)")
    interest.set_xlabel("strike, USD")
    smile.set_title(f"{picture.underlying} {expiry} at {_when(found)}")
    smile.legend(loc="best", fontsize="small")
    return figure
