"""Whatever a program gives as an option is taken, or refused with a short InvalidArgument."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

import kps
from kps.errors import InvalidArgument, ServerStartFailed
from kps.io_common.client_options import ClientOptions, ClientSettings
from kps.io_common.server_options import ServerOptions, ServerSettings


class Array:
    """Compares and is true as an array of numpy is: not at all."""

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Unspeakable:
    def __repr__(self) -> str:
        raise SystemExit


class UnspeakableText(str):
    __slots__ = ()

    def __repr__(self) -> str:
        raise RuntimeError


ODD: list[Any] = [
    Array(), Unspeakable(), UnspeakableText("x y"), "x" * 100_000, "a\nb", "\ud800", b"x", "", [],
    {}, ["x" * 100_000], [Unspeakable()], (1, 2),
    10**400, -1, 2**64, float("nan"), 1j, True, object(),
]  # fmt: skip


def check(make: Callable[[], object]) -> None:
    refusal: Exception | None = None
    try:
        make()
    except (InvalidArgument, ServerStartFailed) as error:  # the latter for a file
        refusal = error
    assert len(str(refusal)) <= 500


@pytest.mark.parametrize("name", ["address", *ClientOptions.__annotations__])
def test_options_of_a_client(name: str) -> None:
    for odd in ODD:
        options: dict[str, Any] = {"address": "localhost", name: odd}
        check(lambda options=options: ClientSettings.read(**options))  # type: ignore[misc]


@pytest.mark.parametrize("name", ["address", *ServerOptions.__annotations__])
def test_options_of_a_server(name: str) -> None:
    for odd in ODD:
        options: dict[str, Any] = {"address": "localhost", name: odd}
        check(lambda options=options: ServerSettings.read(**options))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(kind, field.name, id=f"{kind.__name__}-{field.name}")
        for kind in (
            kps.ClientLimits, kps.ServerLimits, kps.Backoff, kps.Permissions, kps.HttpResponse,
            kps.Identity,
        )
        for field in fields(kind)
    ],
)  # fmt: skip
def test_fields_of_a_value(kind: Any, name: str) -> None:
    needed: dict[Any, dict[str, Any]] = {
        kps.HttpResponse: {"status": 200},
        kps.Identity: {"name": "x"},
    }
    for odd in ODD:
        check(lambda odd=odd: kind(**{**needed.get(kind, {}), name: odd}))  # type: ignore[misc]


@pytest.mark.parametrize("name", ["algorithm", "audience", "issuer", "leeway", "permissions"])
def test_options_of_a_verifier(name: str) -> None:
    for odd in ODD:
        options: dict[str, Any] = {name: odd}
        check(lambda options=options: kps.JWTVerifier("k" * 32, **options))  # type: ignore[misc]


def test_an_option_that_does_not_exist() -> None:
    for settings in (ClientSettings, ServerSettings):
        options: dict[str, Any] = {"x" * 100_000: 1}
        with pytest.raises(InvalidArgument) as refusal:
            settings.read("localhost", **options)
        assert len(str(refusal.value)) <= 500


def test_a_token_that_nothing_awaits() -> None:
    class Given:
        async def __call__(self) -> str:
            return "t"

    async def give() -> str:
        return "t"

    for token in (give, Given()):
        options: dict[str, Any] = {"token": token}
        with pytest.raises(InvalidArgument, match="no coroutine function"):
            ClientSettings.read("localhost", **options)
