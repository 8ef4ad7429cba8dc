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
from kps.protocol.limits import ClientLimits

_LONGEST = 64 * 1024 * 1024  # bytes of a line for a server that does not tell what it accepts


def publish(options: argparse.Namespace) -> int:
    """Publish the argument, or lines of the input; return 1 if one of them failed."""
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
                await self._publish(client, _payload(options.data))
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
            yield number, _payload(text)

    async def _publish(self, client: Client, data: Any) -> None:
        options, output = self._options, self._output
        if output is None:
            await client.publish(options.topic, data)
            return
        ack = await client.publish_with_ack(options.topic, data, options.timeout)
        responses = await ack.wait()
        for response in responses.values():
            line = {"client_id": response.client_id, "success": response.success}
            if response.error:
                line["error"] = response.error
            await output.write(orjson.dumps(line))
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


def _payload(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
