"""The trade-update feed: changes and executions of the account's orders.

Inputs: raw JSON messages. Outputs: OrderReported, ExecutionReported and StructureExecuted to the sink. Invariant: an
update that cannot be read is told as a new LIVE, so that the account is read; ``received`` counts it (docs/pacing.md,
rule 1).
"""

from typing import Any

from oracle.alpaca import wire
from oracle.alpaca.failures import Failure, Kind
from oracle.alpaca.feed import BusinessTimers, DeniedError, MessageSink, SupervisedFeed
from oracle.alpaca.feeds import denied_text
from oracle.alpaca.fields import MalformedError
from oracle.alpaca.streams import Connection, TradingConnection, Undecodable
from oracle.alpaca.supervisor import Supervisor
from oracle.alpaca.translate import trade_update
from oracle.core.sessions import SessionTable
from oracle.core.vocabulary import Feed


class TradingFeed(SupervisedFeed):
    """Updates of the account's orders. Quiet is its normal state, so only pings watch it."""

    def __init__(
        self,
        endpoints: wire.Endpoints,
        credentials: wire.Credentials,
        *,
        table: SessionTable,
        timers: BusinessTimers,
        sink: MessageSink,
    ) -> None:
        super().__init__(Supervisor(Feed.TRADING, table, None), timers, sink)
        self._url, self._credentials = endpoints.trading_stream_url, credentials

    def _connect(self) -> Connection:
        return TradingConnection(self._url, self._credentials, self._frame)

    async def _subscribe(self, connection: Connection) -> None:
        asked = {"streams": ("trade_updates",)}
        ack = await self._acknowledged(lambda: connection.subscribe(asked))
        text = denied_text(asked, ack)
        if text:
            raise DeniedError(text)

    def _on_frame(self, messages: list[Any]) -> None:
        for raw in messages:
            stream = raw.get("stream") if isinstance(raw, dict) else None
            if stream == "trade_updates":
                self.received += 1
                self._on_update(raw.get("data"))
            elif stream == "listening":
                data = raw.get("data")
                self._on_ack(data if isinstance(data, dict) else {})
            elif isinstance(raw, dict) and raw.get("action") == "error":
                data = raw.get("data")
                text = data.get("error_message") if isinstance(data, dict) else None
                self._end(Failure(Kind.SERVER, str(text or "error without a message")[:200]))
            elif isinstance(raw, Undecodable):
                # It may have been a fill: the account is read, as for an update that cannot be understood.
                self.received += 1
                self.rejections.note("frame.undecodable", raw)
                self._perform(self.supervisor.unreadable("a trade update could not be decoded"))
            else:
                self.rejections.note("frame.unknown_type", str(raw)[:80])

    def _on_update(self, data: Any) -> None:
        """Emit an update. One that cannot be read is told as a new LIVE, upon which the account is read again."""
        try:
            messages, problems = trade_update(data)
        except MalformedError as error:
            messages, problems = [], [error]
        for message in messages:
            self._sink(self.feed, message)
        for problem in problems:
            self._malformed(problem)
        if problems:
            self._perform(self.supervisor.unreadable(f"a trade update could not be read: {problems[0]}"))
