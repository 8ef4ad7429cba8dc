"""Servers that keep history in a file, on both drivers: the file lives as long as they do."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kps
import kps.sync
from kps.io_common import history_file
from kps.io_common.history_database import Database
from tests.io.harness import PATIENCE, PROGRAM_PATIENCE, AnyDriver, Inbox, eventually

RULES = [kps.History("**", size=100)]
QUICK = kps.Backoff(first=0.01, longest=0.1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def serve(servers: AnyDriver, path: Path) -> Callable[..., Any]:
    """Starts servers with the file: ``serve(address)``."""

    def start(address: str = "127.0.0.1:0", **options: Any) -> Any:
        return servers.server(address, **{"history": RULES, "history_file": path} | options)

    return start


Serve = Callable[..., Any]


def payloads(server: Any, topic: str = "t") -> list[Any]:
    return [message.data for message in server.history(topic).messages]


def test_messages_outlive_the_server(serve: Serve, path: Path) -> None:
    server = serve()
    for number in range(3):
        server.publish("t", number)
    server.stop()
    assert list(path.parent.iterdir()) == [path]
    again = serve(history_file=str(path), history_sync="full")
    assert payloads(again) == [0, 1, 2]
    again.publish("t", 3)
    assert again.history("t").messages[-1].offset == 4


def test_a_client_resumes_over_a_restart(serve: Serve, clients: AnyDriver, address: str) -> None:
    server = serve(address)
    inbox, recovered, lost = Inbox(), Inbox(), Inbox()
    client = clients.client(
        server.address, reconnect=QUICK, on_recovered=recovered, on_lost=lost
    )  # fmt: skip
    client.subscribe("t", inbox)
    client.subscribe(kps.Pattern("p/*"), inbox)
    for topic in ("t", "p/1"):
        server.publish(topic, topic)
    assert inbox.take(2) == ["t", "p/1"]
    server.stop()
    eventually(lambda: not client.is_connected)
    again = serve(address)
    for topic in ("t", "p/1", "p/2"):
        again.publish(topic, f"{topic} again")
    assert sorted(inbox.take(3)) == ["p/1 again", "p/2 again", "t again"]
    eventually(lambda: client.is_connected)
    client.flush()
    assert lost.is_empty()
    assert inbox.is_empty()


def test_a_start_that_fails_leaves_the_file_to_others(serve: Serve, path: Path) -> None:
    server = serve()
    with pytest.raises(kps.ServerStartFailed, match="another server uses it"):
        serve()
    with pytest.raises(kps.ServerStartFailed, match="cannot listen on"):
        serve(server.address, history_file=path.with_name("other.db"))
    serve(history_file=path.with_name("other.db"))


def test_a_server_whose_start_has_failed_may_start_again(servers: AnyDriver, path: Path) -> None:
    path.mkdir()
    server: Any = kps.sync.Server("127.0.0.1:0", history=RULES, history_file=path)
    with pytest.raises(kps.ServerStartFailed, match=f"cannot use the history in {path}: "):
        server.start()
    path.rmdir()
    server.start()
    server.publish("t", 1)
    server.stop()
    assert payloads_of(path) == [1]


def payloads_of(path: Path) -> list[Any]:
    with kps.sync.Server("127.0.0.1:0", history=RULES, history_file=path) as server:
        return payloads(server)


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 50])
def test_a_start_on_a_loop_that_is_cancelled(path: Path, turns: int) -> None:
    async def main() -> None:
        server = kps.Server("127.0.0.1:0", history=RULES, history_file=path)
        starting = asyncio.create_task(server.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        while True:
            try:
                await server.start()
                break
            except kps.InvalidState:  # it has started before it was cancelled
                break
            except kps.ServerStartFailed:  # its thread has yet to notice
                await asyncio.sleep(0.001)
        await server.publish("t", 1)
        await server.stop()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert payloads_of(path) == [1]


@pytest.mark.parametrize("api", [kps, kps.sync], ids=["asyncio", "threads"])
def test_a_stop_while_the_file_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, api: Any
) -> None:
    begun = threading.Event()
    load = Database.load

    def slow(*args: Any) -> Any:
        begun.set()
        eventually(lambda: server._driver.is_ending, "the beginning of the end")
        return load(*args)

    monkeypatch.setattr(Database, "load", slow)
    server: Any = api.Server("127.0.0.1:0", history=RULES, history_file=path)
    if api is kps:

        async def main() -> None:
            starting = asyncio.create_task(server.start())
            while not begun.is_set():
                await asyncio.sleep(0.001)
            await server.stop()
            with pytest.raises(kps.ServerStopped):
                await starting

        asyncio.run(asyncio.wait_for(main(), PATIENCE))
    else:
        raised: list[BaseException] = []

        def start() -> None:
            try:
                server.start()
            except kps.ServerStopped as error:
                raised.append(error)

        thread = threading.Thread(target=start)
        thread.start()
        assert begun.wait(PATIENCE)
        server.stop()
        thread.join(PATIENCE)
        assert raised
    assert payloads_of(path) == []


def test_stop_writes_everything(
    serve: Serve, clients: AnyDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what a client has sent just before."""
    monkeypatch.setattr(history_file, "WRITTEN_WITHIN", 1e6)
    server = serve()
    client = clients.client(server.address)
    for number in range(2000):
        client.publish("t", number)
    client.flush()
    server.stop()
    assert payloads(serve()) == list(range(1900, 2000))


def test_a_program_that_does_not_stop_its_server(path: Path) -> None:
    """The next one knows that messages may be missing."""
    program = f"""
import asyncio, kps

async def main():
    server = kps.Server("127.0.0.1:0", history=[kps.History("**")], history_file={str(path)!r})
    await server.start()
    await server.publish("t", 1)
    file = server._driver._history
    while file._written < file._queued:
        await asyncio.sleep(0.001)

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PROGRAM_PATIENCE)
    with kps.sync.Server("127.0.0.1:0", history=RULES, history_file=path) as server:
        assert payloads(server) == [1]
        server.publish("t", 2)
        assert server.history("t").position.offset == 2**32 + 1
