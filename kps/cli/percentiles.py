"""How long things took, in a few figures."""

from collections.abc import Iterable, Mapping

_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


def percentiles(seconds: Iterable[float]) -> dict[str, float]:
    """Return the least, some percentiles and the most of several times; empty for none."""
    times = sorted(seconds)
    if not times:
        return {}
    last = len(times) - 1
    found = {name: times[min(last, int(share * len(times)))] for name, share in _SHARES.items()}
    return {"min": times[0], **found, "max": times[-1]}


def in_words(figures: Mapping[str, float]) -> str:
    """Write percentiles for people, in milliseconds."""
    return ", ".join(f"{name} {seconds * 1e3:.3f}" for name, seconds in figures.items()) + " ms"
