"""Nobody keeps a place, a descriptor or memory that others need, whatever it does not read."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

import kps.sync
from tests.faults.full_sockets import Hoarder, fill
from tests.faults.processes import Serve
from tests.io.harness import PATIENCE, Inbox, eventually
from tests.io.raw import UPGRADE, Raw, masked, message

Start = Callable[..., Serve]
Clients = Callable[..., list[Hoarder]]

PEERS = 17
KEPT = 2
"""Descriptors that the first connections may have a server open for good."""
SOON = ("--close-timeout", "1")
BEATS = ("--heartbeat-interval", "2", "--heartbeat-timeout", "2")
TOKEN = "the-token-of-somebody-else"
MIB = 2**20


@pytest.fixture
def tls(tmp_path: Path) -> tuple[str, ...]:
    """Options of a server with a certificate."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    return "--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[str, ...]:
    """Options of a server to which strangers must not come."""
    path = tmp_path / "tokens.toml"
    path.touch(0o600)
    path.write_text(f'[somebody]\ntoken = "{TOKEN}"\n')
    return "--tokens", str(path)


@pytest.fixture
def hoarders() -> Iterator[Clients]:
    """Makes peers that fill their sockets, and stay to the end of the test."""
    with contextlib.ExitStack() as stack:

        def make(server: Serve, count: int = PEERS, **options: bool) -> list[Hoarder]:
            found = [
                stack.enter_context(Hoarder(server.address, f"hoarder-{number}", **options))
                for number in range(count)
            ]
            fill(server.address, found)
            return found

        yield make


def all_gone(server: Serve, before: int) -> None:
    """Wait for the descriptors to be given back, while the peers keep their ends."""
    eventually(lambda: server.open_descriptors() <= before + KEPT, "the end of all of them")


# -- descriptors --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
def test_who_half_closes_and_does_not_read_is_let_go(
    serve: Start, hoarders: Clients, tls: tuple[str, ...], is_tls: bool
) -> None:
    # Behind TLS the loop does not tell that a peer has ended while there is something to write:
    # its silence does.
    server = serve(*SOON, *((*tls, *BEATS) if is_tls else ()))
    before = server.open_descriptors()
    for hoarder in hoarders(server, is_tls=is_tls):
        hoarder.half_close()
    all_gone(server, before)
    assert server.stop() == 0


@pytest.mark.slow
def test_strangers_who_do_not_read_are_let_go(
    serve: Start, hoarders: Clients, tokens: tuple[str, ...]
) -> None:
    server = serve(*SOON, *tokens, "--register-timeout", "5")
    before = server.open_descriptors()
    for hoarder in hoarders(server, 5, is_stranger=True)[::2]:
        hoarder.half_close()  # of the others the time to register runs out
    all_gone(server, before)


@pytest.mark.slow
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
def test_who_neither_reads_nor_answers_is_let_go(
    serve: Start, hoarders: Clients, tls: tuple[str, ...], is_tls: bool
) -> None:
    server = serve(*SOON, *BEATS, *(tls if is_tls else ()))
    before = server.open_descriptors()
    hoarders(server, is_tls=is_tls)
    all_gone(server, before)


def test_an_end_of_tls_that_nobody_confirms_keeps_no_descriptor(
    serve: Start, tls: tuple[str, ...]
) -> None:
    server = serve(*SOON, *tls)
    before = server.open_descriptors()
    with contextlib.ExitStack() as stack:
        for _ in range(PEERS):
            peer = stack.enter_context(Hoarder(server.address, is_tls=True, is_stranger=True))
            peer.socket.sendall(masked(b"", first=0x88))  # the WebSocket ends in order
        begun = time.monotonic()
        all_gone(server, before)
        print(f"{time.monotonic() - begun:.1f} s")
        # The library's own wait for the peer takes half a minute, and is not this server's.
        assert time.monotonic() - begun < PATIENCE + 5


# -- places -------------------------------------------------------------------------------


def test_who_is_turned_away_takes_no_place(serve: Start) -> None:
    limits = "--max-connections", "20", "--max-connections-per-address", "5"
    server = serve(*limits, "--close-timeout", "60")
    host, _, port = server.address.rpartition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            try:
                peer = socket.create_connection((host, int(port)), PATIENCE, ("127.0.1.1", 0))
            except ConnectionError:
                continue
            stack.enter_context(peer)
        server_sees_all(server)
        # Others come from another address, and find the places that those cannot have.
        for number in range(5):
            client = kps.sync.Client(server.address, id=f"other-{number}", reconnect=False)
            stack.enter_context(client)
        assert server.is_alive


def server_sees_all(server: Serve) -> None:
    """Wait until nothing waits any more to be accepted."""
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE, ("127.0.1.2", 0)) as last:
        last.sendall(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        assert last.recv(100).startswith(b"HTTP/1.1 ")


def test_who_was_slowed_down_and_has_left_takes_no_place(serve: Start) -> None:
    # What was sent is as much as may be sent in ten minutes.
    server = serve(*SOON, "--message-rate", "10")
    before = server.open_descriptors()
    for number in range(5):
        with Raw(server.address) as raw:
            raw.register(f"hasty-{number}")
            raw.send(message("publish", topic="t", data=1) * 6000)
    all_gone(server, before)
    server.await_clients(0)


# -- memory -------------------------------------------------------------------------------


def test_many_questions_in_one_message_do_not_fill_the_memory(serve: Start) -> None:
    server = serve()
    asked = json.dumps({"action": "get_ack_status", "ack_id": "a"}, separators=(",", ":"))
    with contextlib.ExitStack() as stack:
        for number in range(200):
            raw = stack.enter_context(Raw(server.address))
            raw.register(f"{number}".ljust(256, "\N{SNAKE}"))
            raw.send(message("subscribe", topic="t"))
            assert raw.message()["action"] == "subscribed"
        asker = stack.enter_context(Raw(server.address))
        register_on_level_2(asker)
        asker.send(message("publish_with_ack", topic="t", ack_id="a", timeout=300))
        asker.send(masked(asked.encode()))
        assert asker.message()["action"] == "ack_status"
        before = peak(server)
        asker.send(masked(f"[{','.join([asked] * 310)}]".encode()))  # 64 MB of answers, unread
        still_serves(server)
        grown = peak(server) - before
    print(f"{grown / MIB:.1f} MiB")
    assert grown < 24 * MIB


def test_many_mistakes_in_one_message_do_not_fill_the_memory(serve: Start) -> None:
    server = serve()
    deep = "[" * 130 + "]" * 130
    topic = "t" * 200_000
    text = f'{{"action":"publish","topic":"{topic}","batch":[{",".join([deep] * 240)}]}}'
    with Raw(server.address) as raw:
        register_on_level_2(raw)
        before = peak(server)
        raw.send(masked(text.encode()))
        still_serves(server)
        grown = peak(server) - before
    print(f"{grown / MIB:.1f} MiB")
    assert grown < 24 * MIB


WIDE = "\N{SNAKE}" * 250
ACK_BYTES, QUEUE_BYTES, TOPICS = 2 * MIB, 2 * MIB, 1000
UNREAD = 3
"""Subscribers that never read."""
FLOODS: dict[str, tuple[Callable[[int], bytes], int]] = {
    "publications": (
        lambda number: message("publish", topic="t", data=str(number) * 2000),
        UNREAD * QUEUE_BYTES,
    ),
    "topics": (
        lambda number: message("subscribe", topic=f"{WIDE}{number}"),
        TOPICS * (448 + 8 * 256 + 128),
    ),
    "ack requests": (
        lambda number: message("publish_with_ack", topic="t", ack_id=f"{WIDE}{number}", timeout=60),
        ACK_BYTES + UNREAD * QUEUE_BYTES,
    ),
}
"""What makes the server keep something, and the bytes that it may take, as SECURITY.md counts."""


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_takes_no_more_memory_than_the_limits_allow(serve: Start, what: str) -> None:
    server = serve(
        *("--queue-bytes", str(QUEUE_BYTES), "--overflow", "drop_oldest"),
        *("--max-topics", str(TOPICS), "--max-ack-bytes", str(ACK_BYTES)),
    )
    make, limit = FLOODS[what]
    with contextlib.ExitStack() as stack:
        for number in range(UNREAD):
            raw = stack.enter_context(Raw(server.address))
            raw.register(f"unread-{number}")
            raw.send(message("subscribe", topic="t"))
        flooder = stack.enter_context(Raw(server.address))
        register_on_level_2(flooder)
        before = peak(server)
        for start in range(0, 5000, 100):
            flooder.send(b"".join(map(make, range(start, start + 100))))
            flooder.send(message("cancel_ack", ack_id="end"))
            while "ack_cancelled" not in json.dumps(flooder.message()):
                pass
        grown = peak(server) - before
    print(f"{grown / MIB:.1f} MiB, of {limit / MIB:.1f} MiB")
    assert grown < 1.25 * limit + 4 * MIB  # for the process, its buffers and its allocator


def register_on_level_2(raw: Raw) -> None:
    raw.upgrade()
    raw.send(message("ping", **{"from": "asker", "proto": 2}))
    assert raw.message()["action"] == "pong"


def still_serves(server: Serve) -> None:
    """A client comes and goes, more than once: what was sent before has been looked at."""
    for _ in range(3):
        with kps.sync.Client(server.address, reconnect=False) as client:
            client.flush()


def peak(server: Serve) -> int:
    """The most that the server ever had in memory, in bytes."""
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


# -- rates --------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["delay", "error", "close"])
def test_what_comes_at_once_on_a_new_connection_is_under_the_rate(
    serve: Start, policy: str
) -> None:
    rate, sent = 100, 5000
    server = serve("--message-rate", str(rate), "--rate-policy", policy)
    inbox = Inbox()
    with kps.sync.Client(server.address, id="listener") as listener:
        listener.subscribe("t", inbox)
        begun = time.monotonic()
        with Raw(server.address) as raw:
            ping = message("ping", **{"from": "hasty"})
            raw.send(UPGRADE + ping + message("publish", topic="t") * sent)
            still_serves(server)
        listener.flush()
        count = 0
        while not inbox.is_empty():
            inbox.get()
            count += 1
        # After they are counted: meanwhile more may come, and more are allowed.
        allowed = rate * (1 + time.monotonic() - begun)
    print(f"{count} came, {allowed:.0f} were allowed")
    assert count <= min(1.2 * allowed, sent)
