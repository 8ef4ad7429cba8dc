"""The command ``kps conformance``: judges a server, or a client by its testee."""

import argparse
import asyncio
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from kps.cli.complaints import cannot_write, complain, visible
from kps.cli.connecting import client_options
from kps.errors import InvalidArgument, KPSError
from kps.io_common.system_errors import describe
from kps.protocol.dialect.address import DEFAULT_ADDRESS, Address
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

AnyVector = TypeVar("AnyVector", Vector, ClientVector)


def conformance(options: argparse.Namespace) -> int:
    """Judge, print the report and write the files; return 1 if something has failed."""
    if options.client is not None and options.address is not None:
        raise InvalidArgument("give either the address of a server or --client")
    progress = _Progress()
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


def _judge_client(
    options: argparse.Namespace, progress: "_Progress"
) -> tuple[str, Sequence[Verdict]]:
    try:
        command = shlex.split(options.client)
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
        on_verdict=progress.note,
    )
    return options.client, asyncio.run(judging)


def _judge_server(
    options: argparse.Namespace, progress: "_Progress"
) -> tuple[str, Sequence[Verdict]]:
    options.address = options.address or options.default_address or DEFAULT_ADDRESS
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

    return address.url, judge_server(new_target, vectors, on_verdict=progress.note)


def _chosen(
    load: Callable[[Path | str], list[AnyVector]], path: Path | str, only: Sequence[str] | None
) -> list[AnyVector]:
    """Return all vectors, or those of some clauses or with some words in their names."""
    try:
        vectors = load(path)
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {describe(error)}") from None
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


class _Progress:
    """Tells on a terminal how far it is: it may take a minute."""

    def __init__(self) -> None:
        self.total = 0
        self._done = 0
        self._tell: Callable[[str], object] = (
            self._write if sys.stderr.isatty() else lambda text: None
        )

    def note(self, verdict: Verdict) -> None:
        """Note that one more vector has been judged."""
        self._done += 1
        self._tell(f"\r{self._done} of {self.total}")

    def end(self) -> None:
        """Clear the line."""
        self._tell("\r\x1b[K")

    def _write(self, text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)
