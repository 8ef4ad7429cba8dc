"""The log lines of a client, in the logger ``kps``."""

import logging

from kps.errors import ConnectionLost
from kps.io_common.logger import Write
from kps.io_common.logger import write as write_now
from kps.protocol.client.events import (
    ClientEvent,
    ConnectAttemptFailed,
    Connected,
    Disconnected,
    Ended,
    ErrorReceived,
    Lost,
)
from kps.protocol.dialect.address import Address
from kps.protocol.wire.websocket import ClosedBy

_LOGGED = frozenset((Connected, ConnectAttemptFailed, Disconnected, Ended, ErrorReceived, Lost))


class ClientLog:
    """Writes what the user of a client should know.

    ``name`` is the id that the program has given, which tells several clients of one process apart;
    ``""`` if it has given none.
    """

    def __init__(self, server: Address, name: str, write: Write = write_now) -> None:
        self._server = server
        self._name = name
        self._write = write
        self._is_missed = False  # whether a warning says that there is no connection

    def note(self, event: ClientEvent) -> None:
        """Log an event, or not."""
        if type(event) not in _LOGGED:
            return
        server, name, write = self._server.url, self._name, self._write
        match event:
            case Connected(client_id):
                # What a warning has begun ends with one: who reads no other lines sees both.
                level = logging.WARNING if self._is_missed else logging.INFO
                line = "connected again" if self._is_missed else "connected"
                line += " to %(server)s as %(client)s"
                self._is_missed = False
                write(level, "connected", line, server=server, client=client_id)
            case ConnectAttemptFailed(reason, retry_in):
                self._is_missed = True
                line = "cannot connect to %(server)s"
                line += " as %(client)s" if name else ""
                line += ": %(reason)s; next attempt in %(retry_in).1f s"
                write(
                    logging.WARNING,
                    "connect_failed",
                    line,
                    server=server,
                    client=name,
                    reason=reason,
                    retry_in=retry_in,
                )
            case Disconnected(closed, retry_in, dropped):
                self._is_missed = closed.by is not ClosedBy.LOCAL
                line = "disconnected from %(server)s"
                line += " as %(client)s" if name else ""
                line += ": %(reason)s (code %(code)d)"
                line += "; %(dropped)d messages were not sent" if dropped else ""
                line += "" if retry_in is None else "; next attempt in %(retry_in).1f s"
                write(
                    logging.WARNING if self._is_missed else logging.INFO,
                    "disconnected",
                    line,
                    server=server,
                    client=name,
                    reason=closed.reason or "closed",
                    code=closed.code,
                    dropped=dropped,
                    retry_in=retry_in,
                )
            # A lost connection without a next attempt was told by ``Disconnected``.
            case Ended(error) if error is not None and not isinstance(error, ConnectionLost):
                line = "the client"
                line += " %(client)s" if name else ""
                line += " of %(server)s has ended for good: %(reason)s"
                reason = str(error)
                write(
                    logging.WARNING, "client_ended", line, server=server, client=name, reason=reason
                )
            case Lost(topic, messages):
                line = "%(count)s messages of %(topic)r are lost to this client"
                line += " (%(client)s)" if name else ""
                count = "some" if messages is None else messages
                write(logging.WARNING, "messages_lost", line, count=count, topic=topic, client=name)
            case ErrorReceived(reason, code, request, topic, to):
                line = "error from %(server)s"
                line += " to %(client)s" if name else ""
                line += ": %(reason)s"
                line += " (%(request)s %(about)r)" if topic or to else ""
                write(
                    logging.WARNING,
                    "error_received",
                    line,
                    server=server,
                    client=name,
                    reason=reason,
                    code=code,
                    request=request,
                    about=topic or to,
                )
