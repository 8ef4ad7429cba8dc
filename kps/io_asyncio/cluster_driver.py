"""Runs the hub of a server that is one node of a cluster, whose engine is NATS."""

import asyncio
import logging
from collections.abc import Callable
from math import ceil

from kps.errors import ServerStartFailed
from kps.io_asyncio.log import write
from kps.io_asyncio.nats_links import NatsLinks
from kps.io_asyncio.node_driver import NodeDriver
from kps.io_asyncio.runtime import Runtime
from kps.io_asyncio.server_driver import ServerFace
from kps.io_common.cluster_options import ClusterSettings
from kps.io_common.server_options import ServerSettings

_LEAVE_PER_SECOND = 20  # clients of a node that ends, at least


class ClusterDriver(NodeDriver):
    """Runs the hub of one node, and its links to the others over the engine."""

    _links: NatsLinks

    def __init__(
        self,
        face: ServerFace,
        runtime: Runtime,
        settings: ServerSettings,
        cluster: ClusterSettings,
    ) -> None:
        super().__init__(face, runtime, settings, cluster.config)
        self._cluster_settings = cluster
        self._stop = face.stop
        self._end: asyncio.Task[None] | None = None

    async def listen(self, begin: Callable[[str, int], None]) -> None:
        """Accept connections, once it has met the other nodes. Raises as the base class does."""
        links = self._links = NatsLinks(
            self.cluster, self._cluster_settings, self.clock, self.progress, self._yield_to_rival
        )
        try:
            await super().listen(begin)
        except BaseException:
            await links.close()
            raise

    async def prepare(self) -> None:
        """Open the file, then meet the other nodes, and hear what they own."""
        await super().prepare()
        await self._links.open()
        await self.resume()

    def _yield_to_rival(self) -> None:
        """Stop, because another server has the id of this one, and the better right to it."""
        if not self.is_ending and self.failure is None:
            self.failure = ServerStartFailed(self._links.rivalry)
            write(logging.ERROR, "id_taken", f"{self._links.rivalry}: this server ends")
            self._end = self.runtime.loop.create_task(self._stop())

    async def end_connections(self, grace: float) -> None:
        """Hand on what other nodes need, and end all connections within ``grace``.

        The connections end one after the other, so that the clients do not all come to the other
        nodes at once.
        """
        ends = self.clock() + grace
        if grace and self.cluster.nodes.others and not self.cluster.is_leaving:
            await self._stop_listening()
            self.cluster.leave(self.clock())
            self.progress()
            await self.news.until(lambda: self.has_left, grace / 4)
            await self._let_go(grace / 2)
        await super().end_connections(max(0.0, ends - self.clock()))

    async def _let_go(self, seconds: float) -> None:
        """End connections one by one, or more at a time so that this takes ``seconds`` at most."""
        numbers = list(self._by_session)
        step = ceil(len(numbers) / (seconds * _LEAVE_PER_SECOND))
        for begin in range(0, len(numbers), max(1, step)):
            self._hub.shutdown(seconds, self.clock(), numbers[begin : begin + step])
            self.progress()
            await asyncio.sleep(1 / _LEAVE_PER_SECOND)

    async def close(self, grace: float) -> None:
        """End as the base class does, then tell the other nodes."""
        try:
            await super().close(grace)
        finally:
            await self._links.close()
