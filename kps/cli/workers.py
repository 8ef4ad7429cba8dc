"""``kps serve --workers``: a parent that accepts connections, and workers that share them.

The parent hands each connection to the worker that has the fewest. It starts a worker again that
has died, after a pause that grows while that goes on. The workers are the nodes of a cluster.
"""

import contextlib
import logging
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import FrameType

from kps.errors import ServerStartFailed
from kps.io_common.handing import Channel, Place, What
from kps.io_common.listening import listen
from kps.io_common.logger import write
from kps.io_common.system_errors import describe
from kps.protocol.dialect.address import Address, host_and_port

_FIRST_PAUSE = 0.1  # seconds before a worker starts again
_LONGEST_PAUSE = 5.0
_LIVES = 10.0  # seconds after which a worker counts as one that works
_PATIENCE = 30.0  # seconds in which workers must stop
_MOST_WAITING = 256  # connections that no worker takes now


class _Worker:
    """A place for a worker, and the process that has it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: Channel
        self.clients = 0
        self.is_ready = self.is_told = False
        self.started = 0.0
        self.pause = _FIRST_PAUSE
        self.due: float | None = 0.0
        """When it is to be started, if it is not there."""


class Workers:
    """The parent of workers. ``command`` is how a worker is started."""

    def __init__(
        self, command: Sequence[str], address: Address, server_id: str, count: int
    ) -> None:
        self._command = list(command)
        self._address = address
        self._workers = [_Worker(f"{server_id}.{number}") for number in range(1, count + 1)]
        self._selector = selectors.DefaultSelector()
        self._listeners: list[socket.socket] = []
        self._waiting: deque[tuple[socket.socket, str]] = deque()
        self._is_stopping = self._is_to_reload = False
        self._owed: set[tuple[_Worker, _Worker]] = set()  # pairs that have no connection yet
        self._is_full = False  # whether we accept no more until workers take what waits
        self._is_announced = False

    def run(self, announce: Callable[[str], None]) -> int:
        """Serve until SIGINT or SIGTERM; ``announce`` the URL once all workers are ready.

        Raises :class:`kps.ServerStartFailed`.
        """
        self._announce = announce
        self._listeners = listen(self._address, None).bus
        for listener in self._listeners:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, self._accept)
        wakes, wake = socket.socketpair()
        for end in (wakes, wake):
            end.setblocking(False)
        self._selector.register(wakes, selectors.EVENT_READ, lambda sock: sock.recv(4096))
        before = signal.set_wakeup_fd(wake.fileno())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._signalled)
        try:
            return self._serve()
        finally:
            signal.set_wakeup_fd(before)
            for worker in self._workers:
                if worker.process is not None and worker.process.poll() is None:
                    worker.process.kill()
            for sock in self._listeners:
                sock.close()

    def _serve(self) -> int:
        deadline: float | None = None
        while True:
            now = time.monotonic()
            self._pass_signals_on()
            if self._is_stopping:
                if deadline is None:
                    deadline = now + _PATIENCE
                    self._stop_listening()
                if not any(worker.process for worker in self._workers):
                    return 0
                if now >= deadline:
                    return 1
            for worker in self._workers:
                self._look_after(worker, now)
            self._connect_all()
            for key, _ in self._selector.select(self._pause(now)):
                key.data(key.fileobj)
            self._hand_on()
            self._accept_again()

    def _pause(self, now: float) -> float:
        due = [worker.due for worker in self._workers if worker.due is not None]
        soonest = min(due, default=now + 1.0) - now
        is_pressed = self._waiting or self._owed
        return max(0.0, min(soonest, 0.05 if is_pressed else 1.0))

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; the loop acts on it, so it interrupts nothing."""
        if number == signal.SIGHUP:
            self._is_to_reload = True
        elif number != signal.SIGCHLD:
            self._is_stopping = True

    def _pass_signals_on(self) -> None:
        for worker in self._workers:
            process = worker.process
            if process is None:
                continue
            if self._is_to_reload and worker.is_ready:
                process.send_signal(signal.SIGHUP)
            if self._is_stopping and not worker.is_told:
                worker.is_told = True
                process.send_signal(signal.SIGTERM)
        self._is_to_reload = False

    # -- workers ----------------------------------------------------------------------------

    def _look_after(self, worker: _Worker, now: float) -> None:
        """Start a worker, or note that it has died."""
        process = worker.process
        if process is not None and process.poll() is not None:
            worker.process = None
            self._selector.unregister(worker.channel.socket)
            worker.channel.close()
            worker.is_ready, worker.clients = False, 0
            self._owed = {pair for pair in self._owed if worker not in pair}
            if self._is_stopping:
                return
            if not self._is_announced:
                raise ServerStartFailed(f"the worker {worker.name} has not started")
            if now - worker.started >= _LIVES:
                worker.pause = _FIRST_PAUSE
            worker.due = now + worker.pause
            write(
                logging.ERROR,
                "worker_ended",
                "the worker %(worker)s has ended with status %(status)s; it starts again in "
                "%(seconds).1f s",
                worker=worker.name,
                status=process.returncode,
                seconds=worker.pause,
            )
            worker.pause = min(2 * worker.pause, _LONGEST_PAUSE)
        is_due = worker.due is not None and now >= worker.due
        if worker.process is None and is_due and not self._is_stopping:
            try:
                self._start(worker, now)
            except OSError as error:  # no descriptors, or no memory for a process
                if not self._is_announced:
                    raise ServerStartFailed(f"no worker can start: {describe(error)}") from error
                worker.due = now + _LONGEST_PAUSE
                text = "the worker %(worker)s cannot start: %(error)s"
                write(
                    logging.ERROR, "worker_failed", text, worker=worker.name, error=describe(error)
                )

    def _start(self, worker: _Worker, now: float) -> None:
        worker.channel, theirs = Channel.pair()
        host, port = self._listeners[0].getsockname()[:2]
        place = Place(theirs.fileno(), worker.name, host, port)
        worker.process = subprocess.Popen(
            self._command,
            env=place.environment(),
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # the terminal's Ctrl-C is for the parent, who tells them
        )
        theirs.close()
        worker.due, worker.started, worker.is_told = None, now, False
        self._selector.register(
            worker.channel.socket, selectors.EVENT_READ, lambda _: self._heard(worker)
        )
        for other in self._workers:
            if other is not worker and other.process is not None:
                self._owed.add((worker, other))

    def _connect_all(self) -> None:
        """Give workers connections to each other, as far as they take them now."""
        for one, other in list(self._owed):
            for_one, for_other = socket.socketpair()
            with for_one, for_other:
                if one.channel.send(What.NODE, other.name, for_one.fileno()) and (
                    other.channel.send(What.NODE, one.name, for_other.fileno())
                ):
                    self._owed.discard((one, other))

    def _heard(self, worker: _Worker) -> None:
        """Take what a worker tells."""
        with contextlib.suppress(BlockingIOError):
            while (packet := worker.channel.receive()) is not None:
                what, text, _ = packet
                if what is What.CLOSED:
                    worker.clients -= int(text)
                elif what is What.READY:
                    worker.is_ready = True
                    if not self._is_announced and all(one.is_ready for one in self._workers):
                        self._is_announced = True
                        self._announce(text)
            # It has ended; its process tells how.
            time.sleep(0.01)

    # -- connections ------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(64):
            if len(self._waiting) >= _MOST_WAITING:
                self._is_full = True
                for full in self._listeners:
                    self._selector.unregister(full)
                return
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                text = "cannot accept a connection: %(error)s"
                write(logging.WARNING, "accept_failed", text, error=describe(error))
                time.sleep(0.05)
                return
            self._waiting.append((sock, host_and_port(*address[:2])))
            self._hand_on()

    def _accept_again(self) -> None:
        if self._is_full and not self._is_stopping and len(self._waiting) < _MOST_WAITING:
            self._is_full = False
            for listener in self._listeners:
                self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def _hand_on(self) -> None:
        """Hand connections to the workers that have the fewest."""
        while self._waiting:
            sock, peer = self._waiting[0]
            ready = [worker for worker in self._workers if worker.is_ready]
            for worker in sorted(ready, key=lambda worker: worker.clients):
                if worker.channel.send(What.CLIENT, peer, sock.fileno()):
                    worker.clients += 1
                    break
            else:
                return  # until one is ready again
            self._waiting.popleft()
            sock.close()

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(KeyError):
                self._selector.unregister(listener)
            listener.close()
        for sock, _ in self._waiting:
            sock.close()
        self._waiting.clear()


def serve_with_workers(
    address: Address, server_id: str, count: int, announce: Callable[[str], None]
) -> int:
    """Run workers with the arguments and the environment of this process."""
    command = [sys.executable, "-m", "kps", *sys.argv[1:]]
    return Workers(command, address, server_id, count).run(announce)
