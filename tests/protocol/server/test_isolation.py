"""A fault of the server in one connection stays there."""

from typing import NoReturn

import pytest

from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.server.events import SessionFailed
from tests.protocol.helpers import Peer, Stage


class Fault(Exception):
    pass


def failures(stage: Stage) -> list[type[Exception]]:
    return [type(e.error) for e in stage.hub.events() if isinstance(e, SessionFailed)]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def break_it(monkeypatch: pytest.MonkeyPatch, name: str, broken: Peer) -> None:
    works = getattr(WebSocketConnection, name)

    def step(self: WebSocketConnection, *args: object) -> object:
        return fail() if self is broken.connection else works(self, *args)

    monkeypatch.setattr(WebSocketConnection, name, step)


def fail() -> NoReturn:
    raise Fault


def test_the_others_are_closed_when_the_server_stops(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, broken, last = (stage.peer(name) for name in "abc")
    break_it(monkeypatch, "shut_down", broken)
    stage.hub.shutdown(5.0, stage.clock.now)
    assert failures(stage) == [Fault]
    for peer in (first, last):
        assert peer.closed is not None


def test_the_others_keep_their_deadlines(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, other = stage.peer("a"), stage.peer("b")
    break_it(monkeypatch, "handle_timeout", broken)
    stage.advance(10 * stage.hub.limits.heartbeat_interval)
    assert failures(stage) == [Fault]
    assert other.connection.closed is not None


def test_a_verdict_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(asks_upgrade=True)
    broken = stage.peer()
    for verb in ("decide", "identify"):
        break_it(monkeypatch, verb, broken)
        getattr(stage.hub, verb)(broken.connection.number, True, stage.clock.now)
        assert failures(stage) == [Fault]
