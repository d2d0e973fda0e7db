"""Serve the exchange on loopback: REST, three kinds of stream, pacing, in one process.

Inputs: configuration, a market source, the session table. Outputs: one port on 127.0.0.1. Invariant: the only wall time
here is transport's.
"""

import asyncio
from collections.abc import Callable

import structlog
from aiohttp import web

from oracle.core.errors import ConfigurationError
from oracle.core.sessions import SessionTable
from oracle.sim.config import ExchangeConfig
from oracle.sim.exchange import Exchange
from oracle.sim.faultplan import FaultPlan
from oracle.sim.faultrest import FaultApi
from oracle.sim.faults import Faults
from oracle.sim.pacing import Pacer
from oracle.sim.recent import Recent
from oracle.sim.rest import Gate, Reply, replies
from oracle.sim.rest_data import OptionDataApi
from oracle.sim.rest_option_bars import OptionBarsApi
from oracle.sim.rest_option_snapshots import OptionSnapshotApi
from oracle.sim.rest_reference import ReferenceApi, SimulatorApi
from oracle.sim.rest_stocks import StockDataApi
from oracle.sim.rest_trading import TradingApi
from oracle.sim.sockets import Hub
from oracle.sim.source import MarketSource
from oracle.sim.streams import DataStreams, TradeStream

log = structlog.get_logger(__name__)
HOST = "127.0.0.1"


def build_app(config: ExchangeConfig, exchange: Exchange, hub: Hub, pacer: Pacer, recent: Recent) -> web.Application:
    """All routes of the exchange behind one middleware."""
    app = web.Application(middlewares=[replies(hub)], client_max_size=config.max_body_bytes)
    trading, data = Gate(config, exchange, trading=True), Gate(config, exchange, trading=False)
    for api in (TradingApi(exchange), ReferenceApi(exchange)):
        for method, path, endpoint in api.routes():
            app.router.add_route(method, path, trading.wrap(endpoint))
    market_apis = (
        StockDataApi(exchange, recent), OptionDataApi(exchange, recent), OptionSnapshotApi(exchange),
        OptionBarsApi(exchange), SimulatorApi(exchange),
    )  # fmt: skip
    for market_api in market_apis:
        for method, path, endpoint in market_api.routes():
            app.router.add_route(method, path, data.wrap(endpoint))
    control = FaultApi(hub.faults)
    app.router.add_get("/sim/v1/faults", data.wrap(lambda _call: Reply(control.show())))
    app.router.add_post("/sim/v1/faults", data.wrap(lambda call: Reply(control.add(call.body))))
    app.router.add_delete("/sim/v1/faults", data.wrap(lambda _call: Reply(control.clear(None))))
    app.router.add_delete("/sim/v1/faults/{number}", data.wrap(lambda call: Reply(control.clear(call.path["number"]))))
    streams, trades = DataStreams(config, hub), TradeStream(config, hub)
    for path in ("/v2/iex", "/v2/sip"):
        app.router.add_get(path, streams.stock)
    for path in ("/v1beta1/indicative", "/v1beta1/opra"):
        app.router.add_get(path, streams.option)
    app.router.add_get("/stream", trades.serve)
    app.router.add_get("/pacing", pacer.serve)
    return app


async def serve(
    config: ExchangeConfig,
    source: MarketSource,
    table: SessionTable,
    on_ready: Callable[[int], None],
    plan: FaultPlan | None = None,
) -> None:
    """Serve until cancelled; ``on_ready`` is called with the port once requests are answered. ``plan`` arms faults.

    Raises:
        ConfigurationError: the table ends with the source's last session, so the clock could not name the next open.
        OSError: the port is taken.
    """
    last = source.sessions[-1].date
    if table.after(last) is None:
        raise ConfigurationError("sessions", f"the calendar ends on {last}", "load the calendar a few days further")
    exchange = Exchange(config, source, table)
    recent = Recent()
    hub = Hub(config, exchange, Faults(exchange, plan))
    pacer = Pacer(config, exchange, hub, recent)
    recent.record(source.advance(exchange.now_ns))
    app = build_app(config, exchange, hub, pacer, recent)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, config.port)
        await site.start()
        port: int = runner.addresses[0][1]
        log.info("exchange.ready", port=port, sessions=len(source.sessions), symbols=len(source.symbols))
        on_ready(port)
        await pacer.run()
        log.info("exchange.played", at_ns=exchange.now_ns)
        await asyncio.Event().wait()
    finally:
        await hub.close_all()
        await runner.cleanup()
