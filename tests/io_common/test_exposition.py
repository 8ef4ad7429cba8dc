"""The formats of Prometheus, read by the parsers of ``prometheus_client``."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_text

from kps.io_common.handing import Place
from kps.io_common.metrics import METRICS, Exporter
from kps.protocol.histogram import Histogram
from kps.protocol.server.metrics import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    INFO,
    Figures,
    Metric,
    distribution,
)
from kps.protocol.server.relays import RelayQueues
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.http import HttpRequest, HttpResponse
from kps.web.exposition import OPEN_METRICS, TEXT, answer, chosen, write
from tests.protocol.helpers import new_hub

SOME = (
    Metric("kps_build", INFO, "The version.", ("version",)),
    Metric("kps_clients", GAUGE, 'One "line"\nand \\ another.'),
    Metric("kps_sent_bytes", COUNTER, "Bytes."),
    Metric("kps_refused", COUNTER, "Refused.", ("code",)),
    Metric("kps_time_seconds", HISTOGRAM, "Time."),
    Metric("kps_missing", GAUGE, "It has no figures."),
)


def values() -> Figures:
    times = Histogram((0.5, 1.0))
    for value in (0.5, 0.75, 2, 3):
        times.note(value)
    return {
        ("kps_build", "1.2"): 1,
        ("kps_clients",): 3,
        ("kps_sent_bytes",): 12,
        ("kps_refused", "a"): 0,
        ("kps_refused", "b"): 2.5,
    } | distribution("kps_time_seconds", times)


def samples(families: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples by name and labels; none comes twice."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, tuple(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def both(metrics: Any, by_worker: Mapping[str, Figures]) -> list[Any]:
    """Both formats, as read."""
    text = list(read_text(write(metrics, by_worker)))
    written = write(metrics, by_worker, is_open=True)
    return [text, list(read_open(written))]  # type: ignore[no-untyped-call]


def one(figures: Figures) -> dict[str, Figures]:
    """Those of a server of one process."""
    return {"": figures}


EXPECTED = {
    ("kps_build_info", (("version", "1.2"),)): 1,
    ("kps_clients", ()): 3,
    ("kps_sent_bytes_total", ()): 12,
    ("kps_refused_total", (("code", "a"),)): 0,
    ("kps_refused_total", (("code", "b"),)): 2.5,
    ("kps_time_seconds_bucket", (("le", "0.5"),)): 1,
    ("kps_time_seconds_bucket", (("le", "1.0"),)): 2,
    ("kps_time_seconds_bucket", (("le", "+Inf"),)): 4,
    ("kps_time_seconds_sum", ()): 6.25,
    ("kps_time_seconds_count", ()): 4,
}


def test_what_is_written_can_be_read() -> None:
    for families in both(SOME, one(values())):
        assert samples(families) == EXPECTED


def test_what_it_means_is_written_too() -> None:
    text, open_metrics = both(SOME, one(values()))
    described = {one.name: (one.type, one.documentation, one.unit) for one in open_metrics}
    assert described == {
        "kps_build": ("info", "The version.", ""),
        "kps_clients": ("gauge", 'One "line"\nand \\ another.', ""),
        "kps_sent_bytes": ("counter", "Bytes.", "bytes"),
        "kps_refused": ("counter", "Refused.", ""),
        "kps_time_seconds": ("histogram", "Time.", "seconds"),
    }
    kinds = {one.name: (one.type, one.documentation) for one in text}
    assert kinds == {
        "kps_build_info": ("gauge", "The version."),
        **{name: found[:2] for name, found in described.items() if name != "kps_build"},
    }


def test_the_two_formats_are_not_the_same_text() -> None:
    text, open_metrics = write(SOME, one(values())), write(SOME, one(values()), is_open=True)
    assert "# TYPE kps_sent_bytes_total counter\n" in text
    assert "# TYPE kps_sent_bytes counter\n# UNIT kps_sent_bytes bytes\n" in open_metrics
    assert open_metrics.endswith("\n# EOF\n")
    assert "# EOF" not in text


def test_each_worker_has_its_own_series() -> None:
    build: Figures = {("kps_build", "1.2"): 1}
    by_worker = {"": build, "1": values(), "2": values()}
    for figures in (by_worker["1"], by_worker["2"]):
        del figures["kps_build", "1.2"]
    by_worker["2"]["kps_clients",] = 7
    for families in both(SOME, by_worker):
        found = samples(families)
        assert {name: value for (name, labels), value in found.items() if not labels} == {}
        of_one = {
            (name, labels[1:]): value
            for (name, labels), value in found.items()
            if labels[0] == ("worker", "1")
        }
        assert of_one == {key: EXPECTED[key] for key in EXPECTED if key[0] != "kps_build_info"}
        assert found["kps_clients", (("worker", "2"),)] == 7
        assert len(found) == 1 + 2 * len(of_one)


@pytest.mark.parametrize(
    ("value", "written"),
    [(1, "1"), (0.1, "0.1"), (1e300, "1e+300"), (math.inf, "+Inf"), (-math.inf, "-Inf")],
)
def test_numbers(value: float, written: str) -> None:
    line = write((Metric("a", GAUGE, "A."),), one({("a",): value})).splitlines()[-1]
    assert line == f"a {written}"


def test_what_is_no_number() -> None:
    assert write((Metric("a", GAUGE, "A."),), one({("a",): math.nan})).endswith("a NaN\n")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(TEXTS, min_size=1, max_size=5, unique=True), TEXTS)
def test_no_text_in_a_label_forges_anything(labels: list[str], more: str) -> None:
    metrics = Metric("a", COUNTER, "A.", ("x", "y")), Metric("b", GAUGE, "B.")
    figures: Figures = {("a", label, more): number for number, label in enumerate(labels)}
    figures["b",] = 5
    for families in both(metrics, one(figures)):
        found = samples(families)
        assert found.pop(("b", ())) == 5
        assert found == {
            ("a_total", (("x", label), ("y", more))): number for number, label in enumerate(labels)
        }


@given(TEXTS.filter(lambda text: text == text.strip() and "\r" not in text))
def test_no_text_of_a_description_forges_anything(text: str) -> None:
    metrics = (Metric("a", GAUGE, text),)
    for families in both(metrics, one({("a",): 1})):
        assert samples(families) == {("a", ()): 1}


def test_what_utf_8_lacks_does_no_harm() -> None:
    metrics = (Metric("a", GAUGE, "A.", ("x",)),)
    write(metrics, one({("a", "\ud800"): 1})).encode()


class TestWholeServer:
    """All that a server tells is well-formed, by readers that are strict."""

    def exporter(self) -> Exporter:
        exporter = Exporter("memory", RelayQueues(ServerLimits()))
        exporter.hub = new_hub(version="1.2.3")
        return exporter

    def test_it_can_be_read(self) -> None:
        figures = self.exporter().gather()
        for families in both(METRICS, one(figures)):
            assert len(samples(families)) >= len(figures)
            assert all(family.documentation for family in families)
            assert {family.type for family in families} <= {
                "counter", "gauge", "histogram", "info",
            }  # fmt: skip

    def test_no_two_families_have_one_name(self) -> None:
        """A counter and a gauge may differ by a suffix only, but then OpenMetrics has a clash."""
        names = [metric.name for metric in METRICS]
        suffixes = "_total", "_info", "_count", "_sum", "_bucket", "_created"
        assert len(set(names)) == len(names)
        assert not {name + suffix for name in names for suffix in suffixes} & set(names)

    def test_the_answer(self) -> None:
        exporter = self.exporter()
        for accepted, form in (("", TEXT), ("application/openmetrics-text", OPEN_METRICS)):
            answers: list[HttpResponse] = []
            exporter.respond(asking(accepted), answers.append)
            (found,) = answers
            assert (found.status, found.content_type) == (200, form)
            assert ("cache-control", "no-store") in found.headers
            assert found.body.endswith(b"# EOF\n") is (form is OPEN_METRICS)

    def test_workers(self) -> None:
        exporter = self.exporter()
        exporter.place = Place(0, "hub.2", "localhost", 9313, 4, 3)
        own = exporter.gather()
        assert own["kps_worker_restarts",] == 3
        others = {"hub.1": exporter.gather(), "elsewhere.1": exporter.gather()}
        found = exporter.answer(asking(), others | {"hub.2": own}).body.decode()
        told = samples(read_text(found))
        workers = {dict(labels).get("worker", "") for _, labels in told}
        assert workers == {"", "1", "2", "elsewhere.1"}
        assert {name for name, labels in told if "worker" not in dict(labels)} == {
            "kps_build_info", "kps_workers", "kps_workers_missing",
        }  # fmt: skip
        assert told["kps_workers", ()] == 4
        assert told["kps_workers_missing", ()] == 1
        assert told["kps_build_info", (("version", "1.2.3"), ("driver", "memory"))] == 1

    def test_one_process(self) -> None:
        answers: list[HttpResponse] = []
        self.exporter().respond(asking(), answers.append)
        told = samples(read_text(answers[0].body.decode()))
        assert not any("worker" in dict(labels) for _, labels in told)
        assert (told["kps_workers", ()], told["kps_workers_missing", ()]) == (1, 0)
        assert ("kps_worker_restarts_total", ()) not in told

    def test_a_file_for_history(self) -> None:
        class File:
            is_failing, waiting, lost = True, 5, 7

        exporter = self.exporter()
        assert ("kps_history_file_failing",) not in exporter.gather()
        exporter.history = File()  # type: ignore[assignment]
        names = "failing", "queue_bytes", "lost_messages"
        figures = exporter.gather()
        assert [figures[f"kps_history_file_{name}",] for name in names] == [1, 5, 7]


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;"
    "escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


def asking(*accepted: str) -> HttpRequest:
    return HttpRequest("GET", "/metrics", tuple(("accept", one) for one in accepted if one))


@pytest.mark.parametrize(
    ("accepted", "form"),
    [
        ([], TEXT),
        (["*/*"], TEXT),
        (["text/html, */*;q=0.8"], TEXT),
        (["text/plain"], TEXT),
        (["application/openmetrics-text"], OPEN_METRICS),
        (["Application/OpenMetrics-Text; version=1.0.0; charset=utf-8"], OPEN_METRICS),
        ([PROMETHEUS], OPEN_METRICS),
        (["text/plain", "application/openmetrics-text"], OPEN_METRICS),
        (["application/openmetrics-text;q=0.1, text/plain;q=0.2"], TEXT),
        (["application/openmetrics-text;q=0"], TEXT),
        (["application/openmetrics-text;q=x"], TEXT),
        (["application/openmetrics-text;q=nan"], TEXT),
        (["application/openmetrics-text;q=-1"], TEXT),
        (["application/openmetrics-text-not"], TEXT),
        ([",;,=;q=,"], TEXT),
    ],
)
def test_what_a_request_prefers(accepted: list[str], form: str) -> None:
    assert chosen(asking(*accepted)) is form


@given(st.text(max_size=60))
def test_any_wish_gets_an_answer(accepted: str) -> None:
    assert answer(SOME, one(values()), asking(accepted)).status == 200
