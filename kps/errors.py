"""The exceptions of KPS.

Every error that a program can meet is a :class:`KPSError`. Where a built-in exception means the
same (``TimeoutError``, ``ConnectionError``, ``ValueError``), ours inherits from it too, so that
a program may catch either.
"""

TEMPORARY_CODES = frozenset({"rate_limited", "limit_reached", "unavailable"})
"""Codes of errors after which the same request may succeed later. All others are final."""


class KPSError(Exception):
    """Base class of every error that KPS raises on purpose."""


class InvalidArgument(KPSError, ValueError):
    """The program passed an invalid argument, or one that cannot be sent.

    For instance an empty topic, a payload that is not JSON, an unreadable address, a negative
    timeout. Nothing was sent and nothing changed. Correct the program.
    """


class MessageTooLarge(InvalidArgument):
    """The message is larger than the server accepts. Nothing was sent.

    Send less at once, or raise ``max_message`` of the server's limits.
    """


class InvalidState(KPSError, RuntimeError):
    """The program called a method at the wrong time. Nothing changed. Correct the program.

    For instance the client or server is not started yet, is started a second time, or has
    stopped; a hook is set after the start; a loop iterates over a subscription with a callback;
    the event loop of the client has ended; the process is a fork of the one that started it.
    """


class WrongThread(InvalidState):
    """The program called an asyncio client or server outside its event loop. Nothing changed.

    From another thread, use ``asyncio.run_coroutine_threadsafe`` with the loop on which it was
    started, or a client of ``kps.sync``, which any thread may call.
    """


class ServerStopped(InvalidState):
    """The server was stopped, before the call or while it waited. Make a new one."""


class NotConnected(KPSError, ConnectionError):
    """The operation needs a connection and there is none at the moment.

    Try again after the client has reconnected, or give it an ``offline_queue``, which keeps
    publications until then.
    """


class ClientClosed(NotConnected):
    """The client was closed, by the program or for good by the server. Make a new one."""


class ConnectFailed(KPSError, ConnectionError):
    """No connection could be made: network, TLS, or the server's refusal.

    ``status`` is the HTTP status with which the server refused the upgrade, or ``None`` if the
    attempt failed otherwise. After 401 and 403 try another token.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ConnectionLost(KPSError, ConnectionError):
    """The connection ended while a request was pending on it.

    ``code`` is the WebSocket close code (1006 if there was none). It is unknown whether the
    server handled the request: repeat it only if it may happen twice.
    """

    def __init__(self, message: str, code: int = 1006) -> None:
        super().__init__(message)
        self.code = code


class RequestTimeout(KPSError, TimeoutError):
    """The server's answer, or an iterator's next message, did not come in time.

    Try again, or allow more time (``request_timeout``, ``timeout``).
    """


class NobodyThere(KPSError):
    """A request has reached nobody: the topic has no subscriber, or nobody has the id.

    Start what answers it, or try again when it is there.
    """


class RequestFailed(KPSError):
    """Those who were asked have failed.

    The text is the error of one of them: what its callback has raised, or ``disconnected``.
    ``errors`` has those of all, by client id. It is unknown how far each of them has got.
    """

    def __init__(self, target: str, errors: dict[str, str]) -> None:
        told = [error for error in errors.values() if error not in ("timeout", "disconnected")]
        first = next(iter(told or errors.values()), "")
        super().__init__(first or f"the request to {target!r} failed")
        self.target = target
        self.errors = errors

    def __reduce__(self) -> tuple[type["RequestFailed"], tuple[str, dict[str, str]]]:
        return type(self), (self.target, self.errors)


class QueueFull(KPSError):
    """A bounded queue is full and its policy refuses the message. Nothing was sent.

    Send more slowly, or raise the queue's limits.
    """


class ServerError(KPSError):
    """The server answered a request with an error message.

    Programs can rely on ``code`` (spec, 12.6). ``request`` is the refused action, ``topic``,
    ``pattern``, ``group`` and ``to`` are its fields. A field that the server did not send is empty;
    on level 1 all are. ``is_temporary`` says whether it may help to try again later.
    """

    def __init__(
        self,
        message: str,
        code: str = "",
        *,
        request: str = "",
        topic: str = "",
        to: str = "",
        pattern: str = "",
        group: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.request = request
        self.topic = topic
        self.to = to
        self.pattern = pattern
        self.group = group

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later: the server is busy, or a limit is full."""
        return self.code in TEMPORARY_CODES


class Unsupported(KPSError):
    """The server cannot do what was asked: it is of an older version, or on level 1.

    Nothing was sent. ``feature`` names what it lacks (spec, 12.1). Update the server.
    """

    def __init__(self, feature: str) -> None:
        super().__init__(f"the server does not have {feature}")
        self.feature = feature

    def __reduce__(self) -> tuple[type["Unsupported"], tuple[str]]:
        return type(self), (self.feature,)


class Refused(KPSError):
    """Raise this to refuse what somebody wants, who gets the text.

    In a callback it refuses a message or a request: the outcome is a failure with that text, as of
    any exception, but the log has no traceback, only a line at the level debug. In a hook of a
    server it refuses a client: ``on_connect`` and ``on_subscribe`` take it; to return ``False``
    does the same without a text.
    """

    def __init__(self, reason: str = "the server refused this") -> None:
        super().__init__(reason)


class ServerStartFailed(KPSError, OSError):
    """The server cannot listen: the port is taken, the certificate unreadable.

    The server has not started. Remove the cause, and start it again.
    """
