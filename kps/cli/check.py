"""The command ``kps check``: a plugin for monitoring, as Nagios and its relatives know them."""

import asyncio
import time
from dataclasses import dataclass

from kps.cli import readers
from kps.cli.complaints import visible
from kps.cli.connecting import ClientOptions, client_options
from kps.cli.declaring import Command, Ends, option
from kps.cli.round_trip import RoundTrip
from kps.errors import InvalidArgument, RequestTimeout
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import call

OK, WARNING, CRITICAL, UNKNOWN = range(4)
"""Exit codes."""

_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


@dataclass(frozen=True, kw_only=True)
class CheckOptions(ClientOptions):
    """What ``kps check`` takes."""

    warning: float = option(
        "S", "a round trip that takes longer is a warning", read=readers.seconds, default=1.0
    )
    critical: float = option(
        "S",
        "one that takes longer is critical, and so is a connection that does",
        read=readers.seconds,
        default=5.0,
    )
    topic: str | None = option(
        "TOPIC",
        "send a message to itself over this topic, not only a question to the server",
        read=readers.name,
        default=None,
    )


def check(options: CheckOptions) -> int:
    """Print one line about a server, and return what it means."""
    if options.warning > options.critical:
        raise InvalidArgument("--warning is above --critical")
    return call(_check, options)


async def _check(options: CheckOptions) -> int:
    patience = 2 * options.critical  # for connecting and for the answer
    try:
        async with asyncio.timeout(patience):
            took, is_whole = await _round_trip(options)
    except TimeoutError:
        raise RequestTimeout(f"no answer within {patience:g} s") from None
    code = OK if took <= options.warning and is_whole else WARNING
    if took > options.critical:
        code = CRITICAL
    about = f"round trip {took * 1e3:.1f} ms"
    if not is_whole:
        about += ", but its node cannot reach the others of the cluster"
    figures = f"rtt={took:.6f}s;{options.warning:g};{options.critical:g};0"
    print(f"KPS {_WORDS[code]} - {about} | {figures}")
    return code


async def _round_trip(options: CheckOptions) -> tuple[float, bool]:
    """Return the seconds that a round trip takes, and whether all nodes have taken part."""
    patience = options.critical
    async with Client(
        options.address,
        id=options.id,
        reconnect=False,
        connect_timeout=patience,
        request_timeout=patience,
        **client_options(options),
    ) as client:
        if options.topic is not None:
            trip = RoundTrip(client, options.topic)
            is_whole = await trip.begin()
            return await trip.measure(patience), is_whole
        began = time.perf_counter()
        await client.flush()
        return time.perf_counter() - began, True


def _tell(code: int, reason: str) -> None:
    """Print why there is no round trip."""
    print(visible(f"KPS {_WORDS[code]} - {reason}"))


COMMAND = Command(
    "kps check",
    CheckOptions,
    check,
    about=[
        "It connects, asks the server something, and prints one line with the time that the "
        "answer took. The line ends with figures for a graph."
    ],
    examples=[
        ("kps check", "a question to the server"),
        ("kps check --topic monitoring --warning 0.1 --critical 1", "a message over the bus"),
    ],
    exits={
        OK: "all is well",
        WARNING: "it is slow, or a node of a cluster is cut off",
        CRITICAL: "it does not answer, or refuses this client",
        UNKNOWN: "it cannot tell: the command line is invalid, Ctrl-C has ended it, or its output "
        "cannot be written",
    },
    ends=Ends(UNKNOWN, CRITICAL, _tell, UNKNOWN),
)
