"""The command ``kps history``."""

from dataclasses import dataclass

import orjson

from kps.cli import readers
from kps.cli.complaints import complain
from kps.cli.connecting import ClientOptions, client_options
from kps.cli.declaring import Command, argument, option
from kps.cli.streams import Output
from kps.cli.subscribe import line_of
from kps.errors import InvalidArgument, KPSError, ServerError, Unsupported
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import call
from kps.protocol.bus.past import Past
from kps.protocol.dialect.places import Position
from kps.protocol.limits import shown

_LATEST = 100
_AT_ONCE = 1000  # messages of one question, when all behind a place are wanted


def position(value: str) -> Position:
    """Read a place in the history of a topic, ``EPOCH:OFFSET``."""
    epoch, _, offset = value.rpartition(":")
    if not epoch or not value.isprintable() or not offset.isdecimal() or len(offset) > 16:
        raise readers.BadValue(
            f"must be EPOCH:OFFSET, which 'kps history' tells of each message, not {shown(value)}"
        )
    return Position(epoch, int(offset))


@dataclass(frozen=True, kw_only=True)
class HistoryOptions(ClientOptions):
    """What ``kps history`` takes."""

    topic: str = argument("TOPIC", "a topic with history", read=readers.text)
    last: int | None = option(
        "N", f"the latest N messages; default: {_LATEST}", read=readers.size, default=None
    )
    since: Position | None = option(  # noqa: RUF009
        "EPOCH:OFFSET", "all messages behind that one", read=position, default=None
    )


def history(options: HistoryOptions) -> int:
    """Print messages of a topic, the oldest first; return 1 if some are missing."""
    if options.last is not None and options.since is not None:
        raise InvalidArgument("--last does not go with --since")
    return call(_guarded, options)


async def _guarded(options: HistoryOptions) -> int:
    output = Output()
    return await output.guard(_print(options, output))


async def _print(options: HistoryOptions, output: Output) -> int:
    place = options.since
    most = (options.last or _LATEST) if place is None else _AT_ONCE
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


COMMAND = Command(
    "kps history",
    HistoryOptions,
    history,
    about=[
        "It prints one JSON object per message, the oldest first, with 'epoch' and 'offset', the "
        "place of the message."
    ],
    examples=[
        ("kps history news", "the latest messages"),
        ("kps history news --last 5", ""),
        ("kps history news --since 6e0d2f10:41", "what came behind a place"),
    ],
    exits={1: "some of the messages are missing, or it has failed"},
)
