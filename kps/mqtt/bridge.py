"""The bridge: a client of the bus, a client of the broker, and what passes between them."""

import asyncio
import contextlib
import logging
import signal
import ssl
from typing import Unpack

from kps.errors import ClientClosed, KPSError
from kps.io_asyncio.client import Client
from kps.io_asyncio.signals import Handler, on_signals
from kps.io_common.client_options import ClientOptions
from kps.io_common.logger import write
from kps.mqtt.broker import BrokerFailed, BrokerLink
from kps.mqtt.core.books import Books
from kps.mqtt.core.packets import V3, Connack, Publish
from kps.mqtt.core.settings import Settings
from kps.mqtt.inwards import Inwards
from kps.mqtt.outwards import Outwards
from kps.protocol.client.events import Connected, Disconnected, Lost


class Bridge:
    """A bridge between a bus and an MQTT broker. It is made on the event loop on which it runs.

    Args:
        settings: What passes, and where the broker is.
        tls: The TLS context for ``mqtts://``; the default one verifies the broker.
        address: The server of the bus, as for :class:`kps.Client`, which also has ``options``.

    Raises :class:`kps.InvalidArgument` for invalid options.
    """

    def __init__(
        self,
        settings: Settings,
        address: str,
        tls: ssl.SSLContext | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        self.books = Books()
        """What passes, and what does not."""
        self.is_ready = asyncio.Event()
        """Whether both sides have been connected, and all rules are in force."""
        self._settings = settings
        self._news = asyncio.Event()  # of the bus
        self._has_ended = False
        is_secure = settings.address.is_secure
        self._link = BrokerLink(
            settings, (tls or ssl.create_default_context()) if is_secure else None, self
        )
        own = ClientOptions(
            id=settings.id,
            reconnect=True,
            on_connect=self._bus_found,
            on_disconnect=self._bus_lost,
            on_lost=self._bus_forgot,
            on_error=self._bus_refused,
            on_close=self._bus_ended,
        )
        self._client = Client(address, **(options | own))
        self._out = Outwards(settings, self._client, self._link, self.books)
        self._in = Inwards(settings, self._client, self._link, self.books, self._out.has)

    async def run(self) -> None:
        """Carry messages until SIGINT or SIGTERM. Raises :class:`kps.KPSError`.

        SIGHUP changes nothing, which the log says.
        """
        stop = asyncio.Event()

        async def end() -> None:
            stop.set()

        handlers: dict[signal.Signals, Handler] = {signal.SIGINT: end, signal.SIGTERM: end}
        if hasattr(signal, "SIGHUP"):  # not on Windows
            handlers[signal.SIGHUP] = _reload
        with on_signals(handlers):
            await self.run_until(stop)

    async def run_until(self, stop: asyncio.Event) -> None:
        """Carry messages until an event is set. Raises :class:`kps.KPSError`."""
        self._doubt()
        work = asyncio.ensure_future(self._work(stop))
        waiting = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not self._client.is_connected and not self.is_ready.is_set():
                work.cancel()  # the bus was never there
            with contextlib.suppress(asyncio.CancelledError):
                await work
        finally:
            for task in (work, waiting):
                task.cancel()
            await asyncio.gather(work, waiting, return_exceptions=True)

    async def _work(self, stop: asyncio.Event) -> None:
        async with self._client:
            await self._out.subscribe()
            tasks = [
                asyncio.ensure_future(one)
                for one in (
                    self._link.run(),
                    self._in.run(),
                    self._tell_figures(),
                    self._until_bus_fails(),
                    stop.wait(),
                )
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if stop.is_set():
                    await self._finish()
                for task in done:
                    task.result()  # raises why it has ended
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._link.close()
                text = "the bridge has ended: %(figures)s"
                write(logging.INFO, "bridge_ended", text, figures=self._figures_in_words())

    async def _finish(self) -> None:
        grace = self._settings.grace
        await asyncio.gather(self._in.finish(grace), self._out.finish(grace))
        await self._publish_figures()

    # -- figures ----------------------------------------------------------------------------

    async def _tell_figures(self) -> None:
        while True:
            await asyncio.sleep(self._settings.figures_every)
            text = "the bridge so far: %(figures)s"
            write(logging.INFO, "bridge_figures", text, figures=self._figures_in_words())
            await self._publish_figures()

    def _figures_in_words(self) -> str:
        self._out.count_dropped()
        return self.books.in_words()

    async def _publish_figures(self) -> None:
        if self._settings.figures_topic:
            with contextlib.suppress(KPSError):  # the bus is away: then nobody reads them
                await self._client.publish(self._settings.figures_topic, self.books.figures())

    # -- the broker -------------------------------------------------------------------------

    def opened(self, connack: Connack, version: int) -> None:
        """See :class:`kps.mqtt.broker.Side`."""
        settings = self._settings
        if version == V3:
            settings.check_loops()
        if connack.max_qos == 0 and any(rule.qos for rule in settings.outs):
            raise BrokerFailed("the broker takes QoS 0 only: give all rules [[out]] qos = 0")
        if not connack.has_retain and any(rule.retain for rule in settings.outs):
            raise BrokerFailed("the broker retains nothing: no rule [[out]] can have retain")
        self._in.opened(connack.session_present)
        if not settings.ins:
            self._ready()

    def subscribed(self, codes: tuple[int, ...]) -> None:
        """See :class:`kps.mqtt.broker.Side`."""
        self._in.subscribed(codes)
        self._ready()

    def arrived(self, message: Publish) -> None:
        """See :class:`kps.mqtt.broker.Side`."""
        self._in.arrived(message)

    def lost(self) -> None:
        """See :class:`kps.mqtt.broker.Side`."""
        self.books.events["connections to the broker lost"] += 1
        self._in.lost()

    def _ready(self) -> None:
        if not self.is_ready.is_set():
            self.is_ready.set()
            text = "the bridge %(id)s carries messages: %(rules)s"
            rules = ", ".join(rule.name for rule in (*self._settings.ins, *self._settings.outs))
            write(logging.INFO, "bridge_ready", text, id=self._settings.id, rules=rules)

    def _doubt(self) -> None:
        """Warn of what is probably not meant, although it is possible."""
        for rule in self._settings.ins:
            if "*" in rule.filter:
                text = (
                    "in the filter %(filter)r * is a character, as MQTT has it; + is a level, "
                    "and # at the end all that follow"
                )
                write(logging.WARNING, "filter_has_star", text, filter=rule.filter)

    # -- the bus ----------------------------------------------------------------------------

    async def _bus_found(self, event: Connected) -> None:
        self._in.bus.found()

    async def _bus_lost(self, event: Disconnected) -> None:
        self.books.events["connections to the bus lost"] += 1
        self._in.bus.lost()

    async def _bus_forgot(self, event: Lost) -> None:
        self.books.events["messages lost in the history of the bus"] += event.messages or 1

    async def _bus_refused(self, error: KPSError) -> None:
        self.books.events["errors of the bus"] += 1
        self._news.set()

    async def _bus_ended(self) -> None:
        self._has_ended = True
        self._news.set()

    async def _until_bus_fails(self) -> None:
        """Raise why the bridge cannot go on: the client has ended, or lacks a subscription."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._has_ended:
                await self._client.flush()  # raises the reason
                raise ClientClosed("the client of the bus has ended")
            self._out.check()


async def _reload() -> None:
    text = "a bridge reads nothing again on SIGHUP; restart it, and nothing with QoS 1 is lost"
    write(logging.WARNING, "reload_ignored", text)
