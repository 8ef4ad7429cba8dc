"""The body of an HTTP request, as it comes."""

from collections.abc import Callable

import h11

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Body:
    """Reads the body of the request whose head an h11 connection has read.

    ``receive`` is called with each part, and ``end`` behind the last one.
    """

    __slots__ = ("_end", "_http", "_receive", "is_complete")

    def __init__(
        self, http: h11.Connection, receive: Callable[[bytes], None], end: Callable[[], None]
    ) -> None:
        self._http = http
        self._receive = receive
        self._end = end
        self.is_complete = False
        """Whether nothing more of it comes. What follows is not read."""

    @property
    def invitation(self) -> bytes:
        """What tells the client to send the body, if it waits for that; else empty."""
        return _CONTINUE if self._http.they_are_waiting_for_100_continue else b""

    def feed(self, data: bytes) -> str:
        """Take bytes; return what is wrong with them, or ``""``."""
        if self.is_complete:
            return ""
        try:
            if data:
                self._http.receive_data(data)
            while not self.is_complete:
                event = self._http.next_event()
                if isinstance(event, h11.Data):
                    self._receive(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self.is_complete = True
                    self._end()
                else:
                    break
        except h11.RemoteProtocolError as error:
            self.is_complete = True
            return f"bad request: {error}"
        return ""
