"""Reloads the files of a running server: its certificate, and its tokens."""

import logging
import ssl as tls
import threading
from collections.abc import Callable

from kps.errors import InvalidArgument, KPSError, ServerStartFailed
from kps.io_common.logger import write
from kps.io_common.tls import server_context
from kps.io_common.verdicts import TokenHook
from kps.protocol.dialect.outcome import in_words

Finish = Callable[[object], object]
"""Finishes what a function of the program returned: awaits it, or refuses a coroutine."""


class _HookFailed(ServerStartFailed):
    """The program's own ``auth.reload`` raised something."""


class Certificates:
    """The TLS context of a server, and the files from which it was made, if any."""

    def __init__(
        self, context: tls.SSLContext | None, files: tuple[str, str | None, str | None] | None
    ) -> None:
        self._files = files
        self._is_reloading = threading.Lock()
        self.context = context if files is None else server_context(*files)
        """The context for new connections; ``None``: no TLS."""

    @classmethod
    def of(
        cls,
        context: tls.SSLContext | None,
        cert: str | None,
        key: str | None,
        client_ca: str | None,
    ) -> "Certificates":
        """Make it from the options of a server: a context or files."""
        if cert is None:
            if key is not None or client_ca is not None:
                raise InvalidArgument("tls_key and tls_client_ca need tls_cert")
            return cls(context, None)
        if context is not None:
            raise InvalidArgument("ssl and tls_cert exclude each other")
        return cls(None, (cert, key, client_ca))

    def reload(self, auth: TokenHook | None, finish: Finish) -> list[str]:
        """Read the files again, and call ``auth.reload`` if there is one; return what was read.

        ``finish`` gets what that returned, which may be a coroutine. Either all files take effect
        or, when this raises, none. Any thread may call it. Raises :class:`kps.ServerStartFailed`.
        """
        read = []
        reload_tokens = getattr(auth, "reload", None)
        with self._is_reloading:  # the files that were read last must also take effect last
            # Make a new context. The old one would keep its authorities, and also an old
            # certificate if its key is of another kind.
            context = server_context(*self._files) if self._files is not None else None
            if reload_tokens is not None:
                try:
                    finish(reload_tokens())
                except KPSError:
                    raise
                except BaseException as error:  # whatever it is, it must not end the server
                    raise _HookFailed(f"auth.reload failed: {in_words(error)}") from error
                read.append("the tokens")
            if context is not None:
                self.context = context
                read.append("the certificate")
        return read

    def reload_and_log(self, auth: TokenHook | None, finish: Finish) -> None:
        """Reload, and log the outcome: the handler of SIGHUP."""
        try:
            read = self.reload(auth, finish)
        except KPSError as error:
            failure = error.__cause__ if isinstance(error, _HookFailed) else None
            text = "cannot reload; old files stay in use: %(reason)s"
            write(logging.ERROR, "reload_failed", text, reason=error, failure=failure)
        else:
            files = ", ".join(read) or "nothing: there are no files to read"
            write(logging.INFO, "reloaded", "reloaded %(files)s", files=files)
