"""Sends messages to other servers: one link per address, which lives while messages are pending."""

import itertools
import logging
from collections.abc import Hashable
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from kps.errors import InvalidArgument, KPSError, QueueFull
from kps.io_asyncio.driver import Driver
from kps.io_asyncio.locked import locked
from kps.io_asyncio.log import write
from kps.io_asyncio.workers import Workers
from kps.io_common.server_options import ServerSettings, relay_limits
from kps.protocol.dialect.address import RelayTarget
from kps.protocol.dialect.envelope import embedded
from kps.protocol.server.relays import STOPPING, Done, Link, RelayJob, RelayQueue, RelayQueues

if TYPE_CHECKING:
    from kps.io_asyncio.client import Client

_LEAST = 0.001  # seconds, for a link that is to end at once


class Relays:
    """Sends messages to other servers in the background, in order for each of them."""

    def __init__(self, settings: ServerSettings, driver: Driver) -> None:
        self._settings = settings
        self._driver = driver
        self._numbers = itertools.count(1)
        self.queues = RelayQueues(settings.config.limits)
        """What waits for other servers."""
        self._workers = Workers()
        self._clients: WeakSet[Client] = WeakSet()
        self._timeout = inf  # seconds for the links to end
        self._is_closed = False

    @locked
    def send(
        self,
        target: RelayTarget,
        origin: str,
        data: Any,
        *,
        secure: bool,
        done: Done,
        owner: Hashable = None,
        shows_token: bool = True,
    ) -> None:
        """Queue a message; call ``done`` with the outcome, also if this server stops meanwhile.

        ``owner`` says whose client sends it, if a client does. Raises
        :class:`kps.InvalidArgument` for a payload that is not JSON.
        """
        job = RelayJob.make(target, origin, data, done)
        if self._is_closed:
            done(STOPPING)
            return
        try:
            queue = self.queues.add(
                Link(target.address, target.path, secure, shows_token), job, owner
            )
        except QueueFull as refusal:
            done(str(refusal))
            return
        if queue is not None:
            try:
                self._workers.start(self._run_link, queue)
            except RuntimeError as error:  # the system has no more threads
                self._end(queue, str(error))

    def hurry(self, timeout: float) -> None:
        """Let the links end within ``timeout`` seconds, now or when they are closed."""
        self._timeout = min(self._timeout, max(timeout, _LEAST))
        for client in list(self._clients):
            client._driver.hurry(self._timeout)

    async def close(self, grace: float) -> None:
        """Stop sending. On asyncio links end within ``grace``; on threads in their own time."""
        self._is_closed = True
        self.hurry(grace)  # asyncio
        await self._workers.close()
        self._end_all()

    async def _run_link(self, queue: RelayQueue) -> None:
        """Connect, send the pending messages, and disconnect."""
        error = STOPPING
        try:
            async with self._client(queue.link) as client:
                self._clients.add(client)
                while (job := self._next(queue)) is not None:
                    await self._send(client, job)
        except KPSError as failure:
            error = str(failure)
        except Exception as failure:  # affects this link only: the next message opens a new one
            text, address = "the link to %(address)s failed", queue.link.address
            write(logging.ERROR, "relay_failed", text, address=address, failure=failure)
            error = type(failure).__name__
        finally:
            self._end(queue, error)

    def _client(self, link: Link) -> "Client":
        from kps.io_asyncio.client import Client  # most servers never send to another one

        settings, timeout = self._settings, self._settings.relay_timeout
        return Client(
            link.address,
            path=link.path,
            secure=link.secure,
            ssl=settings.relay_tls if link.secure else None,
            token=settings.relay_token if link.shows_token else None,
            id=f"relay-{settings.config.id}-{next(self._numbers)}",
            reconnect=False,
            connect_timeout=timeout,
            request_timeout=timeout,
            limits=relay_limits(timeout),
        )

    @locked
    def _next(self, queue: RelayQueue) -> RelayJob | None:
        """Take the next message. If there is none, a later one opens a new link."""
        return None if self._is_closed else self.queues.take(queue)

    async def _send(self, client: "Client", job: RelayJob) -> None:
        error: str | None = STOPPING
        try:
            refusals = await client._send_to_server(
                job.target.address, job.target.proxied, job.origin, embedded(job.payload)
            )
            error = refusals[0] if refusals else None
        except InvalidArgument as failure:  # affects this message only
            error = str(failure)
        except KPSError as failure:
            error = str(failure)
            raise
        finally:
            job.finish(error)

    @locked
    def _end(self, queue: RelayQueue, error: str) -> None:
        self.queues.end(queue, error)

    @locked
    def _end_all(self) -> None:
        self.queues.end_all(STOPPING)
