"""The command ``kps bench``: measures a server and its network from one Python process."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import orjson

from kps.cli import readers
from kps.cli.bench_local import measure
from kps.cli.bench_roles import answer, ask, publish, receive
from kps.cli.connecting import ConnectOptions, client_options
from kps.cli.declaring import Command, option, switch
from kps.cli.measuring import PATIENCE, Load, Result
from kps.cli.progress import Progress
from kps.errors import InvalidArgument, KPSError
from kps.io_asyncio.loop import run
from kps.version import __version__

_LARGEST = 2**26  # bytes of a payload: no server takes more by default
_MOST_CLIENTS = 10_000
_TICK = 0.2  # seconds between two pictures of the bar
_TOPIC = "kps-bench"

_ROLES: Final = {"pub": publish, "sub": receive, "ask": ask, "answer": answer}
_WAITING = ("sub", "answer")
"""Roles that begin when somebody else does, so nobody knows how long they take."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions(ConnectOptions):
    """What ``kps bench`` takes."""

    role: str = option(
        "",
        "what this process does; all: it publishes, receives and asks by itself",
        read=readers.name,
        choices=("all", *_ROLES),
        default="all",
    )
    seconds: float = option("S", "time for each measurement", read=readers.seconds, default=2.0)
    size: int = option(
        "BYTES", "size of the payload", read=partial(readers.size, most=_LARGEST), default=64
    )
    rate: float | None = option(
        "N",
        "messages per second, sent when they are due, whatever has become of earlier ones; "
        "default: as many as pass",
        read=readers.pace,
        default=None,
    )
    clients: int | None = option(
        "N",
        "connections of this role; default: 1",
        read=partial(readers.size, most=_MOST_CLIENTS),
        default=None,
    )
    topic: str | None = option(
        "TOPIC",
        f"over this topic; default: a random one, for roles {_TOPIC}",
        read=readers.name,
        default=None,
    )
    json: bool = switch("print one JSON object at the end")


def bench(options: BenchOptions) -> int:
    """Print the measurements."""
    if options.role == "all" and options.clients is not None:
        raise InvalidArgument("--clients is for one role: see --role")
    if options.role in _WAITING and options.rate is not None:
        raise InvalidArgument(f"--rate is for those who send: --role {options.role} does not")
    try:
        run(_show(options))
    except TimeoutError:
        raise KPSError("a message did not arrive: the server is overloaded, or gone") from None
    return 0


async def _show(options: BenchOptions) -> None:
    """Print each measurement when it is there, or all of them as one JSON object."""
    load = Load(
        address=options.address,
        options=client_options(options),
        seconds=options.seconds,
        size=options.size,
        rate=options.rate,
        clients=options.clients or 1,
        topic=options.topic or ("" if options.role == "all" else _TOPIC),
    )
    results: list[Result] = []
    is_open_ended = options.role in _WAITING
    steps = 4 if options.role == "all" and options.rate is None else 1
    # Connecting has its own limit, and is over, or undone, before this one.
    limit = None if is_open_ended else steps * options.seconds + 2 * PATIENCE
    progress = Progress(steps * options.seconds)
    run_role = measure if options.role == "all" else _ROLES[options.role]
    async with asyncio.timeout(limit), contextlib.aclosing(run_role(load)) as measurements:
        with contextlib.nullcontext() if is_open_ended else _ticking(progress):
            async for result in measurements:
                progress.end()
                results.append(result)
                if not options.json:
                    print("\n".join(result.lines), flush=True)
    if options.json:
        told = {
            "version": __version__,
            "role": options.role,
            "seconds": options.seconds,
            "size": options.size,
            "rate": options.rate,
            "clients": load.clients,
            "measurements": {result.name: result.figures for result in results},
        }
        print(orjson.dumps(told).decode(), flush=True)


@contextlib.contextmanager
def _ticking(progress: Progress) -> Iterator[None]:
    """Move a bar with the time."""

    async def tick() -> None:
        while True:
            await asyncio.sleep(_TICK)
            progress.step(_TICK)

    task = asyncio.ensure_future(tick())
    try:
        yield
    finally:
        task.cancel()
        progress.end()


COMMAND = Command(
    "kps bench",
    BenchOptions,
    bench,
    about=[
        "Alone it measures how many messages pass from one of its clients to another, how long "
        "one takes, and acknowledged messages. With --rate it publishes on time instead, and "
        "measures from the moment when a message is due, so that a server which stands still "
        "does not look fast.",
        "With --role several processes share the work: 'pub' publishes to 'sub', and 'ask' gets "
        "answers from 'answer'. Start those that wait first; they end so many seconds after the "
        "first message, or with Ctrl-C.",
    ],
    examples=[
        ("kps bench", "four measurements"),
        ("kps bench --rate 5000 --seconds 30 --json", "percentiles at a given load"),
        ("kps bench --role sub --seconds 10", "on one machine, and on another:"),
        ("kps bench --role pub --seconds 10 --clients 4", ""),
    ],
)
