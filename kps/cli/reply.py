"""The command ``kps reply``."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import orjson

from kps.cli import readers
from kps.cli.complaints import complain
from kps.cli.connecting import client_options
from kps.cli.declaring import Command, argument, option, rest
from kps.cli.payloads import payload
from kps.cli.subscribe import MemberOptions, refusal
from kps.errors import InvalidArgument, ServerError, Unsupported
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import call
from kps.io_asyncio.signals import on_signals
from kps.io_asyncio.subscription import Messages
from kps.io_common.system_errors import describe
from kps.protocol.bus.message import Message

_NAME = "kps reply"


@dataclass(frozen=True, kw_only=True)
class ReplyOptions(MemberOptions):
    """What ``kps reply`` takes."""

    topic: str = argument("TOPIC", "on which it answers", read=readers.text)
    program: Sequence[str] = rest(
        "COMMAND ...", "a program and its arguments, run for each message"
    )
    shell: str | None = option(
        "LINE", "run this line of the shell for each message", read=readers.name, default=None
    )
    text: str | None = option(
        "DATA", "answer with this: JSON, or else a string", read=readers.text, default=None
    )


def reply(options: ReplyOptions) -> int:
    """Answer each message, until the client ends."""
    ways = (options.program, options.shell, options.text)
    if sum(way not in (None, ()) for way in ways) != 1:
        raise InvalidArgument("name a COMMAND behind --, or give either --shell or --text")
    call(_reply, options, _answerer(options))
    return 0


def _answerer(options: ReplyOptions) -> "_Answerer":
    if options.text is not None:
        return _Text(payload(options.text, _NAME))
    if options.shell is not None:
        return _Program(options.shell)
    if shutil.which(options.program[0]) is None:
        raise InvalidArgument(f"there is no command {options.program[0]!r}")
    return _Program(list(options.program))


async def _reply(options: ReplyOptions, answerer: "_Answerer") -> None:
    group, several = options.group or "", options.concurrency
    with ThreadPoolExecutor(several, "kps-reply") as threads:
        async with Client(
            options.address, id=options.id, reconnect=options.reconnect, **client_options(options)
        ) as client:

            async def end() -> None:
                await client.close()  # first: so another member gets what is interrupted
                answerer.end()

            try:
                messages: Messages[Any] = client.subscribe(
                    options.topic, group=group, concurrency=several if group else 1
                )
                await messages
            except (ServerError, Unsupported) as error:
                raise refusal(options.topic, error) from None
            work = [_work(client, messages, answerer, threads) for _ in range(several)]
            try:
                with on_signals({signal.SIGINT: end, signal.SIGTERM: end}):
                    await asyncio.gather(*work)
            finally:
                await end()


async def _work(
    client: Client, messages: Messages[Any], answerer: "_Answerer", threads: ThreadPoolExecutor
) -> None:
    """Handle messages one after the other. Each counts as handled when the next is asked for."""
    loop = asyncio.get_running_loop()
    async for message in messages:
        outcome = await loop.run_in_executor(threads, answerer.run, message)
        if outcome.error is None:
            message.reply(outcome.result)
        else:
            client._settle(message, outcome.error)


class _Outcome(NamedTuple):
    error: str | None
    result: Any = None


class _Answerer(Protocol):
    """Finds an answer to each message, in a thread."""

    def run(self, message: Message) -> _Outcome:
        """Return what becomes of a message."""

    def end(self) -> None:
        """Let nothing go on, and nothing begin. May be called twice."""


class _Text:
    """Answers always the same."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def run(self, message: Message) -> _Outcome:
        """Return it."""
        return _Outcome(None, self._data)

    def end(self) -> None:
        """Do nothing: nothing is under way."""


class _Program:
    """A command. Each call runs in a thread, and with all that it starts it is a group.

    It is a program with its arguments, or a line for the shell.
    """

    def __init__(self, command: list[str] | str) -> None:
        self._command = command
        self._name = command if isinstance(command, str) else command[0]
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._has_ended = False

    def run(self, message: Message) -> _Outcome:
        """Run it for one message, and show what it has written on standard error."""
        try:
            process = self._start(message)
        except (OSError, ValueError) as error:  # for instance, it was removed
            return _failed(f"cannot run {self._name!r}: {describe(error)}")
        try:
            output, errors = process.communicate(orjson.dumps(message.data) + b"\n")
        finally:
            with self._lock:
                self._running.discard(process)
        if self._has_ended:
            return _Outcome("cancelled")  # which nobody is told: another member gets the message
        lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
        for line in lines:
            complain(line)
        if process.returncode:
            return _Outcome(lines[-1]) if lines else _failed(_in_words(process.returncode))
        try:
            return _Outcome(None, _result(output))
        except UnicodeDecodeError:
            return _failed("the output is not UTF-8")

    def end(self) -> None:
        """Kill what runs, and let nothing begin. May be called twice."""
        with self._lock:
            self._has_ended = True
            for process in self._running:
                with contextlib.suppress(OSError):  # it has just ended
                    os.killpg(process.pid, signal.SIGKILL) if _HAS_GROUPS else process.kill()

    def _start(self, message: Message) -> subprocess.Popen[bytes]:
        told = {"TOPIC": message.topic, "FROM": message.sender, "ATTEMPT": str(message.attempt)}
        environment = os.environ | {f"KPS_{name}": text for name, text in told.items()}
        pipe = subprocess.PIPE
        with self._lock:
            if self._has_ended:
                raise ValueError("the client has ended")
            process = subprocess.Popen(
                self._command,
                shell=isinstance(self._command, str),
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=environment,
                process_group=0 if _HAS_GROUPS else None,
            )
            self._running.add(process)
        return process


_HAS_GROUPS = hasattr(os, "killpg")


def _failed(reason: str) -> _Outcome:
    """Tell of a failure for which the command has found no words."""
    complain(f"kps reply: {reason}")
    return _Outcome(reason)


def _in_words(code: int) -> str:
    if code > 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def _result(output: bytes) -> Any:
    """Return the output as JSON, or else as text; ``None`` if there is none."""
    try:
        return orjson.loads(output)
    except orjson.JSONDecodeError:
        return output.decode().removesuffix("\n") or None


COMMAND = Command(
    _NAME,
    ReplyOptions,
    reply,
    usage=(
        "kps reply [options] TOPIC -- COMMAND ...",
        "kps reply [options] TOPIC --shell LINE",
        "kps reply [options] TOPIC --text DATA",
    ),
    about=[
        "The payload is on the standard input of the command, as JSON. What it prints is the "
        "result: JSON, or else a string. If its exit code is not 0, it has failed, with the last "
        "line on its standard error as the reason. It has the variables KPS_TOPIC, KPS_FROM and "
        "KPS_ATTEMPT. Ctrl-C ends it with the commands that run."
    ],
    examples=[
        ("kps reply jobs --group workers -- jq '.add | add'", "one of several workers"),
        ("kps reply upper --shell 'tr a-z A-Z | tee -a log'", "a line of the shell"),
        ("kps reply ping --text pong", "always the same answer"),
    ],
)
