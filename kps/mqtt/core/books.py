"""The books: what came, what passed, and what did not, by the name of the reason."""

from collections import Counter
from typing import Any


class Account:
    """The figures of one rule, or of what belongs to none.

    What came has passed, has not passed for a reason with a name, or is under way; nothing else.
    """

    __slots__ = ("came", "not_passed", "passed", "retries")

    def __init__(self) -> None:
        self.came = 0
        self.passed = 0
        self.not_passed: Counter[str] = Counter()
        """How many did not pass, by the name of the reason."""
        self.retries = 0
        """How often a message was given to KPS once more."""

    @property
    def under_way(self) -> int:
        """How many are under way."""
        return self.came - self.passed - self.not_passed.total()

    def figures(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        found: dict[str, Any] = {
            "came": self.came,
            "passed": self.passed,
            "not_passed": dict(self.not_passed),
            "under_way": self.under_way,
        }
        return found | ({"retries": self.retries} if self.retries else {})


class Books:
    """The accounts of a bridge, by the names of rules."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.events: Counter[str] = Counter()
        """Connections that were lost, and the like."""

    def account(self, name: str) -> Account:
        """Return the account of a rule."""
        return self.accounts.setdefault(name, Account())

    def figures(self) -> dict[str, Any]:
        """Return all figures as JSON."""
        rules = {name: account.figures() for name, account in self.accounts.items()}
        return {"rules": rules, "events": dict(self.events)}

    def in_words(self) -> str:
        """Return all figures in one line."""
        lines = []
        for name, account in self.accounts.items():
            parts = [f"{account.came} came", f"{account.passed} passed"]
            parts += [f"{count} {reason}" for reason, count in sorted(account.not_passed.items())]
            parts += [f"{account.under_way} under way"] if account.under_way else []
            lines.append(f"{name}: {', '.join(parts)}")
        return "; ".join(lines)
