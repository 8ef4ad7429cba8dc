"""Messages to other servers: one link for each address, which lives while there is work."""

import asyncio
import itertools
import ssl as tls
from collections import deque
from typing import Any

from kps.errors import InvalidArgument, KPSError, QueueFull
from kps.io_asyncio.client import Client
from kps.io_common.settings import relay_limits
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
        self._queues = RelayQueues()
        self._links: set[asyncio.Task[None]] = set()
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
            waiting = self._queues.add(link, RelayJob(target, origin, data, done))
        except QueueFull as refusal:
            done(str(refusal))
            return
        if waiting is not None:
            task = asyncio.get_running_loop().create_task(self._run_link(link, waiting))
            self._links.add(task)
            task.add_done_callback(self._links.discard)

    async def close(self) -> None:
        """Give up what is under way, and tell so."""
        self._is_closed = True
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        for job in self._queues.end_all():  # of links that had not begun
            job.done(STOPPING)

    async def _run_link(self, link: Link, waiting: deque[RelayJob]) -> None:
        """Connect, send everything that waits, and leave."""
        address, path, secure = link
        error = STOPPING
        try:
            client = await Client.connect(
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
            )
            try:
                while waiting:
                    await self._send_first(client, waiting)
                self._queues.end(link, waiting)
            finally:
                await client.close()
        except KPSError as failure:
            error = str(failure)
        finally:
            self._queues.end(link, waiting)
            for job in waiting:
                job.done(error)

    async def _send_first(self, client: Client, waiting: deque[RelayJob]) -> None:
        job = waiting[0]
        error: str | None = None
        try:
            refusals = await client._send_to_server(
                job.target.address, job.target.proxied, job.origin, job.data
            )
            error = refusals[0] if refusals else None
        except InvalidArgument as failure:  # of this message alone: the link is sound
            error = str(failure)
        waiting.popleft()
        job.done(error)
