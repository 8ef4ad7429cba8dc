"""The exceptions of KPS, by who is to blame.

Every error that a program can meet is a :class:`KPSError`. Where a built-in exception means the
same (``TimeoutError``, ``ConnectionError``, ``ValueError``), ours is one of those too, so that a
program may catch either.
"""

_TEMPORARY = frozenset({"rate_limited", "limit_reached", "unavailable"})


class KPSError(Exception):
    """Base class of every error that KPS raises on purpose."""


class InvalidArgument(KPSError, ValueError):
    """The program passed something that makes no sense or cannot go on the wire.

    An empty topic, a payload that is not JSON, an address that cannot be read, a negative
    timeout. Nothing was sent and nothing changed. Correct the program.
    """


class MessageTooLarge(InvalidArgument):
    """The message is larger than the server accepts. Nothing was sent.

    Send less at once, or raise ``max_message`` of the server's limits.
    """


class InvalidState(KPSError, RuntimeError):
    """The program called something at the wrong time. Nothing changed. Correct the program.

    A client or server that is not started yet, or is started a second time, or has stopped; a
    hook that is set after the start; a loop over a subscription that has a callback.
    """


class NotConnected(KPSError, ConnectionError):
    """The operation needs a connection and there is none at the moment.

    A client that reconnects can be asked again later, or be given an
    ``offline_queue`` that keeps publications until the connection is back.
    """


class ClientClosed(NotConnected):
    """The client was closed, by the program or for good by the server. Make a new one."""


class ConnectFailed(KPSError, ConnectionError):
    """No connection could be made: network, TLS, or the server's refusal.

    ``status`` is the HTTP status with which the server refused the upgrade,
    or ``None`` when it did not come to that. 401 and 403 ask for another token.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ConnectionLost(KPSError, ConnectionError):
    """The connection ended while something was pending on it.

    ``code`` is the WebSocket close code (1006 when there was none). Whether the
    server still handled what was pending is unknown: ask again only what may happen twice.
    """

    def __init__(self, message: str, code: int = 1006) -> None:
        super().__init__(message)
        self.code = code


class RequestTimeout(KPSError, TimeoutError):
    """Something did not come in time: the server's answer, or an iterator's next message.

    Try again, or give more time (``request_timeout``, ``timeout``).
    """


class QueueFull(KPSError):
    """A bounded queue has no room and its policy is to refuse. Nothing was sent.

    Send more slowly, or give the queue more room.
    """


class ServerError(KPSError):
    """The server answered a request with an error message.

    ``code`` is what a program can rely on (spec, 12.6), ``request`` the action that was
    refused, ``topic`` and ``to`` what it was about. Empty is what the server did not tell; one
    on level 1 tells none of them. ``is_temporary`` says whether it may help to try again later.
    """

    def __init__(
        self, message: str, code: str = "", *, request: str = "", topic: str = "", to: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.request = request
        self.topic = topic
        self.to = to

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later: the server is busy, or a limit is full."""
        return self.code in _TEMPORARY


class ServerStartFailed(KPSError, OSError):
    """The server cannot listen: the port is taken, the certificate unreadable.

    The server has not started, and may be started again when the cause is gone.
    """
