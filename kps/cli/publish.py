"""The command ``kps pub``."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from kps.cli import readers
from kps.cli.advice import about_topic
from kps.cli.complaints import complain
from kps.cli.connecting import client_options
from kps.cli.declaring import Command, option, several, switch
from kps.cli.pacing import Pace
from kps.cli.payloads import payload
from kps.cli.sending import SendOptions, addressed, check_message_id, data_of, headers
from kps.cli.streams import Input, Output
from kps.errors import InvalidArgument, ServerError
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import call
from kps.protocol.bus.given import check_topic
from kps.protocol.dialect.outcome import AckResponse, GroupResponse
from kps.protocol.limits import ClientLimits

_NAME = "kps pub"
_LONGEST = 64 * 1024 * 1024  # bytes of a line for a server that does not tell what it accepts


@dataclass(frozen=True, kw_only=True)
class PublishOptions(SendOptions):
    """What ``kps pub`` takes."""

    ack: bool = switch("print who has handled it; exit code 1 if not all have")
    receipt: bool = switch("print to how many subscribers the server has passed it on")
    expect_group: Sequence[str] = several(
        "NAME", "with --ack: a group that must have a member", read=readers.name
    )
    count: int | None = option(
        "N", "publish DATA N times; with -, up to N lines", read=readers.size, default=None
    )
    rate: float | None = option(
        "N", "at most N messages per second", read=readers.pace, default=None
    )


def publish(options: PublishOptions) -> int:
    """Publish the argument, or lines of the input; return 1 if one of them failed."""
    _, data = addressed(options)
    if not options.ack:
        for flag in ("key", "retry", "expect_group"):
            if getattr(options, flag) not in (None, ()):
                raise InvalidArgument(f"--{flag.replace('_', '-')} needs --ack")
    if options.receipt and (options.ack or options.to is not None):
        raise InvalidArgument(f"--receipt does not go with {'--ack' if options.ack else '--to'}")
    if options.expect_group and options.to is not None:
        raise InvalidArgument("--expect-group is one of a topic, and --to names a client")
    check_message_id(options)
    if options.message_id is not None and (data == "-" or options.count is not None):
        raise InvalidArgument("--message-id is that of one message")
    return call(_guarded, options)


async def _guarded(options: PublishOptions) -> int:
    if not options.ack and not options.receipt:
        return await _Publisher(options, None).run()
    output = Output()
    return await output.guard(_Publisher(options, output).run())


class _Publisher:
    """Publishes payloads, and counts what failed. An ``output`` gets what became of them."""

    def __init__(self, options: PublishOptions, output: Output | None) -> None:
        self._options = options
        self._output = output
        self._headers = headers(options)
        self._failures = 0
        self._input: Input | None = None

    async def run(self) -> int:
        """Publish everything; return the exit code."""
        options = self._options
        topic, text = addressed(options)
        # Before there is a connection, because it may be wrong.
        data = None if text == "-" else data_of(text, options, _NAME)
        async with Client(
            options.address,
            id=options.id,
            reconnect=False,
            on_error=self._refused,
            on_close=self._closed,
            **client_options(options),
        ) as client:
            pace = None if options.rate is None else Pace(options.rate, time.perf_counter())
            if text == "-":
                if options.to is None:
                    check_topic(topic, ClientLimits())  # else each line would fail
                async for number, line in self._lines(client.max_message or _LONGEST):
                    if pace is not None:
                        await pace.next()
                    try:
                        await self._send(client, line)
                    except InvalidArgument as error:
                        self._fail(f"line {number}: {error}")
            else:
                for _ in range(options.count or 1):
                    if pace is not None:
                        await pace.next()
                    await self._send(client, data)
            await client.flush()
        if self._output is not None:
            await self._output.finish()
        return 1 if self._failures else 0

    async def _lines(self, most: int) -> AsyncIterator[tuple[int, Any]]:
        """Yield the payloads on the input with their lines' numbers."""
        options = self._options
        self._input = Input(most)
        left = options.count
        async for number, line in self._input:
            if line is None:
                self._fail(f"line {number}: it has more than the {most} bytes that are accepted")
            else:
                try:
                    data = payload(line.decode(), f"{_NAME}: line {number}", insist=options.json)
                except UnicodeDecodeError as error:
                    self._fail(f"line {number}: byte {error.start + 1} is not UTF-8")
                except InvalidArgument as error:
                    self._fail(f"line {number}: it is {error}")
                else:
                    yield number, data
            if left is not None:
                left -= 1
                if not left:
                    return

    async def _send(self, client: Client, data: Any) -> None:
        options = self._options
        if options.ack:
            await self._send_with_ack(client, data)
        elif options.to is not None:
            await client.publish_to_id(options.to, data, headers=self._headers)
        elif options.receipt or options.message_id:
            receipt = await client.publish_with_receipt(
                options.topic,
                data,
                headers=self._headers,
                message_id=options.message_id or "",
            )
            if options.receipt and self._output is not None:
                line = {"subscribers": None if receipt is None else int(receipt)}
                if receipt is not None and receipt.degraded:
                    line["degraded"] = True
                await self._output.write(orjson.dumps(line))
        else:
            await client.publish(options.topic, data, headers=self._headers)

    async def _send_with_ack(self, client: Client, data: Any) -> None:
        """Publish, and print what becomes of it."""
        options, message_id = self._options, self._options.message_id or ""
        if options.to is not None:
            ack = await client.publish_to_id_with_ack(
                options.to, data, options.timeout, headers=self._headers, message_id=message_id
            )
        else:
            ack = await client.publish_with_ack(
                options.topic,
                data,
                options.timeout,
                expect_groups=options.expect_group,
                key=options.key or "",
                retry=options.retry or 0,
                headers=self._headers,
                message_id=message_id,
            )
        responses = await ack.wait()
        for response in responses.values():
            if self._output is not None:
                await self._output.write(orjson.dumps(_outcome(response)))
            self._failures += not response.success
        if not responses:
            where = f"on {options.topic!r}" if options.to is None else f"as {options.to!r}"
            self._fail(f"nobody answered {where}")

    async def _closed(self) -> None:
        if self._input is not None:  # wait for no more lines
            self._input.close()

    async def _refused(self, error: ServerError) -> None:
        self._fail(f"{error}{about_topic(error)}")

    def _fail(self, reason: str) -> None:
        self._failures += 1
        complain(f"{_NAME}: {reason}")


def _outcome(response: AckResponse) -> dict[str, Any]:
    """Return what a line tells of an outcome."""
    line: dict[str, Any] = {"client_id": response.client_id}
    if isinstance(response, GroupResponse):
        scope = response.scope
        of_what = "topic" if isinstance(scope, str) else "pattern"
        line = {"group": response.group, of_what: str(scope)}
        line |= {"member": response.client_id or None, "attempts": response.attempts}
        if response.failures:
            line["failures"] = [
                {"member": member, "error": error} for member, error in response.failures
            ]
    line["success"] = response.success
    if response.error:
        line["error"] = response.error
    return line


COMMAND = Command(
    _NAME,
    PublishOptions,
    publish,
    usage=("kps pub [options] TOPIC DATA", "kps pub [options] --to ID DATA"),
    about=[
        "DATA is JSON, or else a string; with - each line of the standard input is published. A "
        "line that cannot be is told with its number, and the others go on."
    ],
    examples=[
        ('kps pub news \'{"title": "hello"}\'', "publishes an object"),
        ("kps pub jobs '[1, 2]' --ack --retry 2", "and tells who has handled it"),
        ("kps pub news hello --receipt", "and tells how many were subscribed"),
        ("kps pub --to alice hello", "sends a direct message"),
        ("kps pub log - < app.log", "publishes lines"),
        ("kps pub tick 1 --count 600 --rate 10", "for a minute, ten times a second"),
    ],
    exits={1: "somebody has not handled it, a line was left out, or it has failed"},
)
