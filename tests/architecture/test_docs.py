"""Documents do not lie: their commands parse, their links resolve, their generated tables are current."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from oracle.cli.root import app
from oracle.config import load, markdown

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))


def commands() -> Iterator[tuple[str, str]]:
    """Every line of every ``sh`` block."""
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.S):
            for line in block.splitlines():
                if line.strip():
                    yield page.name, line.strip()


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_a_documented_command_exists(page: str, line: str) -> None:
    words = shlex.split(line)
    if words[0].startswith("./"):
        script = ROOT / words[0]
        assert script.is_file()
        assert script.stat().st_mode & 0o111
        return
    assert words[0] == "oracle", f"{page}: {line}"
    root = typer.main.get_command(app)
    assert isinstance(root, click.Group) or hasattr(root, "commands")
    if words[1:] == ["--help"]:
        return
    command = root.commands[words[1]]  # type: ignore[attr-defined]
    context = command.make_context(words[1], words[2:])
    for item in context.params.get("set_") or ():
        load(overrides=[item], environment={})


def test_the_settings_table_is_current() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert markdown() in page


@pytest.mark.parametrize("page", [*PAGES, *RUNBOOKS], ids=lambda p: p.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).is_file(), f"{page.name}: {target}"


def test_every_page_is_reachable_from_the_readme() -> None:
    linked = set(re.findall(r"\(docs/([\w-]+\.md)\)", (ROOT / "README.md").read_text()))
    assert {page.name for page in PAGES[1:]} <= linked


def test_every_runbook_is_reachable_from_the_page_of_alerts() -> None:
    linked = set(re.findall(r"\(runbooks/([\w-]+\.md)\)", (ROOT / "docs" / "alerts.md").read_text()))
    assert {page.name for page in RUNBOOKS} == linked
