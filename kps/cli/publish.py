"""The command ``kps pub``."""

import argparse
from collections.abc import AsyncIterator
from typing import Any

import orjson

from kps.cli.complaints import complain
from kps.cli.connecting import client_options
from kps.cli.streams import Input, Output
from kps.errors import InvalidArgument, ServerError
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import call
from kps.protocol.bus.message import check_topic
from kps.protocol.dialect.outcome import AckResponse, GroupResponse
from kps.protocol.limits import ClientLimits

_LONGEST = 64 * 1024 * 1024  # bytes of a line for a server that does not tell what it accepts


def publish(options: argparse.Namespace) -> int:
    """Publish the argument, or lines of the input; return 1 if one of them failed."""
    if not options.ack:
        for name in ("key", "retry", "expect_group"):
            if getattr(options, name) is not None:
                raise InvalidArgument(f"--{name.replace('_', '-')} needs --ack")
    check_message_id(options)
    if options.message_id is not None and options.data == "-":
        raise InvalidArgument("--message-id is that of one message, and - reads many")
    return call(_guarded, options)


async def _guarded(options: argparse.Namespace) -> int:
    if not options.ack:
        return await _Publisher(options, None).run()
    output = Output()
    return await output.guard(_Publisher(options, output).run())


class _Publisher:
    """Publishes payloads, and counts what failed. With an ``output`` it asks for acks."""

    def __init__(self, options: argparse.Namespace, output: Output | None) -> None:
        self._options = options
        self._output = output
        self._headers = headers(options)
        self._failures = 0
        self._input: Input | None = None

    async def run(self) -> int:
        """Publish everything; return the exit code."""
        options = self._options
        async with Client(
            options.address,
            id=options.id,
            reconnect=False,
            on_error=self._refused,
            on_close=self._closed,
            **client_options(options),
        ) as client:
            if options.data == "-":
                check_topic(options.topic, ClientLimits())  # else each line would fail
                async for number, data in self._lines(client.max_message or _LONGEST):
                    try:
                        await self._publish(client, data)
                    except InvalidArgument as error:
                        self._fail(f"line {number}: {error}")
            else:
                await self._publish(client, payload(options.data))
            await client.flush()
        if self._output is not None:
            await self._output.finish()
        return 1 if self._failures else 0

    async def _lines(self, most: int) -> AsyncIterator[tuple[int, Any]]:
        """Yield the payloads on the input with their lines' numbers."""
        self._input = Input(most)
        async for number, line in self._input:
            if line is None:
                self._fail(f"line {number}: it has more than the {most} bytes that are accepted")
                continue
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                self._fail(f"line {number}: byte {error.start + 1} is not UTF-8")
                continue
            yield number, payload(text)

    async def _publish(self, client: Client, data: Any) -> None:
        options, output = self._options, self._output
        message_id = options.message_id or ""
        if output is None and message_id:
            await client.publish_with_receipt(
                options.topic, data, headers=self._headers, message_id=message_id
            )
            return
        if output is None:
            await client.publish(options.topic, data, headers=self._headers)
            return
        ack = await client.publish_with_ack(
            options.topic,
            data,
            options.timeout,
            expect_groups=options.expect_group or (),
            key=options.key or "",
            retry=options.retry or 0,
            headers=self._headers,
            message_id=message_id,
        )
        responses = await ack.wait()
        for response in responses.values():
            await output.write(orjson.dumps(_outcome(response)))
            self._failures += not response.success
        if not responses:
            self._fail(f"nobody answered on {options.topic!r}")

    async def _closed(self) -> None:
        if self._input is not None:  # wait for no more lines
            self._input.close()

    async def _refused(self, error: ServerError) -> None:
        self._fail(str(error))

    def _fail(self, reason: str) -> None:
        self._failures += 1
        complain(f"kps pub: {reason}")


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


def check_message_id(options: argparse.Namespace) -> None:
    """Refuse a message id that could have no effect."""
    if options.message_id == "":
        raise InvalidArgument("--message-id is a text that is not empty")
    if options.message_id is not None and options.id is None:
        raise InvalidArgument("--message-id needs --id: it is one among the messages of a client")


def headers(options: argparse.Namespace) -> dict[str, str]:
    """Return the headers of the command line."""
    return dict(one.split("=", 1) for one in options.header or ())


def payload(text: str) -> Any:
    """Read a payload of the command line: JSON, or else a string."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
