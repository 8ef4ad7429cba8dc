"""Writes figures in the formats of Prometheus: its text format, and OpenMetrics.

Both are short, so this is all there is, and every installation has it; the tests read it with the
parsers of ``prometheus_client``.
"""

from collections.abc import Iterable, Iterator
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


def answer(metrics: Iterable[Metric], figures: Figures, request: HttpRequest) -> HttpResponse:
    """Return the answer to a request for figures, in the format that it prefers."""
    form = chosen(request)
    body = write(metrics, figures, is_open=form is OPEN_METRICS).encode()
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


def write(metrics: Iterable[Metric], figures: Figures, *, is_open: bool = False) -> str:
    """Write figures as text, or as OpenMetrics; a metric without figures is left out."""
    by_name: dict[str, list[tuple[tuple[str, ...], float]]] = {}
    for (name, *values), figure in figures.items():
        by_name.setdefault(name, []).append((tuple(values), figure))
    lines: list[str] = []
    for metric in metrics:
        if found := by_name.get(metric.name):
            lines += _head(metric, is_open)
            lines += [line for values, figure in found for line in _sample(metric, values, figure)]
            if metric.kind == HISTOGRAM:
                lines.append(f"{metric.name}_count {_number(figures[metric.name, _MOST])}")
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


def _sample(metric: Metric, values: tuple[str, ...], figure: float) -> Iterator[str]:
    name, names = metric.name + _SUFFIXES.get(metric.kind, ""), metric.labels
    if metric.kind == HISTOGRAM:
        if values == (SUM,):
            yield f"{name}_sum {_number(figure)}"
            return
        name, names, values = f"{name}_bucket", ("le",), (_number(float(values[0])),)
    labels = ",".join(
        [f'{label}="{escaped(value)}"' for label, value in zip(names, values, strict=True)]
    )
    yield f"{name}{{{labels}}} {_number(figure)}" if labels else f"{name} {_number(figure)}"


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
