"""The scrape configuration and the alerts: promtool's own checks, and that their words exist in the program."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import pytest
import typer

from oracle.cli.root import app
from oracle.metrics.catalogue import CATALOGUE, Labels, label_names, label_values

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
CASES = sorted((FOLDER / "tests").glob("*.yml"))
NEEDED = {"summary", "description", "impact", "action", "runbook_url"}
# Made by Prometheus itself, with the labels of the target.
OF_PROMETHEUS = {"up"}
OF_TARGETS = {"job", "instance"}


def tool(name: str) -> str:
    """A program of the Debian package prometheus; without it the test is skipped, or fails where it is required."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("ORACLE_REQUIRE_PROM"):
            pytest.fail(f"{name} is required (ORACLE_REQUIRE_PROM) and missing")
        pytest.skip(f"PROMETHEUS MISSING: {name} is not installed; the alerts are not checked")
    return found


def promtool(*arguments: str) -> str:
    """Run promtool and give what it said; it must succeed."""
    done = subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Rule(NamedTuple):
    """An alerting rule, as far as the tests read it."""

    alert: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]


class Group(NamedTuple):
    """A group of promtool cases: its series' values, and (alert, whether it is expected) for each case."""

    values: tuple[str, ...]
    cases: tuple[tuple[str, bool], ...]


def rules() -> Iterator[Rule]:
    """Every alerting rule, read from our own layout (promtool checks that it is YAML)."""
    for file in RULES:
        for chunk in file.read_text().split("      - alert: ")[1:]:
            name, _, body = chunk.partition("\n")
            inline = re.search(r"^        expr: ([^|\n].*)$", body, flags=re.M)
            block = re.search(r"^        expr: \|\n((?:          .*\n)+)", body, flags=re.M)
            text = inline or block
            flat = re.search(r"^        labels: \{(.*)\}$", body, flags=re.M)
            assert text is not None, name
            assert flat is not None, name
            labels = dict(pair.split(": ") for pair in flat[1].split(", "))
            notes = dict(re.findall(r'^          (\w+): "?(.*?)"?$', body.partition("annotations:\n")[2], flags=re.M))
            yield Rule(name.strip(), text[1], labels, notes)


def groups() -> Iterator[Group]:
    """Every group of promtool cases."""
    for file in CASES:
        for chunk in file.read_text().split("\n  - name: ")[1:]:
            values = tuple(re.findall(r'values: "(.*?)"', chunk))
            short = re.findall(r"alertname: (\w+), eval_time: \w+, exp_alerts: \[\]", chunk)
            long = re.findall(r"alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:\n", chunk)
            yield Group(values, (*((name, False) for name in short), *((name, True) for name in long)))


def selectors(expression: str) -> list[Any]:
    """Every vector selector of a PromQL expression."""
    found: list[Any] = []

    def walk(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
            inner = getattr(node, name, None)
            if inner is not None and not isinstance(inner, str):
                walk(inner)
        for inner in getattr(node, "args", None) or ():
            walk(inner)

    walk(promql_parser.parse(expression))
    return found


def allowed_labels(series: str) -> dict[str, set[str] | None]:
    """A series' labels with their closed sets (None is open), or fail when the catalogue does not have it."""
    for metric in CATALOGUE:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        if series in {metric.name + suffix for suffix in suffixes}:
            sets = map(set, label_values(metric, Labels()))
            labels: dict[str, set[str] | None] = dict(zip(label_names(metric), sets, strict=True))
            if metric.kind == "histogram":
                labels["le"] = None
            for name in ("strategy", "rule"):
                if name in labels:
                    labels[name] = None
            return labels
    raise AssertionError(f"{series} is not in the catalogue")


def check_words(expression: str, extra: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Every metric, label and label value of an expression must be one that the program exports."""
    for selector in selectors(expression):
        if selector.name in OF_PROMETHEUS | extra:
            continue
        labels = allowed_labels(selector.name)
        for matcher in selector.matchers.matchers:
            if matcher.name in OF_TARGETS:
                continue
            assert matcher.name in labels, (selector.name, matcher.name)
            values = labels[matcher.name]
            if values is not None and "=~" not in str(matcher.op):
                assert matcher.value in values, (selector.name, matcher.name, matcher.value)


def test_the_configuration_is_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", str(FOLDER / "prometheus.yml"))


def test_the_scrape_finds_the_default_console() -> None:
    from oracle.config import ConsoleSettings

    scrape = (FOLDER / "prometheus.yml").read_text()
    assert re.findall(r"job_name: (\w+)", scrape) == ["oracle"]
    assert re.findall(r'targets: \["(.*)"\]', scrape) == [f"127.0.0.1:{ConsoleSettings().port}"]
    assert "metrics_path" not in scrape  # the default is the console's


@pytest.mark.parametrize("file", RULES, ids=lambda f: f.name)
def test_the_rules_are_valid(file: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", str(file))


@pytest.mark.parametrize("file", CASES, ids=lambda f: f.name)
def test_the_rules_fire_and_stay_quiet_as_their_cases_say(file: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", str(file))


def test_each_alert_has_a_case_that_fires_one_that_does_not_and_one_whose_series_end() -> None:
    names = {rule.alert for rule in rules()}
    fires = {name for group in groups() for name, expected in group.cases if expected}
    quiet = {name for group in groups() for name, expected in group.cases if not expected}
    stale = {name for group in groups() for name, _ in group.cases if any("stale" in text for text in group.values)}
    assert len(names) == 6
    assert names == fires == quiet == stale


@pytest.mark.parametrize("rule", list(rules()), ids=lambda r: r.alert)
def test_each_alert_says_what_it_means_and_what_to_do(rule: Rule) -> None:
    assert set(rule.labels) == {"severity", "component"}
    assert rule.labels["severity"] in {"page", "warn"}
    assert set(rule.annotations) == NEEDED
    page = ROOT / rule.annotations["runbook_url"]
    assert page.name == f"{rule.alert}.md"
    text = page.read_text()
    assert text.startswith(f"# {rule.alert}\n")
    for part in ("**Meaning.**", "**Money at risk?**", "**First three commands**", "**When to halt.**", "**How it"):
        assert part in text
    assert len(re.findall(r"^    \S", text, flags=re.M)) == 3
    assert f"(runbooks/{page.name})" in (ROOT / "docs" / "alerts.md").read_text()


@pytest.mark.parametrize("rule", list(rules()), ids=lambda r: r.alert)
def test_each_alerts_metrics_and_labels_exist(rule: Rule) -> None:
    assert selectors(rule.expr)
    check_words(rule.expr)


def documented_commands() -> Iterator[tuple[str, str]]:
    """Every ``oracle …`` line of the runbooks and of the pages on alerts and the service."""
    docs = ROOT / "docs"
    for page in (docs / "alerts.md", docs / "service.md", *sorted((docs / "runbooks").glob("*.md"))):
        for line in re.findall(r"^    (oracle .*)$", page.read_text(), flags=re.M):
            yield page.name, line.partition("#")[0].strip()


@pytest.mark.parametrize(("page", "line"), list(documented_commands()))
def test_a_runbooks_command_exists(page: str, line: str) -> None:
    words = shlex.split(line)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    commands[words[1]].make_context(words[1], words[2:])


def test_a_metric_or_label_that_does_not_exist_is_found() -> None:
    for wrong in ("oracle_no_such", 'oracle_ready{chek="store"}', 'oracle_ready{check="stor"}'):
        with pytest.raises(AssertionError):
            check_words(f"max({wrong}) > 0")


def test_the_exported_text_passes_promtools_own_lint(tmp_path: Path) -> None:
    from oracle.metrics.observer import Observer

    text = Observer(Labels(("orb",), ("spread",)), {"version": "1", "mode": "sim"}, 1).text()
    done = subprocess.run([tool("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
