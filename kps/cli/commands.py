"""What the commands are: the command line, and how each ends."""

import argparse
import importlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import kps.cli.serve
from kps.cli.arguments import (
    Parser,
    address,
    file,
    header,
    name,
    position,
    read_config,
    seconds,
    set_defaults,
    size,
    variables,
)
from kps.cli.complaints import OutputEnded, complain
from kps.cli.connecting import add_connecting, add_identity
from kps.cli.log_lines import log
from kps.errors import InvalidArgument, KPSError, MessageTooLarge
from kps.io_common.logger import write
from kps.protocol.dialect.address import DEFAULT_ADDRESS
from kps.version import __version__

_MOST_JOBS = 64
_BENCH_LARGEST = 2**26  # bytes of a payload: no server takes more by default

_TEXTS = (
    "topic",
    "topics",
    "pattern",
    "data",
    "header",
    "id",
    "name",
    "group",
    "key",
    "expect_group",
    "to",
)
"""Options whose texts are sent; file names may be any bytes."""

_EXAMPLE_OF_SUB = "Example: kps sub --group workers jobs"

_EXAMPLE_OF_PUB = """Example: kps pub jobs '{"add": [1, 2]}' --ack --retry 2"""

_EXAMPLE_OF_REQ = """Example: kps req jobs '{"add": [1, 2]}'. The exit code is 1 if those who were
asked have failed, 3 if nobody is there, and 4 if they have not answered in time."""

_EXAMPLE_OF_REPLY = """Example: kps reply jobs --group workers -- jq '.add | add'. The payload is on
the standard input of the command, as JSON. What it prints is the result: JSON, or else a string. If
its exit code is not 0, it has failed, with the last line on its standard error as the reason. It
has the variables KPS_TOPIC, KPS_FROM and KPS_ATTEMPT."""

_EXAMPLE_OF_BRIDGE = "Example: kps bridge mqtt --in 'sensors/#' --out 'commands/**'"

_ABOUT_CONFORMANCE = """A server is expected to be as 'kps serve --id refserver --history kept/**=5
--relay-to "**"' is, with default limits, and to let everyone do everything. What it cannot do as it
is configured is left out, with the reason, where that can be found out. It sees connections that
break every rule, and clients with short names; use one that nobody else uses. A testee is a program
that lets a client do what it reads (spec/CLIENTS.md), such as 'python -m kps.testing.testee'. The
exit code is 1 if something has failed, and 3 if the server cannot be reached or the testee cannot
be started."""

# How errors about an address begin.
_ABOUT_ADDRESS = ("not a server address", "a server listens on", "cannot listen on",
                  "cannot connect to", "there is no TLS with")  # fmt: skip


def run(arguments: Sequence[str]) -> int:
    """Run a command; return its exit code. Raises :class:`SystemExit` for a wrong command line."""
    # Only ``serve`` checks the variables of a server: an invalid one must not stop other commands.
    config: dict[str, Any] | None = {} if arguments[:1] == ["serve"] else None
    parser = _build_parser(os.environ, config)
    program: Sequence[str] = ()
    if arguments[:1] == ["reply"] and "--" in arguments:  # behind it nothing is an option of ours
        end = arguments.index("--")
        arguments, program = arguments[:end], arguments[end + 1 :]
    options = parser.parse_args(arguments, argparse.Namespace(program=program))
    if options.command == "serve" and options.config is not None:
        # Variables and the command line override the file: parse again with it as the defaults.
        parser = _build_parser(os.environ, read_config(parser, options.config))
        options = parser.parse_args(arguments)
    for option in _TEXTS:
        value = getattr(options, option, None) or ""
        if any("\ud800" <= character <= "\udfff" for text in value for character in text):
            parser.error(f"{option.upper()} is not UTF-8")
    is_json = getattr(options, "log_format", "text") == "json"
    log(options.log_level, as_json=is_json)
    try:
        code: int = options.run(options)
    except OutputEnded:
        return 0
    except KPSError as error:
        reason = str(error) + _blame(str(error), options)
        if isinstance(error, InvalidArgument) and not isinstance(error, MessageTooLarge):
            parser.error(reason)
        if is_json:
            write(logging.ERROR, "failed", "%(reason)s", reason=reason)
        else:
            complain(f"kps {options.command}: {reason}")
        return 1
    return code


def _blame(reason: str, options: argparse.Namespace) -> str:
    """Name the variable that an address is from, if the error is about it."""
    variable = os.environ.get("KPS_ADDRESS")
    if variable is None or address(variable) != getattr(options, "address", None):
        return ""
    is_about_it = reason.startswith(_ABOUT_ADDRESS)
    return " (the address is from the variable KPS_ADDRESS)" if is_about_it else ""


def _later(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    """Return a command that is imported when it runs: a server needs none of the others."""

    def run_command(options: argparse.Namespace) -> int:
        command: Callable[[argparse.Namespace], int]
        command = getattr(importlib.import_module(module), name)
        return command(options)

    return run_command


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
    parser.add_argument("--version", action="version", version=f"kps {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run a server")
    serve.set_defaults(run=kps.cli.serve.serve)
    kps.cli.serve.add_options(serve)
    _add_log_level(serve, "info")
    _add_log_format(serve)
    if config is not None:
        set_defaults(serve, config, "the file")
        set_defaults(serve, variables(serve, environment), "the environment")

    sub = commands.add_parser(
        "sub", help="subscribe, and print one JSON object per message", epilog=_EXAMPLE_OF_SUB
    )
    sub.set_defaults(run=_later("kps.cli.subscribe", "subscribe"))
    sub.add_argument("topics", nargs="*", metavar="TOPIC")
    sub.add_argument("--pattern", action="append", metavar="PATTERN",
                     help="pattern of topics, in quotes: '*' stands for any characters but '/', "
                     "'**' for any; repeatable")  # fmt: skip
    sub.add_argument("--last", type=size, metavar="N", default=0,
                     help="begin with the latest N messages of topics with history")  # fmt: skip
    sub.add_argument("--count", type=size, metavar="N", help="end after N messages")
    _add_group_options(sub, "messages with ack that it takes at a time")
    _add_reconnect(sub)
    _add_client_options(sub, environment)

    pub = commands.add_parser("pub", help="publish", epilog=_EXAMPLE_OF_PUB)
    pub.set_defaults(run=_later("kps.cli.publish", "publish"))
    pub.add_argument("topic", metavar="TOPIC")
    pub.add_argument("data", metavar="DATA", help="JSON, or else a string; - for lines of input")
    _add_header(pub)
    _add_message_id(pub)
    pub.add_argument("--ack", action="store_true", help="print who handled it; exit 1 if not all")
    pub.add_argument("--timeout", type=seconds, metavar="S", default=5.0,
                     help="seconds for subscribers to answer; default: %(default)s")  # fmt: skip
    pub.add_argument("--key", type=name, metavar="KEY",
                     help="with --ack: a group gives messages with the same key to the same "
                     "member")  # fmt: skip
    pub.add_argument("--retry", type=size, metavar="N",
                     help="with --ack: how many failures in a group are not final")  # fmt: skip
    pub.add_argument("--expect-group", action="append", type=name, metavar="NAME",
                     help="with --ack: a group that must have a member; repeatable")  # fmt: skip
    _add_client_options(pub, environment)

    req = commands.add_parser(
        "req", help="ask, and print the result", epilog=_EXAMPLE_OF_REQ,
        usage="kps req [options] TOPIC DATA\n       kps req [options] --to ID DATA",
    )  # fmt: skip
    req.set_defaults(run=_later("kps.cli.request", "request"))
    req.add_argument("topic", metavar="TOPIC", help="whose subscribers are asked")
    data = req.add_argument("data", metavar="DATA", help="JSON, or else a string")
    data.required = False  # with --to it is the only one
    req.add_argument("--to", type=name, metavar="ID", help="ask this client, and no topic")
    _add_header(req)
    _add_message_id(req)
    req.add_argument("--timeout", type=seconds, metavar="S", default=5.0,
                     help="seconds for the answer; default: %(default)s")  # fmt: skip
    _add_client_options(req, environment)

    reply = commands.add_parser(
        "reply", help="run a command for each message, and answer with its output",
        usage="kps reply [options] TOPIC -- COMMAND ...", epilog=_EXAMPLE_OF_REPLY,
    )  # fmt: skip
    reply.set_defaults(run=_later("kps.cli.reply", "reply"))
    reply.add_argument("topic", metavar="TOPIC")
    _add_group_options(reply, "messages that it handles at a time")
    _add_reconnect(reply)
    _add_client_options(reply, environment)

    past = commands.add_parser("history", help="print messages of a topic with history")
    past.set_defaults(run=_later("kps.cli.history", "history"))
    past.add_argument("topic", metavar="TOPIC")
    which = past.add_mutually_exclusive_group()
    which.add_argument("--last", type=size, metavar="N", default=100,
                       help="the latest N messages; default: %(default)s")  # fmt: skip
    which.add_argument("--since", type=position, metavar="EPOCH:OFFSET",
                       help="all messages behind that one")  # fmt: skip
    _add_client_options(past, environment)

    who = commands.add_parser("presence", help="print who is subscribed to a topic")
    who.set_defaults(run=_later("kps.cli.presence", "presence"))
    who.add_argument("topic", metavar="TOPIC")
    who.add_argument("--follow", action="store_true",
                     help="go on with who comes and goes, as a subscriber")  # fmt: skip
    _add_client_options(who, environment)

    bridge = commands.add_parser("bridge", help="carry messages between the bus and an MQTT broker")
    _add_bridge(bridge, environment)

    token = commands.add_parser("token", help="make a token for an identity, as TOML for --tokens")
    token.set_defaults(run=_later("kps.auth.tokens", "print_new_token"))
    token.add_argument("name", metavar="NAME", help="name of the identity")
    _add_log_level(token, "error")

    bench = commands.add_parser("bench", help="measure the throughput of a running server")
    bench.set_defaults(run=_later("kps.cli.bench", "bench"))
    add_connecting(bench, environment)
    bench.add_argument("--seconds", type=seconds, metavar="S", default=2.0,
                       help="time for each measurement; default: %(default)s")  # fmt: skip
    payload = partial(size, most=_BENCH_LARGEST)
    bench.add_argument("--size", type=payload, metavar="BYTES", default=64,
                       help="size of the payload; default: %(default)s")  # fmt: skip
    _add_log_level(bench, "error")

    judge = commands.add_parser(
        "conformance", help="judge a server, or a client, by the vectors of the specification",
        usage="kps conformance [options] [HOST:PORT|URL]\n"
        "       kps conformance [options] --client COMMAND",
        epilog=_ABOUT_CONFORMANCE,
    )  # fmt: skip
    judge.set_defaults(run=_later("kps.cli.conformance", "conformance"))
    judge.set_defaults(default_address=environment.get("KPS_ADDRESS"))
    judge.add_argument("address", type=address, nargs="?", metavar="HOST:PORT|URL",
                       help="the server, also from KPS_ADDRESS; "
                       f"default: {DEFAULT_ADDRESS}")  # fmt: skip
    judge.add_argument("--client", type=name, metavar="COMMAND",
                       help="judge the client of the testee that this command starts")  # fmt: skip
    judge.add_argument("--only", action="append", type=name, metavar="CLAUSE",
                       help="vectors of this clause or section (12.3, 8), or with this text in "
                       "their names; repeatable")  # fmt: skip
    judge.add_argument("--json", type=file, metavar="FILE", help="write the verdicts as JSON, too")
    judge.add_argument("--junit", type=file, metavar="FILE", help="write JUnit's XML, too")
    judge.add_argument("--vectors", type=file, metavar="PATH",
                       help="file or folder with other vectors")  # fmt: skip
    judge.add_argument("--patience", type=seconds, metavar="S", default=10.0,
                       help="seconds to wait for what must come; default: %(default)s")  # fmt: skip
    judge.add_argument("--jobs", type=partial(size, most=_MOST_JOBS), metavar="N", default=4,
                       help="testees that run side by side; default: %(default)s")  # fmt: skip
    add_identity(judge, environment)
    _add_log_level(judge, "error")
    return parser


def _add_bridge(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    mqtt = kinds.add_parser("mqtt", help="to an MQTT broker", epilog=_EXAMPLE_OF_BRIDGE)
    mqtt.set_defaults(run=_later("kps.cli.bridge", "bridge"))
    mqtt.add_argument("--config", type=file, metavar="FILE",
                      default=environment.get("KPS_MQTT_CONFIG") or None,
                      help="TOML file with all options and rules; also from KPS_MQTT_CONFIG; see "
                      "docs/mqtt.md")  # fmt: skip
    mqtt.add_argument("--in", dest="rules_in", action="append", type=name, metavar="FILTER",
                      help="what comes from the broker, as MQTT has it ('sensors/#'); "
                      "repeatable")  # fmt: skip
    mqtt.add_argument("--out", dest="rules_out", action="append", type=name, metavar="PATTERN",
                      help="what goes to the broker, as KPS has it ('commands/**'); "
                      "repeatable")  # fmt: skip
    mqtt.add_argument("--qos", type=int, choices=(0, 1), default=1,
                      help="of these rules: at most once, or at least once; "
                      "default: %(default)s")  # fmt: skip
    mqtt.add_argument("--broker", type=name, metavar="URL",
                      help="mqtt://[USER:PASSWORD@]HOST[:PORT], or mqtts://; also from "
                      "KPS_MQTT_BROKER, KPS_MQTT_USER and KPS_MQTT_PASSWORD; default: "
                      "mqtt://localhost:1883")  # fmt: skip
    mqtt.add_argument("--id", type=name, metavar="NAME",
                      help="name of the bridge, on both sides; default: mqtt-bridge")  # fmt: skip
    mqtt.add_argument("--mqtt-version", choices=("auto", "5", "3.1.1"), help="default: auto")
    mqtt.add_argument("--figures-topic", type=name, metavar="TOPIC", help="publish the figures")
    mqtt.add_argument("--figures-every", type=seconds, metavar="S", help="default: 60")
    for what, about in (("ca", "authorities to trust for the broker, not the system's"),
                        ("cert", "certificate to show to the broker"),
                        ("key", "its private key")):  # fmt: skip
        mqtt.add_argument(f"--broker-{what}", type=file, metavar="FILE", help=about)
    add_connecting(mqtt, environment)
    mqtt.set_defaults(address=environment.get("KPS_ADDRESS") or None)
    _add_log_level(mqtt, "info")
    _add_log_format(mqtt)


def _add_group_options(parser: argparse.ArgumentParser, concurrency: str) -> None:
    parser.add_argument(
        "--group",
        type=name,
        metavar="NAME",
        help="be a member of this group, whose members share the messages",
    )
    parser.add_argument(
        "--concurrency",
        type=size,
        metavar="N",
        default=1,
        help=f"{concurrency}; default: %(default)s",
    )


def _add_header(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--header",
        action="append",
        type=header,
        metavar="NAME=TEXT",
        help="text that goes with the message, such as traceparent=...; repeatable",
    )


def _add_message_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--message-id",
        metavar="ID",
        help="the server handles the message once, if it comes again from the same --id",
    )


def _add_reconnect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reconnect", action="store_true", help="wait for a server that is down")


def _add_client_options(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    add_connecting(parser, environment)
    parser.add_argument("--id", help="the client's id; default: a random one")
    _add_log_level(parser, "error")


def _add_log_level(parser: argparse.ArgumentParser, default: str) -> None:
    levels = ["debug", "info", "warning", "error"]
    parser.add_argument("--log-level", choices=levels, default=default, help="default: %(default)s")


def _add_log_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-format", choices=["text", "json"], default="text",
                        help="json: one object per line; default: %(default)s")  # fmt: skip
