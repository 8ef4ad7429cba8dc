"""The command ``kps presence``."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from kps.cli import readers
from kps.cli.connecting import ClientOptions, client_options
from kps.cli.declaring import Command, argument, switch
from kps.cli.streams import Output
from kps.errors import KPSError, ServerError, Unsupported
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import call
from kps.protocol.bus.members import Presence
from kps.protocol.bus.message import Message


@dataclass(frozen=True, kw_only=True)
class PresenceOptions(ClientOptions):
    """What ``kps presence`` takes."""

    topic: str = argument("TOPIC", "whose subscribers are asked for", read=readers.text)
    follow: bool = switch("go on with who comes and goes, as a subscriber")


def presence(options: PresenceOptions) -> int:
    """Print who is subscribed to a topic, and with ``--follow`` who comes and goes."""
    call(_guarded, options)
    return 0


async def _guarded(options: PresenceOptions) -> None:
    output = Output()
    await output.guard(_print(options, output))


async def _print(options: PresenceOptions, output: Output) -> None:
    topic = options.topic
    async with Client(
        options.address, id=options.id, reconnect=False, **client_options(options)
    ) as client:
        try:
            if options.follow:
                await _follow(client, topic, output)
            else:
                found = await client.presence(topic)
                for line in _members(found):
                    await output.write(orjson.dumps(line))
        except (ServerError, Unsupported) as error:
            raise KPSError(f"cannot see who is subscribed to {topic!r}: {error}") from None
    await output.finish()


async def _follow(client: Client, topic: str, output: Output) -> None:
    """Print changes until the client ends."""
    finished = asyncio.Event()
    shown: Mapping[str, Any] = {}

    async def show(now: Presence) -> None:
        nonlocal shown
        # Compared with what was shown, because a notice is dropped when very many wait.
        for line in _changes(shown, now):
            await output.write(orjson.dumps(line))
        shown = now.members or {}

    async def decline(message: Message) -> None:
        client._settle(message, "kps presence handles no messages")

    async def closed() -> None:
        finished.set()

    client.on_close = closed
    await client.subscribe(topic, decline, presence=show)
    await finished.wait()
    await client.flush()  # raises the reason


def _members(found: Presence) -> Iterator[dict[str, Any]]:
    if found.members is None:
        yield {"count": found.count}
        return
    for name, info in found.members.items():
        yield {"id": name, "info": info}


def _changes(shown: Mapping[str, Any], now: Presence) -> Iterator[dict[str, Any]]:
    """Yield a line for each change, or the number of members who are too many to be told."""
    if now.members is None:
        yield {"count": now.count}
        return
    for name, info in now.members.items():
        if name not in shown:
            yield {"event": "joined", "id": name, "info": info}
        elif info != shown[name]:
            yield {"event": "updated", "id": name, "info": info}
    for name in shown:
        if name not in now.members:
            yield {"event": "left", "id": name, "reason": now.left.get(name, "unknown")}


COMMAND = Command(
    "kps presence",
    PresenceOptions,
    presence,
    about=[
        "It prints one JSON object for each, with 'id' and 'info', or {\"count\": N} if they are "
        "too many. With --follow each line has an 'event': joined, updated or left."
    ],
    examples=[
        ("kps presence news", "who is subscribed now"),
        ("kps presence news --follow", "and who comes and goes"),
    ],
)
