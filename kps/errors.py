"""The exceptions of KPS, by who is to blame.

Every exception is a :class:`KPSError`. Where a built-in exception means the same
(``TimeoutError``, ``ConnectionError``, ``ValueError``), ours is one of those too,
so that a program may catch either.
"""


class KPSError(Exception):
    """Base class of every error that KPS raises on purpose."""


class InvalidArgument(KPSError, ValueError):
    """The program passed something that cannot go on the wire.

    An empty topic, a payload that is not JSON, an address that cannot be read.
    Nothing was sent and nothing changed.
    """


class MessageTooLarge(KPSError, ValueError):
    """The message is larger than the server accepts. Nothing was sent."""


class NotConnected(KPSError, ConnectionError):
    """The operation needs a connection and there is none at the moment.

    A client that reconnects can be asked again later, or be given an
    ``offline_queue`` that keeps publications until the connection is back.
    """


class ClientClosed(NotConnected):
    """The client was closed, by the program or for good by the server."""


class ConnectFailed(KPSError, ConnectionError):
    """No connection could be made: network, TLS, or the server's refusal.

    ``status`` is the HTTP status with which the server refused the upgrade,
    or ``None`` when it did not come to that.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ConnectionLost(KPSError, ConnectionError):
    """The connection ended while something was pending on it.

    ``code`` is the WebSocket close code (1006 when there was none). Whether the
    server still handled what was pending is unknown.
    """

    def __init__(self, message: str, code: int = 1006) -> None:
        super().__init__(message)
        self.code = code


class RequestTimeout(KPSError, TimeoutError):
    """The server did not answer a request in time."""


class QueueFull(KPSError):
    """A bounded queue has no room and its policy is to refuse."""


class ServerError(KPSError):
    """The server answered a request with an error message.

    ``code`` is what a program can rely on (spec, 12.6), ``request`` the action that was
    refused, ``topic`` and ``to`` what it was about. Empty is what the server did not tell; one
    on level 1 tells none of them.
    """

    def __init__(
        self, message: str, code: str = "", *, request: str = "", topic: str = "", to: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.request = request
        self.topic = topic
        self.to = to


class ServerStartFailed(KPSError, OSError):
    """The server cannot listen: the port is taken, the certificate unreadable."""
