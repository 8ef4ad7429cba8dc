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


def log_client_event(event: ClientEvent, server: Address, write: Write = write_now) -> None:
    """Log an event that the user of a client should know."""
    if type(event) not in _LOGGED:
        return
    match event:
        case Connected(client_id):
            line = "connected to %(server)s as %(client)s"
            write(logging.INFO, "connected", line, server=server.url, client=client_id)
        case ConnectAttemptFailed(reason, retry_in):
            write(
                logging.WARNING,
                "connect_failed",
                "cannot connect to %(server)s: %(reason)s; next attempt in %(retry_in).1f s",
                server=server.url,
                reason=reason,
                retry_in=retry_in,
            )
        case Disconnected(closed, retry_in, dropped):
            line = "disconnected from %(server)s: %(reason)s (code %(code)d)"
            line += "; %(dropped)d messages were not sent" if dropped else ""
            line += "" if retry_in is None else "; next attempt in %(retry_in).1f s"
            write(
                logging.INFO if closed.by is ClosedBy.LOCAL else logging.WARNING,
                "disconnected",
                line,
                server=server.url,
                reason=closed.reason or "closed",
                code=closed.code,
                dropped=dropped,
                retry_in=retry_in,
            )
        # A lost connection without a next attempt was told by ``Disconnected``.
        case Ended(error) if error is not None and not isinstance(error, ConnectionLost):
            line = "the client of %(server)s has ended for good: %(reason)s"
            write(logging.WARNING, "client_ended", line, server=server.url, reason=str(error))
        case Lost(topic, messages):
            line = "%(count)s messages of %(topic)r are lost to this client"
            count = "some" if messages is None else messages
            write(logging.WARNING, "messages_lost", line, count=count, topic=topic)
        case ErrorReceived(reason, code, request, topic, to):
            line = "error from %(server)s: %(reason)s"
            line += " (%(request)s %(about)r)" if topic or to else ""
            write(
                logging.WARNING,
                "error_received",
                line,
                server=server.url,
                reason=reason,
                code=code,
                request=request,
                about=topic or to,
            )
