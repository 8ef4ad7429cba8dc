"""Admits a client for one request, in which it is none of the registered clients."""

from functools import partial

from kps.protocol.access.rules import OVER_HTTP
from kps.protocol.dialect.envelope import Fields, InvalidMessage
from kps.protocol.dialect.server import LEVEL_2, ServerLevel1
from kps.protocol.server.events import ConnectedClient, ConnectRequested
from kps.protocol.server.gate import Gate, Step


class RequestGate(Gate):
    """A gate whose client registers without an id of its own.

    Its sender tells whose request it is. Nothing can be sent there, and no client can have it as
    its id. The program decides on it as on an id.
    """

    is_for_one_request = True

    __slots__ = ()

    def _register(self, fields: Fields, before: object = None) -> None:
        state, applicant = self._state, self._applicant
        if self.ends_at is not None and self.ends_at <= state.now:
            self._tell(_TOO_OLD)
            raise InvalidMessage(_TOO_OLD, "unauthorized")
        sender = OVER_HTTP + self.known.name
        enter = partial(self._enter, sender, LEVEL_2, "")
        if not state.config.asks_connect:
            enter()
            return
        known = (self.identity, self.ends_at)
        self.hold(partial(self._judge_id, {}, enter, known))
        client = ConnectedClient(sender, self.known.name, applicant.peer, LEVEL_2.level, "")
        state.emit(ConnectRequested(applicant.number, client))

    def _enter(self, client_id: str, dialect: ServerLevel1, nonce: str) -> None:
        applicant = self._applicant
        applicant.speak(dialect)
        applicant.id = client_id
        self.register_by = None
        self._move(Step.REGISTERED)
        applicant.reply(_REGISTERED)


_TOO_OLD = "the time of the token is over"
_REGISTERED = b'{"action":"pong"}'
"""Tells the transport that the client has registered. It goes no further."""
