"""Signals of a program that runs several clients on one loop."""

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, signal, kps, uvloop

async def main():
    mine = lambda *_: print("mine", flush=True)
    signal.signal(signal.SIGINT, mine)
    async with kps.Server("127.0.0.1:0") as server:
        clients = [await kps.Client.connect(server.address) for _ in range(2)]
        running = [asyncio.create_task(client.run()) for client in clients]
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(asyncio.gather(*running), 20)
        assert signal.getsignal(signal.SIGINT) is mine
        os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the loops there have no handlers")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_signal_closes_all_clients_and_the_programs_handler_is_back(loop: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"{PROGRAM}\n{loop}.run(main())"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "mine\n", "")
