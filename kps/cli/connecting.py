"""The options by which the commands of clients connect."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

from kps.cli import readers
from kps.cli.declaring import CONNECTION, LOG, TLS, option, switch
from kps.errors import InvalidArgument
from kps.protocol.dialect.address import DEFAULT_ADDRESS, Address

if TYPE_CHECKING:
    import ssl

_LEVELS: Final = ("debug", "info", "warning", "error")


class Connecting(TypedDict, total=False):
    """Some options of a client."""

    token: str | None
    secure: bool
    ssl: "ssl.SSLContext | None"


def level_option(default: str) -> str:
    """Declare the level of the log."""
    about = f"lines of this level and above: {', '.join(_LEVELS)}"
    return option("LEVEL", about, read=readers.text, choices=_LEVELS, default=default, heading=LOG)


def log_format_option() -> str:
    """Declare the form of the log."""
    forms = ("text", "json")
    about = "json: one object per line"
    return option("", about, read=readers.text, choices=forms, default="text", heading=LOG)


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """What all commands take that may log something."""

    log_level: str = level_option("error")


@dataclass(frozen=True, kw_only=True)
class ConnectOptions(LogOptions):
    """What all commands take that connect to a server."""

    address: str = option(
        "HOST:PORT|URL",
        "the server, also from KPS_ADDRESS; a port alone means localhost",
        read=readers.address,
        default=DEFAULT_ADDRESS,
        heading=CONNECTION,
        variable="KPS_ADDRESS",
        ignores_empty=True,
    )
    port: int | None = option(
        "PORT", "its port, in place of that of the address", read=readers.port, default=None,
        heading=CONNECTION,
    )  # fmt: skip
    token: str | None = option(
        "TEXT",
        "token that identifies this client; prefer KPS_TOKEN, because others on this machine can "
        "read command lines",
        read=readers.text,
        default=None,
        heading=CONNECTION,
        variable="KPS_TOKEN",
        ignores_empty=True,
        is_secret=True,
    )
    tls_ca: str | None = option(
        "FILE",
        "authorities to trust, not the system's",
        read=readers.file,
        default=None,
        heading=TLS,
    )
    tls_cert: str | None = option(
        "FILE", "certificate to show to the server", read=readers.file, default=None, heading=TLS
    )
    tls_key: str | None = option(
        "FILE",
        "its private key, unless --tls-cert has it",
        read=readers.file,
        default=None,
        heading=TLS,
        needs="tls_cert",
    )


@dataclass(frozen=True, kw_only=True)
class ClientOptions(ConnectOptions):
    """What the commands take that are one client."""

    id: str | None = option(
        "ID",
        "the client's id; default: a random one",
        read=readers.text,
        default=None,
        heading=CONNECTION,
    )


@dataclass(frozen=True, kw_only=True)
class PatientOptions(ClientOptions):
    """What the commands take that may wait for a server."""

    reconnect: bool = switch("wait for a server that is down", heading=CONNECTION)


def client_options(options: ConnectOptions) -> Connecting:
    """Return the options of the client. Raises :class:`kps.InvalidArgument`."""
    found = Connecting(token=options.token)
    if options.tls_ca is options.tls_cert is options.tls_key is None:
        return found
    address = Address.parse(options.address, secure=True)
    if not address.secure:
        raise InvalidArgument(f"there is no TLS with {address.url}")
    from kps.io_common.tls import client_context

    context = client_context(options.tls_ca, options.tls_cert, options.tls_key)
    return found | Connecting(secure=True, ssl=context)
