"""The bounds of the core."""

from dataclasses import fields
from typing import Any

import pytest

from kps.errors import InvalidArgument
from kps.protocol.limits import ClientLimits, ConnectionLimits, Overflow, ProgramLimits
from kps.protocol.server_limits import RatePolicy, ServerLimits

AnyLimits = type[ConnectionLimits]
EVERY_KIND: tuple[AnyLimits, ...] = (ConnectionLimits, ProgramLimits, ClientLimits, ServerLimits)
MAY_BE_ZERO = {"message_rate", "byte_rate"}
"""Where that means that there is no bound."""


def names(kind: AnyLimits) -> set[str]:
    return {field.name for field in fields(kind)}


def test_a_queue_holds_any_single_message() -> None:
    """Or a message that may come in could not go out again."""
    limits = ServerLimits()
    assert limits.max_message < limits.queue_bytes
    assert limits.max_message < limits.mailbox_bytes
    assert limits.backlog_bytes < limits.queue_bytes


def test_a_mailbox_of_a_client_holds_any_single_message() -> None:
    limits = ClientLimits()
    assert limits.max_message <= limits.mailbox_bytes
    assert limits.backlog_bytes < limits.queue_bytes


def test_a_client_takes_whatever_a_server_sends() -> None:
    """Which is more than the server takes: the results of many subscribers come in one message."""
    client, server = ClientLimits(), ServerLimits()
    assert server.max_message < client.max_message
    assert server.max_message + server.max_results < client.max_message


def test_each_end_has_the_bounds_that_mean_something_there() -> None:
    assert names(ConnectionLimits) < names(ProgramLimits) < names(ServerLimits)
    assert names(ClientLimits) == names(ProgramLimits) | {"mailbox_patience"}
    assert not {"mailbox_messages", "max_topics", "message_rate"} & names(ConnectionLimits)
    assert not {"max_topics", "message_rate", "ack_timeout"} & names(ClientLimits)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        pytest.param(kind, field, id=f"{kind.__name__}-{field.name}")
        for kind in EVERY_KIND
        for field in fields(kind)
    ],
)
def test_every_bound_is_checked(kind: AnyLimits, field: Any) -> None:
    wrong_values: tuple[Any, ...]
    if isinstance(field.default, (Overflow, RatePolicy)):
        return
    if field.name in MAY_BE_ZERO:
        wrong_values = (-1.0, float("nan"), float("inf"), 10**400, True, "1", None)
    elif isinstance(field.default, float):
        wrong_values = (0.0, -1.0, float("nan"), float("inf"), 1e300, 10**5000, True, "1", None)
    else:
        wrong_values = (0, -1, 1.5, float("nan"), True, "1", None)
        if issubclass(kind, ProgramLimits):  # what a program gives
            wrong_values += (2**53 + 1, 2**64, 10**400)
    for wrong in wrong_values:
        changed: dict[str, Any] = {field.name: wrong}
        with pytest.raises(ValueError, match=f"{field.name} must be"):
            kind(**changed)


@pytest.mark.parametrize("name", sorted(MAY_BE_ZERO))
def test_a_rate_of_zero_is_no_bound(name: str) -> None:
    changed: dict[str, Any] = {name: 0.0}
    assert getattr(ServerLimits(**changed), name) == 0.0


def test_depth_is_at_most_what_can_be_written() -> None:
    assert ServerLimits(max_depth=128).max_depth == 128
    with pytest.raises(ValueError, match="from 1 to 128"):
        ServerLimits(max_depth=129)


@pytest.mark.parametrize("kind", [ProgramLimits, ClientLimits, ServerLimits])
def test_closing_is_no_policy_for_a_mailbox(kind: type[ProgramLimits]) -> None:
    with pytest.raises(ValueError, match="mailbox_overflow must be"):
        kind(mailbox_overflow=Overflow.CLOSE)


@pytest.mark.parametrize("kind", [ClientLimits, ServerLimits])
def test_a_policy_may_be_given_as_text(kind: type[ProgramLimits]) -> None:
    given: dict[str, Any] = {"overflow": "drop_newest"}
    assert kind(**given).overflow is Overflow.DROP_NEWEST
    given = {"mailbox_overflow": "close"}
    with pytest.raises(ValueError, match="mailbox_overflow must be"):
        kind(**given)


@pytest.mark.parametrize(
    "wrong",
    [
        {"overflow": "bogus"},
        {"rate_policy": "drop_oldest"},
        {"rate_policy": None},
        {"max_message": 1.5},
        {"max_message": "5"},
        {"max_message": True},
        {"ack_timeout": None},
        {"message_rate": "5"},
    ],
    ids=repr,
)
def test_a_value_of_another_type_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=f"{next(iter(wrong))} must be"):
        ServerLimits(**wrong)


def test_policies_have_names() -> None:
    assert [policy.value for policy in Overflow] == ["close", "drop_oldest", "drop_newest"]
    assert Overflow("drop_oldest") is Overflow.DROP_OLDEST
    assert [policy.value for policy in RatePolicy] == ["delay", "error", "close"]
