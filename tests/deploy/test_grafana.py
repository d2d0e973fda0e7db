"""The dashboard: current, well formed, and every query answered by a real Prometheus that scraped a real demo.

Validated, not rendered: no Grafana server is part of it.
"""

import json
import math
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from deploy.grafana import build
from oracle.metrics.catalogue import CATALOGUE
from tests.deploy.test_prometheus import FOLDER, RULES, check_words, tool

ROOT = Path(__file__).resolve().parents[2]
BOARD: dict[str, Any] = json.loads(build.TARGET.read_text())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
# Of Grafana's value formats, those that our metrics are in.
UNITS = {"none", "s", "bytes", "percentunit", "currencyUSD"}
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
# Exported by prometheus-client and made by Prometheus itself.
OTHERS = {"process_resident_memory_bytes", "ALERTS"}
# Without a series while their figure is unknown; the first is known from the start.
LATE = {metric.name for metric in CATALOGUE if metric.late}
TOLD_FROM_THE_START = "oracle_track_trades"
# Trades at 10:41 of a half-day, the shortest session.
# At this speed an open trade is seen by several scrapes on a fast machine too.
DEMO = (
    "--speed",
    "300",
    "--seed",
    "2",
    "--date",
    "2026-11-27",
    "--set",
    'strategies.opening_range_breakout.universe=["SPY"]',
)
SCRAPE_S = 1
LIMIT_S = 115


def substituted(expression: str, job: str = "oracle") -> str:
    """A query as Grafana sends it: four scrapes for a rate, a minute for the time that is shown."""
    values = {"$__rate_interval": f"{4 * SCRAPE_S}s", "$__range": "60s", "$job": job, "$instance": ".+"}
    for name, text in values.items():
        expression = expression.replace(name, text)
    assert "$" not in expression
    return expression


# ------------------------------------------------------------------------------------------------------- the file


def test_the_committed_json_is_what_the_builder_makes() -> None:
    assert build.main(["--check"]) == 0


def test_a_changed_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "overview.json"
    other.write_text(build.TARGET.read_text().replace("Equity", "equity", 1))
    monkeypatch.setattr(build, "TARGET", other)
    assert build.main(["--check"]) == 1


def test_ids_and_places_are_unique_and_within_the_grid() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(ids)
    boxes = [panel["gridPos"] for panel in BOARD["panels"]]
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    for one, two in combinations(boxes, 2):
        apart_x = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]
        assert apart_x or apart_y, (one, two)


@pytest.mark.parametrize("panel", PANELS, ids=lambda p: p["title"])
def test_each_panel_says_what_it_is_and_asks_the_chosen_source(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 10
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    references = [target["refId"] for target in panel["targets"]]
    assert references
    assert all(references)
    assert len(set(references)) == len(references)
    for part in (panel, *panel["targets"]):
        assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for name in re.findall(r"[Rr]unbook:? (Oracle\w+)", panel["description"]):
        assert (ROOT / "docs" / "runbooks" / f"{name}.md").is_file()


def test_the_board_is_read_only_and_its_variables_are_used() -> None:
    assert BOARD["editable"] is False
    assert BOARD["uid"] == build.UID
    names = [variable["name"] for variable in BOARD["templating"]["list"]]
    assert names == ["datasource", "job", "instance"]
    for variable in BOARD["templating"]["list"]:
        assert not [name for name in variable if name.startswith("auto")]


@pytest.mark.parametrize("expression", QUERIES)
def test_each_query_names_metrics_and_labels_that_exist(expression: str) -> None:
    check_words(substituted(expression), OTHERS)
    assert 'job="$job"' in expression


def test_the_lines_in_the_panels_are_the_alerts_own() -> None:
    text = RULES[0].read_text()
    for seconds in (build.STOCK_SILENT_S, build.RECONCILE_OVERDUE_S):
        assert re.search(rf"> {seconds}\n", text)


def test_the_provisioning_fits_the_scrape() -> None:
    scrape = re.search(r"scrape_interval: (\w+)", (FOLDER / "prometheus.yml").read_text())
    source = (ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    assert scrape is not None
    assert f"timeInterval: {scrape[1]}\n" in source
    assert "access: proxy" in source


# -------------------------------------------------------------------------------------------------- with real data


class Scraped(NamedTuple):
    """A Prometheus that holds a demo."""

    url: str
    began_s: float
    ended_s: float

    def get(self, path: str, **parameters: Any) -> Any:
        """The data of an API call; it must succeed."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=20) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def samples(self, expression: str) -> list[list[float]]:
        """The values of each series of a query over the demo."""
        data = self.get("query_range", query=expression, start=self.began_s, end=self.ended_s, step=SCRAPE_S)
        return [[float(value) for _, value in series["values"]] for series in data["result"]]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def adapted(folder: Path, console_port: int) -> Path:
    """The shipped configuration with another target port and a quicker pace, and nothing else changed."""
    (folder / "rules").mkdir()
    for rule in RULES:
        (folder / "rules" / rule.name).write_text(rule.read_text())
    text = (FOLDER / "prometheus.yml").read_text()
    for old, new in (
        ("127.0.0.1:9911", f"127.0.0.1:{console_port}"),
        ("scrape_interval: 5s", f"scrape_interval: {SCRAPE_S}s"),
        ("scrape_timeout: 4s", f"scrape_timeout: {SCRAPE_S}s"),
        ("evaluation_interval: 5s", f"evaluation_interval: {SCRAPE_S}s"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    file = folder / "prometheus.yml"
    file.write_text(text)
    return file


def play_until_a_trade_has_closed(state: Path, console_port: int, environment: dict[str, str]) -> None:
    """Play a demo until its first round trip is over, then end it as an operator would."""
    command = [
        sys.executable, "-m", "oracle", "demo", "--json", "--state", str(state), *DEMO,
        *("--set", f"console.port={console_port}", "--set", "logs.level=info", "--set", "logs.format=json"),
    ]  # fmt: skip
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        assert demo.stdout is not None
        said = []
        try:
            for line in demo.stderr:
                said.append(line)
                if '"event":"trade_closed"' in line:
                    demo.send_signal(signal.SIGTERM)
            assert demo.wait() == 0, "".join(said[-20:])
        finally:
            demo.kill()
        assert json.loads(demo.stdout.read())["trades"] > 0, "".join(said[-20:])


@contextmanager
def scraped(folder: Path, environment: dict[str, str]) -> Iterator[Scraped]:
    """Start Prometheus, play a demo before it, and keep it for the questions."""
    program = tool("prometheus")
    console_port, port = free_port(), free_port()
    command = [
        program, f"--config.file={adapted(folder, console_port)}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=info",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as prometheus:
        try:
            assert prometheus.stderr is not None
            said = []
            while "Server is ready" not in (line := prometheus.stderr.readline()):
                said.append(line)
                assert line, "".join(said)
            began_s = time.time()
            play_until_a_trade_has_closed(folder / "demo", console_port, environment)
            yield Scraped(f"http://127.0.0.1:{port}", began_s, time.time())
        finally:
            prometheus.terminate()


def words(expression: str) -> set[str]:
    """The names in a query."""
    return set(re.findall(r"\w+", expression))


def faults(demo: Scraped) -> Iterator[str]:
    """What is wrong with the answers to the panels' queries."""
    for panel in PANELS:
        for target in panel["targets"]:
            series = demo.samples(substituted(target["expr"]))
            known = any(not math.isnan(value) for values in series for value in values)
            if not known and not words(target["expr"]) & LATE:
                yield f"{panel['title']} {target['refId']}: {'nothing but NaN' if series else 'no series'}"
            # Without data there is nothing to show, and no error either.
            demo.samples(substituted(target["expr"], job="nobody"))


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_every_query_returns_data_of_a_real_demo(tmp_path: Path, clean_environment: dict[str, str]) -> None:
    """One test, so that the demo is played once however the tests are spread over processes."""
    with scraped(tmp_path, clean_environment) as demo:
        assert list(faults(demo)) == []
        for sign in ('up{job="oracle"}', "sum(oracle_fills_total)", "sum(oracle_open_trades)", "oracle_market_open"):
            assert max(max(values) for values in demo.samples(sign)) > 0, sign
        names = set(demo.get("label/__name__/values", start=demo.began_s, end=demo.ended_s))
        wanted = {m.name + ("_count" if m.kind == "histogram" else "") for m in CATALOGUE if not m.late}
        assert wanted | {TOLD_FROM_THE_START} <= names
        # A healthy demo calls nobody. It has ended for less than the 30 s that OracleDown waits.
        assert demo.samples('ALERTS{alertstate="firing"}') == []
