"""OCC symbols: one parser, one formatter, and they agree on everything they accept."""

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.core.errors import RemoteError
from oracle.core.instruments import OptionContract, Right, is_equity, is_option, multiplier, parse_occ

roots = st.from_regex(r"[A-Z][A-Z0-9.]{0,5}", fullmatch=True)
dates = st.dates(dt.date(2000, 1, 1), dt.date(2099, 12, 31)).map(dt.date.isoformat)
contracts = st.builds(OptionContract, roots, dates, st.sampled_from(Right), st.integers(1, 99_999_999))


@given(contracts)
def test_format_then_parse_is_identity(contract: OptionContract) -> None:
    assert parse_occ(contract.occ) == contract
    assert parse_occ(contract.occ).occ == contract.occ


@given(st.text(max_size=24))
def test_any_text_is_parsed_or_refused_with_the_text_in_the_error(text: str) -> None:
    try:
        assert parse_occ(text).occ == text
    except RemoteError as error:
        assert repr(text) in str(error)


def test_known_symbol() -> None:
    contract = parse_occ("SPY260116C00600500")
    assert contract == OptionContract("SPY", "2026-01-16", Right.CALL, 600_500)
    assert contract.strike == 600.5
    assert contract.strike_usd == Decimal("600.5")
    assert contract.is_call


@pytest.mark.parametrize(
    "text", ["", "SPY", "SPY260116X00600000", "SPY261316C00600000", "SPY260230P00600000", "spy260116C00600000",
             "SPY260116C00000000", "SPY260116C0060000", "TOOLONG260116C00600000", " SPY260116C00600000"]
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(RemoteError):
        parse_occ(text)


def test_shape_and_multiplier() -> None:
    assert is_option("SPY260116C00600000")
    assert not is_option("SPY")
    assert is_equity("BRK.B")
    assert not is_equity("")
    assert multiplier("SPY260116C00600000") == 100
    assert multiplier("SPY") == 1
