"""The health check of the container: exits with 0 while the server says that it admits clients.

It reads the variables of `kps serve`. With KPS_METRICS_ADDRESS it asks the port for figures, which
takes everybody and has no TLS. Otherwise it asks the port of the bus (KPS_ADDRESS), with TLS and
without. It does not check the certificate, which is for the name by which clients know the server.
"""

import http.client
import os
import ssl
import sys

from kps.cli.readers import address
from kps.protocol.dialect.address import DEFAULT_ADDRESS, Address

SECONDS = 2.0  # for each try: both end before Docker gives up, after 5 s


def is_healthy(where: Address, *, tls: bool) -> bool:
    """Return whether a server answers there, and admits clients."""
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            where.host, where.port, timeout=SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(where.host, where.port, timeout=SECONDS)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> None:
    """Ask the server of this container, and exit."""
    for_operators = os.environ.get("KPS_METRICS_ADDRESS")
    where = Address.parse(
        address(for_operators or os.environ.get("KPS_ADDRESS") or DEFAULT_ADDRESS)
    )
    # The likelier one comes first, as a server notes who speaks TLS to it where there is none.
    likely = "KPS_TLS_CERT" in os.environ and not for_operators
    tries = (False,) if for_operators else (likely, not likely)
    sys.exit(0 if any(is_healthy(where, tls=tls) for tls in tries) else 1)


if __name__ == "__main__":
    main()
