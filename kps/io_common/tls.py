"""Makes TLS contexts from files; a fault in a file becomes an error of one line."""

import ssl

from kps.errors import InvalidArgument, KPSError, ServerStartFailed
from kps.io_common.system_errors import describe_file

# OpenSSL's reasons for a readable certificate and a readable key that do not match.
_NOT_A_PAIR = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}
_TOO_WEAK = ("TOO_SMALL", "TOO_WEAK")


def server_context(
    cert: str, key: str | None = None, client_ca: str | None = None
) -> ssl.SSLContext:
    """Make a server's TLS context from files (PEM).

    The context is that of Python's ``ssl.create_default_context(Purpose.CLIENT_AUTH)``: TLS 1.2
    and 1.3, no compression, and the cipher suites that Python and OpenSSL consider safe.

    Args:
        cert: The server's certificate and, below it, those that lead to its authority.
        key: Its private key, not encrypted, unless ``cert`` holds that too.
        client_ca: The authorities of the clients. Only clients with a certificate of one of
            them then pass the handshake (mutual TLS). Names in it do not matter.

    Raises :class:`kps.ServerStartFailed`. Never asks for a password on the terminal.
    """
    context = _new_context(ssl.Purpose.CLIENT_AUTH, client_ca, ServerStartFailed)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    _load_chain(context, cert, key, ServerStartFailed)
    return context


def client_context(
    ca: str | None = None, cert: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """Make a client's TLS context, which verifies the server's certificate and name.

    Args:
        ca: The authorities to trust (PEM), in place of those of the system.
        cert: The client's certificate and chain (PEM), for servers that require one.
        key: Its private key (PEM), not encrypted, unless ``cert`` holds that too.

    Raises :class:`kps.InvalidArgument`. Never asks for a password on the terminal.
    """
    context = _new_context(ssl.Purpose.SERVER_AUTH, ca, InvalidArgument)
    if cert is not None:
        _load_chain(context, cert, key, InvalidArgument)
    return context


class _IsEncrypted(Exception):
    """A private key is encrypted."""


def _new_context(purpose: ssl.Purpose, ca: str | None, error: type[KPSError]) -> ssl.SSLContext:
    if ca is not None:
        _require_readable(ca, "authorities", error)
    try:
        context = ssl.create_default_context(purpose, cafile=ca)
    except (OSError, ValueError) as reason:
        raise error(f"cannot use the authorities {ca}: no PEM certificate in it") from reason
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # the system's settings may allow less
    return context


def _load_chain(context: ssl.SSLContext, cert: str, key: str | None, error: type[KPSError]) -> None:
    _require_readable(cert, "certificate", error)
    if key is not None:
        _require_readable(key, "key", error)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cert)
    except (OSError, ValueError) as reason:
        raise error(f"cannot use the certificate {cert}: no PEM certificate in it") from reason
    where = key if key is not None else cert
    try:
        context.load_cert_chain(cert, key, password=_refuse_password)
    except _IsEncrypted:
        raise error(f"cannot use the key {where}: it is encrypted, and must not be") from None
    except (OSError, ValueError) as reason:  # ssl.SSLError is an OSError
        what = getattr(reason, "reason", None) or ""
        if what in _NOT_A_PAIR:
            text = f"cannot use the key {where}: it is not that of the certificate {cert}"
        elif what.endswith(_TOO_WEAK):
            text = f"cannot use the certificate {cert}: {what.lower().replace('_', ' ')}"
        else:
            text = f"cannot use the key {where}: no PEM private key in it"
        raise error(text) from reason


def _require_readable(path: str, what: str, error: type[KPSError]) -> None:
    # OpenSSL does not say which file it could not read.
    try:
        with open(path, "rb") as file:
            file.read(1)
    except (OSError, ValueError) as reason:
        words = describe_file(reason, path)
        raise error(f"cannot use the {what} {str(path)[:200]}: {words}") from reason


def _refuse_password() -> str:
    raise _IsEncrypted
