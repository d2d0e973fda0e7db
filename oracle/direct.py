"""Flatten an account with nothing but its keys: no daemon, no database, the broker's REST alone.

Inputs: an account's addresses and credentials. Output: an answer that says what the broker shows afterwards.
Invariants: "flat" is said only after the broker has shown no position and no open order; no short option
loses its cover.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from oracle.alpaca import wire
from oracle.alpaca.rest import Reply, RestClient, must
from oracle.connect import Account
from oracle.console.control import ControlAnswer
from oracle.core.errors import ConfigurationError, RemoteError, TransientError
from oracle.core.instruments import is_option, parse_occ

# A look is two requests, a close three more, and one for each short: about a third of the 200 a minute that the broker
# allows, which a daemon shares.
LOOK_EVERY_S = 2.0
# A close that has not filled for so long is asked for again, after its order has been cancelled.
AGAIN_EVERY_S = 10.0
# The broker counts by the minute: a refusal that names no end, or a later one, holds for no longer.
LONGEST_PAUSE_S = 60.0


class _Patient:
    """A client that notes for how long the broker wants no more requests.

    ``is_halfway``: positions wait for others to be closed first, and the next step is due as soon as those are gone.
    """

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest
        self._pause_s = 0.0
        self.is_halfway = False

    async def trading(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Reply:
        """Make one request."""
        reply = await self._rest.trading(method, path, query)
        if reply.status == 429:
            self._pause_s = max(self._pause_s, _until_reset_s(reply.headers))
        return reply

    def take_pause_s(self) -> float:
        """How long to leave the broker alone; 0 when it has refused nothing since the last call."""
        pause_s, self._pause_s = self._pause_s, 0.0
        return pause_s


async def flatten_account(account: Account, wait_s: float) -> ControlAnswer:
    """Cancel every order and close every position, whoever made them, and wait until the broker shows neither.

    Raises:
        ConfigurationError: the broker refuses the key.
        RemoteError: the broker cannot be reached.
    """
    loop = asyncio.get_running_loop()
    end_s, again_s = loop.time() + wait_s, 0.0
    problems: list[str] = []
    async with RestClient(*account) as client:
        rest = _Patient(client)
        while True:
            # Closing does not wait for looking: an account that cannot be read may still take a cancel.
            if loop.time() >= again_s:
                problems = await _close(rest)
                again_s = loop.time() + AGAIN_EVERY_S
            late = loop.time() >= end_s
            try:
                shown = await _shown(rest)
            except TransientError as error:
                if late:
                    raise RemoteError(f"{account[0].trading_url} cannot be asked ({error}); nothing is known") from None
            else:
                held, left = len(shown["positions"]), len(shown["orders"])
                if held == left == 0:
                    flat = "flat: the broker shows no position and no open order"
                    return ControlAnswer(True, flat, "flatten", facts=shown)
                if late:
                    text = "; ".join([f"not flat after {wait_s:g} s: {held} positions, {left} open orders", *problems])
                    return ControlAnswer(False, text, "flatten", done=False, facts=shown)
                if rest.is_halfway and _closed_first(shown["positions"]) is None:
                    again_s = 0.0
            pause_s = rest.take_pause_s()
            if pause_s > 0:
                # What the broker takes next is a close, not a look.
                again_s = 0.0
            await asyncio.sleep(min(max(pause_s, LOOK_EVERY_S), max(0.0, end_s - loop.time())))


def _until_reset_s(headers: Mapping[str, str]) -> float:
    """How long until the broker counts anew, by its header (epoch seconds)."""
    text = headers.get(wire.RATE_RESET_HEADER, "")
    if not (text.isascii() and text.isdigit()):
        return LONGEST_PAUSE_S
    return min(max(float(text) - time.time(), LOOK_EVERY_S), LONGEST_PAUSE_S)


async def _close(rest: _Patient) -> list[str]:
    """Ask for everything once; what the broker refuses is told, not raised.

    Short options are bought back first, and what may cover them is sold when they are gone: closed together, each leg
    is an order of its own, and a long that fills first would leave a short naked.
    """
    cancelled = await rest.trading("DELETE", wire.ORDERS_PATH)
    held = await rest.trading("GET", wire.POSITIONS_PATH)
    problems = [reply.text for reply in (cancelled, held) if not reply.ok]
    rest.is_halfway = False
    rows = [row for row in held.body if isinstance(row, dict)] if held.ok and isinstance(held.body, list) else None
    if rows is None:
        return problems  # without the positions nobody knows what covers what
    first = _closed_first(rows)
    if first is None:
        return problems + await _close_all(rest)
    for symbol in first:
        closed = await rest.trading("DELETE", f"{wire.POSITIONS_PATH}/{symbol}")
        if not closed.ok:
            problems.append(f"{symbol}: {closed.text}")
    rest.is_halfway = True
    return problems


def _closed_first(rows: Sequence[dict[str, Any]]) -> list[str] | None:
    """The symbols to close now: every short option, and what is of other underlyings; None when all can be closed."""
    symbols = [(str(row.get("symbol")), str(row.get("qty", "")).startswith("-")) for row in rows]
    shorts = [symbol for symbol, short in symbols if short and is_option(symbol)]
    if not shorts:
        return None
    covered = {parse_occ(symbol).root for symbol in shorts}
    free = [symbol for symbol, _ in symbols if _underlying(symbol) not in covered]
    return [*shorts, *free]


def _underlying(symbol: str) -> str:
    return parse_occ(symbol).root if is_option(symbol) else symbol


async def _close_all(rest: _Patient) -> list[str]:
    closed = await rest.trading("DELETE", wire.POSITIONS_PATH, {"cancel_orders": "true"})
    problems = [] if closed.ok else [closed.text]
    for row in closed.body if isinstance(closed.body, list) else ():
        if isinstance(row, dict) and row.get("status") != 200:
            body = row.get("body")
            why = body.get("message") if isinstance(body, dict) else None
            problems.append(f"{row.get('symbol')}: {why or row.get('status')}")
    return problems


async def _shown(rest: _Patient) -> dict[str, Any]:
    """What the broker's records show now, in the form of the daemon's answers."""
    held = await rest.trading("GET", wire.POSITIONS_PATH)
    if held.status in (401, 403):
        raise ConfigurationError("alpaca.key", f"refused (HTTP {held.status})", "check key and secret")
    query = {"status": "open", "limit": str(wire.ORDER_PAGE_LIMIT)}
    open_orders = await rest.trading("GET", wire.ORDERS_PATH, query)
    positions, orders = must(held, "positions"), must(open_orders, "open orders")
    if not isinstance(positions, list) or not isinstance(orders, list):
        raise RemoteError("the broker's answer is not a list")
    return {
        "positions": [
            {
                "symbol": p.get("symbol"), "qty": p.get("qty"), "avg_price_usd": p.get("avg_entry_price"),
                "trade_id": None, "ours": False,
            }
            for p in positions
        ],
        "orders": [
            {
                "client_order_id": o.get("client_order_id"), "symbol": o.get("symbol"), "qty": o.get("qty"),
                "side": o.get("side"), "status": o.get("status"), "ours": False,
            }
            for o in orders
        ],
        "executions": [],
    }  # fmt: skip
