"""The log lines of both drivers, in the logger ``kps``."""

import logging

from kps.io_common.logger import INTERVAL, guard
from kps.io_common.logger import logger as logger
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
    StrangerLeft,
)
from kps.protocol.server.hub import Hub
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.websocket import ClosedBy


def log_client_event(event: ClientEvent, server: Address) -> None:
    """Log an event that the user of a client should know."""
    match event:
        case Connected(client_id):
            logger.info("connected to %s as %s", server.url, client_id)
        case ConnectAttemptFailed(reason, retry_in):
            logger.warning(
                "cannot connect to %s: %s; next attempt in %.1f s",
                server.url,
                reason,
                retry_in,
            )
        case Disconnected(closed, retry_in, dropped):
            logger.log(
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
            logger.warning("error from %s: %s%s", server.url, text, about)


def log_hub_event(event: HubEvent) -> None:
    """Log an event that the operator of a server may want to know."""
    match event:
        case ClientRegistered(_, client_id, previous, peer):
            renamed = f", before {previous}" if previous else ""
            logger.debug("client %s from %s%s", client_id, peer, renamed)
        case ClientLeft(client_id, closed, dropped):
            logger.log(
                logging.WARNING if closed.by is ClosedBy.FAULT else logging.DEBUG,
                "client %s left: %s (%d)%s",
                client_id,
                closed.reason or "closed",
                closed.code,
                f"; {dropped} messages dropped" if dropped else "",
            )
        case StrangerLeft(peer, closed):
            logger.debug(
                "unregistered client %s left: %s (%d)", peer, closed.reason or "closed", closed.code
            )
        case OriginRefused(peer, origin):
            logger.warning(
                "refused a page of the origin %s from %s; the option --origin %s (origins= in a "
                "program) lets it in",
                origin,
                peer,
                origin,
            )
        case LoginRefused(peer, reason):
            logger.warning("refused a login from %s: %s", peer, reason)
        case DirectMessageIgnored(sender):
            logger.debug("ignored a direct message of %s: there is no on_id", sender)


def log_overflow(mailbox: Mailbox) -> None:
    """Log that a subscription began to drop messages."""
    logger.warning(
        "the program handles %s too slowly: the mailbox is full and drops messages (%d so far)",
        _messages_of(mailbox.topic),
        mailbox.dropped,
    )


def report_failure(failure: BaseException, topic: str) -> str:
    """Log a callback's exception, and put it into words for the publisher."""
    logger.error("a callback for %s failed", _messages_of(topic), exc_info=failure)
    return in_words(failure)


def notice_failed(failure: BaseException, callback: object) -> None:
    """Log the exception of a callback for a notice."""
    logger.error("a callback failed: %s", _name_of(callback), exc_info=failure)


def hook_failed(peer: str, failure: BaseException) -> HttpResponse:
    """Log the exception of a hook that decides on a client; return the answer for the client."""
    logger.error("the hook that decides on %s failed", peer, exc_info=failure)
    return HttpResponse.text(500, "internal server error")


def log_dropped_notice(callback: object) -> None:
    """Log that too many notices are pending for a program."""
    logger.warning("dropped a notice for %s: it is too slow", _name_of(callback))


def _name_of(callback: object) -> str:
    try:
        return repr(callback)[:200].encode("utf-8", "backslashreplace").decode()
    except BaseException:  # the program's own ``__repr__``
        return type(callback).__name__


class FiguresLog:
    """Logs a line of the server's figures at intervals, if they have changed."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
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
        guard.tell()  # at the same times: what was left out meanwhile
        if figures == self._logged:
            return
        self._logged = figures
        logger.info(
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
