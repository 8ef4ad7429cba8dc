"""Carries the links of a node over streams: each chunk with its length in front."""

import asyncio
import socket
from collections.abc import Callable
from struct import Struct
from typing import cast

from kps.protocol.cluster.cluster import Cluster

_LENGTH = Struct(">I")


class _Stream(asyncio.Protocol):
    """One end of the connection to another node."""

    def __init__(self, links: "NodeLinks", node: str) -> None:
        self.node = node
        self.is_full = False
        self._links = links
        self._waiting = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._links.opened(self)

    def data_received(self, data: bytes) -> None:
        waiting = self._waiting
        waiting += data
        start = 0
        while len(waiting) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(waiting, start)
            begin = start + _LENGTH.size
            if len(waiting) < begin + length:
                break
            start = begin + length
            self._links.received(self, bytes(waiting[begin:start]))
        del waiting[:start]

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self._links.flush([self.node])

    def connection_lost(self, exc: Exception | None) -> None:
        self._links.closed(self)

    def write(self, chunks: list[bytes]) -> None:
        """Write chunks."""
        self._transport.writelines(
            [part for chunk in chunks for part in (_LENGTH.pack(len(chunk)), chunk)]
        )

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()


class NodeLinks:
    """The connections of a node to the others. ``progress`` asks its driver for a step."""

    def __init__(
        self, cluster: Cluster, clock: Callable[[], float], progress: Callable[[], None]
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._progress = progress
        self._streams: dict[str, _Stream] = {}

    async def adopt(self, node: str, sock: socket.socket) -> None:
        """Talk with a node over a socket that is connected."""
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: _Stream(self, node), sock)

    def flush(self, nodes: list[str] | None = None) -> None:
        """Write what waits for nodes, by default for those that have something new."""
        for node in self._cluster.take_unflushed() if nodes is None else nodes:
            stream = self._streams.get(node)
            if stream is not None and not stream.is_full:
                chunks = self._cluster.take(node, self._clock())
                if chunks:
                    stream.write(chunks)

    def close(self) -> None:
        """Drop all connections."""
        for stream in list(self._streams.values()):
            stream.abort()

    # -- called by streams ------------------------------------------------------------------

    def opened(self, stream: _Stream) -> None:
        """Begin to talk with a node."""
        before = self._streams.get(stream.node)
        self._streams[stream.node] = stream
        if before is not None:
            before.abort()
            self._cluster.close(stream.node, self._clock())
        self._cluster.open(stream.node, self._clock())
        self._progress()

    def received(self, stream: _Stream, chunk: bytes) -> None:
        """Take a chunk."""
        if self._streams.get(stream.node) is stream:
            self._cluster.receive(stream.node, chunk, self._clock())
            self._progress()

    def closed(self, stream: _Stream) -> None:
        """Note that a node is gone."""
        if self._streams.get(stream.node) is stream:
            del self._streams[stream.node]
            self._cluster.close(stream.node, self._clock())
            self._progress()
