"""A testee for the original Python clients.

    python tests/interop/original_testee.py [--take-out] [FILE]

Without ``FILE`` it is the one of the installed package ``ksps``; otherwise that of a file with the
same names. It does what a program could do with their public names, and no more:

- ``connected`` is told when the hook for all messages gets a ``pong``, and ``error`` when it gets
  an ``error``: there are no other hooks for these.
- ``disconnected`` is told when the attribute ``connected`` becomes false: there is no hook at all.
- ``ended`` is told when ``NewClient`` has failed or ``Close`` has returned.
- A subscription is ``done`` when ``Subscribe`` has returned.
- What a callback gets is told as it is. The later generation hands over an object of the payload
  and its sender, the earlier one what it takes for the payload. With ``--take-out`` the program
  takes payload and sender out of that.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

WITHOUT = ["publish_with_receipt", "request", "history", "presence", "flush"]
"""The verbs for which the originals have no call."""

_TURNS = 50  # of the event loop, in which what has come from the network is handled

_judge = sys.stdout


def write(line: Mapping[str, Any]) -> None:
    """Write a line for the judge."""
    _judge.write(json.dumps(line) + "\n")
    _judge.flush()


def load(file: str | None) -> Any:
    """Load the module of the client that is judged."""
    if file is None:
        import ksps.client

        return ksps.client
    spec = importlib.util.spec_from_file_location("original_client", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


class Program:
    """The program of one vector."""

    def __init__(
        self, module: Any, url: str, options: Mapping[str, Any], *, takes_out: bool
    ) -> None:
        self._options = options
        self._address = urlsplit(url).netloc
        self._names_senders = not hasattr(module, "ClientSubscriber")
        self._takes_out = takes_out
        self._client: Any = None
        self._topics: dict[str, str] = {}
        self._answers: dict[str, asyncio.Queue[Mapping[str, Any]]] = {}
        self._acks: dict[str, Any] = {}
        self._is_closing = False
        self._is_over = False
        program = self

        class Watched(module.Client):  # type: ignore[misc]
            """The client, whose public attribute ``connected`` the program watches."""

            def __init__(self) -> None:
                program._client = self
                super().__init__()

            def __setattr__(self, name: str, value: Any) -> None:
                was_connected = getattr(self, "connected", False)
                super().__setattr__(name, value)
                if name == "connected" and was_connected and not value:
                    program._lost(self.Conn)

        self._new_client = Watched.NewClient

    def begin(self, step: Mapping[str, Any]) -> None:
        """Begin a step."""
        asyncio.ensure_future(self._carry_out(step))  # noqa: RUF006

    async def end(self) -> None:
        """Close the client without a word."""
        self._is_over = True
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.Close(), 1.0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    def _tell(self, what: str, **fields: Any) -> None:
        if not self._is_over:
            write({"told": what} | fields)

    async def _carry_out(self, step: Mapping[str, Any]) -> None:
        verb = getattr(self, f"_{step['do']}", None)
        name = step.get("as", step["do"])
        if verb is None:
            self._tell("failed", **{"as": name, "error": "unsupported"})
            return
        try:
            await verb(step)
        except Exception as error:
            self._tell("failed", **{"as": name, "error": type(error).__name__})

    # -- what it is told --------------------------------------------------------------------------

    async def _hear_all(self, message: Any, connection: Any) -> None:
        if message["action"] == "pong":
            self._tell("connected", id=self._client.Id)
        elif message["action"] == "error":
            self._tell("error", error="server_error")

    async def _hear_direct(self, message: Any, *subscriber: Any) -> None:
        if "action" not in message:  # the earlier generation hands over each pong, too
            self._tell("direct", **message)

    def _in(self, message: Any) -> dict[str, Any]:
        """Return payload and sender of what a callback got."""
        if self._names_senders or (self._takes_out and isinstance(message, dict)):
            return {name: message[name] for name in ("data", "from") if name in message}
        return {"data": message}

    def _lost(self, connection: Any) -> None:
        if not self._is_closing:
            code = connection.close_code
            self._tell("disconnected", code=1006 if code is None else code)

    # -- what it does -----------------------------------------------------------------------------

    async def _connect(self, step: Mapping[str, Any]) -> None:
        options = self._options
        reconnect = options.get("reconnect", False)
        try:
            await self._new_client(
                Id=options["id"],
                Address=self._address,
                Autorestart=reconnect is not False,
                RestartEvery=reconnect or None,
                OnDataWs=self._hear_all,
                OnId=self._hear_direct if options.get("reports_direct") else None,
            )
        except Exception:
            self._tell("ended", error="connect_failed")

    async def _close(self, step: Mapping[str, Any]) -> None:
        self._is_closing = True
        await self._client.Close()
        self._tell("ended")

    async def _subscribe(self, step: Mapping[str, Any]) -> None:
        name, answer = step["as"], step.get("answer", {})
        topic = self._topics[name] = step["topic"]
        self._answers[name] = asyncio.Queue()

        async def handle(message: Any, unsubscribe: Any) -> Any:
            self._tell("message", **{"as": name, "topic": topic} | self._in(message))
            given = await self._answers[name].get() if "hold" in answer else answer
            if "error" in given:
                raise RuntimeError(given["error"])
            return given.get("result")

        await self._client.Subscribe(topic, handle)
        self._tell("done", **{"as": name})

    async def _answer(self, step: Mapping[str, Any]) -> None:
        self._answers[step["as"]].put_nowait(step)

    async def _unsubscribe(self, step: Mapping[str, Any]) -> None:
        await self._client.Unsubscribe(self._topics[step["as"]])

    async def _publish(self, step: Mapping[str, Any]) -> None:
        await self._client.Publish(step["topic"], step["data"])

    async def _publish_to_id(self, step: Mapping[str, Any]) -> None:
        await self._client.PublishToID(step["to"], step["data"])

    async def _publish_with_ack(self, step: Mapping[str, Any]) -> None:
        name, client = step["as"], self._client
        if "to" in step:
            ack = await client.PublishToIDWithAck(step["to"], step["data"], step["timeout"])
        else:
            ack = await client.PublishWithAck(step["topic"], step["data"], step["timeout"])
        self._acks[name] = ack
        for client_id, response in (await ack.Wait()).items():
            told = {field: response[field] for field in ("success", "error") if field in response}
            self._tell("outcome", **{"as": name, "id": client_id} | told)
        self._tell("done", **{"as": name})

    async def _cancel(self, step: Mapping[str, Any]) -> None:
        await self._acks[step["as"]].Cancel()

    async def _status(self, step: Mapping[str, Any]) -> None:
        result = await self._acks[step["of"]].GetStatus()
        self._tell("done", **{"as": step["as"], "result": result})


async def run(module: Any, *, takes_out: bool) -> None:
    """Do what the judge says, until the end of the input."""
    read = asyncio.get_running_loop().run_in_executor
    program: Program | None = None
    while line := await read(None, sys.stdin.readline):
        told: dict[str, Any] = json.loads(line)
        if "vector" in told:
            program = Program(module, told["url"], told["options"], takes_out=takes_out)
            continue
        assert program is not None, "no vector has begun"
        if "sync" in told:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            write({"synced": told["sync"]})
        elif "end" in told:
            await program.end()
            write({"ended": True})
        else:
            program.begin(told)


def main() -> None:
    """Run the testee."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?")
    parser.add_argument("--take-out", action="store_true")
    options = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # the originals print
        module = load(options.file)
        write({"testee": "original", "needs": ["level_1"], "level": 1, "without": WITHOUT})
        asyncio.run(run(module, takes_out=options.take_out))


if __name__ == "__main__":
    main()
