# Made from kps/io_asyncio/relay.py by tools/unasync.py: edit that one.

"""Sends messages to other servers: one link per address, which lives while messages are pending."""

import itertools
from collections import deque
from typing import Any

from kps.errors import InvalidArgument, KPSError, QueueFull
from kps.io_common.client_options import relay_limits
from kps.io_common.logs import logger
from kps.io_common.server_options import ServerSettings
from kps.io_sync.client import Client
from kps.io_sync.driver import Driver
from kps.io_sync.workers import Workers
from kps.protocol.dialect.address import RelayTarget
from kps.protocol.server.relays import STOPPING, Done, Link, RelayJob, RelayQueues


class Relays:
    """Sends messages to other servers in the background, in order for each of them."""

    def __init__(self, settings: ServerSettings, driver: Driver) -> None:
        self._settings = settings
        self._driver = driver
        self._numbers = itertools.count(1)
        self._queues = RelayQueues()
        self._begun: dict[Link, deque[RelayJob]] = {}
        self._workers = Workers()
        self._is_closed = False

    def send(
        self, target: RelayTarget, origin: str, data: Any, *, secure: bool, done: Done
    ) -> None:
        """Queue a message; call ``done`` with the outcome, also if this server stops meanwhile."""
        with self._driver.lock:
            if self._is_closed:
                done(STOPPING)
                return
            link = (target.address, target.path, secure)
            try:
                waiting = self._queues.add(link, RelayJob(target, origin, data, done))
            except QueueFull as refusal:
                done(str(refusal))
                return
            if waiting is not None:
                self._begun[link] = waiting
                try:
                    self._workers.start(self._run_link, link, waiting)
                except RuntimeError as error:  # the system has no more threads
                    self._end(link, waiting, str(error))

    def close(self) -> None:
        """Stop sending. On asyncio links are cancelled; on threads they end in their own time."""
        self._is_closed = True
        self._workers.close()
        for link, waiting in list(self._begun.items()):
            self._end(link, waiting, STOPPING)

    def _run_link(self, link: Link, waiting: deque[RelayJob]) -> None:
        """Connect, send the pending messages, and disconnect."""
        error = STOPPING
        try:
            with self._client(link) as client:
                while (job := self._next(link, waiting)) is not None:
                    self._send(client, job)
        except KPSError as failure:
            error = str(failure)
        except Exception as failure:  # affects this link only: the next message opens a new one
            logger.exception("the link to %s failed", link[0])
            error = type(failure).__name__
        finally:
            self._end(link, waiting, error)

    def _client(self, link: Link) -> Client:
        address, path, secure = link
        settings, timeout = self._settings, self._settings.relay_timeout
        return Client(
            address,
            path=path,
            secure=secure,
            ssl=settings.relay_tls if secure else None,
            token=settings.relay_token,
            id=f"relay-{settings.config.id}-{next(self._numbers)}",
            reconnect=False,
            connect_timeout=timeout,
            request_timeout=timeout,
            limits=relay_limits(timeout),
        )

    def _next(self, link: Link, waiting: deque[RelayJob]) -> RelayJob | None:
        """Take the next message. If there is none, end the queue: a later one opens a new link."""
        with self._driver.lock:
            if not waiting:
                self._queues.end(link, waiting)
            return waiting.popleft() if waiting and not self._is_closed else None

    def _send(self, client: Client, job: RelayJob) -> None:
        error: str | None = STOPPING
        try:
            refusals = client._send_to_server(
                job.target.address, job.target.proxied, job.origin, job.data
            )
            error = refusals[0] if refusals else None
        except InvalidArgument as failure:  # affects this message only
            error = str(failure)
        except KPSError as failure:
            error = str(failure)
            raise
        finally:
            job.done(error)

    def _end(self, link: Link, waiting: deque[RelayJob], error: str) -> None:
        """End a queue, and fail its pending messages."""
        with self._driver.lock:
            self._queues.end(link, waiting)
            if self._begun.get(link) is waiting:
                del self._begun[link]
            while waiting:
                waiting.popleft().done(error)
