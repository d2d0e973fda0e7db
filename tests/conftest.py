"""What all tests share: where the real data are, and a clean environment for child processes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

ROOT = Path(__file__).resolve().parents[1]


def real_folder() -> Path:
    """The folder of recorded market data; skips loudly when it is not there."""
    folder = Path(os.environ.get("ORACLE_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.csv").is_file():
        pytest.skip(f"REAL DATA MISSING: {folder} has no MANIFEST.csv; set ORACLE_REAL_DATA to run this test")
    return folder


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what a command run in this process has set: the next test's lines would be filtered by it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session", name="real_data")
def real_data_fixture() -> Path:
    """The folder of recorded market data, for a test that takes it as an argument."""
    return real_folder()


@pytest.fixture(scope="session")
def clean_environment() -> dict[str, str]:
    """The environment without our own settings."""
    return {k: v for k, v in os.environ.items() if not k.startswith("ORACLE_")}
