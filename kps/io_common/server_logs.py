"""The log lines of a server, in the logger ``kps``.

The threaded driver passes a ``write`` that may be called with its lock held.
"""

import logging
from typing import cast

from kps.errors import Refused
from kps.io_common.listening import Listeners, name_of
from kps.io_common.logger import INTERVAL, Write, guard
from kps.io_common.logger import write as write_now
from kps.protocol.server.events import (
    ClientDismissed,
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
            write(
                logging.DEBUG,
                "client_registered",
                "client %(client)s from %(address)s" + (", before %(before)s" if previous else ""),
                client=client_id,
                address=peer,
                before=previous,
            )
        case ClientLeft(client, closed, dropped):
            text = "client %(client)s left: %(reason)s (%(code)d)"
            write(
                logging.WARNING if closed.by is ClosedBy.FAULT else logging.DEBUG,
                "client_left",
                text + ("; %(dropped)d messages dropped" if dropped else ""),
                client=client.id,
                address=client.address,
                reason=closed.reason or "closed",
                code=closed.code,
                dropped=dropped,
            )
        case ClientDismissed(client_id, by, identity, by_address):
            text = "client %(client)s is disconnected for %(by)s" + (
                " (%(identity)s)" if identity else ""
            )
            write(
                logging.INFO,
                "client_dismissed",
                text + (" from %(address)s" if by_address else ""),
                client=client_id,
                by=by,
                identity=identity,
                address=by_address,
            )
        case StrangerLeft(peer, closed):
            write(
                logging.DEBUG,
                "stranger_left",
                "unregistered client %(address)s left: %(reason)s (%(code)d)",
                address=peer,
                reason=closed.reason or "closed",
                code=closed.code,
            )
        case OriginRefused(peer, origin):
            text = "refused a page of the origin %(origin)s from %(address)s; the option "
            text += "--origin %(origin)s (origins= in a program) lets it in"
            if not origin:
                text = "refused a page of another origin from %(address)s; its browser names none"
            write(logging.WARNING, "origin_refused", text, origin=origin, address=peer)
        case LoginRefused(peer, reason, why):
            text = "refused a login from %(address)s: %(reason)s" + (" (%(why)s)" if why else "")
            write(logging.WARNING, "login_refused", text, address=peer, reason=reason, why=why)
        case SessionFailed(where, error):
            text = "a fault of the server: %(where)s"
            write(logging.ERROR, "server_fault", text, where=where, failure=error)
        case DirectMessageIgnored(sender):
            text = "ignored a direct message of %(client)s: there is no on_id"
            write(logging.DEBUG, "direct_ignored", text, client=sender)


def hook_failed(
    peer: str, failure: BaseException, write: Write = write_now
) -> HttpResponse | Refused:
    """Return the answer for a client that a hook's exception decides on.

    It is logged, unless it is what hooks raise to refuse.
    """
    if issubclass(type(failure), Refused):  # a program's may refuse ``isinstance``
        return cast("Refused", failure)
    text = "the hook that decides on %(address)s failed"
    write(logging.ERROR, "hook_failed", text, address=peer, failure=failure)
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
            "figures",
            "clients %(clients)d (%(connections)d since the start, %(lost)d of them lost), topics "
            "%(topics)d, published %(published)d, delivered %(delivered)d, dropped %(dropped)d, "
            "refused %(refused)d",
            clients=len(hub.clients),
            connections=stats.connections,
            lost=stats.lost,
            topics=len(hub.state.bus),
            published=stats.published,
            delivered=stats.delivered,
            dropped=dropped,
            refused=stats.refused,
        )


class LifeLog:
    """Logs the start of a server and its end."""

    def __init__(self, hub: Hub, write: Write = write_now) -> None:
        self._hub = hub
        self._write = write
        self._ends_at: float | None = None  # when the end began
        self._clients = 0  # that were there then
        self._cut_off = 0  # of which so many were dropped at last

    def started(self, driver: str, listeners: Listeners) -> None:
        """Log where the server listens, if it does."""
        text = "the server of version %(version)s, on %(driver)s, "
        text += "listens on %(addresses)s" if listeners.bus else "is mounted in an application"
        operators = listeners.operators
        self._write(
            logging.INFO,
            "started",
            text + ("; figures on %(metrics)s" if operators else ""),
            version=self._hub.config.version,
            driver=driver,
            addresses=", ".join(map(name_of, listeners.bus)),
            metrics=", ".join(map(name_of, operators)),
        )

    def ends(self, now: float) -> None:
        """Note that the server begins to end, and which clients there are. May be called twice."""
        if self._ends_at is None:
            self._ends_at, self._clients = now, len(self._hub.clients)

    def cuts_off(self) -> None:
        """Note that all connections that are left are to be dropped."""
        left = sum(bool(one.session.id) for one in self._hub.connections.values())
        self._cut_off = max(self._cut_off, left)

    def ended(self, now: float) -> None:
        """Log how the end went."""
        text = "stopped in %(seconds).1f s: drained %(drained)d clients, cut off %(cut_off)d"
        self._write(
            logging.INFO,
            "stopped",
            text,
            seconds=round(now - (self._ends_at or now), 3),
            drained=max(0, self._clients - self._cut_off),
            cut_off=self._cut_off,
        )
