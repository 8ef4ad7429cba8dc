"""``kps serve --workers``: a parent that accepts connections, and workers that share them.

The parent hands each connection to the worker that has the fewest, and one of an operator to the
first that says it takes it: whoever looks after a server must not wait for a worker that hangs.
It starts a worker again that has died, after a pause that grows while that goes on. The workers are
the nodes of a cluster.
"""

import contextlib
import logging
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType

from kps.cli.door import Door
from kps.errors import ServerStartFailed
from kps.io_common.handing import BEAT, Channel, Place, What
from kps.io_common.listening import Listeners, listen, name_of
from kps.io_common.logger import write
from kps.io_common.system_errors import describe
from kps.protocol.dialect.address import Address
from kps.version import __version__

_FIRST_PAUSE = 0.1  # seconds before a worker starts again
_LONGEST_PAUSE = 5.0
_HANGS = 3 * BEAT  # seconds of silence after which a worker gets no connections
_LIVES = 10.0  # seconds after which a worker counts as one that works
_PATIENCE = 15.0  # seconds in which workers must stop, which have 10 themselves
_MOST_WAITING = 256  # connections that no worker takes now
_MOST_OPERATORS = 64  # those of operators


class _Worker:
    """A place for a worker, and the process that has it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: Channel
        self.clients = 0
        self.is_ready = self.is_told = False
        self.is_asked = False
        """Whether it has yet to say that it takes a connection of an operator."""
        self.started = self.heard = 0.0
        self.restarts = 0
        self.pause = _FIRST_PAUSE
        self.due: float | None = 0.0
        """When it is to be started, if it is not there."""


class Workers:
    """The parent of workers. ``command`` is how a worker is started.

    It listens on ``address``, and for operators on another one, if that is given. If the first
    worker ``is_first_ahead``, the others start after it: then they follow what its file has.
    """

    def __init__(
        self,
        command: Sequence[str],
        address: Address,
        for_operators: Address | None,
        server_id: str,
        count: int,
        *,
        is_first_ahead: bool = False,
    ) -> None:
        self._is_first_ahead = is_first_ahead
        self._command = list(command)
        self._addresses = address, for_operators
        self._workers = [_Worker(f"{server_id}.{number}") for number in range(1, count + 1)]
        self._selector = selectors.DefaultSelector()
        self._listeners: Listeners
        self._bus: Door
        self._operators: Door
        self._is_stopping = self._is_to_reload = False
        self._owed: set[tuple[_Worker, _Worker]] = set()  # pairs that have no connection yet
        self._is_announced = False

    def run(self, announce: Callable[[str], None]) -> int:
        """Serve until SIGINT or SIGTERM; ``announce`` the URL once all workers are ready.

        Raises :class:`kps.ServerStartFailed`.
        """
        self._announce = announce
        listeners = self._listeners = listen(*self._addresses)
        self._bus = Door(self._selector, listeners.bus, _MOST_WAITING, self._hand_on)
        self._operators = Door(self._selector, listeners.operators, _MOST_OPERATORS)
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
            self._listeners.close()

    def _serve(self) -> int:
        deadline: float | None = None
        while True:
            now = time.monotonic()
            self._pass_signals_on()
            if self._is_stopping:
                if deadline is None:
                    deadline = now + _PATIENCE
                    for door in (self._bus, self._operators):
                        door.close()
                if not any(worker.process for worker in self._workers):
                    return 0
                if now >= deadline:
                    text = "a worker has not ended in %(seconds)d s, and is killed"
                    write(logging.ERROR, "worker_killed", text, seconds=int(_PATIENCE))
                    return 1
            for worker in self._workers:
                self._look_after(worker, now)
            self._connect_all()
            for key, _ in self._selector.select(self._pause(now)):
                key.data(key.fileobj)
            self._hand_on()
            self._ask_who_takes_operators()
            for door in (self._bus, self._operators):
                door.accept_again()

    def _pause(self, now: float) -> float:
        due = [one.due for one in self._workers if one.due is not None and self._may_start(one)]
        soonest = min(due, default=now + 1.0) - now
        is_pressed = self._bus.waiting or self._operators.waiting or self._owed
        return max(0.0, min(soonest, 0.05 if is_pressed else 1.0))

    def _may_start(self, worker: _Worker) -> bool:
        """Tell whether a worker need not wait for the first one."""
        first = self._workers[0]
        is_free = worker is first or first.is_ready or self._is_announced
        return is_free or not self._is_first_ahead

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
            worker.is_ready, worker.is_asked, worker.clients = False, False, 0
            worker.restarts += 1
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
        is_due = worker.due is not None and now >= worker.due and self._may_start(worker)
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
        host, port = self._listeners.bus[0].getsockname()[:2]
        count = len(self._workers)
        known = [one.name for one in self._workers if one.is_ready]
        place = Place(theirs.fileno(), worker.name, host, port, count, worker.restarts, known)
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
                worker.heard = time.monotonic()
                if what is What.CLOSED:
                    worker.clients -= int(text)
                elif what is What.OPERATOR_WAITS:
                    worker.is_asked = False
                    self._hand_operator_to(worker)
                elif what is What.READY:
                    worker.is_ready = True
                    if not self._is_announced and all(one.is_ready for one in self._workers):
                        self._is_announced = True
                        self._log_start()
                        self._announce(text)
            # It has ended; its process tells how.
            time.sleep(0.01)

    # -- connections ------------------------------------------------------------------------

    def _hand_on(self) -> None:
        """Hand connections to the workers that have the fewest."""
        while self._bus.waiting:
            ready = [worker for worker in self._workers if worker.is_ready]
            alive = time.monotonic() - _HANGS
            ready = [worker for worker in ready if worker.heard > alive] or ready
            ready.sort(key=lambda worker: worker.clients)
            hand = partial(self._hand, What.CLIENT)
            if not any(self._bus.pass_first(partial(hand, worker)) for worker in ready):
                return  # until one is ready again

    def _hand(self, what: What, worker: _Worker, sock: socket.socket, peer: str) -> bool:
        """Hand a connection to a worker; tell whether that takes it."""
        is_taken = worker.channel.send(what, peer, sock.fileno())
        worker.clients += is_taken
        return is_taken

    def _ask_who_takes_operators(self) -> None:
        """Ask the workers which of them takes a connection of an operator, if one waits."""
        for worker in self._workers if self._operators.waiting else ():
            if worker.is_ready and not worker.is_asked:
                worker.is_asked = worker.channel.send(What.OPERATOR_WAITS, "")

    def _hand_operator_to(self, worker: _Worker) -> None:
        """Hand the first connection of an operator to a worker, unless another one has it."""
        if self._operators.waiting:
            self._operators.pass_first(partial(self._hand, What.OPERATOR, worker))

    def _log_start(self) -> None:
        operators = self._listeners.operators
        text = (
            "the server of version %(version)s, with %(workers)d workers, listens on %(addresses)s"
        )
        write(
            logging.INFO,
            "started",
            text + ("; figures on %(metrics)s" if operators else ""),
            version=__version__,
            workers=len(self._workers),
            addresses=", ".join(map(name_of, self._listeners.bus)),
            metrics=", ".join(map(name_of, operators)),
        )


def serve_with_workers(
    address: Address,
    for_operators: Address | None,
    server_id: str,
    count: int,
    announce: Callable[[str], None],
    *,
    is_first_ahead: bool,
) -> int:
    """Run workers with the arguments and the environment of this process."""
    command = [sys.executable, "-m", "kps", *sys.argv[1:]]
    workers = Workers(
        command, address, for_operators, server_id, count, is_first_ahead=is_first_ahead
    )
    return workers.run(announce)
