"""The server."""

import signal
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack, assert_never

from kps.compat.unified_server import UnifiedServer
from kps.errors import ServerStopped
from kps.io_asyncio.dispatch import check_callback
from kps.io_asyncio.drivers import new_driver
from kps.io_asyncio.locked import locked
from kps.io_asyncio.log import write
from kps.io_asyncio.loop import call, finisher, off_loop, serve_beside
from kps.io_asyncio.relay import Relays
from kps.io_asyncio.runtime import stopped
from kps.io_asyncio.server_driver import ServerDriver
from kps.io_asyncio.server_program import ServerProgram
from kps.io_asyncio.signals import on_signals
from kps.io_common.checks import check_main_thread
from kps.io_common.hooks import AnyCallback, Callback
from kps.io_common.server_logs import log_hub_event
from kps.io_common.server_options import HOOKS, ServerOptions, ServerSettings
from kps.io_common.verdicts import (
    AnyUpgradeHook,
    UpgradeHook,
    permit_verdict,
    token_verdict,
    upgrade_verdict,
)
from kps.protocol.bus.ack_handle import AckChanged
from kps.protocol.dialect.address import (
    DEFAULT_ADDRESS,
    host_and_port,
)
from kps.protocol.limits import check_seconds
from kps.protocol.server.events import (
    ClientDismissed,
    ClientLeft,
    ClientRegistered,
    ConnectedClient,
    ConnectRequested,
    DirectMessageIgnored,
    HubEvent,
    LoginRefused,
    OriginRefused,
    RelayRequested,
    SessionFailed,
    StrangerLeft,
    SubscriptionRequested,
    TokenPresented,
    Unsubscribed,
    UpgradeRequested,
)
from kps.protocol.server.hub import Hub


class Server(ServerProgram, UnifiedServer):
    """The bus: clients connect to it, and the program that runs it can use it as well.

    ::

        server = Server("localhost:9313")
        server.run()                      # until SIGINT or SIGTERM

    or, within a larger program, ``async with Server(...) as server``.

    On asyncio a hook may be a coroutine function (runs on the loop) or a plain function (runs in
    a thread). On threads each connection has one thread, and each call of a hook; one more thread
    accepts connections and keeps all deadlines, and one runs the callbacks.

    Args:
        address: ``host:port`` to listen on. Port 0 lets the system choose: see ``address``.
        path: Path of the WebSocket.
        id: The server's own id, as a sender and for direct messages.
        origins: Origins of web pages (such as ``https://app.example``) that may connect besides
            the server's own; ``*`` allows all, ``null`` those of files and sandboxes.
        ssl: A TLS context, to serve ``wss`` and ``https``. ``reload`` does not change it.
        tls_cert: File of the certificate chain (PEM), in place of ``ssl``.
        tls_key: File of its private key (PEM), unless ``tls_cert`` holds it too.
        tls_client_ca: File of authorities (PEM): clients must show a certificate of one of them.
        names: Hosts, or ``host:port``, by which other servers reach this one besides
            ``address`` itself.
        level: The highest level of the protocol to speak: 2, or 1 like the original servers.
        limits: Bounds and timeouts, see :class:`kps.ServerLimits`.
        console: Whether to serve the console page at ``/``, and its figures to clients that
            have the permission ``console``; without ``auth`` every client has it.
        http_api: Whether clients may also publish, ask and subscribe by plain HTTP requests:
            ``POST /publish``, ``POST /request``, ``GET /sse`` (docs/http.md). All that decides
            on other clients decides on these. A server of level 1 never answers them.
        metrics: Whether to answer ``GET /metrics`` with figures for Prometheus: to a token of an
            identity with the permission ``console``, or without ``auth`` to this machine only.
        metrics_address: ``host:port`` where whoever reaches it gets the same, by plain HTTP.
        relay_timeout: Seconds for another server to accept a message. Default 5.
        relay_ssl: The TLS context for connections to other servers.
        on_upgrade: Decides on each client: returns yes or no, the client's
            :class:`kps.Identity`, or a :class:`kps.HttpResponse` that refuses it. Without it
            all may connect.
        auth: Identifies clients by their tokens (spec, 13.2): returns the
            :class:`kps.Identity` or ``None``. With it every client needs a token, unless
            ``on_upgrade`` returns an identity. :class:`kps.TokenFile`,
            :class:`kps.JWTVerifier` and :class:`kps.FirstOf` are such hooks. If it has a method
            ``reload``, the server calls that when it reloads.
        on_connect: Decides on each id for which a client asks: called with a
            :class:`kps.ConnectedClient` before the client may do anything. To return ``False``, or
            raise :class:`kps.Refused` with a text for the client, refuses it.
        on_disconnect: Called with a :class:`kps.ClientLeft` when a client is gone.
        on_subscribe: Decides on each subscription of a client, as ``on_connect``: called with a
            :class:`kps.Subscribing`. The client is not heard meanwhile.
        on_unsubscribe: Called with a :class:`kps.Unsubscribed` when a subscription has ended.
        history: For which topics the server keeps messages: :class:`kps.History` rules, of which
            the first that has a topic counts.
        history_file: A file that keeps them beyond the end of the server, for one at a time; each
            node of a cluster has its own.
        history_sync: When it waits for the disk: ``normal`` (to stay whole), ``full``, ``off``.
        compress: Whether to compress long publications for clients that take it
            (permessage-deflate): once for all of them, and only on topics where it pays. It saves
            bandwidth for processor time.
        cluster: The URL of a NATS server, or several with commas between: this server is a node
            of a cluster, whose nodes are one server for their clients. It needs ``kps[cluster]``
            and asyncio, and its ``id`` is the node's name.
        cluster_name: The name of the cluster, so that several can share an engine.
        cluster_secret: A text that all nodes know and nobody else does: they sign what they send.
        cluster_credentials: A file of credentials for NATS, if a URL with a password does not do.
        cluster_ca: A file of the authorities (PEM) that vouch for NATS, with ``tls://`` URLs; as a
            rule those of the system do.
        without_engine: What a node does while it cannot reach NATS: ``local`` serves its own
            clients, ``refuse`` lets them go, and takes none until it can.
        permissions: Permissions of anonymous clients, in place of the default ones: see
            ``Permissions.open``.
        proxies: Addresses and networks of proxies in front of this server, whose
            ``X-Forwarded-For`` gives the address of a client, and whose ``X-Forwarded-Proto``
            the scheme of its page.
        relay_token: The token that identifies this server to other servers. For messages of
            clients it goes only where their permission ``relay`` says.
        on_id: Called with a :class:`kps.Message` for each direct message to the server's id.
        on_server_data: Called with a :class:`kps.Message` for each message of another server.
        tracing: Makes spans of what this program sends as the server, and of what its callbacks
            handle: a :class:`kps.otel.Tracing`. What clients send to each other makes none here.

    Raises :class:`kps.InvalidArgument` for invalid options, and
    :class:`kps.ServerStartFailed` for an unusable certificate.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, **options: Unpack[ServerOptions]) -> None:
        super().__init__()
        for name in HOOKS:
            check_callback(name, options.get(name))
        check_callback("auth.reload", getattr(options.get("auth"), "reload", None))
        self._settings = self._read(address, **options)
        self._driver: ServerDriver
        self._hub: Hub
        self._on_upgrade: UpgradeHook | None = self._settings.on_upgrade
        self._on_id: Callback | None = self._settings.on_id
        self._on_server_data: list[Callback] = []
        if self._settings.on_server_data is not None:
            self._on_server_data.append(self._settings.on_server_data)
        self._address = self._settings.listens_on.netloc
        self._renew()
        if self._settings.tracing is not None:
            from kps.io_asyncio.traced_program import TracedProgram  # others need none of it
            from kps.otel import Spans

            TracedProgram.trace(self, Spans(self._settings.tracing, lambda: self.id))

    # -- life -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Start to listen.

        Raises :class:`kps.ServerStartFailed`, and may then be called again, as after it was
        cancelled; :class:`kps.InvalidState` on a second start; :class:`kps.ServerStopped` if
        ``stop`` is called meanwhile. Nothing listens when this raises.
        """
        self._prepare()
        try:
            await self._driver.listen(self._begin)
        except BaseException:
            self._driver.is_started = self._driver.is_ending
            raise

    async def stop(self, grace: float = 10.0) -> None:
        """Stop gracefully. May be called twice, from a hook or callback, on threads by any thread.

        The server accepts no more connections, writes the pending data, and closes every
        connection with code 1001, on level 1 with 1012. After ``grace`` seconds (0: at once) it
        drops the remaining connections. What was read from a client is handled before, for up to
        half of that time. Then what is under way has as long again to end: on asyncio hooks, and
        after them callbacks; on threads callbacks. After this no callback and no hook begins.
        Callers that wait for an ack get :class:`kps.ServerStopped`, as does every later call.

        On asyncio cancelling a caller does not stop it; on threads an interrupted ``stop`` stands
        still. In both cases another call goes on with it, and may shorten it. On threads, in a
        handler that interrupts another call of this server, it returns at once, and stops after
        that call. Raises :class:`kps.InvalidArgument` for a bad ``grace``.
        """
        if grace != 0:
            check_seconds("grace", grace)
        if self._driver.may_end:
            await self._driver.ending.finish(
                lambda: self._stop(grace), lambda: self._driver.end_connections(grace)
            )

    async def serve(self) -> None:
        """Listen (unless ``start`` was called) and wait until ``stop``.

        A node of a cluster also stops, and this raises :class:`kps.ServerStartFailed`, if another
        server of the cluster turns out to have its id, which serves already, or began before it.
        """
        if not self._driver.is_started:
            await self.start()
        await self._driver.news.until(lambda: self._is_stopped)
        if self._driver.failure is not None:  # asyncio
            raise self._driver.failure  # asyncio

    async def reload(self) -> None:
        """Read the files of the server's options again, such as ``tls_cert``.

        They apply to new connections. If a file is unusable, or ``auth.reload`` fails, this changes
        nothing and raises :class:`kps.ServerStartFailed`. It does not change an ``ssl`` context.
        """
        settings = self._settings
        await off_loop(settings.certificates.reload, settings.auth, finisher())

    def run(self, ready: "Callable[[Server], object] | None" = None) -> None:
        """Serve until SIGINT or SIGTERM, in the main thread.

        On asyncio, use this in programs without an event loop; it runs uvloop if that is
        installed. SIGHUP calls ``reload``, and never ends the server. ``ready`` is called with
        the server once it listens; on asyncio it may be a coroutine function, which is cancelled
        when the server has stopped. Raises :class:`kps.ServerStartFailed`, and
        :class:`kps.InvalidState` outside the main thread or inside a running event loop (there
        use ``start`` or ``serve``, and ``stop``).
        """
        check_main_thread()
        check_callback("ready", ready)
        call(self._run, ready)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def _read(self, address: str, **options: Unpack[ServerOptions]) -> ServerSettings:
        return ServerSettings.read(address, **options)

    def _renew(self) -> None:
        """Make what one life of the server needs."""
        self._driver = self._new_driver()
        self._relays = Relays(self._settings, self._driver)
        self._exporter = self._settings.new_exporter(self._driver.name, self._relays.queues)

    @locked
    def _prepare(self) -> None:
        self._driver.start()
        config = self._settings.hub_config(asks_upgrade=self._on_upgrade is not None)
        hub = self._hub = self._driver.new_hub(config, self._exporter)
        self._driver.open(hub, self._exporter)
        if self._on_id is not None:
            self._attach_direct(self._on_id)
        for callback in self._on_server_data:
            self._attach_server_data(callback)

    def _new_driver(self) -> ServerDriver:
        return new_driver(self, self._new_runtime(), self._settings)

    @locked
    def _begin(self, host: str, port: int) -> None:
        """Set the address of the listening socket, and start working."""
        name = self._settings.listens_on.host
        self._address = host_and_port(name, port)
        here = {self._address, name, host_and_port(host, port)}
        self._hub.addresses |= here | self._settings.names
        self._driver.progress()
        self._driver.allow_calls()  # at last: an interrupted start allows none

    async def _run(self, ready: "Callable[[Server], object] | None") -> None:
        handlers = {signal.SIGINT: self._stop_or_drop, signal.SIGTERM: self._stop_or_drop}
        if hasattr(signal, "SIGHUP"):  # not on Windows
            handlers[signal.SIGHUP] = self._reload_and_log
        with on_signals(handlers):
            try:
                await self.start()
            except ServerStopped:  # by a signal
                return
            try:
                await serve_beside(None if ready is None else ready(self), self.serve)
            finally:
                await self.stop()

    async def _stop_or_drop(self) -> None:
        """Stop; a second signal drops all connections."""
        if self._driver.ending.is_under_way:
            self._driver.abort_connections()
            self._relays.hurry(0.0)
        else:
            await self.stop()

    async def _reload_and_log(self) -> None:
        settings = self._settings
        await off_loop(settings.certificates.reload_and_log, settings.auth, finisher())

    async def _stop(self, grace: float) -> None:
        ends = self._driver.clock() + grace
        await self._driver.end_connections(grace)
        await self._relays.close(max(0.0, ends - self._driver.clock()))
        self._driver.refuse_calls(stopped)
        await self._driver.close(grace)
        self._is_stopped = True
        self._driver.wake_iterators()
        self._driver.news.announce()

    # -- about itself ---------------------------------------------------------------------

    @property
    def address(self) -> str:
        """``host:port`` that the server listens on, with the real port after the start."""
        return self._address

    @property
    def metrics_address(self) -> str | None:
        """``host:port`` that has the figures, with the real port after the start."""
        asked = self._settings.for_operators
        return self._driver.metrics_address or (None if asked is None else asked.netloc)

    @property
    def url(self) -> str:
        """The URL for clients."""
        scheme = "wss" if self._settings.certificates.context is not None else "ws"
        return f"{scheme}://{self._address}{self._settings.config.path}"

    @property
    def id(self) -> str:
        """The server's own id."""
        return self._settings.config.id

    # -- hooks ----------------------------------------------------------------------------

    def on_upgrade(self, hook: AnyUpgradeHook) -> AnyUpgradeHook:
        """Set the hook that decides on clients. Usable as a decorator.

        Raises :class:`kps.InvalidState` if the server has started.
        """
        check_callback("a hook", hook)
        self._driver.check_not_started("set this hook before the server starts")
        self._on_upgrade = hook
        return hook

    @locked
    def on_id(self, callback: AnyCallback) -> AnyCallback:
        """Set the callback for direct messages to the server. Usable as a decorator.

        It takes a :class:`kps.Message`. Raises :class:`kps.InvalidArgument` if it is no function.
        """
        check_callback("a callback", callback)
        self._on_id = callback
        if self._driver.is_started:
            self._attach_direct(callback)
        return callback

    @locked
    def on_server_data(self, callback: AnyCallback) -> AnyCallback:
        """Add a callback for messages of other servers. Usable as a decorator.

        It takes a :class:`kps.Message`. Raises :class:`kps.InvalidArgument` if it is no function.
        """
        check_callback("a callback", callback)
        self._on_server_data.append(callback)
        if self._driver.is_started:
            self._attach_server_data(callback)
        return callback

    def _attach_direct(self, callback: Callback) -> None:
        self._driver.attach(self._subscriptions.open_direct(), callback)

    def _attach_server_data(self, callback: Callback) -> None:
        self._driver.attach(self._subscriptions.open_server_data(), callback)

    # -- events ---------------------------------------------------------------------------

    def _handle_events(self) -> None:
        if self._hub.state.events or self._events.waiting:
            self._events.hand_on(self._handle, self._hub.events)

    def _handle(self, event: HubEvent) -> None:
        log_hub_event(event, write)
        driver, hub, settings = self._driver, self._hub, self._settings
        match event:
            case AckChanged(handle):
                self._ack_changed(handle)
            case UpgradeRequested(session, request):
                assert self._on_upgrade is not None
                driver.ask(
                    session, self._on_upgrade, upgrade_verdict, request, hub.decide, request.peer
                )
            case TokenPresented(session, token, peer):
                assert settings.auth is not None
                driver.ask(session, settings.auth, token_verdict, token, hub.judge, peer)
            case ConnectRequested(session, client):
                assert settings.on_connect is not None
                self._ask_to_permit(session, settings.on_connect, client, client)
            case SubscriptionRequested(session, asked):
                assert settings.on_subscribe is not None
                self._ask_to_permit(session, settings.on_subscribe, asked, asked.client)
            case ClientLeft():
                driver.dispatcher.notify(settings.on_disconnect, event)
            case Unsubscribed():
                driver.dispatcher.notify(settings.on_unsubscribe, event)
            case ClientRegistered() | ClientDismissed() | StrangerLeft() | DirectMessageIgnored():
                pass  # they are only logged
            case OriginRefused() | LoginRefused() | SessionFailed():
                pass  # likewise
            case RelayRequested(session, to, target, data, sender, secure, shows_token, owner):
                self._relays.send(
                    target,
                    self._origin(sender),
                    data,
                    secure=secure,
                    done=partial(self._relayed, session, to),
                    owner=owner,
                    shows_token=shows_token,
                )
            case _:
                assert_never(event)

    def _ask_to_permit(
        self,
        session: int,
        hook: Callable[[Any], object],
        subject: object,
        client: ConnectedClient,
    ) -> None:
        self._driver.ask(session, hook, permit_verdict, subject, self._hub.judge, client.address)

    @locked
    def _relayed(self, session: int, to: str, error: str | None) -> None:
        self._hub.relay_finished(session, to, error, self._driver.clock())
        self._driver.progress()
