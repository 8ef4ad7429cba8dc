"""What somebody may have meant who has mistyped a name."""

from collections.abc import Collection

_LIKENESS = 0.65
_LEAST = 3  # characters of a beginning


def nearest(name: str, names: Collection[str], likeness: float = _LIKENESS) -> str | None:
    """Return the name that is most like another one, if any is enough."""
    from difflib import get_close_matches  # for mistakes only

    return next(iter(get_close_matches(name, names, 1, likeness)), None)


def hint(name: str, names: Collection[str]) -> str:
    """Return what to say behind the complaint about a name; empty if nothing is like it.

    A name that only one begins with, or that begins with only one, is more than like it.
    """
    begun = [
        each
        for each in names
        if min(len(name), len(each)) >= _LEAST and (each.startswith(name) or name.startswith(each))
    ]
    meant = begun[0] if len(begun) == 1 else nearest(name, names)
    return "" if meant is None else f"; did you mean {meant}?"
