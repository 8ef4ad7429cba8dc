"""Peers that mean harm: slow, huge, endless. Each gets its answer, and the others are served."""

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults import EARLY
from tests.faults.conftest import Check
from tests.faults.processes import Serve
from tests.faults.proxy import Proxy
from tests.io.harness import PATIENCE, AnyDriver, ThreadsDriver
from tests.io.raw import CONTINUATION, FIN, PING, TEXT, UPGRADE, Raw, masked, message

SLACK = 15.0
"""Seconds that a loaded machine may take in addition."""

SECONDS = 1.0
"""For the request, and then for registering."""

STRICT = ("--handshake-timeout", str(SECONDS), "--register-timeout", str(SECONDS))
OPTIONS = ("--max-message", "100000")

strict = pytest.mark.parametrize("options", [STRICT], ids=["strict"])


@pytest.fixture
def clients(serve: Callable[..., Serve], proxy_to: Callable[[str], Proxy]) -> Iterator[AnyDriver]:
    """Makes the bystanders, of which one kind will do."""
    driver = ThreadsDriver()
    yield driver
    driver.close()


@pytest.fixture
def options() -> tuple[str, ...]:
    """Those of the server, which gives everybody the time that a busy machine may need."""
    return OPTIONS


@pytest.fixture
def server(lasting: Callable[..., Serve], options: tuple[str, ...]) -> Serve:
    return lasting(*options)


@pytest.fixture
def check(server: Serve, bystanders: Callable[[str], Check]) -> Check:
    return bystanders(server.address)


@pytest.fixture
def raw(server: Serve, check: Check) -> Iterator[Raw]:
    with Raw(server.address) as raw:
        yield raw


# -- before the connection is open ---------------------------------------------------------


HEAD = b"GET /ws/bus HTTP/1.1\r\nHost: x\r\nX-Filler: "


@strict
@pytest.mark.parametrize("filler", [b"", b"x"], ids=["nothing", "a-byte-now-and-then"])
def test_a_request_that_takes_too_long(server: Serve, check: Check, filler: bytes) -> None:
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        raws = [stack.enter_context(Raw(server.address)) for _ in range(20)]
        connected = time.monotonic()
        if filler:
            for raw in raws:
                raw.send(HEAD)
        while time.monotonic() - connected < SECONDS / 2:  # well within the time
            for raw in raws:
                raw.send(filler)
            check()
            time.sleep(0.05)
        for raw in raws:
            assert raw.status() == 408
            raw.rest()
    took = time.monotonic() - begun
    assert SECONDS - EARLY <= took < SECONDS + SLACK
    server.await_clients(2)


@strict
def test_bytes_that_keep_coming_do_not_buy_time(server: Serve, check: Check) -> None:
    with Raw(server.address) as raw:
        begun = time.monotonic()
        raw.send(HEAD)
        raw.socket.settimeout(0.02)
        got = b""
        while not got:
            raw.send(b"x")
            with contextlib.suppress(TimeoutError):
                got = raw.socket.recv(100)
            assert time.monotonic() - begun < SECONDS + SLACK
        assert got.startswith(b"HTTP/1.1 408 ")
    check()


@pytest.mark.parametrize(
    ("beginning", "filler"),
    [
        (HEAD, b"x" * 1000),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 100),
        (b"GET /", b"x" * 1000),
        (b"", b"x" * 1000),
        (b"", b"\r\n" * 500),
    ],
    ids=["long-header", "many-headers", "long-target", "long-method", "empty-lines"],
)
def test_a_head_without_end(raw: Raw, check: Check, beginning: bytes, filler: bytes) -> None:
    sent = 0
    raw.socket.setblocking(False)
    answer = b""
    raw.socket.send(beginning)
    begun = time.monotonic()
    while not answer:
        with contextlib.suppress(BlockingIOError, ConnectionResetError, BrokenPipeError):
            sent += raw.socket.send(filler)
        with contextlib.suppress(BlockingIOError):
            answer = raw.socket.recv(100)
            assert answer, "closed without an answer"
        assert time.monotonic() - begun < SLACK + SECONDS
    assert answer.split()[1] in (b"431", b"400"), answer
    assert sent < 10_000_000
    check()


@strict
def test_a_client_that_never_registers(server: Serve, check: Check) -> None:
    begun = time.monotonic()
    with Raw(server.address) as raw:
        raw.send(UPGRADE + masked(b"alive", first=FIN | PING))  # together: the time runs already
        assert raw.status() == 101
        assert raw.frame() == (0xA, b"alive")
        check()
        assert raw.close_code() == 1008
    assert SECONDS - EARLY <= time.monotonic() - begun < SECONDS + SLACK


# -- frames -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100_001, 2**31, 2**62, 2**63 - 1])
@pytest.mark.parametrize("first", [FIN | TEXT, TEXT, FIN | 0x2], ids=["text", "part", "binary"])
def test_a_frame_that_is_announced_too_large(raw: Raw, check: Check, size: int, first: int) -> None:
    raw.register("raw")
    raw.send(bytes((first, 0xFF)) + size.to_bytes(8, "big") + bytes(4))
    assert raw.close_code() == 1009  # before any of it has come
    check()


@pytest.mark.parametrize("size", [20, 1000, 30_000])
def test_a_message_of_fragments_without_end(raw: Raw, check: Check, size: int) -> None:
    raw.register("raw")
    raw.send(masked(b"x" * size, first=TEXT))
    part = masked(b"x" * size, first=CONTINUATION)
    parts = 100_000 // size - 1  # as many more may come
    raw.send(part * parts)
    raw.send(masked(b"", first=FIN | PING))
    assert raw.frame() == (0xA, b"")
    check()
    raw.send(part)
    assert raw.close_code() == 1009


def test_a_flood_of_empty_fragments_ends_the_connection(raw: Raw, check: Check) -> None:
    raw.register("raw")
    raw.send(masked(b"", first=TEXT))
    raw.send(masked(b"", first=CONTINUATION) * 10_000)
    assert raw.close_code() == 1008
    check()


class Sender:
    """Sends the same messages over and over, as far as they are taken."""

    def __init__(self, raw: Raw, data: bytes) -> None:
        raw.socket.setblocking(False)
        self._raw = raw
        self._data = self._unsent = memoryview(data)
        self.sent = 0

    def send(self) -> bool:
        """Send something; tell whether anything was taken."""
        try:
            size = self._raw.socket.send(self._unsent)
        except BlockingIOError:
            return False
        self.sent += size
        self._unsent = self._unsent[size:] or self._data
        return True


def test_a_peer_that_only_makes_mistakes(raw: Raw, check: Check) -> None:
    raw.register("raw")
    sender = Sender(raw, masked(b"") * 1000)
    end = time.monotonic() + 1.0
    received = 0
    while time.monotonic() < end or sender.sent <= 6000:
        sender.send()
        with contextlib.suppress(BlockingIOError):
            received += len(raw.socket.recv(1_000_000))
        check()
        assert time.monotonic() < end + PATIENCE
    # An error is longer than that mistake, and each mistake gets one, sooner or later.
    raw.socket.settimeout(PATIENCE)
    while received <= sender.sent:
        answers = raw.socket.recv(1_000_000)
        assert answers
        received += len(answers)


@pytest.mark.slow
@pytest.mark.parametrize(
    "question",
    [message("ping", **{"from": "raw"}), masked(b"x" * 125, first=FIN | PING)],
    ids=["ping-messages", "ping-frames"],
)
def test_a_client_that_takes_no_answers_is_not_read_from_without_end(
    raw: Raw, check: Check, question: bytes
) -> None:
    raw.register("raw")
    sender = Sender(raw, question * 1000)
    idle = 0
    while idle < 100:  # turns and not seconds, in which this process may stand still
        if sender.send():
            idle = 0
        else:
            idle += 1
            time.sleep(0.01)
        assert sender.sent < 200_000_000
    print(f"{sender.sent / 1e6:.1f} MB taken before it stopped")
    assert sender.sent > 100_000
    check()
