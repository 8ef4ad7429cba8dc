"""The files that a running server may read again: its certificate, and its tokens."""

import ssl as tls
import threading

from kps.errors import InvalidArgument, KPSError
from kps.io_common.hooks import TokenHook
from kps.io_common.logs import logger
from kps.io_common.tls import server_context


class Certificates:
    """The TLS context of a server, and the files that it is made of, if any."""

    def __init__(
        self, context: tls.SSLContext | None, files: tuple[str, str | None, str | None] | None
    ) -> None:
        self._files = files
        self._is_reloading = threading.Lock()
        self.context = context if files is None else server_context(*files)
        """For new connections; ``None``: no TLS."""

    @classmethod
    def of(
        cls,
        context: tls.SSLContext | None,
        cert: str | None,
        key: str | None,
        client_ca: str | None,
    ) -> "Certificates":
        """Take a context or files, as the options of a server name them."""
        if cert is None:
            if key is not None or client_ca is not None:
                raise InvalidArgument("tls_key and tls_client_ca need tls_cert")
            return cls(context, None)
        if context is not None:
            raise InvalidArgument("ssl and tls_cert exclude each other")
        return cls(None, (cert, key, client_ca))

    def reload(self, auth: TokenHook | None) -> list[str]:
        """Read the files again, and have ``auth`` do the same; return what was read.

        Either all of them take effect or, when this raises, none. From any thread.
        """
        read = []
        reload_tokens = getattr(auth, "reload", None)
        with self._is_reloading:  # so that what was read last also takes effect last
            # A new context: one in use would keep the authorities that it has, and a
            # certificate of another kind of key beside the new one.
            context = server_context(*self._files) if self._files is not None else None
            if reload_tokens is not None:
                reload_tokens()
                read.append("the tokens")
            if context is not None:
                self.context = context
                read.append("the certificate")
        return read

    def reload_and_log(self, auth: TokenHook | None) -> None:
        """What the signal SIGHUP does."""
        try:
            read = self.reload(auth)
        except KPSError as error:
            logger.error("cannot reload, and go on as before: %s", error)
        else:
            logger.info("reloaded %s", ", ".join(read) or "nothing: there are no files to read")
