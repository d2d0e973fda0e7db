"""A contract once listed stays listed, quoted and tradable until it expires, however far the price has gone since."""

from oracle.markets import DEFAULT_DATE, table_around
from oracle.sim.market import GeneratedMarket, momentum_plants


def test_what_was_listed_is_listed_until_it_expires() -> None:
    table = table_around(DEFAULT_DATE, "2026-06-30")
    dates = [s.date for s in table.sessions if s.date >= DEFAULT_DATE][:63]
    market = GeneratedMarket(1, table, dates, momentum_plants(1, table, dates))
    before: set[str] = set()
    for date in dates:
        listed = {row.symbol: row.expiry for row in market.listings("QQQ", date)}
        gone = sorted(symbol for symbol in before if symbol not in listed)
        assert gone == [], f"{date}: {gone[:3]}"
        before = {symbol for symbol, expiry in listed.items() if expiry > date}
