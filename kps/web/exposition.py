"""Writes figures in the formats of Prometheus: its text format, and OpenMetrics.

Both are short, so this is all there is, and every installation has it; the tests read it with the
parsers of ``prometheus_client``.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import inf, isnan
from typing import Final

from kps.protocol.server.metrics import COUNTER, GAUGE, HISTOGRAM, INFO, SUM, Figures, Metric
from kps.protocol.wire.http import HttpRequest, HttpResponse

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_SUFFIXES = {COUNTER: "_total", INFO: "_info"}
_HEADERS = (
    ("cache-control", "no-store"),
    ("vary", "accept"),
    ("x-content-type-options", "nosniff"),
)


def answer(
    metrics: Iterable[Metric], by_worker: Mapping[str, Figures], request: HttpRequest
) -> HttpResponse:
    """Return the answer to a request for figures, in the format that it prefers."""
    form = chosen(request)
    body = write(metrics, by_worker, is_open=form is OPEN_METRICS).encode()
    return HttpResponse(200, body, form, _HEADERS)


def chosen(request: HttpRequest) -> str:
    """Return the content type that a request prefers; ``TEXT`` if it does not care."""
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for name, value in request.headers:
        for item in value.split(",") if name == "accept" else ():
            kind, *parameters = [part.strip().lower() for part in item.split(";")]
            if kind in best:
                best[kind] = max(best[kind], _quality(parameters))
    is_open = 0.0 < best["application/openmetrics-text"] >= best["text/plain"]
    return OPEN_METRICS if is_open else TEXT


def _quality(parameters: Iterable[str]) -> float:
    """Return the weight in an item of ``Accept``; 0 if it cannot be read."""
    text = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 <= value <= 1.0 else 0.0


def write(
    metrics: Iterable[Metric], by_worker: Mapping[str, Figures], *, is_open: bool = False
) -> str:
    """Write figures as text, or as OpenMetrics; a metric without figures is left out.

    Those of each worker get a label with its name; those under the empty name get none.
    """
    by_name: dict[str, tuple[Metric, list[str]]] = {metric.name: (metric, []) for metric in metrics}
    for worker, figures in by_worker.items():
        labels = [("worker", worker)] if worker else []
        for (name, *values), figure in figures.items():
            if name in by_name:
                metric, samples = by_name[name]
                samples += _samples(metric, values, labels, figure)
    lines: list[str] = []
    for metric, samples in by_name.values():
        if samples:
            lines += _head(metric, is_open)
            lines += samples
    if is_open:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


_MOST = str(inf)  # the bucket that has every value


def _head(metric: Metric, is_open: bool) -> Iterator[str]:
    """Yield what describes a metric. The text format counts the suffix to the name."""
    name, kind = metric.name, metric.kind
    if not is_open:
        name += _SUFFIXES.get(kind, "")
        kind = GAUGE if kind == INFO else kind
    yield f"# TYPE {name} {kind}"
    if is_open and metric.unit:
        yield f"# UNIT {name} {metric.unit}"
    text = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} " + (text.replace('"', r"\"") if is_open else text)


def _samples(
    metric: Metric, values: list[str], labels: list[tuple[str, str]], figure: float
) -> Iterator[str]:
    name = metric.name + _SUFFIXES.get(metric.kind, "")
    if metric.kind != HISTOGRAM:
        yield _line(name, [*labels, *zip(metric.labels, values, strict=True)], figure)
    elif values == [SUM]:
        yield _line(f"{name}_sum", labels, figure)
    else:
        yield _line(f"{name}_bucket", [*labels, ("le", _number(float(values[0])))], figure)
        if values == [_MOST]:
            yield _line(f"{name}_count", labels, figure)


def _line(name: str, labels: Iterable[tuple[str, str]], figure: float) -> str:
    written = ",".join([f'{label}="{escaped(value)}"' for label, value in labels])
    return f"{name}{{{written}}} {_number(figure)}" if written else f"{name} {_number(figure)}"


def escaped(value: str) -> str:
    """Return the value of a label as both formats write it."""
    value = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value.encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    if value == inf:
        return "+Inf"
    if value == -inf:
        return "-Inf"
    return "NaN" if isnan(value) else repr(value)
