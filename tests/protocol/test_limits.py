"""The bounds of the core."""

from dataclasses import fields
from typing import Any

import pytest

from kps.protocol.limits import Limits, Overflow


def test_a_queue_holds_any_single_message() -> None:
    """Or a message that may come in could not go out again."""
    limits = Limits()
    assert limits.max_message < limits.queue_bytes
    assert limits.max_message < limits.mailbox_bytes
    assert limits.backlog_bytes < limits.queue_bytes


@pytest.mark.parametrize("field", fields(Limits), ids=lambda field: field.name)
def test_every_bound_is_checked(field: Any) -> None:
    if isinstance(field.default, Overflow):
        return
    for wrong in (0, -1) if isinstance(field.default, int) else (0.0, -1.0, float("nan")):
        changed: dict[str, Any] = {field.name: wrong}
        with pytest.raises(ValueError, match=f"{field.name} must be"):
            Limits(**changed)


def test_policies_have_names() -> None:
    assert [policy.value for policy in Overflow] == ["close", "drop_oldest", "drop_newest"]
    assert Overflow("drop_oldest") is Overflow.DROP_OLDEST
