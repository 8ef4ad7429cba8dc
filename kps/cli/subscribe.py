"""The command ``kps sub``."""

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from shlex import quote
from typing import Any

import orjson

from kps.cli import readers
from kps.cli.complaints import complain
from kps.cli.connecting import PatientOptions, client_options
from kps.cli.declaring import Command, arguments, option, several, switch
from kps.cli.log_lines import iso_time
from kps.cli.payloads import plain
from kps.cli.streams import Output
from kps.errors import InvalidArgument, KPSError, ServerError, Unsupported
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import call
from kps.protocol.bus.message import UNSUBSCRIBED, Message
from kps.protocol.patterns import Pattern, Scope

_MOST_AT_A_TIME = 10_000  # ``kps reply`` has a task for each

_FOREIGN = {"#": "**", "+": "*", ">": "**"}
"""What MQTT and NATS write as a level of a topic, and what it is here."""


@dataclass(frozen=True, kw_only=True)
class MemberOptions(PatientOptions):
    """What the commands take that may be a member of a group."""

    group: str | None = option(
        "NAME",
        "be a member of this group, whose members share the messages",
        read=readers.name,
        default=None,
    )
    concurrency: int = option(
        "N",
        f"messages with ack that it handles at a time, at most {_MOST_AT_A_TIME}",
        read=partial(readers.size, most=_MOST_AT_A_TIME),
        default=1,
    )


@dataclass(frozen=True, kw_only=True)
class SubscribeOptions(MemberOptions):
    """What ``kps sub`` takes."""

    topics: Sequence[str] = arguments("TOPIC", "topics to subscribe to")
    pattern: Sequence[str] = several(
        "PATTERN",
        "pattern of topics, in quotes: '*' stands for any characters but '/', '**' for any",
        read=readers.text,
    )
    last: int | None = option(
        "N",
        "begin with the latest N messages of topics with history",
        read=readers.size,
        default=None,
    )
    count: int | None = option("N", "end after N messages", read=readers.size, default=None)
    raw: bool = switch("print payloads only: a string without quotes, all else as JSON")
    timestamp: bool = switch("print when each message has come: the member 'time', or in front")


def subscribe(options: SubscribeOptions) -> int:
    """Print messages until there were enough, the client ends, or the output does."""
    keys: list[Scope] = [*options.topics, *map(Pattern, options.pattern)]
    if not keys:
        raise InvalidArgument("there is nothing to subscribe to: name a TOPIC or a --pattern")
    for doubt in _doubts(keys):
        complain(f"kps sub: {doubt}")
    if options.last:
        keys = list(_apart(keys))
    call(_guarded, options, keys)
    return 0


def _doubts(keys: Sequence[Scope]) -> Iterator[str]:
    """Yield what is probably not meant, although it is possible."""
    for key in keys:
        text = str(key)
        levels = re.split("([/.])", text)
        meant = "".join(_FOREIGN.get(level, level) for level in levels)
        if isinstance(key, str):
            if "*" in meant:
                yield f"{text!r} is one topic; for all that match, use --pattern {quote(meant)}"
        elif meant != text:
            yield f"only stars have a meaning in a pattern: {text!r} may be meant as {quote(meant)}"
        elif "*" not in text:
            yield (
                f"the pattern {text!r} has no star and matches one topic; put a pattern into "
                "quotes, or the shell replaces its stars"
            )
        elif text == "*":
            yield "the pattern '*' matches only topics without '/'; '**' matches all"


def _apart(keys: Sequence[Scope]) -> Iterator[Scope]:
    """Yield each key once, and no topic that one of the patterns has: only one gets its past."""
    patterns = [key for key in keys if isinstance(key, Pattern)]
    for key in dict.fromkeys(keys):
        if not (isinstance(key, str) and any(pattern.selects(key) for pattern in patterns)):
            yield key


async def _guarded(options: SubscribeOptions, keys: Sequence[Scope]) -> None:
    output = Output()
    await output.guard(_subscribe(options, keys, output))


async def _subscribe(options: SubscribeOptions, keys: Sequence[Scope], output: Output) -> None:
    left = options.count
    finished = asyncio.Event()
    refusals: list[KPSError] = []

    async def show(earlier: Sequence[Scope], message: Message) -> None:
        nonlocal left
        if any(_has(key, message.topic) for key in earlier):
            return  # an earlier subscription shows it
        if left == 0:
            client._settle(message, UNSUBSCRIBED)
            return
        if left is not None:
            left -= 1
        if left == 0:
            for key in keys:  # so that another member of a group gets what is more
                await client.unsubscribe(key)
        await output.write(_line(message, options))
        if left == 0:
            finished.set()

    async def closed() -> None:
        finished.set()

    async def refused(error: ServerError) -> None:
        if error.request == "subscribe":  # after a reconnect
            refusals.append(refusal(error.pattern or error.topic, error))
            finished.set()

    subscriptions = []
    async with Client(
        options.address,
        id=options.id,
        reconnect=options.reconnect,
        on_close=closed,
        on_error=refused,
        **client_options(options),
    ) as client:
        try:
            for place, key in enumerate(keys):
                # Groups of the same name are others under another topic or pattern.
                callback = partial(show, () if options.group else keys[:place])
                subscriptions.append(
                    await client.subscribe(
                        key,
                        callback,
                        last=options.last or 0,
                        group=options.group or "",
                        concurrency=options.concurrency,
                    )
                )
                if options.last and isinstance(key, str) and not await _has_history(client, key):
                    complain(f"kps sub: {key!r} has no history: only new messages come")
            await finished.wait()
            if refusals:
                raise refusals[0]
        except (ServerError, Unsupported) as error:
            raise refusal(key, error) from None
        finally:
            if dropped := sum(subscription.dropped for subscription in subscriptions):
                complain(f"kps sub: {dropped} messages are lost: the output was read too slowly")
        if left != 0:
            await client.flush()  # raises the reason if the client has ended
        await output.finish()


async def _has_history(client: Client, topic: str) -> bool:
    try:
        await client.history(topic, limit=1)
    except ServerError as error:
        if error.code != "no_history":
            raise
        return False
    return True


def _line(message: Message, options: SubscribeOptions) -> bytes:
    """Return the line for a message."""
    now = iso_time(time.time()) if options.timestamp else ""
    if options.raw:
        return (f"{now} ".encode() if now else b"") + plain(message.data)
    return orjson.dumps(({"time": now} if now else {}) | line_of(message))


def line_of(message: Message) -> dict[str, Any]:
    """Return what a line tells of a message."""
    line = {"topic": message.topic, "from": message.sender, "data": message.data}
    if headers := message.headers:
        line["headers"] = headers
    if message.attempt > 1:
        line["attempt"] = message.attempt
    return line


def _has(key: Scope, topic: str) -> bool:
    return key == topic if isinstance(key, str) else key.selects(topic)


def refusal(key: Scope, error: KPSError) -> KPSError:
    """Return the error of a topic or pattern that is refused."""
    return KPSError(f"cannot subscribe to {str(key)!r}: {error}")


COMMAND = Command(
    "kps sub",
    SubscribeOptions,
    subscribe,
    about=[
        "A line has 'topic', 'from' and 'data', and 'headers' and 'attempt' if there are some. It "
        "goes on until Ctrl-C, or until the reader of its output has seen enough."
    ],
    examples=[
        ("kps sub news", "prints what is published on a topic"),
        ("kps sub --pattern 'sensors/**' --last 1", "on all that match; first the latest of each"),
        ("kps sub news --raw --timestamp", "for people"),
        ("kps sub news --raw --count 1 | jq .title", "for scripts"),
        ("kps sub jobs --group workers", "shares the messages with the other members"),
    ],
)
