"""The command ``kps``: serve, subscribe and publish from a terminal.

Exit codes: 0 for success, 1 if the command failed, 2 for an invalid command line, variable or
file. Errors are one line on standard error.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import orjson

import kps.cli.serve
from kps.auth.tokens import print_new_token
from kps.cli.arguments import Parser, read_config, seconds, set_defaults, size, variables
from kps.cli.bench import measure
from kps.errors import InvalidArgument, KPSError, MessageTooLarge, ServerError
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import run
from kps.io_common.tls import client_context
from kps.protocol.dialect.address import DEFAULT_ADDRESS, Address

_BENCH_PATIENCE = 20.0  # seconds beyond those of the measurements


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Only ``serve`` checks the variables of a server: an invalid one must not stop other commands.
    config: dict[str, Any] | None = {} if arguments[:1] == ["serve"] else None
    parser = _build_parser(os.environ, config)
    options = parser.parse_args(arguments)
    if options.command == "serve" and options.config is not None:
        # Variables and the command line override the file: parse again with it as the defaults.
        parser = _build_parser(os.environ, read_config(parser, options.config))
        options = parser.parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        code = options.run(options)
    except KPSError as error:
        if isinstance(error, InvalidArgument) and not isinstance(error, MessageTooLarge):
            parser.error(str(error))
        print(f"kps {options.command}: {error}", file=sys.stderr)
        code = 1
    except BrokenPipeError:  # the reader of our output has exited, as ``head`` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        code = 0
    sys.exit(code)


# -- commands ----------------------------------------------------------------------------


def _sub(options: argparse.Namespace) -> int:
    return run(_subscribe(options))


async def _subscribe(options: argparse.Namespace) -> int:
    left = options.count
    finished = asyncio.Event()
    refusals: list[ServerError] = []

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

    async def closed() -> None:
        finished.set()

    async def refused(error: ServerError) -> None:
        if error.request == "subscribe":  # after a reconnect
            refusals.append(error)
            finished.set()

    async with Client(
        options.address,
        id=options.id,
        token=options.token,
        reconnect=options.reconnect,
        on_close=closed,
        on_error=refused,
        **_tls(options),
    ) as client:
        try:
            for topic in options.topics:
                await client.subscribe(topic, show)
            await finished.wait()
            if refusals:
                raise refusals[0]
        except ServerError as error:
            raise KPSError(f"cannot subscribe to {error.topic!r}: {error}") from None
        if left != 0:
            await client.flush()  # raises the reason if the client has ended
    return 0


def _pub(options: argparse.Namespace) -> int:
    return run(_publish(options))


async def _publish(options: argparse.Namespace) -> int:
    refusals: list[str] = []
    failed = False
    async with Client(
        options.address,
        id=options.id,
        token=options.token,
        reconnect=False,
        on_error=lambda error: refusals.append(str(error)),
        **_tls(options),
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
            async for line in measure(
                options.address,
                options.seconds,
                options.size,
                token=options.token,
                **_tls(options),
            ):
                print(line, flush=True)

    try:
        run(show())
    except TimeoutError:
        raise KPSError("a message did not arrive: the server is overloaded, or gone") from None
    return 0


def _tls(options: argparse.Namespace) -> dict[str, Any]:
    """Return the client's options for TLS, if the command line has any."""
    if options.tls_ca is options.tls_cert is options.tls_key is None:
        return {}
    if options.tls_key is not None and options.tls_cert is None:
        raise InvalidArgument("--tls-key needs --tls-cert")
    address = Address.parse(options.address, secure=True)
    if not address.secure:
        raise InvalidArgument(f"there is no TLS with {address.url}")
    context = client_context(options.tls_ca, options.tls_cert, options.tls_key)
    return {"secure": True, "ssl": context}


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
    environment: Mapping[str, str], config: Mapping[str, Any] | None
) -> argparse.ArgumentParser:
    """Build the parser; with a ``config``, it and the variables are the defaults of ``serve``."""
    parser = Parser(
        prog="kps",
        description="A real-time publish/subscribe bus over WebSockets.",
        epilog="Each option of 'kps serve' can also be given as a variable (KPS_ADDRESS, "
        "KPS_MAX_MESSAGE, ...) or in a TOML file (address = ..., max_message = ...); the "
        "command line overrides variables, and variables override the file.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run a server")
    serve.set_defaults(run=kps.cli.serve.serve)
    kps.cli.serve.add_options(serve)
    _add_log_level(serve, "info")
    if config is not None:
        set_defaults(serve, config, "the file")
        set_defaults(serve, variables(serve, environment), "the environment")

    sub = commands.add_parser("sub", help="subscribe, and print one JSON object per message")
    sub.set_defaults(run=_sub)
    sub.add_argument("topics", nargs="+", metavar="TOPIC")
    sub.add_argument("--count", type=size, metavar="N", help="end after N messages")
    sub.add_argument("--reconnect", action="store_true", help="wait for a server that is down")
    _add_client_options(sub, environment)

    pub = commands.add_parser("pub", help="publish")
    pub.set_defaults(run=_pub)
    pub.add_argument("topic", metavar="TOPIC")
    pub.add_argument("data", metavar="DATA", help="JSON, or else a string; - for lines of input")
    pub.add_argument("--ack", action="store_true", help="print who handled it; exit 1 if not all")
    pub.add_argument("--timeout", type=seconds, metavar="S", default=5.0,
                     help="seconds for subscribers to answer; default: %(default)s")  # fmt: skip
    _add_client_options(pub, environment)

    token = commands.add_parser("token", help="make a token for an identity, as TOML for --tokens")
    token.set_defaults(run=print_new_token)
    token.add_argument("name", metavar="NAME", help="name of the identity")
    _add_log_level(token, "error")

    bench = commands.add_parser("bench", help="measure the throughput of a running server")
    bench.set_defaults(run=_bench)
    _add_address(bench, environment)
    bench.add_argument("--seconds", type=seconds, metavar="S", default=2.0,
                       help="time for each measurement; default: %(default)s")  # fmt: skip
    bench.add_argument("--size", type=size, metavar="BYTES", default=64,
                       help="size of the payload; default: %(default)s")  # fmt: skip
    _add_log_level(bench, "error")
    return parser


def _add_address(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    parser.add_argument(
        "--address",
        metavar="HOST:PORT|URL",
        default=environment.get("KPS_ADDRESS", DEFAULT_ADDRESS),
        help="the server, also from KPS_ADDRESS; default: %(default)s",
    )
    parser.add_argument(
        "--token",
        metavar="TEXT",
        default=environment.get("KPS_TOKEN") or None,
        help="token that identifies this client; prefer KPS_TOKEN, because others on this "
        "machine can read command lines",
    )
    tls = parser.add_argument_group("TLS", "Any of these options turns TLS on. Files are PEM.")
    tls.add_argument("--tls-ca", metavar="FILE", help="authorities to trust, not the system's")
    tls.add_argument("--tls-cert", metavar="FILE", help="certificate to show to the server")
    tls.add_argument("--tls-key", metavar="FILE", help="its private key, unless --tls-cert has it")


def _add_client_options(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    _add_address(parser, environment)
    parser.add_argument("--id", help="the client's id; default: a random one")
    _add_log_level(parser, "error")


def _add_log_level(parser: argparse.ArgumentParser, default: str) -> None:
    levels = ["debug", "info", "warning", "error"]
    parser.add_argument("--log-level", choices=levels, default=default, help="default: %(default)s")
