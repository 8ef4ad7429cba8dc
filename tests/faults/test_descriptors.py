"""No descriptors left."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest

import kps.sync
from tests.faults.processes import KINDS, PLAIN, Process, Serve
from tests.io.harness import DRIVERS, Inbox, eventually

DESCRIPTORS = 64
MORE = 150
"""Connections that are tried: more than the descriptors."""

BUSY = 0.2
"""Of a core, which is far more than a server needs that has nothing to do."""

PRELUDE = f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, ({DESCRIPTORS},) * 2)\n"


@pytest.fixture
def flood() -> Iterator[Callable[[str], list[socket.socket]]]:
    """Opens many connections, which say nothing."""
    with contextlib.ExitStack() as stack:

        def start(address: str) -> list[socket.socket]:
            host, _, port = address.rpartition(":")
            target = host, int(port)
            return [stack.enter_context(socket.create_connection(target)) for _ in range(MORE)]

        yield start


@pytest.mark.parametrize("kind", [*KINDS, *PLAIN], ids="{}-server".format)
def test_a_server_without_descriptors_serves_those_that_it_has(
    serve: Callable[..., Serve], flood: Callable[[str], list[socket.socket]]
) -> None:
    server = serve(prelude=PRELUDE)
    inbox = Inbox()
    with (
        kps.sync.Client(server.address, id="alice") as alice,
        kps.sync.Client(server.address, id="bob") as bob,
    ):
        bob.subscribe("t", inbox)
        connections = flood(server.address)
        # Those that there are notice nothing, while the server does not work itself to death.
        begun, before = time.monotonic(), server.cpu_seconds()
        count = 0
        while time.monotonic() - begun < 1.5:
            assert alice.publish_with_ack("t", count).wait()["bob"].success
            assert inbox.data() == count
            count += 1
            time.sleep(0.1)
        share = (server.cpu_seconds() - before) / (time.monotonic() - begun)
        print(f"{share:.3f} of a core, {count} messages meanwhile")
        assert share < BUSY
        # It does not write a book about it either.
        assert len(server.errors()) < 200_000

        for connection in connections:
            connection.close()
        # Nothing of them is left, and there is room again.
        with kps.sync.Client(server.address, id="carol", reconnect=0.05) as carol:
            carol.publish("t", "hello")
            assert inbox.data() == "hello"
            server.await_clients(3)
        assert inbox.is_empty()
        eventually(lambda: server.open_descriptors() < DESCRIPTORS // 2, "the end of the others")
    assert server.stop() == 0


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_client_without_descriptors_comes_back_once_there_are_some(
    serve: Callable[..., Serve], processes: Callable[..., Process], driver: str
) -> None:
    server = serve()
    poor = processes("-m", "tests.faults.poor", server.address, driver)
    poor.expect("connected False")
    # It must have done all that needs descriptors, such as imports, before there are none.
    with kps.sync.Client(server.address) as client:
        eventually(lambda: client.publish_with_receipt("t", 0) == 1, "the first subscription")
    poor.expect("got 0")
    server.kill()
    poor.expect("lost, and no descriptors left")
    server = server.again()
    poor.tell("go on")
    poor.expect("connected True")
    with kps.sync.Client(server.address) as client:
        eventually(lambda: client.publish_with_receipt("t", 1) == 1, "the subscription")
    poor.expect("got 1")
    poor.tell("end")
    assert poor.end() == 0, poor.errors()
