"""What only the blocking driver has: threads, and waits that another thread ends."""

import gc
import inspect
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kps
import kps.sync
from kps.io_common.client_options import HIGH_WATER
from kps.io_sync.connection import Waker, new_selector
from tests.io.harness import PATIENCE, Cable, Inbox, eventually

QUICK = kps.Backoff(first=0.01, longest=0.05)


@pytest.fixture
def server() -> Iterator[kps.sync.Server]:
    with kps.sync.Server("127.0.0.1:0", id="server") as server:
        yield server


def in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run a function in a thread; its result, or what it raised, comes into the list."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


# -- the API --------------------------------------------------------------------------------


def test_kps_sync_never_imports_asyncio() -> None:
    program = (
        "import sys, kps.sync\n"
        "with kps.sync.Server('127.0.0.1:0') as s, kps.sync.Client(s.address) as c:\n"
        "    c.publish_with_ack('t', 1).wait()\n"
        "print([m for m in ('asyncio', 'uvloop', 'kps.io_asyncio') if m in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (kps.sync.Client, kps.Client),
        (kps.sync.Server, kps.Server),
        (kps.sync.Ack, kps.Ack),
        (kps.sync.Subscription, kps.Subscription),
    ],
)
def test_both_drivers_have_the_same_methods(ours: type, theirs: type) -> None:
    twins = {
        "__aiter__": "__iter__",
        "__anext__": "__next__",
        "__aenter__": "__enter__",
        "__aexit__": "__exit__",
    }

    def methods(cls: type) -> dict[str, list[tuple[str, Any, Any]]]:
        found = {}
        for name, value in inspect.getmembers(cls, inspect.isroutine):
            name = twins.get(name, name)
            if name.startswith("_") and name not in twins.values():
                continue
            parameters = inspect.signature(value).parameters.values()
            found[name] = [(p.name, p.kind, p.default) for p in parameters]
        return found

    def properties(cls: type) -> set[str]:
        members = inspect.getmembers(cls, lambda member: isinstance(member, property))
        return {name for name, _ in members if not name.startswith("_")}

    assert methods(ours) == methods(theirs)
    assert properties(ours) == properties(theirs)
    assert inspect.signature(ours) == inspect.signature(theirs) or ours in (
        kps.sync.Ack,
        kps.sync.Subscription,
    )


def test_the_unified_spelling_blocks(server: kps.sync.Server) -> None:
    got = Inbox()
    direct = Inbox()
    closed = Inbox()
    client = kps.sync.Client.NewClient(
        Address=server.address, Id="me", OnId=lambda data, unsub: direct(data), OnClose=closed
    )
    unsubscribe = client.Subscribe("t", lambda data, unsub: got(data))
    client.Publish("t", 1)
    assert got.get() == {"data": 1, "from": "me"}
    client.PublishToID("me", 2)
    assert direct.get() == {"data": 2, "from": "me"}
    ack = client.PublishWithAck("t", 3, PATIENCE)
    assert ack.Wait() == {"me": {"ack_id": ack.id, "client_id": "me", "success": True}}
    assert ack.WaitAny()[1]
    assert ack.IsComplete()
    unsubscribe()
    assert client.PublishWithAck("t", 3, PATIENCE).Wait() == {}
    client.Close()
    closed.get()


# -- iterators ------------------------------------------------------------------------------


def test_iterating(server: kps.sync.Server) -> None:
    with kps.sync.Client(server.address, id="a") as client:
        messages = client.subscribe("t")
        for number in range(3):
            client.publish("t", number)
        seen = []
        for message in messages:
            seen.append(message.data)
            if len(seen) == 3:
                break
        assert seen == [0, 1, 2]
        assert server.count_subscribers("t") == (0, 1, 1)
        del messages, message
        gc.collect()
        eventually(lambda: server.count_subscribers("t") == (0, 0, 0), "the end")


def test_a_timeout_while_iterating(server: kps.sync.Server) -> None:
    with kps.sync.Client(server.address) as client:
        messages = client.subscribe("t", timeout=0.05)
        with pytest.raises(TimeoutError, match="no message on 't'"):
            next(messages)
        client.publish("t", 1)
        client.flush()
        assert next(messages).data == 1


def test_an_iterator_acks_what_was_handled_and_reports_what_failed(
    server: kps.sync.Server,
) -> None:
    with kps.sync.Client(server.address, id="a") as client:
        acks = []
        with pytest.raises(ValueError, match="bad"), client.subscribe("t") as messages:
            for number in range(2):
                acks.append(server.publish_with_ack("t", number))
            for message in messages:
                if message.data == 1:
                    raise ValueError("bad")
        first, second = (ack.wait()["a"] for ack in acks)
        assert (first.success, second.success, second.error) == (True, False, "bad")


def test_workers_that_share_an_iterator_ack_their_own_messages(server: kps.sync.Server) -> None:
    taken, release = Inbox(), {number: threading.Event() for number in range(2)}
    with kps.sync.Client(server.address, id="a") as a, kps.sync.Client(server.address) as b:
        jobs = a.subscribe("t")

        def work() -> None:
            for message in jobs:
                taken(message)
                release[message.data].wait(PATIENCE)
                if message.data == 1:
                    return

        workers = [in_thread(work)[0] for _ in range(2)]
        acks = [b.publish_with_ack("t", number, timeout=300.0) for number in range(2)]
        taken.take(2)
        b.flush()
        assert acks[0].responses == {}, "the other worker took a message; this one is under way"
        release[1].set()
        eventually(lambda: sum(worker.is_alive() for worker in workers) == 1, "one returns")
        release[0].set()
        assert acks[0].wait()["a"].success
        assert acks[1].wait()["a"].error == "the thread that took the message has ended"
        jobs.unsubscribe()
        for worker in workers:
            worker.join(PATIENCE)


def test_the_servers_own_iterators_end_with_it() -> None:
    with kps.sync.Server("127.0.0.1:0") as server:
        thread, seen = in_thread(lambda: [m.data for m in server.subscribe("t")])
        eventually(lambda: server.count_subscribers("t")[0] == 1, "the subscription")
        server.publish("t", 1)
    thread.join(PATIENCE)
    assert seen == [[1]]


def test_who_waits_for_room_goes_on_when_it_is_there_though_no_answers_come() -> None:
    interval = 10 * PATIENCE
    limits = kps.ServerLimits(heartbeat_interval=interval)
    client_limits = kps.ClientLimits(heartbeat_interval=interval)
    with (
        kps.sync.Server("127.0.0.1:0", limits=limits) as server,
        kps.sync.Client(server.address, limits=client_limits) as client,
    ):

        def publish() -> None:
            for _ in range(200):
                client.publish("t", "x" * 50_000)

        publishing, _ = in_thread(publish)
        publishing.join(PATIENCE)
        assert not publishing.is_alive()


# -- closing --------------------------------------------------------------------------------


def test_close_ends_every_blocked_call_of_other_threads() -> None:
    limits = kps.ClientLimits(close_timeout=0.5)
    server_limits = kps.ServerLimits(close_timeout=0.5)
    with kps.sync.Server("127.0.0.1:0", limits=server_limits) as server:
        cable = Cable(server.address)
        client = kps.sync.Client.connect(
            cable.address, id="c", reconnect=False, limits=limits, request_timeout=300.0
        )
        hang = threading.Event()
        with kps.sync.Client(server.address, id="slow") as slow:
            slow.subscribe("slow", lambda message: hang.wait(PATIENCE))
            ack = client.publish_with_ack("slow", 1, timeout=300.0)
            messages = client.subscribe("t")
            cable.jammed = True

            def fill() -> None:
                for _ in range(1000):
                    client.publish("t", "x" * 100_000)

            blocked = {
                "iterator": in_thread(lambda: list(messages)),
                "wait": in_thread(ack.wait),
                "wait_any": in_thread(ack.wait_any),
                "publish": in_thread(fill),
            }
            looks: list[int] = []
            while len(looks) < 10 or len(set(looks[-10:])) > 1 or looks[-1] <= HIGH_WATER:
                time.sleep(0.02)  # until the network takes nothing more
                looks.append(client._session.backlog)
            blocked["status"] = in_thread(ack.status)
            blocked["flush"] = in_thread(client.flush)
            assert all(thread.is_alive() for thread, _ in blocked.values())
            began = time.monotonic()
            closing, _ = in_thread(client.close)
            for thread, _ in blocked.values():
                thread.join(PATIENCE)
            took = time.monotonic() - began
            hang.set()
            closing.join(PATIENCE)
        cable.close()
        outcomes = {name: outcome[0] for name, (_, outcome) in blocked.items()}
        assert outcomes.pop("iterator") == []
        assert all(isinstance(error, kps.ClientClosed) for error in outcomes.values()), outcomes
        assert took < PATIENCE  # the time of a request, or of the ack, would be far longer


def test_a_callback_may_close_its_client(server: kps.sync.Server) -> None:
    closed = Inbox()
    client = kps.sync.Client.connect(server.address, on_close=closed)
    client.subscribe("t", lambda message: client.close())
    client.publish("t", 1)
    closed.get()
    client.close()
    with pytest.raises(kps.ClientClosed):
        client.publish("t", 1)


def test_a_callback_may_publish_and_wait_for_acks(server: kps.sync.Server) -> None:
    inbox = Inbox()
    with (
        kps.sync.Client(server.address, id="a") as alice,
        kps.sync.Client(server.address, id="b") as bob,
    ):
        bob.subscribe("question", Inbox())

        def ask_on(message: kps.Message) -> None:
            inbox(alice.publish_with_ack("question", message.data).wait())
            alice.subscribe("more", inbox)
            alice.publish("more", "from within")

        alice.subscribe("start", ask_on)
        bob.publish("start", 1)
        assert inbox.get()["b"].success
        assert inbox.data() == "from within"


def test_a_program_that_forgets_to_close_still_exits_and_sends(
    server: kps.sync.Server,
) -> None:
    inbox = Inbox()
    server.subscribe("t", inbox)
    program = (
        "import kps.sync\n"
        f"client = kps.sync.Client.connect('{server.address}', id='forgetful')\n"
        "client.subscribe('t', lambda message: None)\n"
        "for number in range(100): client.publish('t', number)\n"
    )
    subprocess.run([sys.executable, "-c", program], timeout=PATIENCE, check=True)
    assert inbox.take(100) == list(range(100))
    eventually(lambda: server.count_clients() == 0, "the end of the client")


# -- threads ----------------------------------------------------------------------------------


def test_four_threads_publish_at_once(server: kps.sync.Server) -> None:
    each = 2500
    received: dict[int, list[int]] = {number: [] for number in range(4)}
    done = threading.Event()
    count = 0

    def keep(message: kps.Message) -> None:
        nonlocal count
        thread, number = message.data
        received[thread].append(number)
        count += 1
        if count == 4 * each:
            done.set()

    with (
        kps.sync.Client(server.address) as subscriber,
        kps.sync.Client(server.address) as publisher,
    ):
        subscriber.subscribe("t", keep)

        def publish(thread: int) -> None:
            for number in range(each):
                publisher.publish("t", [thread, number])

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert done.wait(PATIENCE)
        publisher.flush()
        subscriber.flush()
    assert received == {number: list(range(each)) for number in range(4)}


def test_two_peers_that_send_at_the_same_moment_both_get_through() -> None:
    limits = kps.ServerLimits(max_message=8 * 1024 * 1024)
    payload = "x" * 4 * 1024 * 1024
    with kps.sync.Server("127.0.0.1:0", limits=limits) as server:
        at_server, at_client = Inbox(), Inbox()
        server.subscribe("up", at_server)
        with kps.sync.Client(server.address) as client:
            client.subscribe("down", at_client)
            both = threading.Barrier(2)

            def up() -> None:
                both.wait()
                client.publish("up", payload)

            def down() -> None:
                both.wait()
                server.publish("down", payload)

            for _ in range(5):
                threads = [in_thread(up)[0], in_thread(down)[0]]
                client.flush()  # an answer makes its way meanwhile
                for thread in threads:
                    thread.join(PATIENCE)
                assert at_server.data() == payload
                assert at_client.data() == payload


def test_reading_goes_on_while_a_large_message_is_stuck() -> None:
    """A peer that sends and pings and does not read: it is heard and answered all the same."""
    limits = kps.ServerLimits(max_message=8 * 1024 * 1024)
    with kps.sync.Server("127.0.0.1:0", limits=limits) as server, socket.socket() as peer:
        host, _, port = server.address.rpartition(":")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.settimeout(PATIENCE)
        peer.connect((host, int(port)))
        with peer.makefile("rb") as file:
            peer.sendall(
                b"GET /ws/bus HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            while file.readline().strip():
                pass
            for message in (b'{"action":"ping","from":"p"}', b'{"action":"subscribe","topic":"t"}'):
                peer.sendall(bytes((0x81, 0x80 | len(message))) + bytes(4) + message)
            eventually(lambda: server.count_subscribers("t")[1] == 1, "the subscription")
            inbox = Inbox()
            server.subscribe("t2", inbox)
            size = 16 * 1024 * 1024  # more than the buffers on the way hold
            server.publish("t", "x" * size)
            head = b'{"action":"publish","topic":"t2","data":"'
            message = head + b"y" * 4 * 1024 * 1024 + b'"}'
            peer.sendall(b"\x81\xff" + len(message).to_bytes(8, "big") + bytes(4) + message)
            assert len(inbox.data()) == 4 * 1024 * 1024
            peer.sendall(b"\x89\x80" + bytes(4))
            stream = b""
            while not stream.endswith(b"\x8a\0"):  # the pong
                stream = stream[-2:] + file.read1(65536)


def threads() -> set[threading.Thread]:
    """Those that live, but for the log's, which is there for the whole process."""
    return {one for one in threading.enumerate() if one.name != "kps-log"}


def test_a_connection_costs_one_thread(server: kps.sync.Server) -> None:
    with kps.sync.Client(server.address):
        before = threads()
        clients = [kps.sync.Client.connect(server.address) for _ in range(10)]
        # One of the server and one of the client each; callbacks need one only when they come.
        assert len(threads() - before) == 20
        for client in clients:
            client.close()
        eventually(lambda: threads() <= before, "the end of the threads")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_connections_leave_no_thread_or_descriptor_behind(server: kps.sync.Server) -> None:
    def cost() -> tuple[int, int]:
        return len(threads()), len(os.listdir("/proc/self/fd"))

    def is_released() -> bool:
        """Whether it costs no more than before: what other tests have left may end meanwhile."""
        return all(now <= then for now, then in zip(cost(), before, strict=True))

    cable = Cable(server.address)
    connected = Inbox()
    with kps.sync.Client(cable.address, reconnect=QUICK, on_connect=connected) as client:
        connected.get()
        client.flush()
        eventually(lambda: server.count_clients() == 1)
        before = cost()
        for _ in range(10):
            cable.cut()
            connected.get()
            client.flush()
            with kps.sync.Client(server.address) as other:
                other.publish("t", 1)
        eventually(is_released, "the release of what connections cost")
    cable.close()


def test_a_finished_request_leaves_nothing_behind(server: kps.sync.Server) -> None:
    with (
        kps.sync.Client(server.address) as alice,
        kps.sync.Client(server.address) as bob,
    ):
        bob.subscribe("t", Inbox())
        for _ in range(20):
            alice.publish_with_ack("t", 1).wait()
            alice.publish_with_ack("nobody", 1).wait()
            alice.publish_with_ack("t", 1).cancel()
            server.publish_with_ack("t", 1).wait()
        alice.flush()
        assert len(server._hub.state.acks) == 0
        assert len(alice._session.asking.pending) == 0
        assert not alice._questions
        assert not alice._acks


def test_a_wake_that_comes_late_does_not_keep_a_thread_busy() -> None:
    """Its byte may arrive when the thread has already seen to what it was for."""
    waker = Waker()
    selector = new_selector()
    selector.register(waker, selectors.EVENT_READ)
    waker.wake()
    assert waker.reset()
    assert not waker.reset()
    assert selector.select(0)
    waker.drain()
    assert not selector.select(0)
    waker.wake()
    assert selector.select(0)
    selector.close()
    waker.close()


def test_kps_serve_threads() -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "kps", "serve", "--threads", "--address",
         "127.0.0.1:0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    with kps.sync.Client(url, id="c") as client:
        client.subscribe("t", Inbox())
        assert client.publish_with_ack("t", 1).wait()["c"].success
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert json.dumps(errors).count("Traceback") == 0
