"""Messages to other servers: one thread for each address, which lives while there is work."""

import itertools
import ssl as tls
import threading
from collections import deque
from typing import Any

from kps.errors import InvalidArgument, KPSError, QueueFull
from kps.io_common.settings import relay_limits
from kps.io_sync.client import Client
from kps.protocol.dialect.address import RelayTarget
from kps.protocol.server.relays import STOPPING, Done, Link, RelayJob, RelayQueues


class Relays:
    """Sends messages to other servers, in order for each of them, without blocking anyone."""

    def __init__(
        self, server_id: str, timeout: float, ssl: tls.SSLContext | None, token: str | None
    ) -> None:
        self._server_id = server_id
        self._timeout = timeout
        self._tls = ssl
        self._token = token
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._queues = RelayQueues()
        self._is_closed = False

    def send(
        self, target: RelayTarget, origin: str, data: Any, *, secure: bool, done: Done
    ) -> None:
        """Send a message; ``done`` is called later, also when the server stops meanwhile."""
        if self._is_closed:
            done(STOPPING)
            return
        link = (target.address, target.path, secure)
        try:
            with self._lock:
                waiting = self._queues.add(link, RelayJob(target, origin, data, done))
        except QueueFull as refusal:
            done(str(refusal))
            return
        if waiting is None:
            return
        # A daemon: a server that is silent must not hold up the end of the program.
        thread = threading.Thread(
            target=self._run_link, args=(link, waiting), name="kps-relay", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more of them
            self._give_up(link, waiting, str(error))

    def close(self) -> None:
        """Send nothing more. What is under way ends within the timeout."""
        self._is_closed = True

    def _run_link(self, link: Link, waiting: deque[RelayJob]) -> None:
        """Connect, send everything that waits, and leave."""
        address, path, secure = link
        error = STOPPING
        try:
            with Client(
                address,
                path=path,
                secure=secure,
                ssl=self._tls if secure else None,
                token=self._token,
                id=f"relay-{self._server_id}-{next(self._numbers)}",
                reconnect=False,
                connect_timeout=self._timeout,
                request_timeout=self._timeout,
                limits=relay_limits(self._timeout),
            ) as client:
                while not self._is_closed and self._has_work(link, waiting):
                    self._send_one(client, waiting[0])
                    waiting.popleft()
        except KPSError as failure:
            error = str(failure)
        self._give_up(link, waiting, error)

    def _give_up(self, link: Link, waiting: deque[RelayJob], error: str) -> None:
        """End a queue, and tell those who wait in it, if any."""
        with self._lock:
            self._queues.end(link, waiting)
        for job in waiting:
            job.done(error)

    def _has_work(self, link: Link, waiting: deque[RelayJob]) -> bool:
        """Whether something waits; if not, the next message starts a new link."""
        with self._lock:
            if not waiting:
                self._queues.end(link, waiting)
            return bool(waiting)

    def _send_one(self, client: Client, job: RelayJob) -> None:
        error: str | None = None
        try:
            refusals = client._send_to_server(
                job.target.address, job.target.proxied, job.origin, job.data
            )
            error = refusals[0] if refusals else None
        except InvalidArgument as failure:  # of this message alone: the link is sound
            error = str(failure)
        job.done(error)
