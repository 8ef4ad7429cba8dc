"""What attacks do to honest clients.

A server runs in a process of its own; honest clients in another one publish, ask and connect; an
attacker in a third one does its worst for some seconds. Each attack has a row: what the honest
clients noticed without it and during it, and what the server spent and kept. Two cores that all
three share are little: the lag of the honest clients' own event loop tells how much of a delay is
that of the harness.

    python benchmarks/attacks.py --list
    python benchmarks/attacks.py publications-200 --driver threads
    python benchmarks/attacks.py --all --json attacks.json
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import trustme

from attacker import ATTACKS, PREPARING
from hostile.model import Attack
from hostile.raw import Target
from peers import kps_serve
from processes import (
    Failed,
    Process,
    cpu_seconds,
    descriptors,
    peak_resident,
    resident,
)

HERE = Path(__file__).parent
MIB = 2**20
CALM = 3.0
"""Seconds that are measured before the attack."""
RETURN = 20.0
"""Seconds in which descriptors ought to be given back when the attacker has left."""
PATIENCE = 150.0
TOKENS = {"honest": "token-of-an-honest-client", "hostile": "token-of-a-hostile-client"}


@dataclass
class Row:
    """What one attack did."""

    attack: str
    driver: str
    calm: dict[str, Any] = field(default_factory=dict)
    during: dict[str, Any] = field(default_factory=dict)
    settled: float = 0.0
    """Seconds until honest clients were served as before, when the attack had ended."""
    server_cpu: float = 0.0
    """Cores, from the beginning of the attack until they were."""
    attacker_cpu: float = 0.0
    memory: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """MiB before, at most, and when the attacker has left."""
    held: int = 0
    """Descriptors more than before, while the attacker is still there."""
    kept: int = 0
    """The same when it has left for ``RETURN`` seconds, or earlier if it is none."""
    read: float = 0.0
    """MB a second that the server read."""
    published: float = 0.0
    """Publications a second, of all."""
    attacker: dict[str, Any] = field(default_factory=dict)
    failure: str = ""


def measure(attack: Attack, driver: str, seconds: float) -> Row:
    """Run one attack."""
    row = Row(attack.name, driver)
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attacks-")))
            _run(attack, row, max(seconds, attack.least_seconds), folder, stack)
    except (Failed, OSError, ValueError) as failure:
        row.failure = f"{type(failure).__name__}: {failure}"
    return row


def _run(attack: Attack, row: Row, seconds: float, folder: Path, stack: ExitStack) -> None:
    options = list(attack.options)
    honest_options: dict[str, Any] = {}
    if row.driver == "threads":
        options.append("--threads")
    if attack.has_tokens:
        options += ["--tokens", str(_token_file(folder))]
        honest_options["token"] = TOKENS["honest"]
    if attack.is_tls:
        options += _certificate(folder)
        honest_options["authority"] = str(folder / "authority.pem")
    server = stack.enter_context(kps_serve("server", *options).start())
    pid = server.process.pid
    honest = _program(stack, "honest.py", server.address, json.dumps(honest_options))
    honest.report(PATIENCE)
    time.sleep(CALM)
    idle, before = descriptors(pid), resident(pid)

    _tell(honest, "preparing")
    token = TOKENS["hostile"] if attack.has_tokens and not attack.is_stranger else ""
    target = Target(server.address, seconds, token, attack.is_tls)
    attacker = _program(stack, "attacker.py", attack.name, json.dumps(asdict(target)))
    attacker.report(PREPARING)

    figures = _tell(honest, "attack")["figures"]
    began, cpu, attacker_cpu = time.monotonic(), cpu_seconds(pid), cpu_seconds(attacker.pid)
    attacker.tell("go")
    row.attacker = attacker.report(seconds + PATIENCE)
    took = time.monotonic() - began
    row.attacker_cpu = (cpu_seconds(attacker.pid) - attacker_cpu) / took
    row.held = descriptors(pid) - idle
    settled = _tell(honest, "settle")
    row.settled = settled["settled"]
    took = time.monotonic() - began
    row.server_cpu = (cpu_seconds(pid) - cpu) / took
    spent = max(0.1, settled["figures"]["uptime"] - figures["uptime"])
    row.read = (settled["figures"]["bytes_in"] - figures["bytes_in"]) / spent / 1e6
    row.published = (settled["figures"]["published"] - figures["published"]) / spent

    _tell(honest, "after")
    peak = peak_resident(pid)
    attacker.tell("leave")
    deadline = time.monotonic() + RETURN
    # A newcomer may be there at any moment.
    while (kept := descriptors(pid) - idle) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    row.kept = max(0, kept - 1)
    row.memory = (before / MIB, peak / MIB, resident(pid) / MIB)
    report = _tell(honest, "report")
    row.calm, row.during = report["calm"], report["attack"]


def _program(stack: ExitStack, name: str, *arguments: str) -> Process:
    return stack.enter_context(Process(sys.executable, str(HERE / name), *arguments))


def _tell(honest: Process, command: str) -> dict[str, Any]:
    honest.tell(command)
    return honest.report(PATIENCE)


def _token_file(folder: Path) -> Path:
    path = folder / "tokens.toml"
    path.touch(0o600)
    tables = (f'[{name}]\ntoken = "{token}"\nconsole = true\n' for name, token in TOKENS.items())
    path.write_text("".join(tables))
    return path


def _certificate(folder: Path) -> list[str]:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    return ["--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem")]


# -- the rows ----------------------------------------------------------------------------

COLUMNS = (
    "attack",
    "driver",
    "calm p50/p99/max",
    "attack p50/p99/max",
    "acks p99",
    "gap",
    "own lag p99/max",
    "disconnected",
    "lost",
    "newcomers turned away",
    "their p99",
    "server, attacker CPU",
    "MiB before/peak/after",
    "FDs held/kept",
    "read MB/s",
    "published/s",
)


def head() -> str:
    """The head of the table. Delays are in milliseconds."""
    return f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def line(row: Row) -> str:
    """One row."""
    if row.failure:
        return f"| {row.attack} | {row.driver} | {row.failure} |"
    calm, during = row.calm, row.during
    comings = during["turned_away"] + during["came"]
    cells = (
        row.attack,
        row.driver,
        _times(calm["trip"], "p50", "p99", "max"),
        _times(during["trip"], "p50", "p99", "max"),
        _times(during["ack"], "p99"),
        f"{during['gap'] * 1000:,.0f}",
        _times(during["lag"], "p99", "max"),
        str(during["disconnected"]),
        str(during["lost"] + during["unsent"]),
        f"{during['turned_away']} of {comings}",
        _times(during["coming"], "p99"),
        f"{row.server_cpu * 100:.0f} %, {row.attacker_cpu * 100:.0f} %",
        "/".join(f"{size:.0f}" for size in row.memory),
        f"{row.held}/{row.kept}",
        f"{row.read:.1f}",
        f"{row.published:,.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _times(found: dict[str, float], *names: str) -> str:
    return "/".join(
        f"{found[name]:,.1f}" if found[name] < 10 else f"{found[name]:,.0f}" for name in names
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help="see --list; or its beginning")
    parser.add_argument("--all", action="store_true", help="all attacks")
    parser.add_argument("--list", action="store_true", help="name them, and end")
    parser.add_argument("--driver", choices=("asyncio", "threads"), default="asyncio")
    parser.add_argument("--seconds", type=float, default=5, help="default: %(default)s")
    parser.add_argument("--json", metavar="FILE", help="also write everything that was measured")
    options = parser.parse_args(arguments)
    if options.list:
        for attack in ATTACKS.values():
            print(f"{attack.name:24} {attack.what}")
        return
    wanted = tuple(ATTACKS) if options.all else tuple(options.attacks)
    chosen = [a for a in ATTACKS.values() if a.name.startswith(wanted)]
    if not chosen:
        parser.error("name an attack, or take --all; --list tells the names")
    # So that the processes which were started are ended in this case too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows: list[Row] = []
    print(head(), flush=True)
    for attack in chosen:
        rows.append(measure(attack, options.driver, options.seconds))
        print(line(rows[-1]), flush=True)
        if options.json:
            Path(options.json).write_text(json.dumps([asdict(row) for row in rows], indent=1))
    sys.exit(1 if any(row.failure for row in rows) else 0)


if __name__ == "__main__":
    main()
