"""What a program's hooks may return: anything else is a failure, and admits nobody."""

from typing import Any

import pytest

from kps.errors import InvalidArgument
from kps.io_common.verdicts import token_verdict, upgrade_verdict
from kps.protocol.access.identity import Identity
from kps.protocol.wire.http import HttpResponse

ALICE = Identity("alice")
LATER = HttpResponse(503, b"later")


class Unspeakable:
    def __bool__(self) -> bool:
        raise SystemExit

    def __repr__(self) -> str:
        raise RuntimeError


class Unchecked(Identity):
    """Goes around the checks of its class."""

    def __post_init__(self) -> None:
        pass


async def coroutine() -> None:
    pass


def ODD() -> list[Any]:
    return [("no", 403), NotImplemented, ..., object(), 0, 1, "", "yes", [], {}, Unspeakable(),
            Identity, coroutine(), Unchecked("x", lifetime=float("nan"))]  # fmt: skip


@pytest.mark.parametrize("returned", ODD(), ids=lambda one: type(one).__name__)
def test_nothing_else_decides(returned: Any) -> None:
    for read in (upgrade_verdict, token_verdict):
        with pytest.raises(InvalidArgument):
            read(returned)


@pytest.mark.parametrize("verdict", [True, False, None, ALICE, LATER])
def test_what_on_upgrade_may_return(verdict: Any) -> None:
    assert upgrade_verdict(verdict) == verdict


def test_what_auth_may_return() -> None:
    for verdict in (ALICE, LATER, None):
        assert token_verdict(verdict) == verdict
    assert token_verdict(False) is None
    with pytest.raises(InvalidArgument, match="returned True"):
        token_verdict(True)
