"""A fault of the server in one connection stays there."""

from typing import Any, NoReturn

import pytest

from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.server.events import SessionFailed
from kps.protocol.server.session import ServerSession
from kps.protocol.wire.websocket import Output
from tests.protocol.helpers import Peer, Stage

pytestmark = pytest.mark.pure("it replaces parts of the core")


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
    for verb in ("decide", "judge"):
        break_it(monkeypatch, verb, broken)
        getattr(stage.hub, verb)(broken.connection.number, True, stage.clock.now)
        assert failures(stage) == [Fault]


@pytest.mark.parametrize("raised", [Fault, KeyboardInterrupt])
def test_who_loses_input_while_it_waits_for_its_turn_is_dropped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]
) -> None:
    """The client must not take what it sent for handled."""
    broken, other = stage.peer("a"), stage.peer("b")
    handle, calls = ServerSession.handle, 0

    def break_in(self: ServerSession, message: Any) -> None:
        nonlocal calls
        self.state.turns.left -= 1000
        calls += self is broken.session
        if calls == 30:
            calls += 1
            raise raised
        handle(self, message)

    monkeypatch.setattr(ServerSession, "handle", break_in)
    for peer in (broken, other):
        peer.send(*[{"action": "subscribe", "topic": f"{n}"} for n in range(40)])
    if raised is Fault:
        stage.finish()
        assert failures(stage) == [Fault]
    else:
        with pytest.raises(KeyboardInterrupt):
            stage.finish()
        stage.finish()
    assert broken.connection.output is Output.ABORT
    assert list(stage.hub.clients) == ["b"]
    assert len(other.session.topics) == 40


def test_who_has_no_deadline_any_more_is_dropped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = stage.peer("a")
    monkeypatch.setattr(broken.connection._socket.__class__, "handle_timeout", lambda *_: fail())
    stage.hub.take_unflushed()
    stage.advance(10 * stage.hub.limits.heartbeat_interval)
    assert failures(stage) == [Fault]
    assert stage.hub.take_unflushed() == [broken.connection.number]
    assert broken.connection.output is Output.ABORT
    assert not stage.hub.clients


def test_a_step_that_fails_at_the_end_does_not_keep_the_connection(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = stage.peer("a")
    monkeypatch.setattr(WebSocketConnection, "_ended", lambda *_: fail())
    broken.session.state.turns._of_turn = -1_000_000  # its input must wait
    broken.send({"action": "ping"})
    broken.connection.receive_eof(stage.clock.now)
    broken.connection.connection_lost(stage.clock.now)
    assert stage.hub.connections
    stage.finish()
    stage.advance(1.0)
    assert failures(stage) == [Fault]
    assert not stage.hub.connections
