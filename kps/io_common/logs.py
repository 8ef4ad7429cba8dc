"""The log lines of both drivers, in the logger ``kps``.

The threaded driver passes a ``write`` that may be called with its lock held.
"""

import logging

from kps.io_common.logger import INTERVAL, Write, guard
from kps.io_common.logger import write as write_now
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.client.events import (
    ClientEvent,
    ConnectAttemptFailed,
    Connected,
    Disconnected,
    ErrorReceived,
)
from kps.protocol.dialect.address import Address
from kps.protocol.dialect.outcome import in_words
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


def log_client_event(event: ClientEvent, server: Address, write: Write = write_now) -> None:
    """Log an event that the user of a client should know."""
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
        case ErrorReceived(text, _, request, topic, to):
            about = f" ({request} {topic or to!r})" if topic or to else ""
            write(logging.WARNING, "error from %s: %s%s", server.url, text, about)


def log_hub_event(event: HubEvent, write: Write = write_now) -> None:
    """Log an event that the operator of a server may want to know."""
    match event:
        case ClientRegistered(_, client_id, previous, peer):
            renamed = f", before {previous}" if previous else ""
            write(logging.DEBUG, "client %s from %s%s", client_id, peer, renamed)
        case ClientLeft(client_id, closed, dropped):
            write(
                logging.WARNING if closed.by is ClosedBy.FAULT else logging.DEBUG,
                "client %s left: %s (%d)%s",
                client_id,
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


def log_overflow(mailbox: Mailbox, write: Write = write_now) -> None:
    """Log that a subscription began to drop messages."""
    write(
        logging.WARNING,
        "the program handles %s too slowly: the mailbox is full and drops messages (%d so far)",
        _messages_of(mailbox.topic),
        mailbox.dropped,
    )


def report_failure(failure: BaseException, topic: str) -> str:
    """Log a callback's exception, and put it into words for the publisher."""
    write_now(logging.ERROR, "a callback for %s failed", _messages_of(topic), failure=failure)
    return in_words(failure)


def notice_failed(failure: BaseException, callback: object) -> None:
    """Log the exception of a callback for a notice."""
    write_now(logging.ERROR, "a callback failed: %r", callback, failure=failure)


def hook_failed(peer: str, failure: BaseException, write: Write = write_now) -> HttpResponse:
    """Log the exception of a hook that decides on a client; return the answer for the client."""
    write(logging.ERROR, "the hook that decides on %s failed", peer, failure=failure)
    return HttpResponse.text(500, "internal server error")


def log_dropped_notice(callback: object, write: Write = write_now) -> None:
    """Log that too many notices are pending for a program."""
    write(logging.WARNING, "dropped a notice for %r: it is too slow", callback)


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


def _messages_of(topic: str) -> str:
    return f"topic {topic!r}" if topic else "messages without a topic"
