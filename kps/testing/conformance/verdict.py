"""What the judges say."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What has become of a vector."""

    PASSED = "passed"
    FAILED = "failed"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one vector."""

    vector: str
    clauses: tuple[str, ...]
    outcome: Outcome
    detail: str = ""
    """The difference, or why it was left out."""
    seconds: float = 0.0
