"""Everybody comes back at once."""

import resource
import time
from collections.abc import Callable

import pytest

import kps
import kps.sync
from tests.faults.processes import Process, Serve
from tests.io.harness import eventually

CROWDS, EACH = 2, 1000

LONGEST = 120.0
"""Seconds in which all must be back, however slow the machine is."""

_DESCRIPTORS = 3 * CROWDS * EACH + 200  # a connection costs a threaded server three


@pytest.mark.slow
@pytest.mark.skipif(
    0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < _DESCRIPTORS,
    reason=f"the system allows fewer than {_DESCRIPTORS} descriptors",
)
def test_two_thousand_clients_come_back_to_a_server_that_was_killed(
    serve: Callable[..., Serve], processes: Callable[..., Process], kind: str
) -> None:
    server = serve()
    crowds = [
        processes("-m", "tests.faults.crowd", server.address, f"crowd{number}", str(EACH))
        for number in range(CROWDS)
    ]

    def ask(question: str) -> list[str]:
        for crowd in crowds:
            crowd.tell(question)
        answers = [crowd.line(LONGEST) for crowd in crowds]
        assert all(answers), "".join(crowd.errors()[-2000:] for crowd in crowds)
        return answers

    begun = time.monotonic()
    ask("connected")
    print(f"{kind}: {CROWDS * EACH} clients connected within {time.monotonic() - begun:.1f} s")
    with kps.sync.Client(server.address, reconnect=kps.Backoff(first=0.1, longest=0.5)) as client:
        assert client.publish_with_receipt("crowd", 1) == CROWDS * EACH
        ask("got 1")

        begun = time.monotonic()
        server.kill()
        server = server.again()
        up = time.monotonic() - begun
        seconds = max(float(answer.split()[1]) for answer in ask("back"))
        print(f"{kind}: the server was back after {up:.1f} s, all clients after {seconds:.1f} s")
        assert seconds < LONGEST
        server.await_clients(CROWDS * EACH + 1)
        eventually(lambda: client.is_connected, "the answer to the last of them")
        assert client.publish_with_receipt("crowd", 2) == CROWDS * EACH
        ask("got 2")
        print(f"{kind}: each has got a message {time.monotonic() - begun:.1f} s after the crash")
