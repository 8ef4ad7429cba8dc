"""How much is simulated."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """The sizes of a run. A quick one shows that all of it works."""

    quick: bool = False

    @property
    def nodes(self) -> int:
        return 5 if self.quick else 50

    def sizes(self, *full: int) -> Sequence[int]:
        """Return sizes at which something is measured, in order."""
        return [100, 150, 200] if self.quick else full

    def count(self, full: int, quick: int) -> int:
        return quick if self.quick else full
