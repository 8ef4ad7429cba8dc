"""The bounds of the core."""

from dataclasses import fields
from typing import Any

import pytest

from kps.protocol.limits import Limits, Overflow, RatePolicy


def test_a_queue_holds_any_single_message() -> None:
    """Or a message that may come in could not go out again."""
    limits = Limits()
    assert limits.max_message < limits.queue_bytes
    assert limits.max_message < limits.mailbox_bytes
    assert limits.backlog_bytes < limits.queue_bytes


@pytest.mark.parametrize("field", fields(Limits), ids=lambda field: field.name)
def test_every_bound_is_checked(field: Any) -> None:
    wrong_values: tuple[Any, ...]
    if isinstance(field.default, (Overflow, RatePolicy)):
        return
    if field.default == 0.0:  # where that means that there is no bound
        wrong_values = (-1.0, float("nan"))
    elif isinstance(field.default, float):
        wrong_values = (0.0, -1.0, float("nan"))
    else:
        wrong_values = (0, -1)
    for wrong in wrong_values:
        changed: dict[str, Any] = {field.name: wrong}
        with pytest.raises(ValueError, match=f"{field.name} must be"):
            Limits(**changed)


def test_depth_is_at_most_what_can_be_written() -> None:
    assert Limits(max_depth=128).max_depth == 128
    with pytest.raises(ValueError, match="from 1 to 128"):
        Limits(max_depth=129)


def test_policies_have_names() -> None:
    assert [policy.value for policy in Overflow] == ["close", "drop_oldest", "drop_newest"]
    assert Overflow("drop_oldest") is Overflow.DROP_OLDEST
    assert [policy.value for policy in RatePolicy] == ["delay", "error", "close"]
