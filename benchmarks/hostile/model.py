"""What an attack is."""

from collections.abc import Callable
from dataclasses import dataclass

from hostile.raw import Crowd


@dataclass(frozen=True)
class Attack:
    """One way to harm a server."""

    name: str
    what: str
    """What it does, in one line."""
    run: Callable[[Crowd], None]
    """Prepares, calls ``Crowd.begin``, and attacks for the seconds of the target."""
    options: tuple[str, ...] = ()
    """Of ``kps serve``."""
    has_tokens: bool = False
    """Whether the server demands tokens."""
    is_stranger: bool = False
    """Whether the attacker then has none."""
    is_tls: bool = False
    least_seconds: float = 0.0
    """Below this duration the attack shows nothing."""


OPEN_INTERNET = (
    *("--message-rate", "50", "--byte-rate", "100000", "--max-connections-per-address", "100"),
    *("--queue-bytes", "1000000", "--max-subscriptions", "100"),
)
"""What docs/security.md recommends on the open internet."""
