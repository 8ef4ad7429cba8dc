"""Answers plain HTTP requests to the server's ports (spec, 2.4)."""

from dataclasses import replace

from kps.protocol.access.admission import Admission, host_of, is_loopback
from kps.protocol.access.identity import Identity
from kps.protocol.build import BUILD
from kps.protocol.dialect.envelope import write
from kps.protocol.dialect.http_calls import PATHS
from kps.protocol.server.events import TokenPresented
from kps.protocol.server.state import ServerState
from kps.protocol.wire.http import Answer, HttpRequest, HttpResponse, LateResponder, Responder

METRICS = "/metrics"

_OPERATORS = 64  # connections at a time to the port for operators

# Fields of a request that somebody has passed on.
_PASSED_ON = ("forwarded", "via", "x-forwarded-for", "x-real-ip")


class Routes:
    """What one port of the server answers: here that of the bus, which everybody reaches.

    The figures are for who may see those of the console as well: an identity with that permission
    or, on a server without identities, this machine itself.
    """

    def __init__(self, state: ServerState, metrics: LateResponder | None) -> None:
        config = state.config
        self.path = config.path
        """The path of the WebSocket; empty if there is none."""
        self.is_secure = config.is_secure
        """Whether this port speaks TLS."""
        self.has_http = config.has_http
        """Whether requests over HTTP can use the bus."""
        self.admission = state.admission
        """Counts its connections."""
        self._state = state
        self._metrics = metrics
        self._answers: dict[str, Responder] = {"/healthz": self._health}
        if metrics is not None:
            self._answers[METRICS] = self._guard_metrics
        self._pages = config.pages

    def respond(self, request: HttpRequest) -> HttpResponse | None:
        """Answer a request; ``None``: ``look_into`` finds the answer, or an exchange does."""
        if self.is_exchange(request):
            return None
        if request.method not in ("GET", "HEAD"):
            return _NOT_FOUND
        if request.path == self.path and (refusal := self.refusal(request)):
            return refusal
        if page := self._pages.get(request.path):
            return page.unless_known(request)
        answer = self._answers.get(request.path)
        return answer(request) if answer is not None else _NOT_FOUND

    def refusal(self, request: HttpRequest) -> HttpResponse | None:
        """Tell a page that asks with a plain request why it may not connect, if it may not."""
        asks = bool(self.path) and request.method in ("GET", "HEAD")
        return self._state.origins.refusal(request) if asks else None

    def is_exchange(self, request: HttpRequest) -> bool:
        """Tell whether a request is for the bus, so that an exchange answers it."""
        return self.has_http and request.path in PATHS

    def look_into(self, number: int, request: HttpRequest, answer: Answer) -> None:
        """Find the answer to a request of a connection, at once or later.

        If a hook is to decide on its token, ``judged`` answers it.
        """
        state = self._state
        if state.config.asks_token:
            state.emit(TokenPresented(number, request.token, request.peer))
        else:
            self._show_metrics(request, answer)

    def judged(self, request: HttpRequest, verdict: object, answer: Answer) -> None:
        """Answer a request as a hook decided on its token."""
        if isinstance(verdict, HttpResponse):
            answer(verdict)
        elif not isinstance(verdict, Identity) or verdict.is_over:
            self._state.refuse_login(request.peer, "the token is not valid", verdict)
            answer(UNAUTHORIZED)
        elif not verdict.permissions.console:
            answer(_FORBIDDEN)
        else:
            self._show_metrics(request, answer)

    def _guard_metrics(self, request: HttpRequest) -> HttpResponse | None:
        state = self._state
        if state.config.asks_token:
            return None if request.token else UNAUTHORIZED
        if not _is_from_here(request):
            return _ONLY_HERE
        return None if state.anybody.permissions.console else _FORBIDDEN

    def _show_metrics(self, request: HttpRequest, answer: Answer) -> None:
        assert self._metrics is not None
        self._metrics(request, answer)

    def _health(self, request: HttpRequest) -> HttpResponse:
        """Tell that this server, or worker, works. It is told at once, so it is about that only."""
        state = self._state
        status = "degraded" if state.is_degraded else "stopping" if state.stopping else "ok"
        health = {
            "status": status,
            "version": state.config.version,
            "build": BUILD,
            "uptime": state.uptime(),
            "clients": len(state.clients),
            "topics": len(state.bus),
            "nodes": 1 + len(state.others),
        }
        return HttpResponse(200 if state.admits else 503, write(health), "application/json")


class OperatorRoutes(Routes):
    """What the port for operators answers to everybody who reaches it. It has no WebSocket.

    Its connections are none of those that the limits of the bus count: whoever looks after a
    server that is full must see that.
    """

    def __init__(self, state: ServerState, metrics: LateResponder) -> None:
        super().__init__(state, metrics)
        self.path = ""
        self.has_http = False
        self.is_secure = False
        limits = replace(
            state.limits, max_connections=_OPERATORS, max_connections_per_address=_OPERATORS
        )
        self.admission = Admission(limits, ())
        self._answers[METRICS] = lambda _: None
        self._pages = {}

    def look_into(self, number: int, request: HttpRequest, answer: Answer) -> None:
        """Find the answer to a request. Nobody has to show a token."""
        self._show_metrics(request, answer)


def _is_from_here(request: HttpRequest) -> bool:
    """Tell whether a request comes from a program of this machine, as far as can be known.

    It does not if a proxy of this machine says that it has passed it on. Nor if it names another
    host: a web page may make a browser take a name of its own for this machine.
    """
    if any(request.header(name) for name in _PASSED_ON) or not is_loopback(request.peer):
        return False
    host = request.header("host").lower()
    return host_of(host) == "localhost" or is_loopback(host)


_NOT_FOUND = HttpResponse.text(404, "not found")
UNAUTHORIZED = HttpResponse(
    401, b"the token is not valid\n", headers=(("www-authenticate", "Bearer"),)
)
"""Refuses a request without a valid token."""
_FORBIDDEN = HttpResponse.text(403, "the figures need the permission console")
_ONLY_HERE = HttpResponse.text(
    403, "the figures are for this machine only; --metrics-address gives them a port of their own"
)
