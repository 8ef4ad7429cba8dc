"""The command ``kps sub``."""

import argparse
import asyncio

import orjson

from kps.cli.complaints import complain
from kps.cli.connecting import client_options
from kps.cli.streams import Output
from kps.errors import KPSError, ServerError
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import call
from kps.protocol.bus.message import Message


def subscribe(options: argparse.Namespace) -> int:
    """Print messages until there were enough, the client ends, or the output does."""
    call(_guarded, options)
    return 0


async def _guarded(options: argparse.Namespace) -> None:
    output = Output()
    await output.guard(_subscribe(options, output))


async def _subscribe(options: argparse.Namespace, output: Output) -> None:
    left = options.count
    finished = asyncio.Event()
    refusals: list[ServerError] = []

    async def show(message: Message) -> None:
        nonlocal left
        if left == 0:
            return
        if left is not None:
            left -= 1
        line = {"topic": message.topic, "from": message.sender, "data": message.data}
        await output.write(orjson.dumps(line))
        if left == 0:
            finished.set()

    async def closed() -> None:
        finished.set()

    async def refused(error: ServerError) -> None:
        if error.request == "subscribe":  # after a reconnect
            refusals.append(error)
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
            for topic in options.topics:
                subscriptions.append(await client.subscribe(topic, show))
            await finished.wait()
            if refusals:
                raise refusals[0]
        except ServerError as error:
            raise KPSError(f"cannot subscribe to {error.topic!r}: {error}") from None
        finally:
            if dropped := sum(subscription.dropped for subscription in subscriptions):
                complain(f"kps sub: {dropped} messages are lost: the output was read too slowly")
        if left != 0:
            await client.flush()  # raises the reason if the client has ended
        await output.finish()
