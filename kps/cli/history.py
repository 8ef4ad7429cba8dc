"""The command ``kps history``."""

import argparse

import orjson

from kps.cli.complaints import complain
from kps.cli.connecting import client_options
from kps.cli.streams import Output
from kps.cli.subscribe import line_of
from kps.errors import KPSError, ServerError, Unsupported
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import call
from kps.protocol.bus.past import Past
from kps.protocol.dialect.places import Position

_AT_ONCE = 1000  # messages of one question, when all behind a place are wanted


def history(options: argparse.Namespace) -> int:
    """Print messages of a topic, the oldest first; return 1 if some are missing."""
    return call(_guarded, options)


async def _guarded(options: argparse.Namespace) -> int:
    output = Output()
    return await output.guard(_print(options, output))


async def _print(options: argparse.Namespace, output: Output) -> int:
    place: Position | None = options.since
    most = options.last if place is None else _AT_ONCE
    code = 0
    async with Client(
        options.address, id=options.id, reconnect=False, **client_options(options)
    ) as client:
        while True:
            try:
                past = await client.history(options.topic, place, most)
            except (ServerError, Unsupported) as error:
                reason = f"cannot read the history of {options.topic!r}: {error}"
                raise KPSError(reason) from None
            if not past.recovered:
                complain(f"kps history: {_missing(past)}")
                code = 1
            for message in past.messages:
                epoch, offset = message.position or past.position
                line = line_of(message) | {"epoch": epoch, "offset": offset}
                await output.write(orjson.dumps(line))
            if place is None or len(past.messages) < most:
                break
            place = past.position
    await output.finish()
    return code


def _missing(past: Past) -> str:
    if past.lost is None:
        return "some messages may be missing: the server does not know the place"
    return f"the server does not keep {past.lost} of these messages any more"
