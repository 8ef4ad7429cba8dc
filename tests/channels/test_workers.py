"""Normal channels: messages wait at their sender, and each goes to one worker that is free."""

import asyncio
from typing import Any

import kps.sync
from kps.channels import KpsChannelLayer
from tests.channels.harness import layers, on_loop, text, until


async def work(layer: KpsChannelLayer, done: list[tuple[int, int]], number: int) -> None:
    while True:
        message = await layer.receive("tasks")
        done.append((message["number"], number))


@on_loop
async def test_each_message_goes_to_one_of_the_workers(server: kps.sync.Server) -> None:
    async with layers(server, 4) as [sender, *workers]:
        done: list[tuple[int, int]] = []
        tasks = [asyncio.create_task(work(each, done, n)) for n, each in enumerate(workers)]
        await until(lambda: server.count_subscribers("channels/channel/tasks")[1] == 3)
        for number in range(60):
            await sender.send("tasks", text(number))
        await until(lambda: len(done) == 60)
        for task in tasks:
            task.cancel()
        assert sorted(number for number, _ in done) == list(range(60))
        assert {worker for _, worker in done} == {0, 1, 2}


@on_loop
async def test_a_busy_worker_is_spared(server: kps.sync.Server) -> None:
    """One that receives nothing just now gets nothing, so nothing waits behind its work."""
    async with layers(server, 3) as [sender, busy, free]:
        await sender.send("tasks", text(0))
        assert await busy.receive("tasks") == text(0)
        done: list[tuple[int, int]] = []
        task = asyncio.create_task(work(free, done, 1))
        for number in range(1, 21):
            await sender.send("tasks", text(number))
        await until(lambda: len(done) == 20)
        task.cancel()
        assert done == [(number, 1) for number in range(1, 21)]


@on_loop
async def test_all_are_busy(server: kps.sync.Server) -> None:
    """What waits comes as soon as one says that it is free."""
    async with layers(server, 2) as [sender, worker]:
        for number in range(10):
            await sender.send("tasks", text(number))
        for number in range(10):
            assert await worker.receive("tasks") == text(number)


@on_loop
async def test_nothing_waits_where_nobody_receives_any_more(server: kps.sync.Server) -> None:
    async with layers(server, 2, expiry=0.2) as [sender, worker]:
        receiving = asyncio.create_task(worker.receive("tasks"))
        while not receiving.done():  # on a slow machine a message expires before it is taken
            await sender.send("tasks", text(0))
            await asyncio.wait({receiving}, timeout=0.05)
        await until(lambda: server.count_subscribers("channels/channel/tasks") == (0, 0, 0))


@on_loop
async def test_what_another_worker_may_have_had_is_not_handled_again(
    server: kps.sync.Server,
) -> None:
    """A member of the group takes a message, and its connection ends before it says so."""
    async with layers(server, 2) as [sender, worker]:
        taken: list[Any] = []
        with kps.sync.Client(server.address) as thief:
            topic = "channels/channel/tasks"
            messages = thief.subscribe(topic, group="workers")
            await sender.send("tasks", text(1))
            taken.append(await asyncio.to_thread(next, messages))
            receiving = asyncio.create_task(worker.receive("tasks"))
            await until(lambda: server.count_subscribers(topic)[1] == 2)
            assert server.disconnect(thief.id)
            await until(lambda: sender.counts.lost + worker.counts.lost == 1)
            thief.close()
        await sender.send("tasks", text(2))
        assert await receiving == text(2)
        assert taken[0].data == text(1)
