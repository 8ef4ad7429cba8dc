"""A node that starts with what a store has kept: it goes on with what no other node owns."""

from kps.protocol.calls import entry
from kps.protocol.cluster.histories import Histories
from kps.protocol.cluster.logs import ClusterLogBook
from kps.protocol.cluster.owners import COPY, WHOLE
from kps.protocol.server.state import ServerState


class Resumption:
    """What a driver does for that, between the opening of the store and the first client."""

    def __init__(self, state: ServerState, logs: ClusterLogBook, histories: Histories) -> None:
        self.calls = state.calls
        self._state = state
        self._logs = logs
        self._histories = histories

    @property
    def is_over(self) -> bool:
        """Whether every topic of the store has an owner."""
        return not self._logs.waiting

    @entry
    def own_whole(self, now: float) -> None:
        """Own the topics of which the store has all, unless other nodes own them.

        To be called once this node has heard what they own. Unless that was all (``is_over``),
        ``own_copies`` is to be called a moment later: in it, other nodes take over what nobody owns
        of what they keep, and those that start as well own what their stores have all of.
        """
        self._state.now = now
        waiting = self._logs.waiting
        for topic in [topic for topic, is_whole in waiting.items() if is_whole]:
            log = self._logs.known(topic)
            if log is not None:
                self._histories.own(log, WHOLE)

    @entry
    def own_copies(self, now: float) -> None:
        """Own the topics of the store that nobody owns, in a new epoch."""
        self._state.now = now
        waiting = self._logs.waiting
        logs = [self._logs.known(topic) for topic in waiting]
        self._histories.take_over([log for log in logs if log is not None], COPY)
        waiting.clear()
