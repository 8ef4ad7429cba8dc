"""The lines of the log: what peers wrote cannot forge them, and cannot flood them."""

import asyncio
import logging
import os
import threading

import pytest

from kps.io_common.client_logs import ClientLog
from kps.io_common.logger import INTERVAL, MOST, Guard, guard, shown, write
from kps.io_common.logs import report_failure
from kps.io_common.server_logs import hook_failed, log_hub_event
from kps.protocol.client.events import (
    ClientEvent,
    ConnectAttemptFailed,
    Connected,
    Disconnected,
    ErrorReceived,
)
from kps.protocol.dialect.address import Address
from kps.protocol.server.events import (
    ClientLeft,
    ClientRegistered,
    ConnectedClient,
    DirectMessageIgnored,
    HubEvent,
    LoginRefused,
    OriginRefused,
    StrangerLeft,
)
from kps.protocol.wire.websocket import Closed, ClosedBy
from kps.testing import ManualClock

# A second line as of the log itself, an escape of a terminal, C1, bidi, a line separator, a
# surrogate; and too much of it.
EVIL = "x\n2026-01-01 00:00:00 ERROR kps: mine\x1b[2J\x7f\x9b31m\u202e\u2028\ud800" + "y" * 100_000
CLOSED = Closed(1008, EVIL, ClosedBy.FAULT)


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines as a file would have them, each with the time and the level."""
    form = logging.Formatter("%(levelname)s %(message)s")
    return "\n".join(form.format(record) for record in caplog.records).split("\n")


def check_one_line(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = lines_of(caplog)
    assert line.isprintable()
    assert len(line) < 1000


@pytest.mark.parametrize(
    "event",
    [
        ClientRegistered(1, EVIL, EVIL, EVIL),
        ClientLeft(ConnectedClient(EVIL, EVIL, EVIL, 2), CLOSED, 0),
        StrangerLeft(EVIL, CLOSED),
        OriginRefused(EVIL, EVIL),
        OriginRefused(EVIL, ""),
        LoginRefused(EVIL, EVIL),
        DirectMessageIgnored(EVIL),
    ],
    ids=lambda event: type(event).__name__,
)
def test_no_client_forges_a_line_of_the_server(
    event: HubEvent, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    log_hub_event(event)
    check_one_line(caplog)


@pytest.mark.parametrize(
    "event",
    [
        Connected(EVIL, again=False),
        ConnectAttemptFailed(EVIL, 1.0),
        Disconnected(CLOSED, 1.0, 5),
        ErrorReceived(EVIL, EVIL, EVIL, EVIL, EVIL),
        ErrorReceived(EVIL, "", "publish", "", EVIL),
    ],
    ids=lambda event: type(event).__name__,
)
def test_no_server_forges_a_line_of_the_client(
    event: ClientEvent, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ClientLog(Address.parse("localhost:9313"), "hall").note(event)
    check_one_line(caplog)


def test_a_warning_that_the_connection_is_away_has_an_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At its level, and with the name of the client."""
    caplog.set_level(logging.INFO)
    for name, who in ("hall", " as hall"), ("", ""):
        caplog.clear()
        log = ClientLog(Address.parse("h"), name)
        for event in (
            Connected("hall", again=False),
            Disconnected(CLOSED, 1.0, 0),
            Connected("hall", again=True),
            ConnectAttemptFailed("refused", 7.6),
            Connected("hall", again=True),
            Disconnected(Closed(1000, "", ClosedBy.LOCAL), None, 0),
            Connected("hall", again=True),
        ):
            log.note(event)
        told = [(one.levelname, one.getMessage()) for one in caplog.records]
        assert [(level, line.partition(" ws:")[0]) for level, line in told] == [
            ("INFO", "connected to"),
            ("WARNING", "disconnected from"),
            ("WARNING", "connected again to"),
            ("WARNING", "cannot connect to"),
            ("WARNING", "connected again to"),
            ("INFO", "disconnected from"),
            ("INFO", "connected to"),
        ]
        url = "ws://h:9313/ws/bus"
        assert told[3][1] == f"cannot connect to {url}{who}: refused; next attempt in 7.6 s"
        assert told[5][1] == f"disconnected from {url}{who}: closed (code 1000)"


def test_no_exception_forges_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """Programs put what they got into their exceptions, and into the causes of those."""
    try:
        try:
            raise KeyError(EVIL)
        except KeyError as cause:
            raise ValueError(EVIL + "\n" * 1000) from cause
    except ValueError as error:
        report_failure(error, EVIL)
        hook_failed(EVIL, error)
    lines = lines_of(caplog)
    assert [line for line in lines if not line.startswith("  ")] == [
        line for line in lines if line.startswith(("ERROR a callback for", "ERROR the hook"))
    ]
    assert all(line.isprintable() and len(line) < 1000 for line in lines)
    assert len(lines) < 500
    assert any("raise ValueError" in line for line in lines)


def test_an_exception_without_a_text(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    logging.getLogger("kps").warning("it failed: %s %r", Broken(), 5)
    assert lines_of(caplog) == ["WARNING it failed: <Broken without a text> 5"]


def test_plain_texts_are_shown_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("kps").warning("%s %r %d %.1f %s", "é 日本", "it's", 5, 0.5, None)
    assert lines_of(caplog) == ['WARNING é 日本 "it\'s" 5 0.5 None']


def test_a_text_is_cut() -> None:
    assert shown("abc", 3) == "abc"
    assert shown("abcd", 3) == "abc… (4 characters)"
    assert shown("a\nb") == r"'a\nb'"


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Log:
    """A logger with a guard, whose time is the test's."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.logger = logging.Logger("test")
        self.guard = Guard(self.logger, lambda: self.clock.now)
        self.logger.addFilter(self.guard)
        self.handler = Lines()
        self.logger.addHandler(self.handler)

    def take(self) -> list[str]:
        taken, self.handler.lines = self.handler.lines, []
        return taken


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_flood_of_one_kind_becomes_a_count(log: Log) -> None:
    for number in range(5000):
        log.logger.warning("client %s left", number)
        log.clock.advance(0.001)
    log.logger.warning("something else")
    assert log.take() == [*(f"client {n} left" for n in range(MOST)), "something else"]
    log.clock.advance(INTERVAL)
    log.logger.debug("anything")
    left_out = f"{5000 - MOST} more lines of this kind were left out: client %s left"
    assert log.take() == [left_out, "anything"]
    log.logger.warning("client %s left", "x")
    assert log.take() == ["client x left"]


def test_nothing_is_lost_when_nothing_is_logged_any_more(log: Log) -> None:
    """The driver asks at intervals, and the interpreter at its end."""
    for _ in range(MOST + 1):
        log.logger.error("again")
    log.take()
    log.guard.tell()
    assert log.take() == ["1 more lines of this kind were left out: again"]
    log.guard.tell()
    assert log.take() == []


def test_each_kind_has_its_room_and_what_was_asked_for_has_no_limit(log: Log) -> None:
    for _ in range(MOST):
        log.logger.warning("one")
    for _ in range(MOST + 5):
        log.logger.error("one")
        log.logger.info("told")
        log.logger.debug("asked for")
    assert len(log.take()) == MOST + MOST + 2 * (MOST + 5)


def test_a_handler_that_logs(log: Log) -> None:
    class Again(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "first":
                log.logger.warning("second")

    log.logger.addHandler(Again())
    log.logger.warning("first")
    assert sorted(log.take()) == ["first", "second"]


class Full(logging.Handler):
    def __init__(self, failure: BaseException) -> None:
        super().__init__()
        self._failure = failure

    def emit(self, record: logging.LogRecord) -> None:
        raise self._failure


FULL = [OSError(28, "No space left"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]


@pytest.mark.parametrize("failure", FULL, ids=lambda failure: type(failure).__name__)
def test_a_handler_that_fails_costs_its_line(
    failure: BaseException, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kps = logging.getLogger("kps")
    handler = Full(failure)
    kps.addHandler(handler)
    try:
        write(logging.ERROR, "event", "the line %(number)d", number=1)
        report_failure(ValueError("no"), "topic")
        monkeypatch.setattr("sys.stderr", None)  # as for a program without a console
        write(logging.ERROR, "event", "the line %(number)d", number=2)
    finally:
        kps.removeHandler(handler)
    told = capsys.readouterr().err
    assert told.count("--- Logging error ---") == 2
    assert type(failure).__name__ in told
    assert "the line" in told


def test_a_handler_that_fails_does_not_lose_the_line_that_follows_a_flood(log: Log) -> None:
    class FullOnce(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "left out" in record.getMessage():
                raise OSError(28, "No space left")

    for _ in range(MOST + 1):
        log.logger.warning("again")
    log.take()
    log.logger.addHandler(FullOnce())
    log.clock.advance(INTERVAL)
    log.logger.warning("something else")
    assert log.take()[-1] == "something else"


def test_an_exception_with_broken_attributes_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    class Untouchable(Exception):
        def __getattribute__(self, name: str) -> object:
            raise RuntimeError(name)

    assert report_failure(Untouchable("no"), "topic") == "no"
    (record,) = caplog.records
    assert "Untouchable" in logging.Formatter().format(record)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent() -> None:
    holds, ends = threading.Event(), threading.Event()

    def count() -> None:
        with guard._lock:
            holds.set()
            ends.wait()

    thread = threading.Thread(target=count)
    thread.start()
    holds.wait()
    child = os.fork()
    if not child:
        os._exit(0 if guard._lock.acquire(blocking=False) else 1)
    ends.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
