"""From settings to one account's connections: addresses, credentials, the first question, the edges.

Inputs: Config. Outputs: Account (endpoints and credentials) and Edges. Part of the composition root.
"""

from oracle.alpaca import wire
from oracle.alpaca.rest import RestClient
from oracle.config import Config
from oracle.core.errors import ConfigurationError, RemoteError
from oracle.core.sessions import SessionTable
from oracle.edges import Edges
from oracle.edgetimers import EdgeTimers
from oracle.inbox import Inbox
from oracle.running import Core

Account = tuple[wire.Endpoints, wire.Credentials]


async def check_account(account: Account) -> None:
    """Ask for the account once, so that a wrong key or address is told at once and not retried for ever.

    Raises:
        ConfigurationError: the broker refuses the key.
        RemoteError: the broker cannot be reached or does not answer as one.
    """
    async with RestClient(*account) as rest:
        reply = await rest.trading("GET", wire.ACCOUNT_PATH)
    if reply.status in (401, 403):
        fix = "check key and secret; paper and live keys are different ones"
        raise ConfigurationError("alpaca.key", f"{account[0].trading_url} refuses it (HTTP {reply.status})", fix)
    if not reply.ok:
        raise RemoteError(f"alpaca.trading_url: {account[0].trading_url} gives no account ({reply.text}); check it")


def make_edges(
    config: Config, account: Account, core: Core, table: SessionTable, inbox: Inbox, timers: EdgeTimers
) -> Edges:
    """Make the account's edges for the universe of the core's strategies, and what is observed beside it."""
    endpoints, credentials = account
    traded = {symbol for strategy in core.strategies for symbol in strategy.universe}
    universe = sorted(traded | set(config.volatility.underlyings))
    return Edges(
        endpoints=endpoints, credentials=credentials, table=table, inbox=inbox, timers=timers, universe=universe,
        canary=config.feeds.canary_symbol, stale_after_s=config.feeds.stale_after_s,
        option_limit=config.feeds.option_quotes_limit, requests_per_min=config.alpaca.trading_requests_per_min,
        reads_apart=config.mode != "sim",
    )  # fmt: skip


def account_of(config: Config) -> Account:
    """Addresses and credentials of the configured account.

    Raises:
        ConfigurationError: paper without a key or a secret.
    """
    plus = config.alpaca.plan == "algo_trader_plus"
    stock_feed: wire.StockFeed = "sip" if plus else "iex"
    option_quotes = option_feed(config)
    if config.mode == "sim":
        sim = config.sim
        credentials = wire.Credentials(sim.key.get_secret_value(), sim.secret.get_secret_value())
        return wire.one_host_endpoints(sim.url, stock_feed=stock_feed, option_feed=option_quotes), credentials
    key, secret = config.alpaca.key, config.alpaca.secret
    if key is None or secret is None:
        missing = "alpaca.key" if key is None else "alpaca.secret"
        fix = f"set ORACLE_{missing.upper().replace('.', '__')} or the credential {missing.replace('.', '-')}"
        raise ConfigurationError(missing, "paper trading needs it", fix)
    stream = config.alpaca.stream_url
    endpoints = wire.Endpoints(
        trading_url=config.alpaca.trading_url,
        data_url=config.alpaca.data_url,
        stock_stream_url=stream + wire.STOCK_STREAM_PATH.format(feed=stock_feed),
        option_stream_url=stream + wire.OPTION_STREAM_PATH.format(feed=option_quotes),
        trading_stream_url="ws" + config.alpaca.trading_url.removeprefix("http") + wire.TRADING_STREAM_PATH,
        stock_feed=stock_feed,
        option_feed=option_quotes,
    )
    return endpoints, wire.Credentials(key.get_secret_value(), secret.get_secret_value())


def option_feed(config: Config) -> wire.OptionFeed:
    """The option quotes that the data plan gives; indicative ones are labelled wherever they are used."""
    return "opra" if config.alpaca.plan == "algo_trader_plus" else "indicative"
