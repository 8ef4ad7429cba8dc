"""The threaded driver of a client: connects, runs its socket in one thread, and closes."""

import atexit
import contextlib
import logging
import threading
from math import inf
from weakref import WeakSet

from kps.errors import ConnectFailed
from kps.io_common.client_options import ClientSettings
from kps.io_common.forks import watch_forks
from kps.io_common.system_errors import describe
from kps.io_sync.connection import Connection
from kps.io_sync.driver import Driver, Face
from kps.io_sync.log import catch_up, write
from kps.io_sync.runtime import Runtime
from kps.io_sync.within_loop import warn_within_loop
from kps.protocol.client.session import ClientSession

_MOMENT = 0.00005  # seconds: less than an answer takes, more than the program needs for a message
_FEW = 16  # questions under way; with more of them, the program goes on to the next one


class ClientDriver(Driver):
    """Runs the session of a client in its own thread."""

    def __init__(self, face: Face, runtime: Runtime, settings: ClientSettings) -> None:
        super().__init__(face, runtime, settings.config.limits)
        self.session = ClientSession(
            settings.config,
            entropy=runtime.entropy,
            chance=runtime.chance,
            now=0.0,  # its time begins with the start
        )
        self.calls = self.session.calls
        self.is_closing = False
        self.wanting_room = 0
        """Number of callers that wait until the queue has drained. Each write wakes them."""
        self._settings = settings
        self._connection: Connection | None = None
        self._connect_is_due = False
        self._thread: threading.Thread | None = None
        self._dropped_before = 0
        self._asked_at = -inf  # when ``flush_soon`` was last called

    def open(self) -> None:
        """Start connecting. Raises :class:`kps.InvalidState` the second time."""
        warn_within_loop(write)
        with self.lock:
            self.start()
            self.session.on_resume = self.wake
            if self._settings.on_id is not None:
                self.attach(self.session.subscriptions.open_direct(), self._settings.on_id)
            self.progress()
            self._thread = threading.Thread(target=self._run, name="kps-client", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # the system has no more threads
                self.is_started = False
                raise ConnectFailed(f"the client has no thread: {error}") from error
            watch_forks(self)
            _open.add(self)

    def connect(self) -> None:
        """With the lock held: make the thread connect, in answer to ``ConnectNeeded``."""
        self._connect_is_due = True

    def close(self, timeout: float | None) -> int:
        """Close the connection behind the queued data, and end callbacks.

        Return the number of messages that could not be written within the timeout. Another call
        can only shorten it. Return 0 at once if this thread holds the lock; see ``put_off``.
        """
        if self.put_off(lambda: self.close(timeout)):
            return 0
        with self.lock:
            if not self.is_closing:
                self.is_closing = True
                self._dropped_before = self.session.dropped
            self.session.close(self.clock(), timeout)
            self.progress()
            if threading.current_thread() is not self._thread:
                self.news.until(lambda: self.session.ended is not None and not self._connection)
            self.dispatcher.close()
        self.dispatcher.finish(self._limits.close_timeout)
        catch_up()
        _open.discard(self)
        return self.session.dropped - self._dropped_before

    def hurry(self, timeout: float) -> None:
        """Begin to close the connection, within the timeout, and leave the rest to ``close``."""
        with self.lock:
            self.session.close(self.clock(), timeout)
            self.progress()

    def flush_soon(self) -> None:
        """With the lock held: write the queued data, or make the thread do so.

        A message is written at once if none came the moment before, so that whoever waits for an
        answer waits for one thread less. Further ones are the thread's, and leave together.
        """
        connection = self._connection
        if connection is None:
            return
        before, self._asked_at = self._asked_at, self.now
        if self.now - before > _MOMENT and len(self.session.asking.pending) <= _FEW:
            self.step_now()
        else:
            connection.wake_from_elsewhere()
            self.due_on = threading.get_ident()  # now, as an interrupted ``wake`` wakes nobody

    def _tell_connections(self, writes: bool) -> None:
        connection = self._connection
        if connection is not None and (self.session.backlog or self.is_closing):
            if writes:
                connection.flush()
            else:
                connection.wake_from_elsewhere()

    def wake(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.wake()

    # -- the thread of the socket -----------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self.lock:
                self._wait_for_connect()
                if not self._connect_is_due:
                    return
                self._connect_is_due = False
            self._connect_and_run()

    def _wait_for_connect(self) -> None:
        """With the lock held: wait until a connection is due, or the client has ended."""
        session = self.session
        while not self._connect_is_due and session.ended is None:
            deadline = session.next_deadline()
            now = self.clock()
            if deadline is not None and now >= deadline:
                session.handle_timeout(now)
                self.progress()
            else:
                self.news.wait(None if deadline is None else deadline - now)

    def _connect_and_run(self) -> None:
        settings = self._settings
        try:
            self.session.renew_token()
            sock = self.runtime.connect(settings.address, settings.tls, settings.connect_timeout)
        except TimeoutError:
            self._connect_failed("no answer in time")
            return
        except BaseException as error:  # whatever it is: nobody else would hear of it
            self._connect_failed(describe(error))
            return
        link = None
        try:
            with self.lock:
                link = self.session.connected(self.clock())
                connection = Connection(sock, link, self, self.clock, self.runtime.select)
                self._connection = connection
                self.progress()
        except BaseException as error:  # for instance, no descriptors are left
            sock.close()
            if link is None:
                self._connect_failed(describe(error))
                return
            text = "cannot use a connection: %(reason)s"
            write(logging.WARNING, "connection_failed", text, reason=describe(error))
            with self.lock:
                self._connection = None
                link.connection_lost(self.clock())
                self.progress()
            return
        try:
            connection.run()
        except BaseException as error:
            text, reason = "a connection failed: %(reason)s", describe(error)
            write(logging.ERROR, "connection_failed", text, reason=reason, failure=error)
        finally:
            with self.lock:
                self._connection = None
                self.progress()

    def _connect_failed(self, reason: str) -> None:
        with self.lock:
            self.session.connect_failed(reason, self.clock())
            self.progress()

    # -- called by connections --------------------------------------------------------------

    def next_deadline(self) -> float | None:
        return self.session.next_deadline()

    def _handle_timeout(self, now: float) -> None:
        self.session.handle_timeout(now)


_open: WeakSet[ClientDriver] = WeakSet()


@atexit.register
def _close_all() -> None:
    """Close what the program has left open, so that queued data is written.

    The threads of clients are daemons, which die with the program.
    """
    for driver in list(_open):
        if driver.may_end:
            with contextlib.suppress(BaseException):  # the program ends anyway, also on Ctrl-C
                driver.close(None)
