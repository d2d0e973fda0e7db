"""``flatten --direct`` and the broker's limit of requests, on an event loop whose time is virtual."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import pytest

from oracle import direct
from oracle.alpaca import wire
from oracle.alpaca.rest import Reply
from oracle.core.errors import RemoteError
from tests.unit.test_loop_daemon import VirtualLoop

ACCOUNT = (wire.one_host_endpoints("http://127.0.0.1:9"), wire.Credentials("K", "S"))
EPOCH_S = 1_700_000_000
Answer = Callable[[float, str, str], Reply | None]


class Broker:
    """Answers requests of a client, and notes when each came; one position never goes away."""

    def __init__(self, loop: VirtualLoop, answer: Answer) -> None:
        self.loop, self.answer = loop, answer
        self.started_s = loop.time()
        self.asked: list[tuple[float, str]] = []

    @property
    def now_s(self) -> float:
        return self.loop.time() - self.started_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def trading(self, method: str, path: str, _query: Mapping[str, str] | None = None) -> Reply:
        self.asked.append((self.now_s, method))
        held: list[Any] = [] if method == "DELETE" or path != wire.POSITIONS_PATH else [{"symbol": "X"}]
        return self.answer(self.now_s, method, path) or Reply(200, held, {})


def play(monkeypatch: pytest.MonkeyPatch, wait_s: float, answer: Answer = lambda *_: None) -> tuple[Broker, Any]:
    """Flatten on a virtual loop; the broker and the answer, or what was raised."""
    loop = VirtualLoop()
    broker = Broker(loop, answer)
    monkeypatch.setattr(direct, "RestClient", lambda *_: broker)
    monkeypatch.setattr("oracle.direct.time.time", lambda: EPOCH_S + broker.now_s)
    try:
        return broker, loop.run_until_complete(direct.flatten_account(ACCOUNT, wait_s))
    except RemoteError as error:
        return broker, error
    finally:
        loop.close()


def test_a_minute_takes_less_than_half_of_the_brokers_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, answer = play(monkeypatch, 60.0)
    assert not answer.done
    assert 60 < len(broker.asked) < 100
    assert sum(method == "DELETE" for _, method in broker.asked) == 2 * 7


@pytest.mark.parametrize(
    ("headers", "resumes_s"),
    [({wire.RATE_RESET_HEADER: str(EPOCH_S + 25)}, 25), ({}, 60), ({wire.RATE_RESET_HEADER: str(EPOCH_S + 900)}, 60)],
)
def test_a_refusal_is_waited_out_and_closes_go_first(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], resumes_s: int
) -> None:
    refused = Reply(429, None, headers)
    broker, _ = play(monkeypatch, 70.0, lambda at_s, _method, _path: refused if at_s < 1 else None)
    later = [(round(at_s), method) for at_s, method in broker.asked if at_s > 0]
    assert later[:3] == [(resumes_s, "DELETE"), (resumes_s, "GET"), (resumes_s, "DELETE")]


def test_a_refusal_to_the_end_does_not_outlast_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, error = play(monkeypatch, 10.0, lambda *_: Reply(429, None, {}))
    assert isinstance(error, RemoteError)
    assert round(broker.now_s) == 10


def test_shorts_that_take_their_time_are_not_asked_for_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each asking cancels the order of the one before, and ten shorts at every look would use up the limit."""
    shorts = [{"symbol": f"SPY260105C{600 + n:05d}000", "qty": "-1"} for n in range(10)]
    cover = {"symbol": "SPY260105C00700000", "qty": "10"}
    closes: list[tuple[int, str]] = []

    def answer(at_s: float, method: str, path: str) -> Reply | None:
        if method == "DELETE" and path != wire.ORDERS_PATH:
            closes.append((round(at_s), path))
        if method == "DELETE" or path != wire.POSITIONS_PATH:
            return None
        return Reply(200, [cover] if at_s > 13 else [*shorts, cover], {})

    broker, _ = play(monkeypatch, 60.0, answer)
    of_shorts = [at_s for at_s, path in closes if path != wire.POSITIONS_PATH]
    assert of_shorts == [0] * 10 + [10] * 10
    # What covered them follows soon after they are gone.
    first = next(at_s for at_s, path in closes if path == wire.POSITIONS_PATH)
    assert 14 <= first <= 16
    assert len(broker.asked) < 130
