"""The bus within a web application of ASGI."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NoReturn, Unpack

from kps.errors import InvalidArgument, InvalidState, ServerStopped
from kps.io_asyncio.asgi_connection import AsgiConnection
from kps.io_asyncio.asgi_http import AsgiExchange, answer
from kps.io_asyncio.asgi_lifespan import serve_lifespan, share_lifespan
from kps.io_asyncio.asgi_scope import (
    Application,
    Receive,
    Scope,
    ScopedRequest,
    Send,
    path_below,
    request_of,
    scope_of,
    upgrade_of,
    with_slash,
)
from kps.io_asyncio.asgi_streams import OpenStreams
from kps.io_asyncio.carried import CarriedConnection
from kps.io_asyncio.dispatch import check_callback
from kps.io_asyncio.log import write
from kps.io_asyncio.server import Server
from kps.io_common.other_processes import sign_of_others
from kps.io_common.server_options import ServerOptions, ServerSettings
from kps.io_common.verdicts import AnyUpgradeHook, UpgradeVerdict, upgrade_verdict
from kps.protocol.access.identity import Identity
from kps.protocol.dialect.address import DEFAULT_ADDRESS
from kps.protocol.limits import shown
from kps.protocol.server.message_connection import connect
from kps.protocol.wire.http import HttpRequest, HttpResponse

Known = Identity | HttpResponse | str | None
"""Who a client is: an identity or the name of one; nobody known; or an answer that refuses it."""

Identify = Callable[[Scope], Known | Awaitable[Known]]
"""Gets the scope of a client's connection, and tells who it is."""

_ELSEWHERE = {
    **dict.fromkeys(("address", "workers"), "the server of the application listens"),
    **dict.fromkeys(("ssl", "tls_cert", "tls_key", "tls_client_ca"),
                    "the server of the application, or a proxy, speaks TLS"),
    "proxies": "the server of the application knows them (uvicorn: --forwarded-allow-ips)",
}  # fmt: skip
"""Options of a server that this one cannot have, and why."""

_NOT_LOGGED_IN = HttpResponse.text(401, "not logged in")


class Bus(Server):
    """The bus as a part of a web application: mounted in a framework, in its process, on its port.

    ::

        bus = kps.asgi.Bus()
        app = FastAPI(lifespan=bus.lifespan)
        app.mount("/bus", bus)            # clients connect to ws://host/bus/

    or, around an application that mounts nothing, such as Django's::

        application = kps.asgi.Bus(get_asgi_application(), path="/ws/bus")

    It is an application of ASGI, and has the verbs of a :class:`kps.Server`: ``publish``,
    ``subscribe`` and the others. It belongs to one event loop at a time. It starts with
    ``lifespan``, or else with the first request; subscriptions of the program end when it stops.
    After that it can start again, also on another event loop.

    Mounted, every WebSocket below its place is one of the bus, and ``GET`` of that place with a
    slash behind it is the console page. The server of the application limits messages too (uvicorn:
    ``ws_max_size``), compresses by itself, and finds dead clients by its pings, of which an
    application hears nothing.

    Args:
        other_app: The application that gets everything but what is at ``path`` or below it.
        path: Where the bus is, with ``other_app``; without, the framework decides where.
        identify: Tells who a client is by the scope of its connection, in which the framework's
            middleware may have put a user: returns a :class:`kps.Identity`, the name of one (with
            the permissions of the option ``permissions``), a :class:`kps.HttpResponse` that refuses
            the client, or ``None``. ``None`` refuses it (401), unless ``auth`` is given, which then
            judges its token. A coroutine function runs on the loop, any other in a thread. It
            takes the place of ``on_upgrade``.
        options: All others are those of :class:`kps.Server`, but for what belongs to the server of
            the application: ``address``, TLS, ``proxies``.

    Raises :class:`kps.InvalidArgument` for invalid options.
    """

    def __init__(
        self,
        other_app: Application | None = None,
        *,
        identify: Identify | None = None,
        **options: Unpack[ServerOptions],
    ) -> None:
        for name, reason in _ELSEWHERE.items():
            if name in options:
                raise InvalidArgument(f"a bus in an application has no option {name}: {reason}")
        if other_app is not None and not callable(other_app):
            text = "other_app is an application of ASGI, not {}; a bus has no address of its own"
            raise InvalidArgument(text.format(shown(other_app)))
        if other_app is None and "path" in options:
            raise InvalidArgument("path needs other_app: else the framework says where the bus is")
        if identify is not None and options.get("on_upgrade") is not None:
            raise InvalidArgument("identify takes the place of on_upgrade: use one of them")
        check_callback("identify", identify)
        self._other_app = other_app
        self._identify = identify
        self._starting: asyncio.Task[None] | None = None
        self._streams: OpenStreams  # of this life
        super().__init__(DEFAULT_ADDRESS, **options)
        self._address = min(self._settings.names, default="localhost")
        self._hook = self._on_upgrade  # that of the program
        self._on_upgrade = self._find_out

    # -- life -----------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the lifespan, of the application."""
        kind, other = scope["type"], self._other_app
        if kind == "lifespan":
            if other is not None:
                await share_lifespan(self._start_here, self.stop, other, scope, receive, send)
            else:
                await serve_lifespan(self._start_here, self.stop, receive, send)
            return
        path = path_below(scope)
        if other is not None:
            own = self._settings.config.path.rstrip("/")
            if path != own and not path.startswith(f"{own}/"):
                await other(scope, receive, send)
                return
            path = path[len(own) :]
        if kind == "websocket":
            await self.admit(scope, receive, send)
        elif kind == "http":
            await self._answer(path, scope, receive, send)
        else:
            raise InvalidState(f"this bus knows nothing of connections of the type {kind!r}")

    async def admit(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        identity: Identity | str | None = None,
    ) -> None:
        """Serve a WebSocket that the framework has routed here, to its end.

        With an ``identity``, or the name of one, the client has that, and no hook is asked: for
        frameworks whose dependencies find out who a user is. The WebSocket must not be accepted
        yet.
        """
        await self._start_here()
        message = await receive()
        if message["type"] == "websocket.connect":
            known = None if identity is None else self._known(identity)
            request = upgrade_of(scope, known)
            endpoint = connect(self._hub, request.peer, self._driver.clock())
            has_responses = "websocket.http.response" in (scope.get("extensions") or ())
            connection = AsgiConnection(self._driver, endpoint, send, has_responses=has_responses)
            await connection.run(request, receive)

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Run the bus meanwhile: the lifespan of an application, or a part of one.

        ``app`` is what a framework gives; it is not used.
        """
        await self._start_here()
        try:
            yield
        finally:
            await self.stop()

    async def start(self) -> None:
        """Start on the running event loop, for the first time or after the end of the last one.

        Raises :class:`kps.InvalidState` if it runs, here or on another event loop; else the same as
        a server.
        """
        if self._driver.is_started:
            if self._runs:
                raise InvalidState(
                    "the bus runs already, here or on another event loop that has not ended; "
                    "it is for one loop at a time"
                )
            await self._driver.abandon()
            self._renew()
        sign = "" if self._settings.cluster else sign_of_others()
        if sign:
            text = (
                "clients of one process do not hear those of another: there may be several ones "
                "(%(sign)s), and this bus has no cluster"
            )
            write(logging.WARNING, "several_processes", text, sign=sign)
        await super().start()

    async def serve(self) -> NoReturn:
        """Not for a bus in an application: the server of the application serves."""
        raise InvalidState("the server of the application serves this bus: see lifespan")

    def run(self, ready: object = None) -> NoReturn:
        """Not for a bus in an application: the server of the application serves."""
        raise InvalidState("the server of the application runs this bus: run that one")

    @property
    def address(self) -> str:
        """Empty: the server of the application listens."""
        return ""

    @property
    def url(self) -> str:
        """Empty: whoever mounts the bus knows its URL."""
        return ""

    def on_upgrade(self, hook: AnyUpgradeHook) -> AnyUpgradeHook:
        if self._identify is not None:
            raise InvalidState("identify takes the place of on_upgrade: use one of them")
        super().on_upgrade(hook)
        self._hook, self._on_upgrade = hook, self._find_out
        return hook

    # -- within -----------------------------------------------------------------------------

    @property
    def _runs(self) -> bool:
        """Whether the last start was on an event loop that still is there, and has not ended."""
        driver = self._driver
        return driver.is_started and driver.runtime.lives and not self._is_stopped

    async def _start_here(self) -> None:
        """Start, unless the bus runs on this event loop already."""
        loop = asyncio.get_running_loop()
        starting = self._starting
        if (
            starting is None
            or starting.get_loop() is not loop
            or (self._is_stopped and starting.done())
        ):
            if self._runs and self._driver.runtime.loop is loop:
                return  # the program has started it
            starting = loop.create_task(self.start())
            if not self._runs:
                self._starting = starting
        try:
            await asyncio.shield(starting)
        except BaseException:
            if starting.done() and self._starting is starting:
                self._starting = None  # the next one tries again
            raise

    def _new_connection(self, peer: str, among: set[object]) -> CarriedConnection | None:
        """Return a connection for a transport of this event loop, if the bus runs here."""
        driver, loop = self._driver, asyncio.get_running_loop()
        if not self._runs or driver.is_ending or driver.runtime.loop is not loop:
            return None
        return CarriedConnection(driver, self._hub, peer, among)

    async def _answer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        await self._start_here()
        request = request_of(scope, path)
        if path in ("", "/"):
            response = self._hub.routes.refusal(request)
            if response is None and (place := with_slash(scope)):
                # The page names what is beside it.
                response = HttpResponse(307, headers=(("location", place),))
            if response is not None:
                await answer(response, send, is_head=request.method == "HEAD")
                return
        endpoint = connect(self._hub, request.peer, self._driver.clock())
        await AsgiExchange(self._driver, endpoint, send, self._streams).run(request, receive)

    async def _find_out(self, request: HttpRequest) -> UpgradeVerdict:
        """Decide on a client in place of the program's ``on_upgrade``, or by that."""
        if isinstance(request, ScopedRequest) and request.identity is not None:
            return request.identity
        if self._identify is None:
            if self._hook is None:
                return True
            return upgrade_verdict(await self._driver.dispatcher.call(self._hook, request))
        scope = request.scope if isinstance(request, ScopedRequest) else scope_of(request)
        found = await self._driver.dispatcher.call(self._identify, scope)
        if found is None:
            return True if self._settings.auth is not None else _NOT_LOGGED_IN
        return found if isinstance(found, HttpResponse) else self._known(found)

    def _known(self, identity: object) -> Identity:
        if isinstance(identity, Identity):
            return identity
        if isinstance(identity, str) and identity:
            return Identity(identity, self._settings.config.permissions)
        if inspect.iscoroutine(identity):
            identity.close()
        raise InvalidArgument(f"a client is a kps.Identity or a name, not {shown(identity)}")

    def _read(self, address: str, **options: Unpack[ServerOptions]) -> ServerSettings:
        return replace(super()._read(address, **options), is_mounted=True)

    def _renew(self) -> None:
        around = self._driver.around if hasattr(self, "_driver") else None
        super()._renew()
        self._driver.enter = _not_started
        self._driver.around = around
        self._is_stopped = False

    async def _stop(self, grace: float) -> None:
        await super()._stop(grace)
        self._driver.refuse_calls(_stopped)

    def _begin(self, host: str, port: int) -> None:
        self._hub.addresses |= self._settings.names
        self._streams = OpenStreams(self._driver, self._hub)
        self._driver.progress()
        self._driver.allow_calls()


def _not_started() -> NoReturn:
    how = "lifespan=bus.lifespan in the framework starts it, as do its first client and start()"
    raise InvalidState(f"the bus has not started: {how}")


def _stopped() -> NoReturn:
    raise ServerStopped("the bus has stopped; it can start again")
