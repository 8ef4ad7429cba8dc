"""The outcome of an ack request, which is a frozen dataclass with a faster constructor."""

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from kps.protocol.dialect.outcome import AckResponse, as_json

PLAIN: type[Any] = dataclasses.make_dataclass(
    "AckResponse",
    [
        ("client_id", str),
        ("success", bool),
        ("error", str | None, dataclasses.field(default=None)),
        ("ack_id", str, dataclasses.field(default="")),
        ("result", Any, dataclasses.field(default=None)),
    ],
    frozen=True,
    slots=True,
)
GIVEN: list[tuple[Any, ...]] = [("a", True), ("a", False, "no"), ("b", True, None, "ack_1", 5)]


def test_has_the_fields_and_the_parameters_of_a_plain_one() -> None:
    def parameters(cls: type[Any]) -> list[tuple[str, Any]]:
        return [(one.name, one.default) for one in inspect.signature(cls).parameters.values()]

    assert parameters(AckResponse) == parameters(PLAIN)
    assert [one.name for one in dataclasses.fields(AckResponse)] == [
        one.name for one in dataclasses.fields(PLAIN)
    ]
    assert AckResponse.__match_args__ == PLAIN.__match_args__


@pytest.mark.parametrize("given", GIVEN)
def test_looks_and_compares_like_a_plain_one(given: tuple[Any, ...]) -> None:
    response, plain = AckResponse(*given), PLAIN(*given)
    assert repr(response) == repr(plain)
    assert hash(response) == hash(plain)
    assert dataclasses.astuple(response) == dataclasses.astuple(plain)
    assert [response == AckResponse(*other) for other in GIVEN] == [
        plain == PLAIN(*other) for other in GIVEN
    ]


@pytest.mark.parametrize("given", GIVEN)
def test_can_be_copied_but_not_changed(given: tuple[Any, ...]) -> None:
    response = AckResponse(*given)
    for copied in (
        copy.copy(response),
        copy.deepcopy(response),
        pickle.loads(pickle.dumps(response)),
        dataclasses.replace(response),
    ):
        assert copied == response
    other = dataclasses.replace(response, error="late")
    assert (other.client_id, other.error) == (response.client_id, "late")
    with pytest.raises(dataclasses.FrozenInstanceError):
        response.error = "late"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del response.client_id
    assert not hasattr(response, "__dict__")


def test_reads_a_result_anew_each_time() -> None:
    response: AckResponse[Any] = AckResponse("a", True, result=as_json(b'{"n":[1]}'))
    result: Any = response.result
    result["n"].append(2)
    assert response.result == {"n": [1]}
    assert pickle.loads(pickle.dumps(response)).result == {"n": [1]}
