"""The command ``kps conformance``: judges a server, or a client by its testee."""

import asyncio
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from kps.cli import readers
from kps.cli.complaints import cannot_write, complain, visible
from kps.cli.connecting import ConnectOptions, client_options
from kps.cli.declaring import Command, option, optional, several
from kps.cli.progress import Progress
from kps.errors import InvalidArgument, KPSError
from kps.io_common.system_errors import describe_file
from kps.protocol.dialect.address import Address
from kps.testing.conformance.client_vectors import ClientVector, load_client_vectors
from kps.testing.conformance.judge_client import judge_client
from kps.testing.conformance.judge_server import judge_server
from kps.testing.conformance.report import as_json, as_junit, as_text
from kps.testing.conformance.socket_target import SocketTarget, Unreachable
from kps.testing.conformance.testee import TesteeFailed
from kps.testing.conformance.verdict import Outcome, Verdict
from kps.testing.conformance.where import vectors_for_clients, vectors_for_servers
from kps.testing.vectors import Vector, load_vectors

_UNREACHABLE = 3  # the exit code if there is nothing to judge

_MOST_JOBS = 64

AnyVector = TypeVar("AnyVector", Vector, ClientVector)


@dataclass(frozen=True, kw_only=True)
class ConformanceOptions(ConnectOptions):
    """What ``kps conformance`` takes."""

    server: str | None = optional(
        "HOST:PORT|URL", "the server, in place of --address", read=readers.address
    )
    client: str | None = option(
        "COMMAND",
        "judge the client of the testee that this command starts",
        read=readers.name,
        default=None,
    )
    only: Sequence[str] = several(
        "CLAUSE",
        "vectors of this clause or section (12.3, 8), or with this text in their names",
        read=readers.name,
    )
    json: str | None = option(
        "FILE", "write the verdicts as JSON, too", read=readers.file, default=None
    )
    junit: str | None = option("FILE", "write JUnit's XML, too", read=readers.file, default=None)
    vectors: str | None = option(
        "PATH", "file or folder with other vectors", read=readers.file, default=None
    )
    patience: float = option(
        "S", "seconds to wait for what must come", read=readers.seconds, default=10.0
    )
    jobs: int = option(
        "N", "testees that run side by side", read=partial(readers.size, most=_MOST_JOBS), default=4
    )


def conformance(options: ConformanceOptions) -> int:
    """Judge, print the report and write the files; return 1 if something has failed."""
    if options.client is not None and options.server is not None:
        raise InvalidArgument("give either the address of a server or --client")
    progress = Progress()
    try:
        if options.client is not None:
            judged, verdicts = _judge_client(options, progress)
        else:
            judged, verdicts = _judge_server(options, progress)
    except (Unreachable, TesteeFailed) as error:
        progress.end()
        complain(f"kps conformance: {error}")
        return _UNREACHABLE
    progress.end()
    for line in as_text(judged, verdicts):
        print(visible(line))
    for file, form in ((options.json, as_json), (options.junit, as_junit)):
        if file is not None:
            _write(file, form(judged, verdicts))
    return int(any(verdict.outcome is Outcome.FAILED for verdict in verdicts))


def _judge_client(options: ConformanceOptions, progress: Progress) -> tuple[str, Sequence[Verdict]]:
    try:
        command = shlex.split(options.client or "")
    except ValueError as error:
        raise InvalidArgument(f"--client is not a command: {error}") from None
    if not command:
        raise InvalidArgument("--client is not a command")
    vectors = _chosen(load_client_vectors, options.vectors or vectors_for_clients(), options.only)
    progress.total = len(vectors)
    judging = judge_client(
        command,
        vectors,
        side_by_side=options.jobs,
        patience=options.patience,
        on_verdict=lambda verdict: progress.step(),
    )
    return str(options.client), asyncio.run(judging)


def _judge_server(options: ConformanceOptions, progress: Progress) -> tuple[str, Sequence[Verdict]]:
    if options.server is not None:
        options = replace(options, address=options.server)
    found = client_options(options)
    address = Address.parse(options.address, secure=found.get("secure", False))
    tls = found.get("ssl")
    if address.secure and tls is None:
        from kps.io_common.tls import client_context

        tls = client_context()
    vectors = _chosen(load_vectors, options.vectors or vectors_for_servers(), options.only)
    progress.total = len(vectors)

    def new_target() -> SocketTarget:
        return SocketTarget(address, tls=tls, token=options.token, patience=options.patience)

    return address.url, judge_server(
        new_target, vectors, on_verdict=lambda verdict: progress.step()
    )


def _chosen(
    load: Callable[[Path | str], list[AnyVector]], path: Path | str, only: Sequence[str] | None
) -> list[AnyVector]:
    """Return all vectors, or those of some clauses or with some words in their names."""
    try:
        vectors = load(path)
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {describe_file(error, path)}") from None
    except (ValueError, KeyError, TypeError):
        raise InvalidArgument(f"there are no vectors of this kind in {path}") from None
    chosen = [one for one in vectors if not only or any(_concerns(one, word) for word in only)]
    if not chosen:
        raise InvalidArgument(f"there is no vector for {', '.join(only or ['anything'])}")
    return chosen


def _concerns(vector: Vector | ClientVector, wanted: str) -> bool:
    if re.fullmatch(r"\d+(\.\d+)?", wanted, re.ASCII):
        return any(one == wanted or one.startswith(f"{wanted}.") for one in vector.clauses)
    return wanted in vector.name


def _write(file: str, text: str) -> None:
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise KPSError(f"{file}: {cannot_write(error)}") from None


COMMAND = Command(
    "kps conformance",
    ConformanceOptions,
    conformance,
    usage=(
        "kps conformance [options] [HOST:PORT|URL]",
        "kps conformance [options] --client COMMAND",
    ),
    about=[
        "A server is expected to be as \"kps serve --id refserver --history 'kept/**=5' --relay-to "
        "'**'\" is, with default limits, and to let everyone do everything. What it cannot do as "
        "it is configured is left out, with the reason, where that can be found out. It sees "
        "connections that break every rule, and clients with short names; use one that nobody else "
        "uses.",
        "A testee is a program that lets a client do what it reads (spec/CLIENTS.md), such as "
        "'python -m kps.testing.testee'.",
    ],
    examples=[
        ("kps conformance bus.example:9313", "judges a server"),
        ("kps conformance --client 'python -m kps.testing.testee' --only 8.3", "judges a client"),
    ],
    exits={1: "something has failed", _UNREACHABLE: "there is no such server, or no such testee"},
)
