"""What to send to close what a trade really holds: one order, never one that leaves a short uncovered. Pure reads.

Inputs: a trade's view, its legs' newest quotes, the session table. Output: a ``Closing`` or None. Invariants: every
short that still trades is in the order; a long is left out only when nobody bids for it; options go before shares.
"""

from typing import Final

import msgspec

from oracle.core.instruments import is_option, parse_occ
from oracle.core.messages import SubmitOrder
from oracle.core.money import ZERO
from oracle.core.ports import ChainsView, Context, LegView, TradeView
from oracle.core.structures import is_structure, legs_of, reduced
from oracle.core.vocabulary import Purpose, Side
from oracle.risk.priced import Sides, money, net_sides
from oracle.risk.triggers import Trigger
from oracle.risk.worth import has_bid, has_units, held_of, units_of

ORPHAN: Final = "orphan_leg"
LEFT_OUT: Final = "left_out_leg"


class Closing(msgspec.Struct, frozen=True):
    """An exit order's terms: ``contracts`` of ``symbol`` (units, contracts or shares) on ``side``."""

    symbol: str
    side: Side
    contracts: int


def is_whole(trade: TradeView) -> bool:
    """Whether a trade holds whole units and nothing else, or holds nothing. What was sold beyond them is no unit."""
    return not trade.legs or (trade.is_whole and trade.contracts_open >= 0)


def closing(trade: TradeView, context: Context, units: int) -> Closing | None:
    """Say how to close a trade now, or None when nothing of it can be sent.

    Longs beyond whole units wait until the units are gone: both in one order would have a ratio that nobody quotes.

    Args:
        units: how many units, of a trade that is whole; of any other all that it holds is closed.
    """
    held = units_of(trade) if has_units(trade) else held_of(trade)
    options = [leg for leg in held if is_option(leg.symbol) and not is_gone(leg.symbol, context)]
    if is_whole(trade) and (not is_structure(trade.symbol) or units < trade.contracts_open):
        return Closing(trade.symbol, trade.side.opposite, units) if options and units > 0 else None
    wanted = [leg for leg in options if leg.qty < 0 or _is_bid_for(leg.symbol, context.chains)]
    if not wanted:
        shares = next((leg for leg in held if not is_option(leg.symbol)), None)
        return None if shares is None else _plain(shares)
    name, number = reduced((leg.symbol, leg.qty) for leg in wanted)
    # What is left of a single leg is an order of its own contract, on the side that ends it.
    return _plain(wanted[0]) if len(wanted) == 1 else Closing(name, Side.SELL, number)


def _plain(leg: LegView) -> Closing:
    return Closing(leg.symbol, Side.SELL if leg.qty > 0 else Side.BUY, abs(leg.qty))


def is_gone(symbol: str, context: Context) -> bool:
    """Whether a contract's last trading day is over: what became of it comes from the broker, not from an order."""
    if not is_option(symbol):
        return False
    last = context.table.last_trading(parse_occ(symbol).expiry)
    return last is not None and last.close_ns <= context.at_ns


def _is_bid_for(symbol: str, chains: ChainsView) -> bool:
    """Whether a long can be sold as far as is known; one that was never quoted is tried."""
    quote = chains.option_quote(symbol)
    return quote is None or has_bid(quote)


def sides_of(wish: Closing, chains: ChainsView) -> Sides:
    """The market of what is closed, in its own orientation. Nobody's bid for what is bought back counts as zero."""
    rows = []
    for leg in legs_of(wish.symbol):
        quote = chains.option_quote(leg.symbol)
        bid, ask = (None, None) if quote is None else (money(quote.bid), money(quote.ask))
        bought_back = leg.side is wish.side
        rows.append((leg.signed, ZERO if bid is None and ask is not None and bought_back else bid, ask))
    return net_sides(rows)


def symbols_of(order: SubmitOrder) -> frozenset[str]:
    """The contracts or shares that an order trades."""
    return frozenset(leg.symbol for leg in legs_of(order.symbol))


def judge_remains(trade: TradeView, leaving: bool, is_worked: bool, context: Context) -> Trigger | None:
    """Judge a trade that is not whole: an orphan is closed at once, what an exit has left out when it can be.

    Args:
        leaving: an exit of the trade has been triggered before.
        is_worked: an order of the trade is not over, so that more may still come of it.
    """
    if is_worked or is_whole(trade) or all(is_gone(leg.symbol, context) for leg in trade.legs):
        return None
    held = ", ".join(f"{leg.qty:+d} {leg.symbol}" for leg in trade.legs)
    if leaving and has_units(trade):
        return None  # an exit left the longs out and filled in part: the plan goes on for the units that are left
    if leaving and all(is_option(leg.symbol) and leg.qty > 0 for leg in trade.legs):
        return Trigger(Purpose.FORCED, LEFT_OUT, f"{held} left", "closed when there is a bid")
    return Trigger(Purpose.FORCED, ORPHAN, f"{held} held of {trade.symbol}", "whole units only")
