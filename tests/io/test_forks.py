"""A forked child whose copy of the loop runs on, as ``sys.exit`` makes it: the parent is as it was.

The child shares the parent's sockets, and on Linux also the list of those for which the loop waits.
"""

import os
import subprocess
import sys

import pytest

from tests.io.harness import PROGRAM_PATIENCE

PROGRAM = """
import asyncio, os, signal, sys, kps, uvloop

statuses = set()

def fork():
    if os.fork() == 0:
        signal.alarm(patience)
        sys.exit(7)
    statuses.add(os.waitstatus_to_exitcode(os.wait()[1]))

async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)

async def answer(message):
    await asyncio.sleep(0)

async def check(secure, uses_uvloop):
    global patience
    # On uvloop some children hang, or crash, also without our code.
    patience = 2 if uses_uvloop else 30
    server = kps.Server("127.0.0.1:0", ssl=secure[0])
    options = {"secure": True, "ssl": secure[1]} if secure[1] else {}
    async with (
        server,
        kps.Client(server.address, reconnect=False, **options) as one,
        kps.Client(server.address, reconnect=False, **options) as other,
    ):
        messages = await other.subscribe("t", timeout=20)
        heard = server.subscribe("t", timeout=20)
        await other.subscribe("answered", answer)
        for number in range(12):  # a step is due, the loop has bytes, they are under way, ...
            await one.publish("t", number)
            await turns(0 if uses_uvloop else number % 6)
            fork()
        if uses_uvloop:  # where a child with any stream may crash, or hang, or worse
            assert [(await anext(messages)).data for _ in range(12)] == list(range(12))
            print("done", flush=True)
            os._exit(0)
        for number in range(12, 24):
            await server.publish("t", number)
            asking = asyncio.create_task(one.publish_with_ack("answered", number))
            await turns(number % 6)
            fork()
            assert len(await (await asking).wait()) == 1
        assert [(await anext(messages)).data for _ in range(24)] == list(range(24))
        assert [(await anext(heard)).data for _ in range(24)] == list(range(24))

        for number in range(8):  # a connection is made
            task = asyncio.create_task(kps.Client.connect(server.address, **options))
            await turns(2 * number)
            fork()
            await (await asyncio.wait_for(task, 20)).close()

        async def publish_much():  # more is written than the system takes at once
            for number in range(200):
                await one.publish("t", [number, "-" * 60000])

        publishing = asyncio.create_task(publish_much())
        await turns(3)
        fork()
        await publishing
        assert [(await anext(messages)).data[0] for _ in range(200)] == list(range(200))
        assert one.is_connected and other.is_connected
        print(*statuses, flush=True)
    os._exit(0)  # the child has ended the loop's own wake-up, as with any asyncio program
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.parametrize(
    ("loop", "secure"), [("asyncio", "plain"), ("asyncio", "tls"), ("uvloop", "plain")]
)
def test_a_child_that_exits_from_a_coroutine_leaves_the_parents_sockets_alone(
    loop: str, secure: str
) -> None:
    contexts = "None, None"
    program = PROGRAM
    if secure == "tls":
        program += (
            "import ssl, trustme\n"
            "authority = trustme.CA()\n"
            "server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)\n"
            "authority.issue_cert('localhost', '127.0.0.1').configure_cert(server)\n"
            "client = ssl.create_default_context()\n"
            "authority.configure_trust(client)\n"
        )
        contexts = "server, client"
    program += f"{loop}.run(check(({contexts}), {loop == 'uvloop'}))\n"
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=PROGRAM_PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr
    if loop == "asyncio":
        assert (ran.stdout, ran.stderr) == ("7\n", "")
