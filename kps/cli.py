"""The command ``kps``: serve, subscribe and publish from a terminal.

Exit codes: 0 for success, 1 when what was asked for failed, 2 for a command line, variable
or file that cannot be read. Errors are one line on standard error.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import orjson

import kps.sync
from kps.bench import measure
from kps.errors import InvalidArgument, KPSError
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import run
from kps.io_asyncio.server import Server
from kps.protocol.address import DEFAULT_ADDRESS
from kps.protocol.limits import Limits, Overflow
from kps.protocol.relay import DEFAULT_PATH

_DEFAULTS = Limits()
_BENCH_PATIENCE = 20.0  # seconds beyond those of the measurements


class _Parser(argparse.ArgumentParser):
    """A parser that complains in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _build_parser(os.environ)
    options = parser.parse_args(arguments)
    if options.command == "serve" and options.config is not None:
        # The file stands below variables and the command line: parse again on top of it.
        parser = _build_parser(os.environ, _read_config(parser, options.config))
        options = parser.parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        code = options.run(options)
    except InvalidArgument as error:
        parser.error(str(error))
    except KPSError as error:
        print(f"kps {options.command}: {error}", file=sys.stderr)
        code = 1
    except BrokenPipeError:  # who read our output has gone, which is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        code = 0
    sys.exit(code)


# -- commands ----------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    limits = Limits(
        max_message=options.max_message,
        queue_messages=options.queue_messages,
        queue_bytes=options.queue_bytes,
        overflow=Overflow(options.overflow),
    )
    if options.tls_key and not options.tls_cert:
        raise InvalidArgument("--tls-key needs --tls-cert")
    make = kps.sync.Server if options.threads else Server
    server = make(
        options.address,
        path=options.path,
        id=options.id,
        origins=options.origin or (),
        names=options.name or (),
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        limits=limits,
        console=not options.no_console,
    )
    server.run(ready=lambda ready: print(f"kps serves on {ready.url}", flush=True))
    return 0


def _sub(options: argparse.Namespace) -> int:
    return run(_subscribe(options))


async def _subscribe(options: argparse.Namespace) -> int:
    left = options.count
    finished = asyncio.Event()

    async def show(message: Any) -> None:
        nonlocal left
        if left == 0:
            return
        line = {"topic": message.topic, "from": message.sender, "data": message.data}
        sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
        sys.stdout.flush()
        if left is not None:
            left -= 1
            if left == 0:
                finished.set()

    async with Client(
        options.address, id=options.id, reconnect=options.reconnect, on_close=finished.set
    ) as client:
        for topic in options.topics:
            await client.subscribe(topic, show)
        await finished.wait()
        if left == 0:
            return 0
    raise KPSError("the connection to the server ended")


def _pub(options: argparse.Namespace) -> int:
    return run(_publish(options))


async def _publish(options: argparse.Namespace) -> int:
    refusals: list[str] = []
    failed = False
    async with Client(
        options.address,
        id=options.id,
        reconnect=False,
        on_error=lambda error: refusals.append(str(error)),
    ) as client:
        for data in _payloads(options.data):
            if not options.ack:
                await client.publish(options.topic, data)
                continue
            ack = await client.publish_with_ack(options.topic, data, options.timeout)
            responses = await ack.wait()
            for response in responses.values():
                line = {"client_id": response.client_id, "success": response.success}
                print(json.dumps(line | ({"error": response.error} if response.error else {})))
                failed = failed or not response.success
            if not responses:
                print(f"kps pub: nobody answered on {options.topic!r}", file=sys.stderr)
                failed = True
        await client.flush()
    for refusal in refusals:
        print(f"kps pub: {refusal}", file=sys.stderr)
    return 1 if failed or refusals else 0


def _bench(options: argparse.Namespace) -> int:
    async def show() -> None:
        async with asyncio.timeout(4 * options.seconds + _BENCH_PATIENCE):
            async for line in measure(options.address, options.seconds, options.size):
                print(line, flush=True)

    try:
        run(show())
    except TimeoutError:
        raise KPSError("a message did not arrive: the server is overloaded, or gone") from None
    return 0


def _payloads(data: str) -> Iterator[Any]:
    if data != "-":
        yield _payload(data)
        return
    for line in sys.stdin:
        yield _payload(line.rstrip("\r\n"))


def _payload(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


# -- the command line --------------------------------------------------------------------


def _build_parser(
    environment: Mapping[str, str], config: Mapping[str, Any] | None = None
) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kps",
        description="A real-time publish/subscribe bus over WebSockets.",
        epilog="Each option of 'kps serve' can also be given as a variable (KPS_ADDRESS, "
        "KPS_MAX_MESSAGE, ...) or in a TOML file (address = ..., max_message = ...); the "
        "command line wins over variables, and variables over the file.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run a server")
    serve.set_defaults(run=_serve)
    add = serve.add_argument
    add("--config", metavar="FILE", help="a TOML file with any of these options")
    add("--address", metavar="HOST:PORT", default=DEFAULT_ADDRESS, help="default: %(default)s")
    add("--path", default=DEFAULT_PATH, help="path of the WebSocket; default: %(default)s")
    add("--id", help="the server's own id; default: a random one")
    add("--origin", action="append", help="origin of web pages that may connect; repeatable")
    add("--name", action="append", help="host under which other servers reach it; repeatable")
    add("--max-message", type=_size, metavar="BYTES", default=_DEFAULTS.max_message,
        help="largest message; default: %(default)s")  # fmt: skip
    add("--queue-messages", type=_size, metavar="N", default=_DEFAULTS.queue_messages,
        help="messages that may wait for one client; default: %(default)s")  # fmt: skip
    add("--queue-bytes", type=_size, metavar="BYTES", default=_DEFAULTS.queue_bytes,
        help="bytes that may wait for one client; default: %(default)s")  # fmt: skip
    add("--overflow", choices=[policy.value for policy in Overflow],
        default=_DEFAULTS.overflow.value,
        help="what happens to a client that reads too slowly; default: %(default)s")  # fmt: skip
    add("--tls-cert", metavar="FILE", help="certificate chain (PEM): serve wss and https")
    add("--tls-key", metavar="FILE", help="its private key (PEM)")
    add("--no-console", action="store_true", help="serve no console page at /")
    add("--threads", action="store_true", help="a thread for each connection, not asyncio")
    _add_log_level(serve, "info")
    _set_defaults(serve, config or {}, "the file")
    _set_defaults(serve, _variables(serve, environment), "the environment")

    sub = commands.add_parser("sub", help="subscribe, and print one JSON object per message")
    sub.set_defaults(run=_sub)
    sub.add_argument("topics", nargs="+", metavar="TOPIC")
    sub.add_argument("--count", type=_size, metavar="N", help="end after N messages")
    sub.add_argument("--reconnect", action="store_true", help="wait for a server that is away")
    _add_client_options(sub, environment)

    pub = commands.add_parser("pub", help="publish")
    pub.set_defaults(run=_pub)
    pub.add_argument("topic", metavar="TOPIC")
    pub.add_argument("data", metavar="DATA", help="JSON, or else a string; - for lines of input")
    pub.add_argument("--ack", action="store_true", help="print who handled it; exit 1 if not all")
    pub.add_argument("--timeout", type=_seconds, metavar="S", default=5.0,
                     help="seconds that subscribers may take; default: %(default)s")  # fmt: skip
    _add_client_options(pub, environment)

    bench = commands.add_parser("bench", help="measure what a running server carries")
    bench.set_defaults(run=_bench)
    _add_address(bench, environment)
    bench.add_argument("--seconds", type=_seconds, metavar="S", default=2.0,
                       help="time for each measurement; default: %(default)s")  # fmt: skip
    bench.add_argument("--size", type=_size, metavar="BYTES", default=64,
                       help="of the payload; default: %(default)s")  # fmt: skip
    _add_log_level(bench, "error")
    return parser


def _add_address(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    parser.add_argument(
        "--address",
        metavar="HOST:PORT|URL",
        default=environment.get("KPS_ADDRESS", DEFAULT_ADDRESS),
        help="the server, also from KPS_ADDRESS; default: %(default)s",
    )


def _add_client_options(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    _add_address(parser, environment)
    parser.add_argument("--id", help="the client's id; default: a random one")
    _add_log_level(parser, "error")


def _add_log_level(parser: argparse.ArgumentParser, default: str) -> None:
    levels = ["debug", "info", "warning", "error"]
    parser.add_argument("--log-level", choices=levels, default=default, help="default: %(default)s")


def _set_defaults(parser: argparse.ArgumentParser, values: Mapping[str, Any], source: str) -> None:
    """Take defaults from elsewhere, checked as if they were given on the command line."""
    actions = {action.dest: action for action in parser._actions}
    for name, value in values.items():
        key = name.replace("-", "_")
        action = actions.get(key)
        if action is None or key in ("help", "config"):
            parser.error(f"{source} has an unknown option: {name}")
        if isinstance(action, argparse._StoreTrueAction):
            if not isinstance(value, bool) and value not in ("0", "1"):
                parser.error(f"{source} has a bad {name}: it takes true or false (0 or 1)")
            parser.set_defaults(**{key: value in (True, "1")})
            continue
        several = isinstance(action, argparse._AppendAction)
        if several != isinstance(value, list) or isinstance(value, (bool, dict)):
            parser.error(f"{source} has a value of the wrong kind for {name}")
        for item in value if several else [value]:
            try:
                read = action.type(str(item)) if callable(action.type) else str(item)
            except argparse.ArgumentTypeError as error:
                parser.error(f"{source} has a bad {name}: {error}")
            if action.choices is not None and read not in action.choices:
                parser.error(f"{source} has a bad {name}: {item!r}")
        parser.set_defaults(**{key: value if several else read})


def _variables(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for action in parser._actions:
        value = environment.get(f"KPS_{action.dest.upper()}")
        if value is None or action.dest == "help":
            continue
        if action.dest == "config":
            parser.set_defaults(config=value)
        else:
            several = isinstance(action, argparse._AppendAction)
            found[action.dest] = value.split(",") if several else value
    return found


def _read_config(parser: argparse.ArgumentParser, path: str) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        try:
            return tomllib.load(stack.enter_context(open(path, "rb")))
        except (OSError, ValueError) as error:
            parser.error(f"cannot read {path}: {error}")


def _size(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")
    return value
