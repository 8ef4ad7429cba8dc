"""Options that make no sense are refused before anything begins; and what is done too late."""

import ssl
from collections.abc import Callable
from typing import Any

import pytest

import kps
import kps.sync

CLIENT: list[dict[str, Any]] = [
    {"reconnect": 0},
    {"reconnect": -1},
    {"reconnect": None},
    {"reconnect": float("nan")},
    {"reconnect": "yes"},
    {"offline_queue": -1},
    {"offline_queue": 1.5},
    {"offline_queue": True},
    {"connect_timeout": 0},
    {"connect_timeout": -1.0},
    {"connect_timeout": float("inf")},
    {"request_timeout": 0},
    {"request_timeout": None},
    {"id": 5},
    {"ssl": "x"},
    {"ssl": True},
    {"limits": 10},
    {"level": 3},
    {"on_error": "print"},
    {"headers": {"X-Number": 1}},
    {"recconect": True},
]
SERVER: list[dict[str, Any]] = [
    {"id": 5},
    {"ssl": "x"},
    {"relay_ssl": "x"},
    {"relay_timeout": 0},
    {"limits": {}},
    {"origins": "https://app.example"},
    {"names": [1]},
    {"proxies": "10.0.0.1"},
    {"permissions": "all"},
    {"auth": "secret"},
    {"path": "ws"},
    {"origin": ["*"]},
]


@pytest.mark.parametrize("make", [kps.Client, kps.sync.Client])
@pytest.mark.parametrize("options", CLIENT, ids=str)
def test_a_client_refuses_what_makes_no_sense(
    make: Callable[..., object], options: dict[str, Any]
) -> None:
    with pytest.raises(kps.InvalidArgument):
        make("localhost:9313", **options)


@pytest.mark.parametrize("make", [kps.Server, kps.sync.Server])
@pytest.mark.parametrize("options", SERVER, ids=str)
def test_a_server_refuses_what_makes_no_sense(
    make: Callable[..., object], options: dict[str, Any]
) -> None:
    with pytest.raises(kps.InvalidArgument):
        make("localhost:9313", **options)


def test_what_makes_sense_is_taken() -> None:
    context = ssl.create_default_context()
    for reconnect in (True, False, 1, 0.5, kps.Backoff()):
        kps.Client("wss://localhost", reconnect=reconnect, ssl=context, offline_queue=0, id="")
    kps.sync.Client("localhost:9313", connect_timeout=1, on_close=None, token=lambda: "secret")


def test_a_backoff_that_makes_no_sense() -> None:
    with pytest.raises(kps.InvalidArgument):
        kps.Backoff(first=2.0, longest=1.0)


def test_every_error_is_one_of_ours_and_says_what_it_is_for() -> None:
    errors = [value for name in kps.__all__ if is_error(value := getattr(kps, name))]
    assert len(errors) == 13
    for error in errors:
        assert issubclass(error, kps.KPSError)
        assert error.__doc__
    assert issubclass(kps.MessageTooLarge, kps.InvalidArgument)
    assert issubclass(kps.RequestTimeout, TimeoutError)
    assert not issubclass(kps.InvalidState, kps.NotConnected)


def is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


@pytest.mark.parametrize("code", ["rate_limited", "limit_reached", "unavailable", "forbidden", ""])
def test_an_error_of_the_server_tells_whether_it_may_help_to_try_again(code: str) -> None:
    assert kps.ServerError("no", code).is_temporary is (code not in ("forbidden", ""))
