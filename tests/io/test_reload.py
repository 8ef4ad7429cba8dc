"""The program's functions around a running server: ``auth.reload``, and ``ready`` of ``run``."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import kps
import kps.sync
from kps.io_asyncio.loop import serve_beside
from kps.io_asyncio.signals import on_signals
from tests.io.harness import AnyDriver, AsyncioDriver

FAILURES = (SystemExit(9), KeyboardInterrupt(), ValueError("v"), asyncio.CancelledError())


class Hook:
    """An ``auth`` hook with a ``reload``."""

    def __init__(self, reload: Callable[[], Any]) -> None:
        self.reload = reload

    def __call__(self, token: str) -> None:
        return None


@pytest.fixture
def asyncio_driver() -> Any:
    driver = AsyncioDriver()
    yield driver
    driver.close()


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_reload_that_fails(servers: AnyDriver, failure: BaseException) -> None:
    def reload() -> None:
        raise failure

    server = servers.server(auth=Hook(reload))
    with pytest.raises(kps.ServerStartFailed, match=r"auth\.reload failed: "):
        server.reload()
    assert server.count_clients() == 0  # it lives


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_coroutine_reload_that_fails(asyncio_driver: Any, failure: BaseException) -> None:
    async def reload() -> None:
        raise failure

    server = asyncio_driver.server(auth=Hook(reload))
    with pytest.raises(kps.ServerStartFailed, match=r"auth\.reload failed: "):
        server.reload()
    assert server.count_clients() == 0


def test_a_coroutine_reload_runs_on_the_loop(asyncio_driver: Any) -> None:
    loops = []

    async def reload() -> None:
        await asyncio.sleep(0)
        loops.append(asyncio.get_running_loop())

    for hook in (Hook(reload), Hook(lambda: reload())):
        asyncio_driver.server(auth=hook).reload()
    assert len(loops) == 2


def test_a_coroutine_reload_where_nothing_runs_it() -> None:
    async def reload() -> None:
        pass

    with pytest.raises(kps.InvalidArgument, match=r"auth\.reload is a coroutine function"):
        kps.sync.Server(auth=Hook(reload))
    with pytest.raises(kps.InvalidArgument, match="FirstOf takes plain functions"):
        kps.FirstOf(Hook(reload))
    with kps.sync.Server("127.0.0.1:0", auth=Hook(lambda: reload())) as server:
        with pytest.raises(kps.InvalidArgument, match="returned a coroutine"):
            server.reload()


def test_reloading_outside_of_a_loop() -> None:
    with pytest.raises(kps.InvalidState, match="no event loop"):
        kps.Server("127.0.0.1:0").reload().send(None)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_the_handler_of_a_signal_fails(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        handled = asyncio.Event()

        async def handler() -> None:
            handled.set()
            raise failure

        with on_signals({signal.SIGUSR1: handler}):
            os.kill(os.getpid(), signal.SIGUSR1)
            await handled.wait()
            await asyncio.sleep(0)

    asyncio.run(main())
    assert "the handler of a signal failed" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_coroutine_ready_runs_beside_the_server() -> None:
    ended = []

    async def ready(server: kps.Server) -> None:
        async with kps.Client(server.address):
            os.kill(os.getpid(), signal.SIGTERM)
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(server.address)

    kps.Server("127.0.0.1:0").run(ready)
    assert len(ended) == 1


def test_a_coroutine_ready_that_raises() -> None:
    async def ready(server: kps.Server) -> None:
        raise ValueError("r")

    with pytest.raises(ValueError, match="r"):
        kps.Server("127.0.0.1:0").run(ready)


def test_a_ready_that_cannot_run() -> None:
    async def ready(server: Any) -> None:
        pass

    for wrong in (ready, 5):
        with pytest.raises(kps.InvalidArgument, match="ready is a "):
            kps.sync.Server("127.0.0.1:0").run(wrong)  # type: ignore[arg-type]
    with pytest.raises(kps.InvalidArgument, match="returned a coroutine"):
        kps.sync.Server("127.0.0.1:0").run(lambda server: ready(server))
    with pytest.raises(kps.InvalidArgument, match="ready is a function"):
        kps.Server("127.0.0.1:0").run(5)  # type: ignore[arg-type]


def test_who_is_cancelled_leaves_nothing_behind() -> None:
    async def main() -> None:
        forever = asyncio.Event().wait
        running = asyncio.create_task(serve_beside(forever(), forever))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
