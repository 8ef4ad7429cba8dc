"""The command ``kps rtt``."""

import asyncio
from dataclasses import dataclass
from functools import partial

import orjson

from kps.cli import readers
from kps.cli.complaints import complain
from kps.cli.connecting import ClientOptions, client_options
from kps.cli.declaring import Command, option, switch
from kps.cli.percentiles import in_words, percentiles
from kps.cli.round_trip import RoundTrip
from kps.errors import RequestTimeout
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import call

_NAME = "kps rtt"
_LARGEST = 2**26  # bytes: no server takes more by default


@dataclass(frozen=True, kw_only=True)
class RttOptions(ClientOptions):
    """What ``kps rtt`` takes."""

    count: int = option("N", "round trips", read=readers.size, default=10)
    interval: float = option("S", "seconds from one to the next", read=readers.seconds, default=0.1)
    timeout: float = option(
        "S", "seconds after which a message counts as lost", read=readers.seconds, default=5.0
    )
    size: int = option(
        "BYTES",
        "more bytes for each message",
        read=partial(readers.whole, most=_LARGEST),
        default=0,
    )
    topic: str | None = option(
        "TOPIC", "over this topic, not over one of its own", read=readers.name, default=None
    )
    json: bool = switch("print one JSON object at the end, with seconds")


def rtt(options: RttOptions) -> int:
    """Print round trips, and what is typical of them; return 1 if one was lost."""
    return call(_measure, options)


async def _measure(options: RttOptions) -> int:
    times: list[float] = []
    lost = 0
    async with Client(
        options.address, id=options.id, reconnect=False, **client_options(options)
    ) as client:
        trip = RoundTrip(client, options.topic, options.size)
        await trip.begin()
        try:
            for number in range(1, options.count + 1):
                if number > 1:
                    await asyncio.sleep(options.interval)
                try:
                    times.append(await trip.measure(options.timeout))
                except RequestTimeout as error:
                    lost += 1
                    complain(f"{_NAME}: {error}")
                else:
                    if not options.json:
                        print(f"{number}: {times[-1] * 1e3:.3f} ms", flush=True)
        finally:  # also when Ctrl-C ends it
            _tell(times, lost, as_json=options.json)
    return 1 if lost else 0


def _tell(times: list[float], lost: int, *, as_json: bool) -> None:
    figures = percentiles(times)
    if as_json:
        told = {"round_trips": len(times), "lost": lost, "seconds": figures}
        print(orjson.dumps(told).decode(), flush=True)
    elif figures:
        missing = f", {lost} lost" if lost else ""
        print(f"{len(times)} round trips{missing}: {in_words(figures)}", flush=True)


COMMAND = Command(
    _NAME,
    RttOptions,
    rtt,
    about=[
        "A round trip is the time from publishing a message to its arrival at the same client, "
        "which is its only subscriber. Ctrl-C ends it early, with the figures so far."
    ],
    examples=[
        ("kps rtt", "ten round trips"),
        ("kps rtt --count 1000 --interval 0.01 --json", "percentiles for a program"),
        ("kps rtt --topic news/rtt --token ...", "where a client may not use any topic"),
    ],
    exits={1: "a message was lost, or it has failed"},
)
