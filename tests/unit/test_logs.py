import io
import json
import logging
import re
import warnings
from collections.abc import Iterator

import pytest
import structlog

from oracle.core.errors import ConfigurationError
from oracle.logs import LEVELS, Redactor, configure_logging, count_with, reset_logging

CANARY = 'c4n"ary\\S3CRET/é+='


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    reset_logging()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


class Account:
    """Its repr gives the key away."""

    def __repr__(self) -> str:
        return f"Account(key={CANARY!r})"


def test_a_line_is_one_json_object_with_utc_time(out: io.StringIO) -> None:
    configure_logging(stream=out)
    structlog.get_logger("oracle.daemon").info("order_sent", order_id="t-1", at_ns=5, note="zwei\nZeilen")
    (line,) = lines(out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", str(line.pop("ts")))
    assert line == {
        "level": "info",
        "event": "order_sent",
        "logger": "oracle.daemon",
        "order_id": "t-1",
        "at_ns": 5,
        "note": "zwei\nZeilen",
    }
    assert out.getvalue().startswith('{"ts":')


def test_standard_records_and_warnings_take_the_same_path(out: io.StringIO) -> None:
    configure_logging(stream=out)
    logging.getLogger("elsewhere").warning("disk %d%% full", 91)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old call", UserWarning, stacklevel=1)
    first, second = lines(out)
    assert (first["event"], first["level"], first["logger"]) == ("disk 91% full", "warning", "elsewhere")
    assert second["logger"] == "py.warnings"
    assert "old call" in str(second["event"])


@pytest.mark.parametrize("colour", [False, True])
def test_a_planted_secret_never_leaves(out: io.StringIO, colour: bool) -> None:
    configure_logging("debug", secrets=[CANARY], stream=out, colour=colour)
    log = structlog.get_logger("oracle")
    url = "https://x/?a=c4n%22ary%5CS3CRET%2F%C3%A9%2B%3D"
    structlog.contextvars.bind_contextvars(bound=f"in context {CANARY}")
    log.info(f"key is {CANARY}", nested={"deep": [{"er": (CANARY, {"z": CANARY})}]}, url=url)
    structlog.contextvars.clear_contextvars()
    log.info("objects", account=Account(), error=ValueError(CANARY), many={CANARY}, raw=CANARY.encode())
    log.info("named", api_key="AK1", headers={"Authorization": "Bearer zzz", "APCA-API-SECRET-KEY": "yyy"})
    logging.getLogger("lib").error("standard %s", CANARY)
    logging.getLogger("lib").error("standard %r", Account())
    hidden_local = CANARY
    try:
        raise RuntimeError(f"failed with {hidden_local}")
    except RuntimeError:
        log.exception("broke", account=Account())
        logging.getLogger("lib").exception("broke too")
    text = out.getvalue()
    for form in (CANARY, "S3CRET", "AK1", "zzz", "yyy", "hidden_local ="):
        assert form not in text, form
    assert text.count("***") >= 12
    assert "RuntimeError" in text
    assert "failed with" in text


def test_json_tracebacks_have_frames_without_locals(out: io.StringIO) -> None:
    configure_logging(stream=out)
    precious = "local-value"
    try:
        raise ValueError("bad")
    except ValueError:
        structlog.get_logger("x").exception("broke")
    assert precious not in out.getvalue().replace("precious", "")
    (line,) = lines(out)
    (trace,) = line["exception"]  # type: ignore[misc]
    assert (trace["exc_type"], trace["exc_value"]) == ("ValueError", "bad")  # type: ignore[index]
    assert trace["frames"][0]["name"] == "test_json_tracebacks_have_frames_without_locals"  # type: ignore[index]


def test_ordinary_keys_stay_readable() -> None:
    redactor = Redactor([])
    kept = {"symbol": "SPY", "turkey": "x", "tokens_left": 5, "keyword": "y", "timer_id": "a:b", "secretary": None}
    assert redactor.value(kept) == kept
    assert redactor.value({"instance_token": "t", "key": "k", "db_password": "p", "key_id": "i", "secret": None}) == {
        "instance_token": "***",
        "key": "***",
        "db_password": "***",
        "key_id": "***",
        "secret": None,
    }


def test_a_secret_too_short_to_look_for_is_refused(out: io.StringIO) -> None:
    with pytest.raises(ConfigurationError, match="shorter"):
        configure_logging(secrets=["abc"], stream=out)


def test_levels_hold_for_both_kinds_of_logger(out: io.StringIO) -> None:
    seen: list[str] = []
    configure_logging("warning", stream=out)
    count_with(seen.append)
    structlog.get_logger("a").info("quiet")
    logging.getLogger("b").info("quiet")
    structlog.get_logger("a").warning("loud")
    logging.getLogger("b").error("loud")
    assert [line["event"] for line in lines(out)] == ["loud", "loud"]
    assert seen == ["warning", "error"]
    count_with(None)
    with pytest.raises(ConfigurationError, match="'loud' is not a level"):
        configure_logging("loud", stream=out)
    assert set(seen) < set(LEVELS)


def test_chatty_libraries_stay_quiet(out: io.StringIO) -> None:
    configure_logging("debug", stream=out)
    logging.getLogger("aiosqlite").debug("executing")
    logging.getLogger("aiohttp.access").info("GET /metrics")
    assert out.getvalue() == ""


def test_journald_prefixes_carry_the_level(out: io.StringIO) -> None:
    configure_logging("debug", stream=out, sd_prefix=True)
    log = structlog.get_logger("x")
    for level in LEVELS:
        getattr(log, level)("event")
    assert [line[:3] for line in out.getvalue().splitlines()] == ["<7>", "<6>", "<4>", "<3>", "<2>"]
    assert json.loads(out.getvalue().splitlines()[0][3:])["event"] == "event"


def test_a_person_gets_colours_and_no_prefix(out: io.StringIO) -> None:
    configure_logging(stream=out, colour=True, sd_prefix=True)
    structlog.get_logger("x").info("order_sent", order_id="t-1")
    assert "\x1b[" in out.getvalue()
    assert "order_sent" in out.getvalue()
    assert not out.getvalue().startswith("<")


def test_a_second_set_up_replaces_the_first(out: io.StringIO) -> None:
    first = io.StringIO()
    configure_logging(stream=first)
    configure_logging(stream=out)
    structlog.get_logger("x").info("once")
    assert first.getvalue() == ""
    assert len(lines(out)) == 1


def test_stderr_is_the_default_so_that_stdout_stays_clean(out: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    structlog.get_logger("x").info("seen")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "seen"
