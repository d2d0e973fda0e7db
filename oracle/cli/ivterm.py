"""``oracle iv term``: a chain's term structure, skew, 30-day volatility and index by Cboe's method, at one instant.

Inputs: the configured venue over REST, or a recorded day. Outputs: a table, JSON. Nothing is stored or traded.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.options import ConfigOption, JsonOption, SetOption
from oracle.cli.pictures import (
    DataOption,
    DateOption,
    DividendOption,
    RateOption,
    TimeOption,
    load_model,
    no_data,
    print_json,
    saying_no_data,
)

if TYPE_CHECKING:
    from oracle.ivpicture import ExpiryVolatility, VolatilityPicture
    from oracle.picture import ChainModel

COLUMNS = ("expiry", "days", "forward", "by", "strikes", "ATM IV", "skew", "25d put", "25d call", "index", "problem")


def term(
    symbol: Annotated[str, typer.Argument(help="The underlying, e.g. SPY.")],
    data: DataOption = None,
    date: DateOption = None,
    time: TimeOption = None,
    rate: RateOption = 0.0,
    dividend: DividendOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Show at-the-money IV, skew and an index by Cboe's method of each expiry, and the 30-day figures made of them.

    skew is the change of IV per unit of ln(K/F)/sqrt(T). The index is in points; "+": a wing ran out of quotes, so that
    it reads low. A venue's chain is read 60 days out, a recorded one whole. Exit code 1: no expiry has a volatility.
    """
    from oracle.ivpicture import volatility_picture

    with saying_no_data(json):
        found = load_model(
            symbol.upper(), data=data, date=date, time=time, expiry=None, rate=rate, config=config, set_=set_,
            dividend=dividend,
        )  # fmt: skip
    picture = volatility_picture(found)
    if all(one.atm_iv is None and one.index is None for one in picture.expiries):
        no_data(f"no expiry of {found.picture.underlying} has a volatility ({_reasons(picture)})", json)
    if json:
        print_json(_as_json(found, picture))
    else:
        _print(found, picture)


def _reasons(picture: "VolatilityPicture") -> str:
    counts: dict[str, int] = {}
    for one in picture.expiries:
        counts[one.reason] = counts.get(one.reason, 0) + 1
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "no expiry is alive"


def _as_json(found: "ChainModel", picture: "VolatilityPicture") -> dict[str, Any]:
    import msgspec

    source = found.picture
    head = {
        "underlying": source.underlying, "at_ns": source.at_ns, "spot": source.spot,
        "spot_source": source.spot_source, "labels": list(source.labels),
    }  # fmt: skip
    told: dict[str, Any] = msgspec.to_builtins(picture)
    return head | told


def _print(found: "ChainModel", picture: "VolatilityPicture") -> None:
    from rich.console import Console
    from rich.table import Table

    from oracle.cli.newyork import new_york

    source = found.picture
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    at = new_york(source.at_ns, "%Y-%m-%d %H:%M:%S New York")
    notes = "".join(f"; {label}" for label in source.labels)
    console.print(
        f"{source.underlying} {source.spot:.2f} ({source.spot_source}) at {at}{notes}", style="bold", markup=False
    )
    month = f"unknown ({picture.iv_30d_reason})" if picture.iv_30d is None else f"{picture.iv_30d:.2%}"
    index = (
        f"unknown ({picture.index_reason})" if picture.index is None else _points(picture.index, picture.index_complete)
    )
    console.print(f"30-day IV {month}{_between(picture.between)}; index {index}{_between(picture.index_between)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("expiry", "by", "problem") else "right", no_wrap=True)
    for one in picture.expiries:
        table.add_row(*_cells(one))
    console.print(table)


def _cells(one: "ExpiryVolatility") -> tuple[str, ...]:
    return (
        one.expiry, f"{one.days:.2f}", f"{one.forward:.2f}", one.forward_source, str(one.strikes), _share(one.atm_iv),
        "-" if one.skew_slope is None else f"{one.skew_slope:+.3f}", _share(one.put25_iv), _share(one.call25_iv),
        "-" if one.index is None else _points(one.index, one.index_complete), one.reason.replace("_", " "),
    )  # fmt: skip


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _points(value: float, complete: bool | None) -> str:
    return f"{value:.2f}{'' if complete else '+'}"


def _between(pair: tuple[str, ...]) -> str:
    return f" between {pair[0]} and {pair[1]}" if pair else ""
