"""Payloads, topics and ids that cannot be sent are refused at once, everywhere."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import kps
import kps.sync

NAN = float("nan")

WITH_DATA: list[Callable[[Any, Any], Any]] = [
    lambda it, data: it.publish("t", data),
    lambda it, data: it.publish_to_id("a", data),
    lambda it, data: it.publish_to_server("localhost:1", data),
    lambda it, data: it.publish_with_ack("t", data),
    lambda it, data: it.publish_to_id_with_ack("a", data),
]
OF_CLIENT: list[Callable[[Any, Any], Any]] = [
    *WITH_DATA,
    lambda client, data: client.publish_with_receipt("t", data),
]


@pytest.mark.parametrize("data", [NAN, [float("inf")], {"a": {1, 2}}, "\ud800", 1 << 64, {1: 2}])
def test_payloads_that_are_not_json(data: Any) -> None:
    with kps.sync.Server("127.0.0.1:0") as server:
        for level in (1, 2):
            with kps.sync.Client(server.address, level=level) as client:
                for call in OF_CLIENT:
                    with pytest.raises(kps.InvalidArgument):
                        call(client, data)
                client.flush()
        for call in WITH_DATA:
            with pytest.raises(kps.InvalidArgument):
                call(server, data)

    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server, kps.Client(server.address) as client:
            for call, target in [
                *((call, client) for call in OF_CLIENT),
                *((call, server) for call in WITH_DATA),
            ]:
                with pytest.raises(kps.InvalidArgument):
                    await call(target, data)
            await client.flush()

    asyncio.run(main())


def test_results_that_are_not_json() -> None:
    with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as client:
        client.subscribe("t", lambda message: NAN)
        server.subscribe("t", lambda message: [NAN])
        for publisher in (client, server):
            for response in publisher.publish_with_ack("t", 1).wait().values():
                assert not response.success
                assert "not a number" in (response.error or "")
