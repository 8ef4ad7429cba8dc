"""Keeps the messages of topics with history in a file, beyond the end of the server.

The core only notes what is to be written. One thread opens the file, reads it, writes to it and
closes it. It begins to write at the latest ``WRITTEN_WITHIN`` seconds after a message came, so a
server that is killed loses the messages of such a moment, and the next one knows that it may have.

If the disk is too slow, or full, up to ``MOST_WAITING`` bytes wait for it. Beyond, the file forgets
each topic that has a new message, until the disk has caught up; the server keeps all in memory.
"""

import logging
import os
import sqlite3
import threading
import time
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from typing import Any, Final

from kps.errors import ServerStartFailed
from kps.io_common.history_database import Append, Begin, Command, Database, Forget, Put, Trim
from kps.io_common.logger import Write
from kps.io_common.system_errors import describe
from kps.protocol.bus.logs import LogBook
from kps.protocol.bus.store import Entry, KeptPast

WRITTEN_WITHIN: Final = 0.1
"""Seconds for which a message may wait for others that are written together with it."""

MOST_WAITING: Final = 64 * 1024 * 1024
"""Bytes that may wait for the disk."""

_MUCH = 1024 * 1024  # bytes that wait for no others
_AT_ONCE = 4 * 1024 * 1024  # bytes of one transaction
_AROUND = 200  # bytes of memory that a command takes besides its messages
_RETRY = 1.0  # seconds until the next attempt when the disk takes nothing
_PATIENCE = 30.0  # seconds for the disk when the server stops


class HistoryFile:
    """A file for the history of one server: what the core knows as a :class:`Store`.

    The core calls its methods with the server's lock held, or on the loop; of all methods only
    ``open`` and ``wait`` block. ``most_bytes`` and ``most_topics`` are the bounds of the server,
    ``now`` is the core's time, and ``write`` logs a line.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sync: str,
        most_bytes: int,
        most_topics: int,
        now: float,
        write: Write,
    ) -> None:
        self.lost = 0
        """Messages that are not in the file because the disk did not take them."""
        self._path = os.path.abspath(path)  # so that SQLite sees nothing special in it
        self._sync = sync
        self._bounds = most_bytes, most_topics
        self._skew = now - time.monotonic()
        self._write_line = write
        self._thread: threading.Thread | None = None
        self._read: SimpleQueue[KeptPast | BaseException | None] = SimpleQueue()
        self._past: KeptPast | None = None
        self._book: LogBook | None = None
        self._tops: dict[str, int] | None = None  # the latest offset of each topic, at the end
        self._copies: list[str] = []  # topics with which other servers may go on
        self._commands: SimpleQueue[Command | None] = SimpleQueue()  # None: close the file
        self._hurry: SimpleQueue[None] = SimpleQueue()  # wakes the thread
        self._is_open = False  # for commands
        self._is_closing = False
        self._gave_up = False  # too much waited even so
        self._queued = 0  # bytes of all commands so far
        self._refused: set[str] = set()  # topics with new messages while too much waits
        # These are the thread's:
        self._written = 0  # bytes of the commands that were carried out
        self._hurry_at = inf  # it is to be woken when so many are queued
        self.is_failing = False
        """Whether the disk takes nothing."""

    @property
    def waiting(self) -> int:
        """Bytes that wait for the disk."""
        return self._queued - self._written

    # -- called by the driver -------------------------------------------------------------

    def open(self) -> None:
        """Open the file, and read it. Raises :class:`kps.ServerStartFailed`."""
        self._thread = threading.Thread(target=self._run, name="kps-history", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise ServerStartFailed(f"the server has no thread: {error}") from error
        past = self._read.get()
        if isinstance(past, BaseException):
            reason = f"cannot use the history in {self._path}: {_in_words(past)}"
            raise ServerStartFailed(reason) from past
        self._past = past

    def attach(self, book: LogBook | None, now: float) -> None:
        """Give the core what is in the file, and take what comes from now on."""
        assert book is not None  # there are rules
        past, self._past = self._past, None
        self._book, self._is_open = book, True
        book.open(self, past, now)

    def end(self) -> None:
        """Let the thread write what waits, and close the file. May be called twice."""
        self._is_open = False
        if not self._is_closing:
            if self._book is not None:
                self._tops = {log.topic: log.top for log in self._book.logs()}
                self._copies = [one for one in self._tops if not self._book.owns(one)]
            self._commands.put(None)
            self._is_closing = True  # last, should a signal handler raise
        self._hurry.put(None)

    def wait(self) -> None:
        """Wait until the file is closed, but not for ever."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            thread.join(_PATIENCE)
            if thread.is_alive():
                self._log(logging.ERROR, "history_given_up", "gave up the disk that has %(path)s")

    def close(self) -> None:
        """End, and wait for it."""
        self.end()
        self.wait()

    # -- called by the core ---------------------------------------------------------------

    def append(self, topic: str, epoch: str, entry: Entry) -> None:
        if self._is_open and not self._is_refused(topic):
            self._put(Append(topic, epoch, entry))
        else:
            self.lost += entry.messages

    def trim(self, topic: str, offset: int) -> None:
        if topic not in self._refused:
            self._put(Trim(topic, offset))

    def forget(self, topic: str) -> None:
        if topic not in self._refused:
            self._put(Forget(topic))

    def place(self, topic: str, epoch: str, top: int, forgotten: int) -> None:
        if topic not in self._refused:
            self._put(Put(topic, epoch, top, forgotten))

    def begin(self, epoch: str, number: int) -> None:
        self._put(Begin(epoch, number))

    def _is_refused(self, topic: str) -> bool:
        """Tell whether too much waits. Then the file forgets the topic, as it would have a gap."""
        refused = self._refused
        if self.waiting > (MOST_WAITING // 2 if refused else MOST_WAITING):
            if not refused:
                text = (
                    "the disk that has %(path)s is too slow: new messages are kept in memory only"
                )
                self._log(logging.ERROR, "history_behind", text)
            if topic not in refused:
                refused.add(topic)
                self._put(Forget(topic))
            return True
        if refused:
            refused.clear()
            text = "the disk that has %(path)s has caught up; %(lost)d messages were not written"
            self._log(logging.WARNING, "history_caught_up", text, lost=self.lost)
        return False

    def _put(self, command: Command) -> None:
        if not self._is_open:
            return
        queued = self._queued = self._queued + _size(command)
        self._commands.put(command)
        if queued > self._hurry_at:
            self._hurry.put(None)
        if queued - self._written > 2 * MOST_WAITING:  # so many topics are to be forgotten
            self._gave_up, self._is_open = True, False

    # -- the thread -----------------------------------------------------------------------

    # In a forked child there is no such thread. Nobody writes there, nor closes the file, which
    # SQLite would tidy up: what a thread refers to when the process forks is never freed.

    def _run(self) -> None:
        database: Database | None = None
        try:
            database = Database(self._path, self._sync)
            self._read.put(database.load(*self._bounds, time.monotonic() + self._skew))
        except BaseException as error:
            if database is not None:
                database.close()
            self._read.put(error)
            return
        try:
            if not self._work(database):
                text = (
                    "%(path)s lacks %(lost)d messages at least, and clients will be told that some "
                    "may be"
                )
                self._log(logging.ERROR, "history_incomplete", text, lost=self.lost)
        except BaseException as error:
            self._is_open = False
            failure = None if isinstance(error, sqlite3.Error) else error
            text, reason = "nothing more is written to %(path)s: %(reason)s", _in_words(error)
            self._log(logging.ERROR, "history_ended", text, reason=reason, failure=failure)
        finally:
            database.close()

    def _work(self, database: Database) -> bool:
        """Write until the end; tell whether the file was closed in order."""
        is_last = False
        while not is_last:
            commands, is_last = self._next()
            if not self._carry_out(database, commands):
                return False
            self._written += sum(map(_size, commands))
        return not self.lost and not self._gave_up and database.finish(self._tops, self._copies)

    def _next(self) -> tuple[list[Command], bool]:
        """Wait for commands; return them, and whether the file is then to be closed."""
        command = self._commands.get()
        self._hurry_at = self._written + _MUCH
        if command is not None and self._queued <= self._hurry_at and not self._is_closing:
            self._sleep(WRITTEN_WITHIN)
        self._hurry_at = inf
        commands: list[Command] = []
        size = 0
        while command is not None:
            commands.append(command)
            size += _size(command)
            if size > _AT_ONCE or self._commands.empty():
                return commands, False
            command = self._commands.get()
        return commands, True

    def _carry_out(self, database: Database, commands: list[Command]) -> bool:
        """Write commands, in as many attempts as it takes; at the end of the server in one."""
        while True:
            shift = time.time() - time.monotonic() - self._skew
            try:
                database.write(commands, shift)
            except sqlite3.Error as error:
                if not self.is_failing:
                    text = "cannot write the history to %(path)s: %(reason)s"
                    self._log(logging.ERROR, "history_failing", text, reason=_in_words(error))
                self.is_failing = True
                if self._is_closing:
                    self.lost += sum(one.entry.messages for one in commands if type(one) is Append)
                    return False
                self._sleep(_RETRY)
            else:
                if self.is_failing:
                    text = "the history is written to %(path)s again"
                    self._log(logging.WARNING, "history_written", text)
                self.is_failing = False
                return True

    def _log(self, level: int, event: str, text: str, **others: Any) -> None:
        self._write_line(level, event, text, path=self._path, **others)

    def _sleep(self, seconds: float) -> None:
        """Sleep, unless the thread is woken."""
        with suppress(Empty):
            self._hurry.get(timeout=seconds)
            while True:
                self._hurry.get_nowait()


def _size(command: Command) -> int:
    return _AROUND + (command.entry.size if type(command) is Append else len(command[0]))


def _in_words(error: BaseException) -> str:
    code = getattr(error, "sqlite_errorcode", 0)
    return "another server uses it" if code == sqlite3.SQLITE_BUSY else describe(error)
