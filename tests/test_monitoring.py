"""The dashboard, the alerts and the page about figures ask for what a server tells, and name it."""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as read_text

import kps.io_common.logger
from kps.io_common.handing import Place
from kps.io_common.metrics import METRICS, Exporter
from kps.protocol.server.relays import RelayQueues
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.http import HttpRequest, HttpResponse
from tests.protocol.helpers import new_hub

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "examples" / "deploy"
DOCS = ROOT / "docs"
PATIENCE = 60.0

promtool = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(promtool is None, reason="promtool is not installed here")

BY_PROMETHEUS = {"job", "instance"}
"""Labels that every series has once Prometheus has read it."""


@cache
def told() -> dict[str, dict[str, set[str]]]:
    """The series of a worker that has everything: the values of their labels, by sample name."""

    class File:
        is_failing, waiting, lost = False, 0, 0

    exporter = Exporter("asyncio", RelayQueues(ServerLimits()))
    exporter.hub = new_hub(version="1.2.3")
    exporter.history = File()  # type: ignore[assignment]
    exporter.place = Place(0, "hub.1", "localhost", 9313, 2, 0)
    found: dict[str, dict[str, set[str]]] = {}
    for family in read_text(answer_of(exporter)):
        for sample in family.samples:
            labels = found.setdefault(sample.name, defaultdict(set))
            for name, value in sample.labels.items():
                labels[name].add(value)
    return found


def answer_of(exporter: Exporter) -> str:
    answers: list[HttpResponse] = []
    exporter.respond(HttpRequest("GET", "/metrics", ()), answers.append)
    return answers[0].body.decode()


@cache
def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DEPLOY / "grafana-kps.json").read_text(encoding="utf-8"))
    return loaded


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def of_dashboard() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


@cache
def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((DEPLOY / "prometheus-rules.yml").read_text(encoding="utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def selections(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """What a query selects: names, each with its conditions on labels."""
    for name, braces in re.findall(r"\b(kps_\w+|process_\w+|up)\b(?:\{([^}]*)\})?", expression):
        conditions = re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', braces)
        assert len(conditions) == braces.count('="') + braces.count('~"'), braces
        yield name, conditions


def check(expression: str) -> set[str]:
    """What a query asks for is there; return its names."""
    names = set()
    labels = set(BY_PROMETHEUS)
    for name, conditions in selections(expression):
        if name == "up":  # which Prometheus makes itself
            continue
        assert name in told(), f"{name} is not told"
        names.add(name)
        labels |= told()[name].keys()
        for label, operator, value in conditions:
            if label in BY_PROMETHEUS:
                continue
            known = told()[name][label]
            assert known, f"{name} has no {label}"
            values = value.split("|") if "~" in operator else [value]
            assert set(values) <= known, f"{name} has no {label} of {value}"
    assert names or "up" in expression, f"it asks for nothing: {expression}"
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        assert set(map(str.strip, grouped.split(","))) <= labels, expression
    return names


class TestDashboard:
    @pytest.mark.parametrize("expression", of_dashboard())
    def test_what_it_asks_for_is_there(self, expression: str) -> None:
        for _, conditions in selections(expression):
            assert ("job", "=~", "$job") in conditions
            assert ("instance", "=~", "$instance") in conditions
        check(expression)

    def test_it_shows_everything(self) -> None:
        shown = set().union(*map(check, of_dashboard()))
        names = {re.sub("_(bucket|sum|count)$", "", name) for name in told() if name[:3] == "kps"}
        assert names == {re.sub("_bucket$", "", name) for name in shown if name[:3] == "kps"}

    def test_counters_are_shown_as_rates(self) -> None:
        for expression in of_dashboard():
            for name in re.findall(r"\b\w+_(?:total|bucket)\b", expression):
                assert f"rate({name}" in expression

    def test_it_is_what_grafana_imports(self) -> None:
        board = dashboard()
        assert board["id"] is None
        assert board["uid"] == "kps"
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        variables = {one["name"]: one for one in board["templating"]["list"]}
        assert variables.keys() == {"datasource", "job", "instance"}
        for name in ("job", "instance"):
            assert any(metric in variables[name]["definition"] for metric in told())
        for panel in panels():
            assert panel["datasource"]["uid"] == "${datasource}"
            assert [one["refId"] for one in panel["targets"]] == list(
                "ABCDE"[: len(panel["targets"])]
            )

    def test_panels_do_not_overlap(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in dashboard()["panels"]:
            place = panel["gridPos"]
            cells = {
                (place["x"] + x, place["y"] + y)
                for x in range(place["w"])
                for y in range(place["h"])
            }
            assert max(x for x, _ in cells) < 24
            assert not cells & taken, panel["title"]
            taken |= cells

    @needs_promtool
    def test_prometheus_understands_it(self, tmp_path: Path) -> None:
        queries = [
            {"record": f"query_{number}", "expr": re.sub(r"\$__\w+", "5m", expression)}
            for number, expression in enumerate(of_dashboard())
        ]
        path = tmp_path / "queries.yml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": queries}]}))
        ask_promtool("check", "rules", str(path))


class TestAlerts:
    @pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
    def test_what_they_ask_for_is_there(self, rule: dict[str, Any]) -> None:
        check(rule["expr"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")

    @needs_promtool
    def test_prometheus_understands_them(self) -> None:
        ask_promtool("check", "rules", str(DEPLOY / "prometheus-rules.yml"))

    @needs_promtool
    @pytest.mark.parametrize("workers", [("",), ("1", "2")], ids=["one process", "workers"])
    def test_each_is_given_when_it_should_and_none_for_a_server_that_is_well(
        self, tmp_path: Path, workers: tuple[str, ...]
    ) -> None:
        assert FIRING.keys() == {rule["alert"] for rule in rules()}
        assert set().union(*FIRING.values()) <= WELL.keys()
        well = of_workers(WELL, *workers)
        tests = [{"interval": "1m", "input_series": well, "alert_rule_test": [
            {"eval_time": "20m", "alertname": alert, "exp_alerts": []} for alert in FIRING
        ]}]  # fmt: skip
        for alert, inputs in FIRING.items():
            (rule,) = [one for one in rules() if one["alert"] == alert]
            others = {name: WELL[name] for name in inputs.keys() & WELL.keys() - OF_ALL}
            series = of_workers(inputs, workers[0]) + of_workers(others, *workers[1:])
            test = {"interval": "1m", "input_series": series, "promql_expr_test": [
                {"expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                 "eval_time": "20m",
                 "exp_samples": [{"labels": "{}", "value": 1}]},
            ]}  # fmt: skip
            assert set(map(name_in, inputs)) >= check(rule["expr"])
            tests.append(test)
        path = tmp_path / "tests.yml"
        path.write_text(
            yaml.safe_dump({"rule_files": [str(DEPLOY / "prometheus-rules.yml")], "tests": tests})
        )
        ask_promtool("test", "rules", str(path))


FIRING = {
    "KPSDown": {"up": "0x30"},
    "KPSRestartsOften": {"process_start_time_seconds": "0+100x30"},
    "KPSWorkerMissing": {"kps_workers_missing": "0x10 1x20"},
    "KPSIsLate": {
        'kps_driver_lag_seconds_bucket{le="0.1"}': "0+10x30",
        'kps_driver_lag_seconds_bucket{le="0.25"}': "0+12x30",
        'kps_driver_lag_seconds_bucket{le="+Inf"}': "0+12x30",
    },
    "KPSDropsMessages": {'kps_dropped_messages_total{reason="slow"}': "0+5x30"},
    "KPSIsFull": {'kps_connections_refused_total{reason="full"}': "0x18 1 1"},
    "KPSRefusesLogins": {'kps_connections_refused_total{reason="login"}': "0+100x30"},
    "KPSLosesClients": {"kps_clients_lost_total": "0+10x30", "kps_clients": "100x30"},
    "KPSAcksTimeOut": {
        'kps_ack_outcomes_total{outcome="timeout"}': "0+10x30",
        'kps_ack_outcomes_total{outcome="handled"}': "0+90x30",
    },
    "KPSGroupWithoutMembers": {'kps_ack_outcomes_total{outcome="no_member"}': "0x18 1 1"},
    "KPSGroupIsBehind": {"kps_group_tasks_waiting": "5000x30"},
    "KPSHistoryNotWritten": {"kps_history_file_failing": "1x30"},
    "KPSDescriptorsRunOut": {"process_open_fds": "95x30", "process_max_fds": "100x30"},
}
"""For each alert, series with which it is given: their values, minute by minute."""

WELL = {
    "up": "1x30",
    "process_start_time_seconds": "1700000000x30",
    "kps_workers_missing": "0x18 1 0x11",
    'kps_driver_lag_seconds_bucket{le="0.1"}': "0+10x30",
    'kps_driver_lag_seconds_bucket{le="0.25"}': "0+10x30",
    'kps_driver_lag_seconds_bucket{le="+Inf"}': "0+10x30",
    'kps_dropped_messages_total{reason="slow"}': "0x30",
    'kps_dropped_messages_total{reason="disconnected"}': "0+1x30",
    'kps_connections_refused_total{reason="full"}': "0x30",
    'kps_connections_refused_total{reason="login"}': "0+1x30",
    "kps_clients_lost_total": "0+1x30",
    "kps_clients": "100x30",
    'kps_ack_outcomes_total{outcome="timeout"}': "0+1x30",
    'kps_ack_outcomes_total{outcome="handled"}': "0+99x30",
    'kps_ack_outcomes_total{outcome="no_member"}': "0x30",
    "kps_group_tasks_waiting": "5x30",
    "kps_history_file_failing": "0x30",
    "process_open_fds": "20x30",
    "process_max_fds": "100x30",
}
"""Those of a server that works, and is well."""


OF_ALL = {"up", "kps_workers_missing"}
"""What does not have the label ``worker``."""


def name_in(text: str) -> str:
    return text.partition("{")[0]


def of_workers(inputs: dict[str, str], *workers: str) -> list[dict[str, str]]:
    """The same series of each of some workers; once what has no worker, or is of one process."""
    found = {}
    for worker in workers:
        for text, values in inputs.items():
            name, _, labels = text.rstrip("}").partition("{")
            own = ['job="kps"', 'instance="bus:9314"']
            if worker and name not in OF_ALL:
                own.append(f'worker="{worker}"')
            found[f"{name}{{{', '.join([*own, labels] if labels else own)}}}"] = values
    return [{"series": series, "values": values} for series, values in found.items()]


def ask_promtool(*arguments: str) -> None:
    assert promtool is not None
    result = subprocess.run(
        [promtool, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_the_linter_of_prometheus_finds_nothing() -> None:
    exporter = Exporter("asyncio", RelayQueues(ServerLimits()))
    exporter.hub = new_hub(version="1.2.3")
    text = answer_of(exporter)
    assert promtool is not None
    result = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


class TestPage:
    def test_its_table_is_that_of_the_program(self) -> None:
        path = DOCS / "make_metrics_table.py"
        spec = importlib.util.spec_from_file_location("make_metrics_table", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        page = module.PAGE.read_text(encoding="utf-8")
        assert page == module.written(page), "run: python docs/make_metrics_table.py"
        assert page.count("\n| `kps_") + page.count("\n| `process_") == len(METRICS)

    def test_the_events_that_it_names_are_those_of_the_program(self) -> None:
        page = (DOCS / "monitoring.md").read_text(encoding="utf-8")
        table = page.partition("| event | level | when |")[2]
        cells = re.findall(r"^\|((?: `[a-z_]+`,?)+) \|", table, re.M)
        named = set(re.findall(r"`([a-z_]+)`", " ".join(cells)))
        sources = Path(kps.__file__).parent.rglob("*.py")
        written = set(
            re.findall(
                r'"([a-z_]+)"', " ".join(path.read_text(encoding="utf-8") for path in sources)
            )
        )
        assert named <= written
        assert len(named) > 20

    def test_what_it_says_of_the_metrics_is_so(self) -> None:
        page = (DOCS / "monitoring.md").read_text(encoding="utf-8")
        for name in re.findall(r"`((?:kps|process)_\w+[a-z])`", page):
            base = re.sub("_(total|info)$", "", name)
            assert base in {metric.name for metric in METRICS}, name


def test_the_limit_of_lines_is_as_the_page_says() -> None:
    assert (kps.io_common.logger.MOST, kps.io_common.logger.INTERVAL) == (100, 10.0)


class TestEvents:
    @pytest.mark.pure("it reads the sources")
    def test_the_table_has_those_of_the_sources_and_no_others(self) -> None:
        page = (DOCS / "monitoring.md").read_text(encoding="utf-8")
        table = page.partition("| event | level | when |\n")[2].partition("\n\n")[0]
        cells = [line.split("|")[1] for line in table.splitlines()[1:]]
        in_table = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
        assert sorted(in_table) == sorted(events())


def events() -> set[str]:
    """The events of all lines that the sources log: what is given behind a level."""
    found = set()
    for path in (ROOT / "kps").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match call:
                case ast.Call(args=[level, event, _, *_]) if is_level(level):
                    found |= {
                        part.value
                        for part in ast.walk(event)
                        if isinstance(part, ast.Constant) and isinstance(part.value, str)
                    }
    return found


def is_level(argument: ast.expr) -> bool:
    text = ast.unparse(argument)
    return text == "level" or re.search(r"logging\.(DEBUG|INFO|WARNING|ERROR)", text) is not None
