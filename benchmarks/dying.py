"""A process that asks many receivers at two nodes, one of which dies before any has answered.

The benchmarks start this file as a program. It tells when all receivers have the message; the
starter then kills a node, and gives the time of that as a line of input. Only then do the receivers
answer whose connection still stands.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import kps
from actors import LIFE, tell
from blocking import PAYLOAD
from fast_json import FastJson
from kps.io_asyncio.loop import run
from processes import Failed

TOPIC = "bench"
_GRACE = 0.5
"""Seconds until each client has noticed that its connection has ended."""


class Crowd:
    """What the receivers have and wait for."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._have = 0
        self._all_have = asyncio.Event()
        self._may_answer = asyncio.Event()
        self.lost: set[str] = set()
        """The receivers whose connection has ended."""

    async def hold(self) -> None:
        """Take the message; return when it may be answered."""
        self._have += 1
        if self._have == self._number:
            self._all_have.set()
        await self._may_answer.wait()

    async def killed(self) -> float:
        """Return when the node was killed."""
        async with asyncio.timeout(30):
            await self._all_have.wait()
        tell(ready=True)
        line = await asyncio.to_thread(sys.stdin.readline)
        self._may_answer.set()
        return float(line)


async def ask_kps(addresses: Sequence[str], number: int, seconds: float) -> None:
    """Publish once with ack; tell what the ack says of whom."""
    crowd = Crowd(number)

    async def handle(message: kps.Message) -> None:
        await crowd.hold()

    async def connect(name: str, address: str) -> kps.Client:
        def note(event: kps.Disconnected) -> None:
            crowd.lost.add(name)

        return await kps.Client.connect(address, id=name, on_disconnect=note)

    asker = await connect("asker", addresses[0])
    receivers = []  # at the second node first, as the asker is at the first one
    for n in range(number):
        receivers.append(await connect(f"receiver-{n}", addresses[(n + 1) % len(addresses)]))
        await receivers[-1].subscribe(TOPIC, handle)
    ack = await asker.publish_with_ack(TOPIC, PAYLOAD, seconds)
    killed = await crowd.killed()
    outcomes = await ack.wait()
    took = time.monotonic() - killed
    await asyncio.sleep(_GRACE)
    if "asker" in crowd.lost:
        raise Failed("the asker was at the node that died")
    gone = {name for name, outcome in outcomes.items() if outcome.error == "disconnected"}
    if gone - crowd.lost:
        raise Failed(f"these are said to be gone, and are not: {gone - crowd.lost}")
    tell(
        seconds=took,
        lost=len(crowd.lost),
        gone=len(gone),
        answered=sum(outcome.success for outcome in outcomes.values()),
        silent=sum(outcome.error == "timeout" for outcome in outcomes.values()),
    )


async def ask_socketio(
    event: str, addresses: Sequence[str], number: int, seconds: float
) -> tuple[float, Crowd, Any, list[str]]:
    """Have the first node ask; return how long it took, its answer, and the ids of all."""
    import socketio

    crowd = Crowd(number)

    async def connect(address: str) -> Any:
        client = socketio.AsyncClient(json=FastJson, reconnection=False, handle_sigint=False)
        await client.connect(f"http://{address}", transports=["websocket"])
        return client

    async def receive(sid: str, receiver: Any) -> None:
        async def handle(data: Any) -> str:
            await crowd.hold()
            return sid

        def note(*reason: str) -> None:
            crowd.lost.add(sid)

        receiver.on(TOPIC, handle)
        receiver.on("disconnect", note)
        await receiver.call("join", TOPIC)

    asker = await connect(addresses[0])
    sids, receivers = [], []
    for n in range(number):
        receivers.append(await connect(addresses[(n + 1) % len(addresses)]))
        sids.append(receivers[-1].get_sid())
        await receive(sids[-1], receivers[-1])
    known = (sids,) if event == "ask_each" else ()
    asked = asyncio.create_task(
        asker.call(event, (TOPIC, PAYLOAD, seconds, *known), timeout=seconds + 30)
    )
    killed = await crowd.killed()
    answer = await asked
    took = time.monotonic() - killed
    await asyncio.sleep(_GRACE)
    return took, crowd, answer, sids


async def ask_room(addresses: Sequence[str], number: int, seconds: float) -> None:
    """Emit to a room with a callback; tell how often that was called."""
    took, crowd, answers, _ = await ask_socketio("ask_room", addresses, number, seconds)
    tell(seconds=took, lost=len(crowd.lost), gone=0, answered=len(answers), silent=0)


async def ask_each(addresses: Sequence[str], number: int, seconds: float) -> None:
    """Call each receiver, whose ids the asker knows; tell how the calls ended."""
    took, crowd, ends, sids = await ask_socketio("ask_each", addresses, number, seconds)
    found = [ends[sid] for sid in sids]
    silent = found.count("TimeoutError")
    answered = sum(end == sid for end, sid in zip(found, sids, strict=True))
    gone = number - answered - silent
    tell(seconds=took, lost=len(crowd.lost), gone=gone, answered=answered, silent=silent)


ROLES: dict[str, Callable[[Sequence[str], int, float], Coroutine[Any, Any, None]]] = {
    "kps": ask_kps,
    "socketio-room": ask_room,
    "socketio-each": ask_each,
}


def main() -> None:
    role, number, seconds, *addresses = sys.argv[1:]
    signal.alarm(LIFE)
    try:
        run(ROLES[role](addresses, int(number), float(seconds)))
    except Failed as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
