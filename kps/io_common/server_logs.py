"""The log lines of a server, in the logger ``kps``.

The threaded driver passes a ``write`` that may be called with its lock held.
"""

import logging
from typing import cast

from kps.errors import Refused
from kps.io_common.logger import INTERVAL, Write, guard
from kps.io_common.logger import write as write_now
from kps.protocol.server.events import (
    ClientLeft,
    ClientRegistered,
    DirectMessageIgnored,
    HubEvent,
    LoginRefused,
    OriginRefused,
    SessionFailed,
    StrangerLeft,
)
from kps.protocol.server.hub import Hub
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.websocket import ClosedBy


def log_hub_event(event: HubEvent, write: Write = write_now) -> None:
    """Log an event that the operator of a server may want to know."""
    match event:
        case ClientRegistered(_, client_id, previous, peer):
            renamed = f", before {previous}" if previous else ""
            write(logging.DEBUG, "client %s from %s%s", client_id, peer, renamed)
        case ClientLeft(client, closed, dropped):
            write(
                logging.WARNING if closed.by is ClosedBy.FAULT else logging.DEBUG,
                "client %s left: %s (%d)%s",
                client.id,
                closed.reason or "closed",
                closed.code,
                f"; {dropped} messages dropped" if dropped else "",
            )
        case StrangerLeft(peer, closed):
            write(
                logging.DEBUG,
                "unregistered client %s left: %s (%d)",
                peer,
                closed.reason or "closed",
                closed.code,
            )
        case OriginRefused(peer, origin):
            write(
                logging.WARNING,
                "refused a page of the origin %s from %s; the option --origin %s (origins= in a "
                "program) lets it in",
                origin,
                peer,
                origin,
            )
        case LoginRefused(peer, reason):
            write(logging.WARNING, "refused a login from %s: %s", peer, reason)
        case SessionFailed(where, error):
            write(logging.ERROR, "a fault of the server: %s", where, failure=error)
        case DirectMessageIgnored(sender):
            write(logging.DEBUG, "ignored a direct message of %s: there is no on_id", sender)


def hook_failed(
    peer: str, failure: BaseException, write: Write = write_now
) -> HttpResponse | Refused:
    """Return the answer for a client that a hook's exception decides on.

    It is logged, unless it is what hooks raise to refuse.
    """
    if issubclass(type(failure), Refused):  # a program's may refuse ``isinstance``
        return cast("Refused", failure)
    write(logging.ERROR, "the hook that decides on %s failed", peer, failure=failure)
    return HttpResponse.text(500, "internal server error")


class FiguresLog:
    """Logs a line of the server's figures at intervals, if they have changed."""

    def __init__(self, hub: Hub, write: Write = write_now) -> None:
        self._hub = hub
        self._write = write
        self._logged = (0, 0, 0, 0)
        self._next: float | None = None

    def log_now_and_then(self, now: float) -> float:
        """Log if it is time; return the time of the next line."""
        if self._next is None:
            self._next = now + INTERVAL
        elif now >= self._next:
            self.log()
            self._next = now + INTERVAL
        return self._next

    def log(self) -> None:
        """Log the figures, unless none that matters has changed since the last line."""
        hub = self._hub
        stats = hub.stats
        dropped = hub.dropped()
        figures = (stats.connections, stats.lost, dropped, stats.refused)
        guard.tell(self._write)  # at the same times: what was left out meanwhile
        if figures == self._logged:
            return
        self._logged = figures
        self._write(
            logging.INFO,
            "clients %d (%d since the start, %d of them lost), topics %d, published %d, "
            "delivered %d, dropped %d, refused %d",
            len(hub.clients),
            stats.connections,
            stats.lost,
            len(hub.state.bus),
            stats.published,
            stats.delivered,
            dropped,
            stats.refused,
        )
