"""A server that is one of several workers: its parent hands it connections."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from kps.io_asyncio.connection import Connection, OperatorConnection
from kps.io_asyncio.log import write
from kps.io_asyncio.node_driver import NodeDriver
from kps.io_asyncio.node_links import NodeLinks
from kps.io_asyncio.server import Server
from kps.io_asyncio.server_driver import Carrier, ServerDriver
from kps.io_asyncio.tls_listener import TlsListener
from kps.io_common.handing import BEAT, Channel, Place, What
from kps.protocol.cluster.config import ClusterConfig
from kps.protocol.cluster.link import ENDED, LOST
from kps.protocol.dialect.address import Address

_LOOK = 0.01  # seconds between two looks whether the other workers are there
_AT_ONCE = 64  # packets of the parent that are taken in one turn


class _Handed:
    """The connections that the parent has handed on, for TLS."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[socket.socket, tuple[str, int]]] = asyncio.Queue()

    def put(self, sock: socket.socket, peer: str) -> None:
        """Take one."""
        address = Address.parse(peer)
        self._waiting.put_nowait((sock, (address.host, address.port)))

    async def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """Return the next one."""
        return await self._waiting.get()

    def close(self) -> None:
        """Close those that wait."""
        while not self._waiting.empty():
            self._waiting.get_nowait()[0].close()


class WorkerDriver(NodeDriver):
    """Runs the hub of a worker, and its links to the others."""

    answers_for_all = True
    harmless = (ENDED, LOST)  # of a worker that ends unexpectedly the parent tells
    _links: NodeLinks
    place: Place
    ended: Callable[[], None]
    """Is called when the parent is gone."""

    async def listen(self, begin: Callable[[str, int], None]) -> None:
        """Take connections from the parent."""
        self._links = NodeLinks(self.cluster, self.clock, self.progress)
        await self.prepare()
        self._handed = _Handed() if self._settings.certificates.context is not None else None
        if self._handed is not None:
            callbacks = self._admit, self._give_up, self._latest_context
            self._listeners.append(TlsListener(self._handed, *callbacks, self._limits))
        self._tasks: set[asyncio.Task[Any]] = set()
        self._untold = 0  # connections that have ended, of which the parent does not know
        self._channel = Channel(socket.socket(fileno=self.place.descriptor))
        self.runtime.loop.add_reader(self._channel.socket, self._hear)
        self._report()
        begin(self.place.host, self.place.port)

    async def prepare(self) -> None:
        """Go on with the file for history, which the first worker has for all."""
        if self.place.is_first:
            await super().prepare()

    async def tell_ready(self, url: str) -> None:
        """Tell the parent that connections may come, once the other workers have told all."""
        ends = self.clock() + self._cluster_config.patience
        while self.clock() < ends:
            if self._has_met:
                break
            await asyncio.sleep(_LOOK)
        await self.resume()
        self._channel.send(What.READY, url)
        while not self.is_ending:
            await asyncio.sleep(BEAT)
            self._channel.send(What.LIVES, "")

    @property
    def _has_met(self) -> bool:
        cluster = self.cluster
        return cluster.agreement.is_sure and cluster.nodes.others.keys() >= set(self.place.known)

    def _hear(self) -> None:
        """Take what the parent hands over."""
        for _ in range(_AT_ONCE):
            try:
                packet = self._channel.receive()
            except BlockingIOError:
                return
            if packet is None:
                self.runtime.loop.remove_reader(self._channel.socket)
                if not self.is_ending:
                    write(logging.ERROR, "parent_lost", "the parent of this worker is gone")
                    self.ended()
                return
            what, text, descriptor = packet
            if what is What.OPERATOR_WAITS:
                self._channel.send(What.OPERATOR_WAITS, "")
            elif descriptor is not None:
                self._take(what, text, socket.socket(fileno=descriptor))

    def _take(self, what: What, text: str, sock: socket.socket) -> None:
        sock.setblocking(False)
        loop = self.runtime.loop
        if self.is_ending:
            sock.close()
        elif what is What.NODE:
            self._spawn(self._links.adopt(text, sock))
        elif what is What.CLIENT and self._handed is not None:
            self._handed.put(sock, text)
        else:
            kind = OperatorConnection if what is What.OPERATOR else Connection
            new = partial(kind, loop, self, self.clock)
            self._spawn(loop.connect_accepted_socket(new, sock))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self.runtime.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _detach(self, connection: Carrier) -> None:
        super()._detach(connection)
        self._tell_closed()

    def _admit(self, peer: str) -> Connection | None:
        connection = super()._admit(peer)
        if connection is None:
            self._tell_closed()
        return connection

    def _give_up(self, connection: Connection) -> None:
        has_failed = connection in self._shaking
        super()._give_up(connection)
        if has_failed:
            self._tell_closed()

    def _tell_closed(self) -> None:
        """Tell the parent that a connection has ended, and those of which it could not be told."""
        self._untold += 1
        if self._channel.send(What.CLOSED, str(self._untold)):
            self._untold = 0

    async def end_connections(self, grace: float) -> None:
        """End all connections within ``grace``. If there is a file for history, the first worker
        then owns all topics, so that the file has all that comes until it ends."""
        ends = self.clock() + grace
        if self._settings.history_file is not None and grace and not self.is_ending:
            await self._hand_on(self.clock() + grace / 4)
        await super().end_connections(max(0.0, ends - self.clock()))

    async def _hand_on(self, until: float) -> None:
        cluster, is_first = self.cluster, self.place.is_first
        if not is_first and cluster.nodes.others:
            cluster.leave(self.clock())
            self.progress()
        while self.clock() < until:
            if self._owns_all if is_first else self.has_left or not cluster.nodes.others:
                break
            await asyncio.sleep(_LOOK)

    @property
    def _owns_all(self) -> bool:
        histories = self.cluster.histories
        return histories is None or histories.owners.have_all_here

    async def close(self, grace: float) -> None:
        """End, and let the other workers notice."""
        await super().close(grace)
        self._links.close()
        self.runtime.loop.remove_reader(self._channel.socket)
        self._channel.close()


class WorkerServer(Server):
    """A server that is one of several workers."""

    _driver: WorkerDriver

    def _new_driver(self) -> ServerDriver:
        return WorkerDriver(self, self._new_runtime(), self._settings, ClusterConfig())

    def work_at(self, place: Place) -> None:
        """Serve as a worker until the parent says so, or is gone."""
        driver = self._driver
        driver.place = place
        if self._exporter is not None:
            self._exporter.place = place
        driver.ended = lambda: signal.raise_signal(signal.SIGTERM)  # as the parent would
        self.run(ready=self._tell_ready)

    async def _tell_ready(self, _: Server) -> None:
        await self._driver.tell_ready(self.url)
