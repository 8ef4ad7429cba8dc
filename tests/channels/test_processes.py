"""Event loops, threads, forks and the end of a program: a process has one connection."""

import asyncio
import gc
import json
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync

import kps.sync
from kps.channels import KpsChannelLayer
from tests.channels.harness import PATIENCE, layers, on_loop, text, until

ROOT = Path(__file__).parent.parent.parent


def run_program(program: str, address: str) -> Any:
    """Run a program in a process of its own, and return what it prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, address],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "null")


def test_many_loops_in_many_threads_share_a_connection(server: kps.sync.Server) -> None:
    layer = KpsChannelLayer(server.address)
    try:
        channel = async_to_sync(layer.new_channel)()
        async_to_sync(layer.group_add)("group", channel)

        def work(number: int) -> None:
            for each in range(5):
                async_to_sync(layer.group_send)("group", text(10 * number + each))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        got = [async_to_sync(layer.receive)(channel)["number"] for _ in range(20)]
        assert sorted(got) == [10 * number + each for number in range(4) for each in range(5)]
        assert server.count_clients() == 1
    finally:
        async_to_sync(layer.close)()


def test_two_loops_wait_for_the_same_channel(server: kps.sync.Server) -> None:
    layer = KpsChannelLayer(server.address)
    got: list[Any] = []
    try:
        channel = asyncio.run(layer.new_channel())

        def receive() -> None:
            got.append(asyncio.run(layer.receive(channel)))

        threads = [threading.Thread(target=receive) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(2):
            asyncio.run(layer.send(channel, text(number)))
        for thread in threads:
            thread.join(PATIENCE)
        assert sorted(message["number"] for message in got) == [0, 1]
    finally:
        asyncio.run(layer.close())


def test_a_loop_that_has_ended_while_it_waited(server: kps.sync.Server) -> None:
    """Its receiver never says so: the loop just does not run any more."""
    layer = KpsChannelLayer(server.address)
    channel = asyncio.run(layer.new_channel())
    loop = asyncio.new_event_loop()
    task = loop.create_task(layer.receive(channel))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    try:
        asyncio.run(layer.send(channel, text(1)))
        assert asyncio.run(layer.receive(channel)) == text(1)
    finally:
        asyncio.run(layer.close())
        assert not task.done()
        task._log_destroy_pending = False  # type: ignore[attr-defined]


@on_loop
async def test_close_ends_waits_and_the_next_call_begins_anew(server: kps.sync.Server) -> None:
    async with layers(server) as [layer]:
        channel = await layer.new_channel()
        await layer.group_add("group", channel)
        waiting = [asyncio.create_task(layer.receive(name)) for name in (channel, "tasks")]
        await until(lambda: server.count_subscribers("channels/channel/tasks") != (0, 0, 0))
        await layer.close()
        for task in waiting:
            with pytest.raises(kps.ClientClosed):
                await task
        await until(lambda: server.count_clients() == 0)
        await layer.send("tasks", text(1))
        assert await layer.receive("tasks") == text(1)


EXITS = """
import sys
from asgiref.sync import async_to_sync
from kps.channels import KpsChannelLayer

layer = KpsChannelLayer(sys.argv[1], timeout=20)
async_to_sync(layer.group_send)("group", {"type": "to.group"})
for number in range(3):
    async_to_sync(layer.send)("tasks", {"type": "to.worker", "number": number})
"""


@on_loop
async def test_a_program_that_exits_at_once_has_sent(server: kps.sync.Server) -> None:
    async with layers(server) as [layer]:
        channel = await layer.new_channel()
        await layer.group_add("group", channel)
        running = asyncio.create_task(asyncio.to_thread(run_program, EXITS, server.address))
        assert await layer.receive(channel) == {"type": "to.group"}
        for number in range(3):
            assert await layer.receive("tasks") == {"type": "to.worker", "number": number}
        await running


FORKS = """
import asyncio, json, os, signal, sys
from kps.channels import KpsChannelLayer

async def main(layer, who):
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await layer.send(channel, {"type": who})
    return await layer.receive(channel), channel

layer = KpsChannelLayer(sys.argv[1])
before = asyncio.run(main(layer, "parent"))
reading, writing = os.pipe()
if os.fork() == 0:
    signal.alarm(40)
    answer = asyncio.run(main(layer, "child"))
    asyncio.run(layer.close())
    os.write(writing, json.dumps(answer).encode())
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
if os.fork() == 0:
    signal.alarm(40)
    sys.exit(3)  # which waits for threads of C, of which the child has none
assert os.waitstatus_to_exitcode(os.wait()[1]) == 3
after = asyncio.run(main(layer, "parent again"))
print(json.dumps([before, json.loads(os.read(reading, 10_000)), after]))
"""


def test_a_forked_child_has_a_connection_of_its_own(server: kps.sync.Server) -> None:
    before, child, after = run_program(FORKS, server.address)
    assert [before[0], child[0], after[0]] == [
        {"type": "parent"}, {"type": "child"}, {"type": "parent again"}
    ]  # fmt: skip
    ids = [channel.partition("!")[0] for _, channel in (before, child, after)]
    assert ids[0] == ids[2] != ids[1]


@on_loop
async def test_a_layer_that_nobody_refers_to_ends(server: kps.sync.Server) -> None:
    """Tests that override the setting make many; what it has sent still goes to a worker."""
    layer = KpsChannelLayer(server.address, timeout=PATIENCE)
    await layer.group_add("group", await layer.new_channel())
    await layer.send("tasks", text(1))
    forgotten = weakref.ref(layer)
    del layer
    await until(lambda: gc.collect() >= 0 and forgotten() is None)
    async with layers(server) as [worker]:
        assert await worker.receive("tasks") == text(1)
    await until(lambda: server.count_clients() == 0)
