"""Answers plain HTTP requests to the server's port (spec, 2.4)."""

from kps.protocol.dialect.envelope import write
from kps.protocol.server.state import ServerState
from kps.protocol.wire.http import HttpRequest, HttpResponse


class Routes:
    """Answers plain HTTP requests by their path: pages, and the server's health."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._answers = {"/healthz": self._health}
        """Functions by path, for answers that change with each request."""

    def respond(self, request: HttpRequest) -> HttpResponse:
        """Answer a request."""
        if request.method not in ("GET", "HEAD"):
            return _NOT_FOUND
        if page := self._state.config.pages.get(request.path):
            return page.unless_known(request)
        answer = self._answers.get(request.path)
        return answer() if answer is not None else _NOT_FOUND

    def _health(self) -> HttpResponse:
        state = self._state
        health = {
            "status": "stopping" if state.stopping else "ok",
            "version": state.config.version,
            "uptime": state.uptime(),
            "clients": len(state.clients),
            "topics": len(state.bus),
        }
        return HttpResponse(200, write(health), "application/json")


_NOT_FOUND = HttpResponse.text(404, "not found")
