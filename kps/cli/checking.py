"""What ``kps-test`` checks."""

import asyncio
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kps.cli import readers
from kps.cli.commands import run_command
from kps.cli.complaints import complain
from kps.cli.declaring import Command, optional
from kps.errors import KPSError
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import run as run_loop
from kps.io_asyncio.server import Server
from kps.protocol.bus.message import Message

_PATIENCE = 10.0


@dataclass(frozen=True, kw_only=True)
class SmokeOptions:
    """What ``kps-test`` takes."""

    address: str | None = optional(
        "HOST:PORT|URL",
        "a running server (token: KPS_TOKEN); default: start one",
        read=readers.address,
    )


def prepare(words: Sequence[str]) -> Callable[[], int]:
    """Return what runs the smoke test: 0 if all works, 1 if not."""
    about = "check that this installation of KPS works"
    return partial(run_command, COMMAND, about, words, os.environ)


def _test(options: SmokeOptions) -> int:
    try:
        run_loop(_run(options.address))
    except (KPSError, TimeoutError, AssertionError) as error:
        complain(f"kps-test: failed: {error or type(error).__name__}")
        return 1
    print("kps-test: all works")
    return 0


async def _run(address: str | None) -> None:
    if address is not None:
        await asyncio.wait_for(_check(address, os.environ.get("KPS_TOKEN")), _PATIENCE)
        return
    async with Server("127.0.0.1:0") as server:
        await asyncio.wait_for(_check(server.address), _PATIENCE)


async def _check(address: str, token: str | None = None) -> None:
    topic = f"kps-test-{uuid.uuid4().hex}"
    payload = {"text": "h\u00e9llo \U0001f680", "number": 2**53 + 1, "list": [None, True, 0.5]}
    received: asyncio.Queue[Any] = asyncio.Queue()

    async def keep(message: Message) -> None:
        received.put_nowait(message)

    async with (
        Client(address, token=token, reconnect=False, on_id=keep) as alice,
        Client(address, token=token, reconnect=False) as bob,
    ):
        _tell(f"two clients connected to {address}")
        await alice.subscribe(topic, keep)
        await bob.publish(topic, payload)
        message = await received.get()
        _expect(message.data == payload and message.sender == bob.id, "a publication arrives")
        await bob.publish_to_id(alice.id, payload)
        message = await received.get()
        _expect(message.data == payload, "a direct message arrives")
        ack = await bob.publish_with_ack(topic, payload)
        responses = await ack.wait()
        handled = {client_id for client_id, response in responses.items() if response.success}
        _expect(handled == {alice.id}, "an ack tells who handled the message")


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(f"expected that {what}")
    _tell(what)


def _tell(what: str) -> None:
    print(f"ok: {what}", flush=True)


COMMAND = Command(
    "kps-test",
    SmokeOptions,
    _test,
    examples=[
        ("kps-test", "with a server of its own"),
        ("kps-test localhost:9313", "with one that runs"),
    ],
)
