"""Which nodes there are, where all of them hear what one tells all: over an engine.

Each node announces itself now and then, and answers the announcement of a node that it did not
know. A node that announces itself is given a link, which finds out the rest. One that is silent,
and whose link is down, is forgotten.
"""

from typing import Any, NamedTuple

from kps.protocol.cluster.cluster import Cluster
from kps.protocol.cluster.config import ClusterConfig
from kps.protocol.cluster.seal import Seal
from kps.protocol.dialect.envelope import InvalidMessage, load, write

_LONGEST_NAME = 1000  # characters: one that is longer has no subject


class Life(NamedTuple):
    """One run of a server. Of two with one id, the later one gives way."""

    began: float
    """Seconds since 1970."""
    token: int
    """What tells two apart that began at the same time."""


class Membership:
    """The nodes that this one hears, over an engine that carries what one tells all."""

    def __init__(self, cluster: Cluster, config: ClusterConfig, life: Life) -> None:
        self.rival = False
        """Whether another server has the id of this one, and the better right to it: it serves
        clients already, or has begun before this one."""
        self.is_serving = False
        """Whether this node serves clients."""
        self._other = 0  # the token of another server with our id
        self.unreadable = 0
        """Announcements that this node could not read, perhaps because of another secret."""
        self._cluster = cluster
        self._config = config
        self._life = life
        self._seal = Seal(config.secret)
        self._me = cluster.nodes.me
        self._heard: dict[str, _Heard] = {}
        self._is_open = False
        self._times = 0  # that there was an engine
        self._next = 0.0  # when this node announces itself again
        self._ready: list[bytes] = []

    # -- the engine -------------------------------------------------------------------------

    def open(self, now: float) -> None:
        """Begin, because there is an engine."""
        self._is_open = True
        self._times += 1
        self._announce(now)
        self._cluster.schedule(self)

    def say_farewell(self, now: float) -> None:
        """Tell all nodes that this one ends, and from then on say and hear nothing.

        A node that met it now would take it for there until its silence lasts too long.
        """
        self._cluster.say_farewell(now)
        self._fall_silent()

    def close(self, now: float) -> None:
        """Let all nodes go, because there is no engine any more."""
        self._fall_silent()
        for node in list(self._heard):
            self._forget(node, now)

    @property
    def has_output(self) -> bool:
        """Whether there is something to take."""
        return bool(self._ready)

    def take(self) -> list[bytes]:
        """Return what the engine is to tell all nodes."""
        ready, self._ready = self._ready, []
        return ready

    def hear(self, chunk: bytes, now: float) -> None:
        """Take what a node tells all, perhaps this one."""
        body = self._seal.open(chunk)
        said = None if body is None else _read(body)
        if said is None:
            self.unreadable += 1
        if said is None or said.cluster != self._config.name or not self._is_open:
            return
        if said.node == self._me:
            self._heard_own_name(said, now)
            return
        heard, begun = self._heard.get(said.node), (said.life, said.times)
        self._heard[said.node] = _Heard(now, begun)
        if heard is None:
            self._cluster.open(said.node, now)
        if heard is None or heard.begun != begun:
            self._announce(now)  # it may not know us: it has begun again, perhaps in a moment

    def _heard_own_name(self, said: "_Said", now: float) -> None:
        """Find out whether another server has our id: one that answers us, and no recording."""
        if said.life == self._life:
            return
        if said.life.token != self._other:
            self._other = said.life.token
            self._announce(now)  # an answer
        if said.answers == self._life.token:
            was_first = said.life < self._life
            self.rival = self.rival or (
                was_first if said.is_serving == self.is_serving else said.is_serving
            )

    @property
    def missing(self) -> list[str]:
        """The nodes that are there, but whose links are not up."""
        return [node for node in self._heard if node not in self._cluster.nodes.others]

    # -- time -------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When this node announces itself again."""
        return self._next if self._is_open else None

    def handle_timeout(self, now: float) -> None:
        """Announce this node, and forget those that are silent."""
        if self._is_open and now >= self._next:
            self._announce(now)
            for node, heard in list(self._heard.items()):
                is_up = node in self._cluster.nodes.others
                if not is_up and now >= heard.at + self._config.patience:
                    self._forget(node, now)

    # -- within -----------------------------------------------------------------------------

    def _fall_silent(self) -> None:
        self._is_open = False
        self._ready.clear()

    def _announce(self, now: float) -> None:
        self._next = now + self._config.heartbeat
        state = self.is_serving, self._other
        body = write([self._config.name, self._me, *self._life, *state, self._times])
        self._ready.append(self._seal.close(body))

    def _forget(self, node: str, now: float) -> None:
        del self._heard[node]
        self._cluster.forget(node, now)


class _Said(NamedTuple):
    cluster: str
    node: str
    life: Life
    is_serving: bool
    answers: int
    """The token of the other server of the same id that it has heard, or 0."""
    times: int
    """How often it has found the engine."""


class _Heard(NamedTuple):
    """When a node was heard last, and in which life, and after which loss of the engine."""

    at: float
    begun: tuple[Life, int]


def _read(body: bytes) -> _Said | None:
    """Return what a node has said; ``None`` if it says nothing that we understand."""
    try:
        said: Any = load(body)
        # A later version may say more.
        cluster, node, began, token, is_serving, answers, times = said[:7]
        life = Life(float(began), int(token))
        if not 0 < len(node) <= _LONGEST_NAME:
            return None
        return _Said(str(cluster), str(node), life, bool(is_serving), int(answers), int(times))
    except (InvalidMessage, TypeError, ValueError):
        return None
