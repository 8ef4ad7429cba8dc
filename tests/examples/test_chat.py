"""``examples/chat``: who has read a line, what late comers see, and who cannot pose as another."""

import asyncio

import pytest

import kps
from tests.examples.harness import PATIENCE, running, until_async


def enter(address: str, name: str, secret: str = "") -> kps.Client:
    return kps.Client(address, id=name, token=f"{name}:{secret or 16 * name[0]}", reconnect=False)


def test_who_has_read_a_line_and_who_has_not() -> None:
    async def run(address: str) -> None:
        looks_up = asyncio.Event()
        read: list[str] = []

        async def see(message: kps.Message) -> None:
            read.append(f"{message.sender}: {message.data['text']}")

        async def see_later(message: kps.Message) -> None:
            await looks_up.wait()

        async with enter(address, "ann") as ann, enter(address, "bob") as bob:
            async with enter(address, "cid") as cid:
                await bob.subscribe("rooms/lobby", see)
                await cid.subscribe("rooms/lobby", see_later)
                ack = await ann.publish_with_ack("rooms/lobby", {"text": "hi"}, timeout=PATIENCE)
                first = await ack.wait_any()
                assert first is not None
                assert (first.client_id, first.success) == ("bob", True)
                assert await ack.status() == {"bob": True, "cid": False}
            assert (await ack.wait())["cid"].error == "disconnected"
            assert read == ["ann: hi"]

            async with enter(address, "dan") as dan:  # late
                late: list[str] = []

                async def keep(message: kps.Message) -> None:
                    late.append(message.data["text"])

                await dan.subscribe("rooms/lobby", keep, last=50)
                assert (await ann.presence("rooms/lobby")).members == {"bob": None, "dan": None}
                await ann.publish_with_ack("rooms/lobby", {"text": "you"}, timeout=PATIENCE)
                await until_async(lambda: late == ["hi", "you"])

    with running("chat", "127.0.0.1:0", "0") as program:
        asyncio.run(run(program.bus("/bus.js")))
        program.interrupt()


def test_nobody_speaks_or_reads_for_another() -> None:
    async def run(address: str) -> None:
        async with enter(address, "ann") as ann:
            for stranger in (
                enter(address, "ann", "another-secret-of-hers"),
                enter(address, "**"),
                enter(address, "x" * 21),
                kps.Client(address, id="eve", reconnect=False),
                kps.Client(address, id="eve", token="eve:short", reconnect=False),
                kps.Client(address, id="ann", token=f"eve:{16 * 'e'}", reconnect=False),
            ):
                with pytest.raises((kps.ConnectFailed, kps.ServerError)):
                    async with stranger:
                        pass
            for topic in ("rooms/a/b", "news"):
                with pytest.raises(kps.ServerError, match="may not"):
                    await ann.publish_with_receipt(topic, {"text": "hi"})
            with pytest.raises(kps.ServerError, match="may not"):
                await ann.subscribe("rooms/lobby", print, group="thieves")

    with running("chat", "127.0.0.1:0", "0") as program:
        asyncio.run(run(program.bus("/bus.js")))
        program.interrupt()
