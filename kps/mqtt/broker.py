"""Moves the bytes of a session at the broker, and connects again."""

import asyncio
import contextlib
import logging
import random
import ssl
from functools import partial
from typing import Protocol, cast

from kps.errors import KPSError
from kps.io_common.logger import write
from kps.mqtt.core.packets import Connack, Filter, Publish
from kps.mqtt.core.reasons import TAKEN_OVER, is_final, is_other_version
from kps.mqtt.core.sending import Outgoing
from kps.mqtt.core.session import (
    Arrived,
    Broken,
    Event,
    Opened,
    Refused,
    Session,
    Subscribed,
    versions,
)
from kps.mqtt.core.settings import Settings
from kps.mqtt.failures import in_words
from kps.protocol.client.reconnect import Backoff

_CONNECT = 10.0  # seconds for TCP and TLS
_STEADY = 15.0  # seconds of a connection without messages, after which waits begin anew
_BACKOFF = Backoff(first=0.1, longest=15.0)


class BrokerFailed(KPSError):
    """The broker does not let the bridge work, and would not let it later."""


class Side(Protocol):
    """The bridge, as its connection to the broker sees it.

    ``arrived`` and ``lost`` raise nothing. What the others raise ends the bridge.
    """

    def opened(self, connack: Connack, version: int) -> None:
        """A connection is there. Raises :class:`kps.KPSError` if it is of no use."""

    def arrived(self, message: Publish) -> None:
        """A message has come."""

    def subscribed(self, codes: tuple[int, ...]) -> None:
        """The broker has answered the subscriptions. Raises :class:`BrokerFailed`."""

    def lost(self) -> None:
        """The connection is gone."""


class BrokerLink:
    """The connection to the broker, one after the other."""

    def __init__(self, settings: Settings, tls: ssl.SSLContext | None, side: Side) -> None:
        self.address = settings.address
        self.session = Session(settings.session)
        self._settings = settings
        self._tls = tls
        self._side = side
        self._version: int | None = None  # that the broker has accepted
        self._transport: asyncio.Transport | None = None
        self._gone = asyncio.Event()
        self._room = asyncio.Event()
        self._is_full = False  # whether the transport takes no more
        self._is_reading = True
        self._is_flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._failure: KPSError | None = None
        self._attempt = 0
        self._opened_at = 0.0
        self._is_other_version = False
        self._why = ""
        self._loop = asyncio.get_running_loop()

    # -- life -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep connected. Raises :class:`BrokerFailed`."""
        while True:
            for version in versions(self._version or self._settings.version):
                await self._connect_once(version)
                if self._failure is not None:
                    raise self._failure
                if self._version is not None or not self._is_other_version:
                    break
            await self._wait()

    async def close(self) -> None:
        """Say good-bye, and write what is left."""
        self.session.disconnect()
        self._flush()
        if self._transport is not None:
            self._transport.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), 1.0)

    async def _connect_once(self, version: int) -> None:
        """Connect, and stay until the connection is gone."""
        self._gone.clear()
        self._is_other_version = False
        self._why = ""
        make = partial(_Bytes, self, version)
        host, port, _ = self.address
        try:
            async with asyncio.timeout(_CONNECT):
                await self._loop.create_connection(make, host, port, ssl=self._tls)
        except OSError as error:  # of TLS and of time, too
            self._why = in_words(error, is_secure=self._tls is not None)
        else:
            await self._gone.wait()

    async def _wait(self) -> None:
        delay = _BACKOFF.delay(self._attempt, random.random())
        self._attempt += 1
        write(
            logging.WARNING,
            "broker_away",
            "no connection to %(broker)s: %(reason)s; next attempt in %(retry_in).1f s",
            broker=str(self.address),
            reason=self._why,
            retry_in=delay,
        )
        await asyncio.sleep(delay)

    # -- what the bridge does ---------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the broker takes messages now."""
        return self.session.is_open

    async def room(self, qos: int) -> None:
        """Wait until one more message may be given.

        With QoS 1 that needs no connection, but a place among those under way. With QoS 0 it
        returns when there is no connection, too.
        """
        while not self.has_room(qos):
            self._room.clear()
            await self._room.wait()

    def has_room(self, qos: int) -> bool:
        """Tell whether one more message may be given now."""
        return not self._is_full and (qos == 0 or self.session.has_room)

    def publish(self, message: Outgoing) -> None:
        """Send a message for which there is ``room``."""
        self.session.publish(message)
        self.flush_soon()

    def subscribe(self, filters: list[Filter]) -> None:
        """Subscribe."""
        self.session.subscribe(filters, self._loop.time())
        self.flush_soon()

    def acknowledge(self, pid: int, code: int) -> None:
        """Acknowledge a message that has come on this connection."""
        if self.session.is_open:
            self.session.acknowledge(pid, code)
            self.flush_soon()

    def read(self, wanted: bool) -> None:
        """Read from the broker, or stop reading."""
        if wanted is self._is_reading:
            return
        self._is_reading = wanted
        self.session.set_reading(wanted)
        if self._transport is not None and not self._transport.is_closing():
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def flush_soon(self) -> None:
        """Write at the end of this turn of the loop."""
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        output = self.session.take()
        if output and self._transport is not None:
            self._transport.write(output)
        self._set_timer()

    # -- called by the connection -----------------------------------------------------------

    def made(self, transport: asyncio.Transport, version: int) -> None:
        """A connection of TCP, and TLS, is there."""
        self._transport = transport
        self._is_full = False
        self.session.begin(self._loop.time(), version)
        self._flush()

    def received(self, data: bytes) -> None:
        """Bytes have come."""
        self._handle(self.session.receive(data, self._loop.time()))
        self._room.set()
        self._flush()

    def filled(self, is_full: bool) -> None:
        """The transport takes no more for now, or again."""
        self._is_full = is_full
        self._room.set()

    def lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        was_open = self.session.is_open
        self.session.end()
        self._transport = None
        self._is_full = False
        self._set_timer()
        if not self._why:
            self._why = in_words(error, is_secure=self._tls is not None, is_early=not was_open)
        if was_open:
            if self.session.was_of_use or self._loop.time() - self._opened_at >= _STEADY:
                self._attempt = 0
            self._side.lost()
        self._room.set()
        self._gone.set()

    def _handle(self, events: list[Event]) -> None:
        try:
            for event in events:
                self._handle_one(event)
        except KPSError as error:
            self._fail(error)

    def _handle_one(self, event: Event) -> None:
        match event:
            case Arrived(message):
                self._side.arrived(message)
            case Opened(connack):
                self._opened(connack)
            case Subscribed(codes):
                self._side.subscribed(codes)
            case Refused(code, reason):
                self._is_other_version = is_other_version(code)
                self._why = f"it refuses the connection: {reason}"
                if is_final(code) and self._version is None:
                    raise BrokerFailed(f"{self.address} refuses the connection: {reason}")
                self._abort()
            case Broken(reason, code):
                self._why = reason
                if code == TAKEN_OVER:
                    client_id = self.session.config.client_id
                    raise BrokerFailed(f"another client of {self.address} has the id {client_id}")
                self._abort()

    def _opened(self, connack: Connack) -> None:
        version = self.session.version
        self._version = version
        self._opened_at = self._loop.time()
        write(
            logging.INFO,
            "broker_found",
            "connected to %(broker)s as %(client)s, MQTT %(version)s%(kept)s",
            broker=str(self.address),
            client=self.session.config.client_id,
            version="5" if version == 5 else "3.1.1",
            kept=", which has kept the session" if connack.session_present else "",
        )
        self._side.opened(connack, version)
        if not self._is_reading and self._transport is not None:
            self.session.set_reading(False)
            self._transport.pause_reading()

    def _fail(self, error: KPSError) -> None:
        self._failure = error
        self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _set_timer(self) -> None:
        """Wake up at the session's deadline, if nothing does before."""
        deadline = self.session.deadline
        if deadline == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = self._timer_at = None
        self._handle(self.session.tick(self._loop.time()))
        self._flush()


class _Bytes(asyncio.Protocol):
    """One connection, as asyncio sees it."""

    def __init__(self, link: BrokerLink, version: int) -> None:
        self._link = link
        self._version = version

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Those of uvloop have the methods, and not the class.
        self._link.made(cast("asyncio.Transport", transport), self._version)

    def data_received(self, data: bytes) -> None:
        self._link.received(data)

    def pause_writing(self) -> None:
        self._link.filled(True)

    def resume_writing(self) -> None:
        self._link.filled(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.lost(exc)
