"""The options by which the commands of clients connect."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict

from kps.cli.arguments import address
from kps.errors import InvalidArgument
from kps.protocol.dialect.address import DEFAULT_ADDRESS, Address

if TYPE_CHECKING:
    import ssl


class Connecting(TypedDict, total=False):
    """Some options of a client."""

    token: str | None
    secure: bool
    ssl: "ssl.SSLContext | None"


def add_connecting(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """Add the options for the server, the token and TLS."""
    parser.add_argument(
        "--address",
        type=address,
        metavar="HOST:PORT|URL",
        default=environment.get("KPS_ADDRESS") or DEFAULT_ADDRESS,
        help="the server, also from KPS_ADDRESS; a port alone means localhost; "
        "default: %(default)s",
    )
    add_identity(parser, environment)


def add_identity(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """Add the options for the token and TLS."""
    parser.add_argument(
        "--token",
        metavar="TEXT",
        default=environment.get("KPS_TOKEN") or None,
        help="token that identifies this client; prefer KPS_TOKEN, because others on this "
        "machine can read command lines",
    )
    tls = parser.add_argument_group("TLS", "Any of these options turns TLS on. Files are PEM.")
    tls.add_argument("--tls-ca", metavar="FILE", help="authorities to trust, not the system's")
    tls.add_argument("--tls-cert", metavar="FILE", help="certificate to show to the server")
    tls.add_argument("--tls-key", metavar="FILE", help="its private key, unless --tls-cert has it")


def client_options(options: argparse.Namespace) -> Connecting:
    """Return the options of the client. Raises :class:`kps.InvalidArgument`."""
    found = Connecting(token=options.token)
    if options.tls_ca is options.tls_cert is options.tls_key is None:
        return found
    if options.tls_key is not None and options.tls_cert is None:
        raise InvalidArgument("--tls-key needs --tls-cert")
    address = Address.parse(options.address, secure=True)
    if not address.secure:
        raise InvalidArgument(f"there is no TLS with {address.url}")
    from kps.io_common.tls import client_context

    context = client_context(options.tls_ca, options.tls_cert, options.tls_key)
    return found | Connecting(secure=True, ssl=context)
