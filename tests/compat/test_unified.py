"""The unified spelling: complete, and the same as the Python one."""

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kps
import kps.sync
from kps.compat.blocking import UnifiedAck as BlockingUnifiedAck
from kps.compat.blocking_client import UnifiedClient as BlockingUnifiedClient
from kps.compat.blocking_server import UnifiedServer as BlockingUnifiedServer
from kps.compat.unified import UnifiedAck
from kps.compat.unified_client import UnifiedClient
from kps.compat.unified_server import UnifiedServer

# The unified names that the clients of the family share.
CLIENT = {
    "NewClient", "Subscribe", "Unsubscribe", "Publish", "PublishToID", "PublishToServer",
    "PublishWithAck", "PublishToIDWithAck", "Close", "Run", "OnClose",
}  # fmt: skip
ACK = {"Wait", "WaitAny", "GetStatus", "IsComplete", "Cancel"}
SERVER = {
    "Subscribe", "Unsubscribe", "Publish", "PublishToID", "PublishToServer", "PublishWithAck",
    "PublishToIDWithAck", "CountClients", "OnUpgradeWS", "OnID", "OnServerData", "Run", "Stop",
}  # fmt: skip


@pytest.mark.parametrize(
    ("names", "aliases", "classes"),
    [
        (CLIENT | {"Id"}, (UnifiedClient, BlockingUnifiedClient), (kps.Client, kps.sync.Client)),
        (ACK, (UnifiedAck, BlockingUnifiedAck), (kps.Ack, kps.sync.Ack)),
        (SERVER, (UnifiedServer, BlockingUnifiedServer), (kps.Server, kps.sync.Server)),
    ],
)
def test_every_unified_name_is_there(
    names: set[str], aliases: tuple[type, ...], classes: tuple[type, ...]
) -> None:
    for cls in aliases:
        assert {name for name in dir(cls) if name[0].isupper()} == names
    for cls in classes:
        for name in names:
            assert inspect.getdoc(getattr(cls, name))


def test_the_names_of_the_original_package_can_be_imported() -> None:
    ksps = pytest.importorskip("ksps")
    names = {name for name in dir(ksps) if name[0].isupper()}
    assert names == {"BusClient", "Client", "ClientAck", "ClientSubscriber", "ClientSubscription"}
    for module in (kps, kps.sync):
        assert names <= set(dir(module))
        assert all(isinstance(getattr(module, name), type) for name in names)
    assert kps.ClientAck is kps.Ack
    assert kps.sync.ClientAck is kps.sync.Ack


def test_the_original_clients_methods_are_all_there() -> None:
    ksps = pytest.importorskip("ksps")
    for theirs, ours in ((ksps.Client, kps.Client), (ksps.client.ClientAck, kps.Ack)):
        names = {
            name for name in vars(theirs) if name[0].isupper() and callable(vars(theirs)[name])
        }
        names |= {n for n, v in vars(theirs).items() if isinstance(v, classmethod)}
        assert names <= set(dir(ours))


def test_what_the_unified_names_do() -> None:
    async def run() -> None:
        got: asyncio.Queue[Any] = asyncio.Queue()
        frames: asyncio.Queue[Any] = asyncio.Queue()
        closed = asyncio.Event()

        async def keep(data: dict[str, Any], unsub: Any) -> None:
            got.put_nowait(data)
            if data["data"] == "last":
                await unsub()

        async def keep_frame(fields: dict[str, Any], client: Any) -> None:
            frames.put_nowait(fields)

        async def on_close() -> None:
            closed.set()

        async with kps.Server("127.0.0.1:0", id="server") as server:
            server.OnID(keep)
            client = await kps.Client.NewClient(
                Address=server.address,
                Id="me",
                Autorestart=True,
                RestartEvery=0.1,
                OnId=keep,
                OnDataWs=keep_frame,
                OnClose=on_close,
            )
            assert await frames.get() == {"action": "pong", "id": "me"}
            assert server.CountClients() == 1
            assert client.Id == "me"
            unsubscribe = await client.Subscribe("t", keep)
            assert isinstance(unsubscribe, kps.ClientSubscriber)
            assert (unsubscribe.Id, unsubscribe.Topic) == ("me", "t")
            await client.Publish("t", 1)
            assert await got.get() == {"data": 1, "from": "me"}
            await client.PublishToID("server", 2)
            assert await got.get() == {"data": 2, "from": "me"}
            await client.PublishToID("me", 3)
            assert await got.get() == {"data": 3, "from": "me"}
            ack = await client.PublishWithAck("t", 4, 30.0)
            assert isinstance(ack, kps.ClientAck)
            responses = await ack.Wait()
            assert responses == {"me": {"ack_id": "ack_1", "client_id": "me", "success": True}}
            assert await ack.WaitAny() == (responses["me"], True)
            assert await ack.IsComplete()
            assert await ack.GetStatus() == {"me": True}
            await ack.Cancel()
            nobody = await client.PublishToIDWithAck("nobody", 5, 30.0)
            assert await nobody.WaitAny() == ({}, False)
            await client.Publish("t", "last")
            await client.flush()
            while server.count_subscribers("t")[1]:
                await asyncio.sleep(0)
            await unsubscribe()
            with pytest.raises(kps.KPSError):
                await server.PublishToServer("127.0.0.1:1", 1)
            await client.Close()
            await asyncio.wait_for(closed.wait(), 10)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_unsub_works_from_a_plain_callback_in_its_thread() -> None:
    async def run() -> None:
        async with (
            kps.Server("127.0.0.1:0") as server,
            kps.Client(server.address) as client,
        ):
            await client.Subscribe("t", lambda data, unsub: unsub())
            await client.Publish("t", 1)
            while server.count_subscribers("t")[1]:
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_the_familys_example_program_runs_as_it_stands(tmp_path: Path) -> None:
    program = """
import asyncio
from kps import Client

async def main():
    client = await Client.NewClient(Address="ADDRESS")
    await client.Subscribe("events", lambda data, unsub: print(f"Got: {data}"))
    ack = await client.PublishWithAck("events", "From Python!", 3.0)
    responses = await ack.Wait()
    print([response["success"] for response in responses.values()])

asyncio.run(main())
"""

    async def run() -> subprocess.CompletedProcess[str]:
        async with kps.Server("127.0.0.1:0") as server:
            path = tmp_path / "program.py"
            path.write_text(program.replace("ADDRESS", server.address))
            return await asyncio.to_thread(
                subprocess.run,
                [sys.executable, str(path)],
                capture_output=True,
                text=True,
                timeout=30,
            )

    result = asyncio.run(run())
    assert result.stderr == ""
    assert result.returncode == 0
    first, second = result.stdout.splitlines()
    assert first.startswith("Got: {'data': 'From Python!', 'from': 'client-")
    assert second == "[True]"
