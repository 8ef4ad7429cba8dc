"""Lets a hook say in the log why it refuses a token, which the client is not told.

The hook may be one of KPS within another one of the program. So what it says is not returned, but
noted in the context in which the server has called.
"""

from contextvars import ContextVar

from kps.protocol.access.identity import NoIdentity

_noted: ContextVar[list[str] | None] = ContextVar("kps_explanations", default=None)


def explain(why: str) -> None:
    """Say in a hook why a token has no identity. It holds nothing that is secret."""
    noted = _noted.get()
    if noted is not None:
        noted.append(why)


def listen_for_explanations() -> list[str]:
    """Note in the list that this returns what hooks explain in this context from now on."""
    noted: list[str] = []
    _noted.set(noted)
    return noted


def explained(verdict: object, noted: list[str]) -> object:
    """Return a hook's verdict; one that refuses with what was noted, if anything was."""
    is_refusal = verdict is None or verdict is False
    return NoIdentity("; ".join(noted)) if is_refusal and noted else verdict
