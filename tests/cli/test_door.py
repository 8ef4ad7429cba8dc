"""The door of a server of several processes: where connections wait until a worker takes them."""

import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kps.cli.door import Door
from tests.io.harness import eventually


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_full_door_leaves_what_comes_over_other_listeners_for_later(stack: ExitStack) -> None:
    selector = stack.enter_context(selectors.DefaultSelector())
    listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
    door = Door(selector, listeners, 2)
    stack.callback(door.close)
    for listener in listeners:
        for _ in range(2):
            stack.enter_context(socket.create_connection(listener.getsockname()))

    def select() -> int:
        ready = selector.select(0.0)
        for key, _ in ready:
            key.data(key.fileobj)
        return len(ready)

    for ready in (2, 1):  # listeners; the one whose turn is second finds the door full
        # The system may hand over a connection a little later than the other end has it.
        eventually(lambda count=ready: len(selector.select(0.0)) == count)  # type: ignore[misc]
        assert select() == ready
        assert not select()
        for _ in range(2):
            assert door.pass_first(lambda sock, peer: True)
        door.accept_again()
    assert not door.waiting
    assert not select()
