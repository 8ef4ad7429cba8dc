"""Options that make no sense are refused before anything begins; and what is done too late."""

import asyncio
import re
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
    {"wait": 1},
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
    {"reconnect": 1e-9},
    {"reconnect": 10**400},
    {"reconnect": float("inf")},
    {"offline_queue": "1"},
    {"offline_queue": float("nan")},
    {"connect_timeout": "10"},
    {"connect_timeout": True},
    {"connect_timeout": 10**400},
    {"connect_timeout": 1e300},
    {"request_timeout": float("nan")},
    {"request_timeout": float("inf")},
    {"request_timeout": False},
    {"id": b"a"},
    {"id": "a\nb"},
    {"id": "\ud800"},
    {"id": "a" * 65_537},
    {"ssl": ssl.create_default_context()},
    {"secure": "no"},
    {"secure": 1},
    {"path": 5},
    {"path": b"/ws"},
    {"path": "\ud800"},
    {"limits": kps.ServerLimits()},
    {"limits": {"max_message": 1}},
    {"level": True},
    {"level": 2.0},
    {"compress": 1},
    {"tracing": True},
    {"tracing": "yes"},
    {"level": 0},
    {"token": 5},
    {"token": ""},
    {"token": "a\nb"},
    {"token": asyncio.sleep},
    {"headers": [("a",)]},
    {"headers": [("a", "b")]},
    {"headers": "a: b"},
    {"headers": {"a b": "c"}},
    {"headers": {5: "c"}},
    {"headers": {"X": "a\r\nY: b"}},
    {"headers": {"X": "\ud800"}},
    {"headers": {"Host": "other"}},
    {"headers": {"upgrade": "h2c"}},
    {"headers": {"Connection": "close"}},
    {"headers": {"Content-Length": "5"}},
    {"headers": {"Transfer-Encoding": "chunked"}},
    {"headers": {"Sec-WebSocket-Extensions": "permessage-deflate"}},
    {"headers": {"Sec-WebSocket-Key": "x"}},
    {"token": "a", "headers": {"authorization": "b"}},
]
ADDRESSES: list[tuple[Any, dict[str, Any]]] = [
    (5, {}),
    (None, {}),
    ("localhost:0", {}),
    ("ws://localhost", {"secure": True}),
    ("ws://localhost", {"ssl": ssl.create_default_context()}),
    ("http://localhost", {"ssl": ssl.create_default_context()}),
    ("localhost\ud800", {}),
]
SERVER: list[dict[str, Any]] = [
    {"id": 5},
    {"id": "alice---ws://one.example/ws/bus"},
    {"id": "wss://one.example/ws/bus"},
    {"ssl": "x"},
    {"relay_ssl": "x"},
    {"relay_timeout": 0},
    {"limits": {}},
    {"limits": kps.ServerLimits(max_message=511)},
    {"limits": kps.ServerLimits(max_head=10)},
    {"origins": "https://app.example"},
    {"origins": ["app.example"]},
    {"origins": ["http://localhost:*"]},
    {"origins": ["https://app.example/page"]},
    {"names": [1]},
    {"proxies": "10.0.0.1"},
    {"permissions": "all"},
    {"auth": "secret"},
    {"path": "ws"},
    {"origin": ["*"]},
    {"id": "a\x00"},
    {"id": "\udfff"},
    {"id": "a" * 257},
    {"limits": kps.ClientLimits()},
    {"level": True},
    {"console": "no"},
    {"console": 1},
    {"http_api": 1},
    {"compress": "no"},
    {"tracing": True},
    {"metrics": "yes"},
    {"metrics": 1},
    {"metrics_address": 9314},
    {"metrics_address": ""},
    {"metrics_address": "localhost:9314/metrics"},
    {"origins": 5},
    {"origins": None},
    {"names": "localhost"},
    {"proxies": [1]},
    {"proxies": ["10.0.0.0/99"]},
    {"path": 5},
    {"path": None},
    {"relay_timeout": float("nan")},
    {"relay_timeout": 10**400},
    {"relay_timeout": True},
    {"relay_token": ""},
    {"relay_token": 5},
    {"tls_cert": 5},
    {"tls_key": "key.pem"},
    {"tls_client_ca": 5},
    {"permissions": None},
]


def spelled(options: dict[str, Any]) -> str:
    """Options as the name of a test, which is the same in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(options))


@pytest.mark.parametrize("make", [kps.Client, kps.sync.Client])
@pytest.mark.parametrize("options", CLIENT, ids=spelled)
def test_a_client_refuses_what_makes_no_sense(
    make: Callable[..., object], options: dict[str, Any]
) -> None:
    with pytest.raises(kps.InvalidArgument):
        make("localhost:9313", **options)


@pytest.mark.parametrize("make", [kps.Client, kps.sync.Client])
@pytest.mark.parametrize(("address", "options"), ADDRESSES)
def test_a_client_refuses_an_address_that_contradicts_its_options(
    make: Callable[..., object], address: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(kps.InvalidArgument):
        make(address, **options)


def test_tls_is_for_addresses_with_tls() -> None:
    context = ssl.create_default_context()
    kps.Client("wss://localhost", ssl=context)
    kps.Client("localhost", secure=True, ssl=context)


def test_limits_that_are_not_given_are_those_of_a_client() -> None:
    limits = kps.sync.Client("localhost", limits=kps.ClientLimits(heartbeat_interval=10))
    assert limits._settings.config.limits == kps.ClientLimits(heartbeat_interval=10)
    assert limits._settings.config.limits.max_message == kps.ClientLimits().max_message


@pytest.mark.parametrize("make", [kps.Server, kps.sync.Server])
@pytest.mark.parametrize("options", SERVER, ids=spelled)
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
    assert len(errors) == 18
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
