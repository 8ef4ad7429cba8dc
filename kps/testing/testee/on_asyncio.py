"""The program of a vector on the asyncio client."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from kps.errors import KPSError
from kps.io_asyncio.ack import Ack
from kps.io_asyncio.client import Client
from kps.io_asyncio.subscription import Subscription
from kps.protocol.bus.message import Message
from kps.testing.testee.ears import Ears
from kps.testing.testee.spelling import (
    Failed,
    Step,
    Teller,
    of_change,
    of_message,
    of_outcome,
    of_past,
    of_presence,
    options_in,
    past_in,
    scope_in,
    some_of,
)

_TURNS = 10  # of the event loop, in which a call that needs no network comes to its end


class Program:
    """The program of one vector."""

    def __init__(
        self, url: str, options: Step, tell: Teller, new_client: Callable[..., Client] = Client
    ) -> None:
        self._tell = tell
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: dict[str, Subscription[Any]] = {}
        self._answers: dict[str, asyncio.Queue[Step]] = {}
        self._acks: dict[str, Ack[Any]] = {}
        self._ears = Ears(self._tell, reports_direct=options.get("reports_direct", False))
        hooks: dict[str, Any] = {name: _on_loop(hook) for name, hook in self._ears.hooks().items()}
        self._client = new_client(url, **options_in(options), **hooks)
        self._ears.session = self._client._session

    async def begin(self, step: Step) -> None:
        """Begin a step."""
        verb = getattr(self, f"do_{step['do']}", None)
        task = asyncio.create_task(self._carry_out(verb, step))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await self.settle()

    async def settle(self) -> None:
        """Let happen what needs no network."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Close the client without a word."""
        self._tell.end()
        await self._client.close(0.1)
        for task in self._tasks:
            task.cancel()

    async def _carry_out(self, verb: Callable[[Step], Awaitable[None]] | None, step: Step) -> None:
        name = step.get("as", step["do"])
        if verb is None:
            self._tell("failed", **{"as": name, "error": "unsupported"})
            return
        try:
            await verb(step)
        except KPSError as error:
            if step["do"] == "connect":
                self._ears.ended(error)
            else:
                self._tell.failed(name, error)

    # -- what it does, one method for each verb -----------------------------------------------

    async def do_connect(self, step: Step) -> None:
        await self._client.__aenter__()

    async def do_close(self, step: Step) -> None:
        self._ears.is_closing = True
        await self._client.close()
        self._ears.ended(None)

    async def do_subscribe(self, step: Step) -> None:
        name, answer = step["as"], step.get("answer", {})
        self._answers[name] = asyncio.Queue()

        async def handle(message: Message) -> Any:
            self._tell("message", **{"as": name}, **of_message(message))
            told = await self._answers[name].get() if "hold" in answer else answer
            if "error" in told:
                raise Failed(told["error"])
            return told.get("result")

        async def observe(presence: Any) -> None:
            self._tell("members", **{"as": name}, **of_change(presence))

        subscription: Subscription[Any] = self._client.subscribe(
            scope_in(step),
            handle,
            presence=observe if step.get("presence") else None,
            **past_in(step),
            **some_of(step, "group", "concurrency", "info"),
        )
        self._subscriptions[name] = subscription
        await subscription
        self._tell.done(name)

    async def do_answer(self, step: Step) -> None:
        self._answers[step["as"]].put_nowait(step)

    async def do_unsubscribe(self, step: Step) -> None:
        await self._subscriptions[step["as"]].unsubscribe()

    async def do_publish(self, step: Step) -> None:
        await self._client.publish(step["topic"], step["data"], **some_of(step, "headers"))

    async def do_publish_to_id(self, step: Step) -> None:
        await self._client.publish_to_id(step["to"], step["data"], **some_of(step, "headers"))

    async def do_publish_with_receipt(self, step: Step) -> None:
        more = some_of(step, "headers", "message_id")
        number = await self._client.publish_with_receipt(step["topic"], step["data"], **more)
        self._tell.done(step["as"], number)

    async def do_publish_with_ack(self, step: Step) -> None:
        name, client = step["as"], self._client
        more = some_of(step, "timeout", "headers", "message_id")
        if "to" in step:
            ack = await client.publish_to_id_with_ack(step["to"], step["data"], **more)
        else:
            more |= some_of(step, "expect", "expect_groups", "key", "retry")
            ack = await client.publish_with_ack(step["topic"], step["data"], **more)
        self._acks[name] = ack
        async for response in ack:
            self._tell("outcome", **{"as": name}, **of_outcome(response))
        self._tell.done(name)

    async def do_request(self, step: Step) -> None:
        more = some_of(step, "timeout", "headers", "message_id")
        if "to" in step:
            result = await self._client.request_to_id(step["to"], step["data"], **more)
        else:
            more |= some_of(step, "key", "retry")
            result = await self._client.request(step["topic"], step["data"], **more)
        self._tell.done(step["as"], result)

    async def do_cancel(self, step: Step) -> None:
        await self._acks[step["as"]].cancel()

    async def do_status(self, step: Step) -> None:
        self._tell.done(step["as"], await self._acks[step["of"]].status())

    async def do_history(self, step: Step) -> None:
        start = past_in(step)
        if "last" in start:
            start["limit"] = start.pop("last")
        self._tell.done(step["as"], of_past(await self._client.history(step["topic"], **start)))

    async def do_presence(self, step: Step) -> None:
        self._tell.done(step["as"], of_presence(await self._client.presence(step["topic"])))

    async def do_flush(self, step: Step) -> None:
        await self._client.flush()
        self._tell.done(step["as"])


def _on_loop(hook: Callable[..., None]) -> Callable[..., Awaitable[None]]:
    """Make a coroutine function of a hook: a plain one would run in a thread."""

    async def call(*args: Any) -> None:
        hook(*args)

    return call


async def read_line() -> str:
    """Read a line of the judge; empty at the end."""
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
