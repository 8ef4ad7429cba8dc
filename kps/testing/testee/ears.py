"""The hooks of a testee's client, which tell the judge what the program is told."""

from typing import Any

from kps.errors import KPSError
from kps.protocol.bus.message import Message
from kps.protocol.client.events import Connected, Disconnected, Lost, Recovered
from kps.protocol.client.session import ClientSession
from kps.testing.testee.spelling import Teller, of_direct, of_error


class Ears:
    """The hooks of one client."""

    def __init__(self, tell: Teller, *, reports_direct: bool) -> None:
        self.is_closing = False
        """Whether the program has closed the client."""
        self.session: ClientSession | None = None
        """That of the client, which knows why it has ended."""
        self._tell = tell
        self._reports_direct = reports_direct
        self._has_ended = False

    def hooks(self) -> dict[str, Any]:
        """Return the hooks, by the names of the client's options."""
        hooks = {
            "on_connect": self._on_connect,
            "on_disconnect": self._on_disconnect,
            "on_error": self._on_error,
            "on_recovered": self._on_recovered,
            "on_lost": self._on_lost,
            "on_close": self._on_close,
        }
        return hooks | ({"on_id": self._on_id} if self._reports_direct else {})

    def ended(self, error: Exception | None) -> None:
        """Tell once that the client has ended."""
        if not self._has_ended:
            self._has_ended = True
            told = {} if error is None or self.is_closing else of_error(error)
            self._tell("ended", **told)

    def _on_connect(self, event: Connected) -> None:
        self._tell("connected", id=event.client_id)

    def _on_disconnect(self, event: Disconnected) -> None:
        if not self.is_closing:
            self._tell("disconnected", code=event.closed.code)

    def _on_error(self, error: KPSError) -> None:
        self._tell("error", **of_error(error))

    def _on_recovered(self, event: Recovered) -> None:
        self._tell("recovered", topic=event.topic, messages=event.messages)

    def _on_lost(self, event: Lost) -> None:
        self._tell("lost", topic=event.topic, messages=event.messages)

    def _on_id(self, message: Message[Any]) -> None:
        self._tell("direct", **of_direct(message))

    def _on_close(self) -> None:
        ended = None if self.session is None else self.session.ended
        if not self.is_closing:
            self.ended(None if ended is None else ended.error)
