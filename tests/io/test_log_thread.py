"""The threaded driver never waits for the log: neither for its locks nor for its handlers."""

import contextlib
import logging
import logging.config
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import kps
import kps.sync
from kps.io_sync import log as log_of_threads
from kps.io_sync.log import LogThread
from tests.io.harness import Inbox

KPS = logging.getLogger("kps")
PATIENCE = 30.0


@pytest.fixture
def everything() -> Iterator[None]:
    """The log wants every line."""
    before = KPS.level
    KPS.setLevel(logging.DEBUG)
    yield
    KPS.setLevel(before)
    assert log_of_threads.log_thread.finish(PATIENCE)


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def live_through_everything() -> None:
    """Whatever makes a client or a server log, apart from what callbacks and hooks raise."""
    limits = kps.ClientLimits(mailbox_messages=2)
    goes_on, connected = threading.Event(), Inbox()

    def judge(token: str) -> kps.Identity | None:
        return kps.Identity("a") if token == "secret" else None

    def connects(event: kps.Connected) -> None:
        connected(event)
        goes_on.wait(PATIENCE)

    with kps.sync.Server("127.0.0.1:0", auth=judge) as server:
        with pytest.raises(kps.ConnectFailed):
            kps.sync.Client.connect(server.address, token="wrong", reconnect=False)
        with kps.sync.Client(
            server.address,
            token="secret",
            limits=limits,
            on_connect=connects,
            on_error=lambda error: None,
        ) as client:
            connected.get()
            messages = client.subscribe("t")
            for number in range(10):
                client.publish_with_receipt("t", number)
                client.publish_to_id(server.id, "nobody handles this")
                client.publish_to_id("nobody", number)
            client.flush()
            assert messages.dropped
            goes_on.set()


def in_time(work: Any) -> None:
    """Run something in a thread; fail if it does not return."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it waits for the log"
    assert not failures, failures


LINES = [
    "client ",
    "connected to ",
    "disconnected from ",
    "dropped a notice for ",
    "error from ",
    "ignored a direct message ",
    "refused a login ",
    "the program handles topic 't' too slowly",
    "clients 0 ",
]


@pytest.fixture
def lines(everything: None) -> Iterator[Lines]:
    handler = Lines()
    KPS.addHandler(handler)
    yield handler
    KPS.removeHandler(handler)


def test_nothing_waits_for_a_handler(lines: Lines) -> None:
    lines.acquire()  # as a thread that is within the handler
    try:
        in_time(live_through_everything)
        assert not lines.lines
    finally:
        lines.release()
    assert log_of_threads.log_thread.finish(PATIENCE)
    for beginning in LINES:
        assert any(line.startswith(beginning) for line in lines.lines), beginning


def test_nothing_waits_for_the_lock_of_logging(lines: Lines) -> None:
    with logging._lock:  # type: ignore[attr-defined]
        KPS.manager._clear_cache()  # type: ignore[attr-defined]
        in_time(live_through_everything)
    assert log_of_threads.log_thread.finish(PATIENCE)
    assert lines.lines


class Publishes(logging.Handler):
    """Publishes each line, as a program might."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._client = kps.sync.Client.connect(address)
        self._client.subscribe("lines", lambda message: None)
        self._client.publish_with_receipt("lines", "it works")

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(kps.KPSError):  # it is closed
            self._client.publish("lines", record.getMessage())

    def close(self) -> None:
        self._client.close()
        super().close()


def test_a_handler_that_is_a_client(everything: None) -> None:
    """``dictConfig`` holds the lock of ``logging`` while it makes and closes handlers."""
    inbox = Inbox()
    with kps.sync.Server("127.0.0.1:0") as server:
        server.subscribe("lines", inbox)
        handler = {"()": Publishes, "address": server.address}
        once = {"version": 1, "disable_existing_loggers": False, "handlers": {"bus": handler}}
        root = logging.getLogger()
        before = root.level, root.handlers[:]
        root.handlers[:] = []
        try:
            in_time(lambda: logging.config.dictConfig(once | {"root": {"handlers": ["bus"]}}))
            assert inbox.data() == "it works"
            logging.getLogger("elsewhere").warning("hello")
            while inbox.data() != "hello":
                pass  # lines about its own client
            in_time(lambda: logging.config.dictConfig(once | {"handlers": {}}))
        finally:
            root.handlers[:] = before[1]
            root.setLevel(before[0])


# -- the thread ------------------------------------------------------------------------------


def test_lines_that_find_no_room_are_counted(lines: Lines) -> None:
    thread = LogThread()
    lines.acquire()
    try:
        for number in range(3000):
            thread.write(logging.INFO, "event", "line %(number)d", number=number)
        for _ in range(3):
            thread.write(logging.INFO, "event", "%(long)s", long="x" * 10_000_000)
    finally:
        lines.release()
    assert thread.finish(PATIENCE)
    assert lines.lines[:1000] == [f"line {number}" for number in range(1000)]
    assert lines.lines[-1].endswith("lines were left out: the handlers of the log are too slow")
    left_out = int(lines.lines[-1].split()[0])
    assert len(lines.lines) - 1 + left_out == 3003


def test_a_line_that_the_log_does_not_want_starts_no_thread() -> None:
    thread = LogThread()
    before = KPS.level
    KPS.setLevel(logging.WARNING)
    try:
        thread.write(logging.INFO, "event", "connected")
    finally:
        KPS.setLevel(before)
    assert thread._thread is None


def test_a_handler_that_fails_ends_nothing(
    lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fails(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise SystemExit(record.getMessage())

    handler = Fails()
    KPS.addHandler(handler)
    thread = LogThread()
    try:
        for number in range(3):
            thread.write(logging.INFO, "event", "line %(number)d", number=number)
        assert thread.finish(PATIENCE)
    finally:
        KPS.removeHandler(handler)
    told = capsys.readouterr().err
    assert [f"SystemExit: line {number}" in told for number in range(3)] == [True] * 3


def test_without_a_thread_lines_are_written_at_the_end(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    thread = LogThread()
    thread.write(logging.INFO, "event", "a")
    thread.write(logging.INFO, "event", "b")
    assert not lines.lines
    thread.finish()
    assert lines.lines == ["a", "b"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_child_begins_anew(lines: Lines) -> None:
    log = log_of_threads.log_thread
    log.write(logging.INFO, "event", "parent")
    assert log.finish(PATIENCE)
    child = os.fork()
    if not child:
        lines.lines.clear()
        log.write(logging.INFO, "event", "child")
        os._exit(0 if log.finish(PATIENCE) and lines.lines == ["child"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
