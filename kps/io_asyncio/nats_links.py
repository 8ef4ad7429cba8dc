"""Carries the links of a node over NATS: each node has a subject, and one is for all of them.

Nothing is subscribed or unsubscribed as topics come and go. Whatever NATS loses leaves a gap in
the numbers of a link, which notices it.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from kps.errors import InvalidArgument, ServerStartFailed
from kps.io_asyncio.log import write
from kps.io_common.cluster_options import ClusterSettings, without_password
from kps.io_common.system_errors import describe
from kps.protocol.cluster.cluster import Cluster
from kps.protocol.cluster.membership import Life, Membership

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

_CONNECT = 10.0  # seconds for the first connection to the engine
_SETTLE = 0.5  # seconds in which other nodes answer the first announcement
_LOOK = 0.02  # seconds between looks whether they have
_PING = 2  # seconds between pings of the engine, of which two may have no answer
_RECONNECT = 1  # seconds between attempts to reach the engine again
_FAREWELL = 1.0  # seconds for the engine to take the last words
_MUCH = 1024 * 1024  # bytes for the engine, after which we wait until it has taken them
_WHILE_FULL = 0.005  # seconds between looks at that
_LONGEST_ID = 1000  # characters, as it is written in a subject
_LEAST_PAYLOAD = 512 * 1024  # bytes of a message that the engine must take


class NatsLinks:
    """The links of a node over NATS. ``progress`` asks its driver for a step."""

    def __init__(
        self,
        cluster: Cluster,
        settings: ClusterSettings,
        clock: Callable[[], float],
        progress: Callable[[], None],
        rival: Callable[[], None],
    ) -> None:
        self.membership = Membership(
            cluster, settings.config, Life(time.time(), secrets.randbits(64))
        )
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._progress = progress
        self._rival = rival
        """Is called when another server has the id of this node."""
        self._prefix = f"kps.{_quoted(settings.config.name)}"
        self._me = _quoted(cluster.nodes.me)
        self._client: Client
        self._failure = ""  # of the latest attempt to reach the engine
        self._nodes: dict[str, None] = {}  # those for which there is something to write
        self._has_output = asyncio.Event()
        self._has_met = self._has_warned = self._is_closing = False
        self._writer: asyncio.Task[None] | None = None
        self._meeting: asyncio.Task[None] | None = None

    # -- life -------------------------------------------------------------------------------

    async def open(self) -> None:
        """Reach the engine, and meet the nodes that are there.

        Raises :class:`kps.ServerStartFailed`.
        """
        try:
            from nats.aio.client import Client
        except ImportError:
            raise InvalidArgument("a cluster needs nats-py: pip install 'nats-py[nkeys]'") from None
        if len(self._me) > _LONGEST_ID:
            text = (
                "the id of a node is a part of subjects: at most %d characters, fewer if not ASCII"
            )
            raise ServerStartFailed(text % _LONGEST_ID)
        self._new_client = _demanding(Client)
        try:
            async with asyncio.timeout(_CONNECT):
                await self._connect()
                # What is not allowed is told later: so try both, and wait until all was said.
                await self._client.publish(f"{self._prefix}.to.{self._me}.{self._me}", b"")
                await self._until_read()
        except Exception as error:
            why = self._failure or _in_words(error)
            text = f"no engine at {self._settings.shown}: {why}; does NATS run there?"
            raise ServerStartFailed(text) from error
        if "permissions" in self._failure.lower():
            raise ServerStartFailed(f"{self._failure} (a node needs {self._prefix}.>)")
        if self._takes_too_little:
            raise ServerStartFailed(self._takes_too_little)
        if not self._settings.config.secret:
            text = "the cluster has no secret: whoever may publish to NATS may speak for a node"
            write(logging.WARNING, "no_cluster_secret", text)
        self._writer = asyncio.get_running_loop().create_task(self._write())
        self.membership.open(self._clock())
        self._progress()
        await self._meet()
        if self.membership.rival:
            raise ServerStartFailed(self.rivalry)
        self._has_met = self.membership.is_serving = True

    @property
    def _takes_too_little(self) -> str:
        """What to say if the engine takes too little at a time; else empty."""
        most = self._client.max_payload
        if most >= _LEAST_PAYLOAD:
            return ""
        text = f"the engine takes {most} bytes at a time, and not {_LEAST_PAYLOAD}"
        return f"{text}: see max_payload of NATS"

    async def _connect(self) -> None:
        client = self._client = self._new_client()
        await client.connect(
            list(self._settings.servers),
            name=f"kps {self._cluster.nodes.me}",
            user_credentials=self._settings.credentials,
            tls=self._settings.tls,
            error_cb=self._failed,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            no_echo=True,
            pending_size=0,  # what waits while there is no engine would come too late
            max_reconnect_attempts=-1,
            reconnect_time_wait=_RECONNECT,
            ping_interval=_PING,
        )
        await client.subscribe(f"{self._prefix}.to.{self._me}.*", cb=self._take)
        await client.subscribe(f"{self._prefix}.all", cb=self._hear)

    async def _meet(self) -> None:
        """Wait until all nodes have told this one what it must know, for its clients."""
        begun = self._clock()
        until = begun + _SETTLE + self._settings.config.patience
        while self._clock() < begun + _SETTLE or not self._has_heard_all:
            if self.membership.rival:
                break  # this one does not begin
            if self._clock() >= until:
                missing = ", ".join(self.membership.missing) or "some"
                text = "not all nodes have answered (%(nodes)s); this one begins without them"
                write(logging.WARNING, "nodes_missing", text, nodes=missing)
                break
            await asyncio.sleep(_LOOK)

    @property
    def _has_heard_all(self) -> bool:
        return not self.membership.missing and self._cluster.agreement.is_sure

    @property
    def rivalry(self) -> str:
        """What to say if another server has the id of this node."""
        config = self._settings.config
        me = self._cluster.nodes.me
        return f"the cluster {config.name} has a server with the id {me}: give this one another id"

    async def close(self) -> None:
        """Tell the other nodes that this one ends, and leave."""
        self.membership.say_farewell(self._clock())
        self.flush()
        if self._writer is not None and self._client.is_connected:
            with contextlib.suppress(Exception):  # the engine has gone just now, or is too slow
                async with asyncio.timeout(_FAREWELL):
                    await self._drain()
                    # NATS drops what it has not read of a connection to which it cannot write
                    # any more.
                    await self._until_read()
        await self._end()

    async def _until_read(self) -> None:
        """Wait until the engine has read what was written to it."""
        for _ in range(2):  # the first ping overtakes what the library has yet to write
            await self._client.flush()

    async def _end(self) -> None:
        self._is_closing = True
        self.membership.close(self._clock())
        self._stop(self._meeting)
        self._stop(self._writer)
        with contextlib.suppress(Exception):  # it may never have connected
            await self._client.close()

    def _stop(self, task: "asyncio.Task[None] | None") -> None:
        if task is not None:
            task.cancel()

    # -- what goes out ----------------------------------------------------------------------

    def flush(self) -> None:
        """Let what waits for other nodes be written."""
        self._nodes |= dict.fromkeys(self._cluster.take_unflushed())
        if self._nodes or self.membership.has_output:
            self._has_output.set()

    async def _write(self) -> None:
        while True:
            await self._has_output.wait()
            self._has_output.clear()
            try:
                await self._drain()
            except Exception as error:  # the engine is gone; then ``_disconnected`` comes
                self._failure = str(error)

    async def _drain(self) -> None:
        client = self._client
        for chunk in self.membership.take():
            await client.publish(f"{self._prefix}.all", chunk)
        while self._nodes:
            node = next(iter(self._nodes))
            del self._nodes[node]
            if len(_quoted(node)) > _LONGEST_ID:
                continue  # no node; somebody who knows no secret may have said so
            for chunk in self._cluster.take(node, self._clock()):
                await client.publish(f"{self._prefix}.to.{_quoted(node)}.{self._me}", chunk)
            while client.pending_data_size > _MUCH and client.is_connected:  # noqa: ASYNC110
                await asyncio.sleep(_WHILE_FULL)  # the library has no event for it

    # -- what comes in ----------------------------------------------------------------------

    async def _take(self, message: "Msg") -> None:
        node = unquote(message.subject.rpartition(".")[2])
        self._cluster.receive(node, message.data, self._clock())
        self._progress()

    async def _hear(self, message: "Msg") -> None:
        self.membership.hear(message.data, self._clock())
        self._progress()
        if self.membership.unreadable and not self._has_warned:
            self._has_warned = True
            text = (
                "a node of the cluster %(cluster)s has another cluster_secret, or another version: "
                "they do not meet"
            )
            write(logging.WARNING, "strange_node", text, cluster=self._settings.config.name)
        if self.membership.rival and self._has_met:
            self._rival()

    # -- what becomes of the engine ---------------------------------------------------------

    async def _disconnected(self) -> None:
        if self._is_closing:
            return
        text = "the engine of the cluster is away: %(error)s"
        write(logging.ERROR, "engine_lost", text, error=self._failure or "the connection is lost")
        self._stop(self._meeting)
        self.membership.close(self._clock())
        self._cluster.has_engine(False, self._clock())
        self._progress()
        if self._client.is_closed:  # the engine has turned us away, for instance; try again
            self._meeting = asyncio.get_running_loop().create_task(self._connect_again())

    async def _connect_again(self) -> None:
        while True:
            await asyncio.sleep(_RECONNECT)
            with contextlib.suppress(Exception):  # ``_failed`` tells why
                await self._connect()
                break
        self._meeting = None  # which is this task
        await self._reconnected()

    async def _reconnected(self) -> None:
        self._failure = ""
        url = self._client.connected_url
        engine = "" if url is None else without_password(url.geturl())
        write(
            logging.INFO, "engine_found", "the engine of the cluster is %(engine)s", engine=engine
        )
        if self._takes_too_little:  # so it is as if there were none
            write(logging.ERROR, "engine_too_small", self._takes_too_little)
            return
        self.membership.open(self._clock())
        self._progress()
        self._meeting = asyncio.get_running_loop().create_task(self._meet_again())

    async def _meet_again(self) -> None:
        await self._meet()
        self._cluster.has_engine(True, self._clock())
        self._progress()

    async def _failed(self, error: Exception) -> None:
        failure = _in_words(error)
        if failure != self._failure and self._has_met:
            write(logging.WARNING, "engine_error", "NATS: %(error)s", error=failure)
        self._failure = failure


def _demanding(client: "type[Client]") -> "type[Client]":
    """Return a client that says nothing, above all no password, to an engine without TLS.

    The library takes what the engine tells of itself, so anybody in between could prevent TLS.
    """
    from nats.errors import Error

    class DemandingClient(client):  # type: ignore[misc, valid-type]
        def _connect_command(self) -> bytes:
            is_secret = self._current_server.uri.scheme == "tls"
            if is_secret and not self._server_info.get("tls_required"):
                raise Error("it offers no TLS, which a tls:// URL demands")
            return bytes(super()._connect_command())

    return DemandingClient


def _in_words(error: Exception) -> str:
    """Put an error into words: those of the system and of TLS, which name the check that failed."""
    if isinstance(error, OSError):
        return describe(error)
    return str(error) or type(error).__name__


def _quoted(name: str) -> str:
    """Return a name as one part of a subject."""
    return quote(name, safe="").replace(".", "%2E").replace("~", "%7E")
