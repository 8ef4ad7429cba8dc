"""Runs the hub of a server that is one node of a cluster."""

import asyncio
import logging
import secrets
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from kps.io_asyncio.driver import Face
from kps.io_asyncio.log import write
from kps.io_asyncio.runtime import Runtime
from kps.io_asyncio.server_driver import ServerDriver
from kps.io_common.ids import random_id
from kps.io_common.server_options import ServerSettings
from kps.protocol.cluster.cluster import Cluster
from kps.protocol.cluster.config import ClusterConfig
from kps.protocol.cluster.link import ENDED
from kps.protocol.server.config import HubConfig
from kps.protocol.server.hub import Hub

if TYPE_CHECKING:
    from kps.io_common.metrics import Exporter


_MOMENT = 0.5  # seconds for nodes with a better right to a topic to say that they own it


class Links(Protocol):
    """What carries the links of a node."""

    def flush(self) -> None:
        """Write what waits for other nodes."""


class NodeDriver(ServerDriver):
    """Runs the hub of one node of a cluster, and its links to the others."""

    answers_for_all = False
    """Whether one node has the figures of all for operators; otherwise each has its own."""
    harmless: Collection[str] = (ENDED,)
    """Why links may fall without a warning, if nothing is lost."""
    cluster: Cluster
    _links: Links

    def __init__(
        self, face: Face, runtime: Runtime, settings: ServerSettings, config: ClusterConfig
    ) -> None:
        super().__init__(face, runtime, settings)
        self._cluster_config = config

    def new_hub(self, config: HubConfig, exporter: "Exporter | None") -> Hub:
        """Make the core."""
        is_own = exporter is not None and not self.answers_for_all
        self.cluster = Cluster(
            config,
            self._cluster_config,
            new_id=lambda: random_id("client"),
            new_token=new_token,
            now=self.clock(),
            metrics=exporter.respond if exporter is not None and is_own else None,
            exporter=None if is_own else exporter,
        )
        return self.cluster.hub

    async def resume(self) -> None:
        """Go on with what the file for history has of topics that no other node owns."""
        resumption = self.cluster.resumption
        if resumption is None or resumption.is_over:
            return
        resumption.own_whole(self.clock())
        self.progress()
        if not resumption.is_over:
            await asyncio.sleep(_MOMENT)
            resumption.own_copies(self.clock())
            self.progress()

    @property
    def has_left(self) -> bool:
        """Whether this node is home to nothing any more, and others own its topics."""
        histories = self.cluster.histories
        return self.cluster.has_left and not (histories and histories.owners.unconfirmed)

    async def close(self, grace: float) -> None:
        """End as the base class does. What others want to have kept now would not be in a file."""
        if self._history is not None and self.cluster.histories is not None:
            self.cluster.histories.hold(for_good=True)
        await super().close(grace)

    def _flush(self) -> None:
        # First what other nodes are told: who was asked must be known before a client can answer,
        # and this node die.
        self._links.flush()
        super()._flush()
        self._links.flush()
        if self.cluster.is_leaving:
            self.news.announce()  # somebody waits until the cluster can do without this node
        changes, self.cluster.changes = self.cluster.changes, []
        for node, reason, lost in changes:
            if reason and not self.is_ending:
                level = logging.INFO if reason in self.harmless and not lost else logging.WARNING
                text = "the link to %(node)s fell: %(reason)s; %(lost)d frames are lost"
                write(level, "link_fell", text, node=node, reason=reason, lost=lost)
            elif not reason:
                write(logging.INFO, "link_up", "the link to %(node)s is up", node=node)
        while self.cluster.other_histories:
            text = (
                "%(node)s has history for other topics than this node: messages on a topic that "
                "has it on one of them only do not reach the other"
            )
            write(logging.ERROR, "other_history", text, node=self.cluster.other_histories.pop())
        while self.cluster.forged:
            text = (
                "a chunk in the name of %(node)s has a wrong signature: that node has another "
                "cluster_secret, or somebody forges; it and all others like it are dropped"
            )
            write(logging.WARNING, "forged_chunk", text, node=self.cluster.forged.pop())


def new_token() -> int:
    """Return an unpredictable number of 64 bits that is not 0."""
    return secrets.randbits(64) or 1
