"""The log lines of a client, in the logger ``kps``."""

import logging

from kps.io_common.logger import Write
from kps.io_common.logger import write as write_now
from kps.protocol.client.events import (
    ClientEvent,
    ConnectAttemptFailed,
    Connected,
    Disconnected,
    ErrorReceived,
    Lost,
)
from kps.protocol.dialect.address import Address
from kps.protocol.wire.websocket import ClosedBy

_LOGGED = frozenset((Connected, ConnectAttemptFailed, Disconnected, ErrorReceived, Lost))


def log_client_event(event: ClientEvent, server: Address, write: Write = write_now) -> None:
    """Log an event that the user of a client should know."""
    if type(event) not in _LOGGED:
        return
    match event:
        case Connected(client_id):
            write(logging.INFO, "connected to %s as %s", server.url, client_id)
        case ConnectAttemptFailed(reason, retry_in):
            write(
                logging.WARNING,
                "cannot connect to %s: %s; next attempt in %.1f s",
                server.url,
                reason,
                retry_in,
            )
        case Disconnected(closed, retry_in, dropped):
            write(
                logging.INFO if closed.by is ClosedBy.LOCAL else logging.WARNING,
                "disconnected from %s: %s (code %d)%s%s",
                server.url,
                closed.reason or "closed",
                closed.code,
                f"; {dropped} messages were not sent" if dropped else "",
                "" if retry_in is None else f"; next attempt in {retry_in:.1f} s",
            )
        case Lost(topic, messages):
            count = "some" if messages is None else str(messages)
            write(logging.WARNING, "%s messages of %r are lost to this client", count, topic)
        case ErrorReceived(text, _, request, topic, to):
            about = f" ({request} {topic or to!r})" if topic or to else ""
            write(logging.WARNING, "error from %s: %s%s", server.url, text, about)
