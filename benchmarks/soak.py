"""An hour of mixed traffic on real servers, in which every message is accounted for.

Three servers run, one under each slow-consumer policy, and processes of clients around them; what
they do is in ``soak_traffic.py`` and ``soak_hostile.py``, and how the accounts are balanced in
``soak_books.py``. A fourth server has history, presence and groups, and clients of its own, in
``soak_features.py``, which judge by ``soak_accounts.py``. The load is steady, and far below what
the servers can do. It exits with 1 if the sums do not match, if the servers do not end as they
began, or if their memory grows.

    python benchmarks/soak.py --minutes 60                      # an hour
    python benchmarks/soak.py --minutes 60 --driver threads     # the threaded server
    python benchmarks/soak.py --minutes 60 --write              # keep soak.md and soak.svg
"""

import argparse
import heapq
import itertools
import json
import random
import re
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import soak_report
from peers import Peer, Server
from processes import Failed, Process, cpu_seconds, descriptors, resident
from soak_books import Balance, Books
from soak_features import SERVER_OPTIONS
from soak_plan import Plan, Site
from soak_report import Outcome, Sample
from soak_traffic import victim_topics
from wires import KpsWire

HERE = Path(__file__).parent

POLICIES = ("close", "drop_oldest", "drop_newest")
"""Each server relays to the next one."""
FEATURES = "features"
"""The name of the server that has history, presence and groups."""
QUEUE_BYTES = 2 * 2**20
"""What may wait for one client: little, so that slow readers get to the end of it."""

STALL_EVERY = 40.0
STALL = 12.0
"""Seconds for which the slow readers' process is stopped; below the server's heartbeat."""
HOLD = (1.0, 3.0)
"""Seconds for which a process is stopped, often, before it is killed."""
PATIENCE = 90.0

LEEWAY = {"threads": 2, "objects": 50}
"""What a server may have more at the end than at the beginning: it keeps some helpers."""

LEFT = re.compile(r"client (\S+) left: .*?(?:; (\d+) messages dropped)?$")
CLIENTS = "clients"
FEATURES_CLIENTS = "clients, features"
PROGRAMS = {
    "hostile": "soak_hostile.py",
    "features": "soak_features.py",
    "workers": "soak_features.py",
}
"""Where a role is, unless among the traffic."""

Range = tuple[float, float]


class Mortal:
    """A process that is killed again and again, often with something waiting for it."""

    def __init__(self, soak: "Soak", role: str, life: Range, pause: Range) -> None:
        self.kills = 0
        self.on_killed: Callable[[], None] = lambda: None
        self._soak = soak
        self._role = role
        self._life = life
        self._pause = pause
        """Seconds without it."""
        self._process: Process | None = None

    def bring(self) -> None:
        self._process = self._soak.start(self._role)
        self._soak.wait_until(self._process, "ready")
        self._soak.at(random.uniform(*self._life), random.choice((self.kill, self._hold)))

    def _hold(self) -> None:
        if self._process is not None:
            self._process.signal(signal.SIGSTOP)
            self._soak.at(random.uniform(*HOLD), self.kill)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._soak.running.remove(process)
        process.signal(signal.SIGKILL)
        process.stop()
        self.kills += 1
        self.on_killed()
        self._soak.at(random.uniform(*self._pause), self.bring)

    def end(self) -> None:
        """Leave nothing behind, whatever has failed."""
        if self._process is not None:
            self._process.stop()


class Soak:
    """One run: its processes, what they have said so far, and what is due when."""

    def __init__(self, minutes: float, driver: str, rate: float, stack: ExitStack) -> None:
        self.outcome = Outcome(driver, minutes)
        self._seconds = minutes * 60
        self._servers: dict[str, Server] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._done: set[tuple[Process, str]] = set()
        self.running: list[Process] = []
        self._is_stalled = False
        self._has: dict[str, dict[str, int]] = {}
        """What each server said that it has."""
        self._errors: list[str] = []
        self._began = time.monotonic()
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-"))
        sites: list[Site] = []
        for policy in reversed(POLICIES):
            onward = sites[-1].address if sites else ""
            relay = ("--relay-to", onward) if onward else ()
            peer = _peer(policy, driver, "--overflow", policy, *relay)
            server = stack.enter_context(peer.start())
            self._servers[policy] = server
            sites.append(Site(policy, server.address, onward))
        self.plan = Plan(sites[::-1], folder, rate / len(sites), int(self._seconds) + 600)
        self._books = {site.policy: Books(site) for site in self.plan.sites}
        server = stack.enter_context(_peer(FEATURES, driver, *SERVER_OPTIONS).start())
        self._servers[FEATURES] = server
        self._features_plan = replace(self.plan, sites=[Site(FEATURES, server.address)])
        self._idle = {name: self._inventory(name) for name in self._servers}
        self._victim = Mortal(self, "victim", life=(0.5, 4.0), pause=(15.0, 15.0))
        self._victim.on_killed = self._note_victim
        self._workers = Mortal(self, "workers", life=(6.0, 10.0), pause=(1.0, 3.0))
        for mortal in (self._victim, self._workers):
            stack.callback(mortal.end)
        # In this order, so that everybody who stays is there for the first message.
        self._slow = stack.enter_context(self.start("slow"))
        stack.callback(self._slow.signal, signal.SIGCONT)  # or it would not even end
        self.wait_until(self._slow, "ready")
        self._regulars = stack.enter_context(self.start("regulars"))
        self.wait_until(self._regulars, "ready")
        self._hostile = stack.enter_context(self.start("hostile"))
        self.wait_until(self._hostile, "ready")
        self._features = stack.enter_context(self.start("features"))
        self.wait_until(self._features, "ready")

    # -- the run --------------------------------------------------------------------------

    def run(self) -> None:
        """Everything, to the balance."""
        self._began = time.monotonic()
        processes = {CLIENTS: self._regulars, "slow readers": self._slow}
        processes |= {"hostile": self._hostile, FEATURES_CLIENTS: self._features}
        processes |= {_name(name): server.process for name, server in self._servers.items()}
        cpu = {name: cpu_seconds(process.pid) for name, process in processes.items()}
        self.at(5, self._begin_stall)
        self.at(3, self._victim.bring)
        self.at(4, self._workers.bring)
        while (now := time.monotonic()) < self._began + self._seconds:
            self._step()
            while self._agenda and self._agenda[0][0] <= now:
                heapq.heappop(self._agenda)[2]()
            time.sleep(0.1)
        took = time.monotonic() - self._began
        self.outcome.cpu = {
            name: (cpu_seconds(process.pid) - cpu[name]) / took
            for name, process in processes.items()
        }
        self._finish()

    def _finish(self) -> None:
        """Let everything come to rest, and balance the books."""
        if self._is_stalled:
            self._slow.signal(signal.SIGCONT)
        for mortal in (self._victim, self._workers):
            mortal.kill()
        for command in ("stop", "mark", "books", "leave"):
            self._command(self._features, command)
        self.running.remove(self._features)
        self.outcome.features["kills of workers"] = self._workers.kills
        self._command(self._hostile, "books")
        self.running.remove(self._hostile)
        self._command(self._regulars, "stop")
        self._command(self._slow, "flush")
        self._command(self._regulars, "mark")
        self._command(self._slow, "finish")
        self._command(self._regulars, "books")
        self._command(self._slow, "books")
        self._close_logs()
        for process in (self._regulars, self._slow):
            self._command(process, "leave")
            self.running.remove(process)
        self._check_servers()
        for site in self.plan.sites:
            for other in self.plan.sites:
                if other.next_address == site.address:
                    sent = self._books[other.policy].regulars["sent"]
                    self._books[site.policy].relayed = sent["to the next server"]
        for policy, books in self._books.items():
            balance = Balance(self.plan, books)
            self.outcome.deliveries[policy] = balance.deliveries
            self.outcome.others[policy] = balance.others
            self.outcome.failures += balance.failures
        for name in self.outcome.samples[0].memory if self.outcome.samples else ():
            growth = soak_report.growth(self.outcome.samples, name)
            if growth.is_known and not growth.is_flat:
                self.outcome.failures.append(
                    f"{name}: memory grows by {growth.rise / 2**20:.1f} MiB"
                )
        self.outcome.failures += self._errors[:40]

    def _close_logs(self) -> None:
        """Take the sums of the servers' logs, when they have come as far as the last figures."""
        deadline = time.monotonic() + PATIENCE
        for books in self._books.values():
            figures = books.regulars["figures"]
            gone = figures["dropped"] - sum(client["dropped"] for client in figures["clients"])
            while books.logged.total() < gone and time.monotonic() < deadline:
                self._step()
                time.sleep(0.02)
            books.gone = books.logged.total()

    def _check_servers(self) -> None:
        """When everybody has gone, a server is as it was, and ends well."""
        for name, server in self._servers.items():
            deadline = time.monotonic() + PATIENCE
            while leftovers := self._leftovers(name):
                if time.monotonic() > deadline:
                    self._errors.append(f"{name}: left behind: {', '.join(leftovers)}")
                    break
                time.sleep(0.5)
            server.process.stop()
            self._read_server(name)
            if server.process.code != 0:
                self._errors.append(f"{name}: the server ended with {server.process.code}")

    def _leftovers(self, policy: str) -> list[str]:
        """What a server has more than at the beginning, when nobody had come yet."""
        health = _health(self._servers[policy].address)
        found = [f"{health[name]} {name}" for name in ("clients", "topics") if health[name]]
        idle, now = self._idle[policy], self._inventory(policy)
        return found + [
            f"{now[name]} {name}, {idle[name]} at the beginning"
            for name in now
            if now[name] > idle[name] + LEEWAY.get(name, 0)
        ]

    # -- what happens meanwhile -----------------------------------------------------------

    def at(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time.monotonic() + seconds, next(self._numbers), do))

    def _begin_stall(self) -> None:
        # So that the server has just heard from them, and sends no heartbeat meanwhile, which
        # would be one more message to lose.
        self._command(self._slow, "flush")
        self._slow.signal(signal.SIGSTOP)
        self._is_stalled = True
        self.at(STALL, self._end_stall)

    def _end_stall(self) -> None:
        self._slow.signal(signal.SIGCONT)
        self._is_stalled = False
        self.at(STALL_EVERY - STALL, self._begin_stall)

    def _note_victim(self) -> None:
        """Note the last message of everything that the victim had."""
        for site in self.plan.sites:
            last = {topic: self._last_mark(site, topic) for topic in victim_topics(site)}
            self._books[site.policy].killed.append(last)

    def _last_mark(self, site: Site, topic: str) -> int:
        marks = np.fromfile(self.plan.marks(site, topic, "victim"), np.uint8)
        return int(np.flatnonzero(marks)[-1])

    # -- listening ------------------------------------------------------------------------

    def start(self, role: str) -> Process:
        program = PROGRAMS.get(role, "soak_traffic.py")
        plan = self._features_plan if program == PROGRAMS["features"] else self.plan
        process = Process(sys.executable, str(HERE / program), role, plan.to_json())
        self.running.append(process)
        return process

    def _command(self, process: Process, command: str) -> None:
        """Tell a process what to do, and wait until it has done it."""
        process.tell(command)
        self.wait_until(process, command)

    def wait_until(self, process: Process, done: str) -> None:
        deadline = time.monotonic() + PATIENCE
        key = (process, done)
        while key not in self._done:
            if time.monotonic() > deadline:
                raise Failed(f"{process.command[2]} is not done with {done!r}")
            self._step()
            time.sleep(0.02)
        self._done.remove(key)

    def _step(self) -> None:
        """Take what the processes have said."""
        for policy, server in self._servers.items():
            self._read_server(policy)
            if server.process.code is not None:
                raise Failed(f"the server ended: {policy}")
        for process in list(self.running):
            self._read(process)

    def _read_server(self, policy: str) -> None:
        for line in self._servers[policy].process.said():
            if line.startswith('{"has"'):
                self._has[policy] = json.loads(line)["has"]
            elif " ERROR " in line or " CRITICAL " in line or line.startswith("Traceback"):
                self._errors.append(f"{policy}: the server's log: {line}")
            elif policy in self._books and (left := LEFT.search(line)) and left[2]:
                self._books[policy].logged[left[1]] += int(left[2])

    def _read(self, process: Process) -> None:
        has_ended = process.code is not None
        lines = process.said()
        for line in lines:
            if line.startswith("{"):
                self._take(process, json.loads(line))
            else:
                print(line, file=sys.stderr, flush=True)
        if has_ended and not lines:
            raise Failed(f"{process.command[2]} ended with {process.code}")

    def _take(self, process: Process, report: dict[str, Any]) -> None:
        if "ready" in report:
            self._done.add((process, "ready"))
        elif "done" in report:
            self._done.add((process, report["done"]))
        elif "features" in report:
            self.outcome.features = report["features"]
            self._errors += [f"{FEATURES}: {what}" for what in report["wrong"]]
        elif "hostile" in report:
            self._books[report["policy"]].hostile.update(report["hostile"])
        elif "left" in report:
            self._books[report["left"]["policy"]].left.append(report["left"])
        elif "sample" in report:
            self._sample(report["sample"], report["lag"])
        elif "name" in report:
            self._books[report["policy"]].slow[report["name"]] = report["books"]
        else:
            self._books[report["policy"]].regulars = report["books"]

    def _sample(self, sites: dict[str, dict[str, float]], lag: float) -> None:
        if time.monotonic() > self._began + self._seconds:
            return  # the traffic ends
        pids = {_name(name): server.process.pid for name, server in self._servers.items()}
        pids |= {CLIENTS: self._regulars.pid, FEATURES_CLIENTS: self._features.pid}
        sample = Sample(
            at=time.monotonic() - self._began,
            memory={name: resident(pid) for name, pid in pids.items()},
            descriptors={name: descriptors(pid) for name, pid in pids.items()},
            published=int(sum(site["published"] for site in sites.values())),
            delivered=int(sum(site["delivered"] for site in sites.values())),
            lag=lag,
            round_trip=max(site["round_trip"] for site in sites.values()),
        )
        self.outcome.samples.append(sample)
        if len(self.outcome.samples) % 6 == 0:
            _log(sample, sites)

    def _inventory(self, policy: str) -> dict[str, int]:
        """What a server has: descriptors, tasks, threads, and objects of this library."""
        process = self._servers[policy].process
        _health(self._servers[policy].address)  # what a first request opens for good
        self._has.pop(policy, None)
        deadline, again = time.monotonic() + PATIENCE, 0.0
        while policy not in self._has:
            if time.monotonic() > deadline:
                raise Failed(f"{policy}: the server does not say what it has")
            if time.monotonic() > again:
                # A thread that begins just now may take the signal. Then the main thread, which
                # alone runs handlers, sleeps on.
                process.signal(signal.SIGUSR1)
                again = time.monotonic() + 2.0
            self._read_server(policy)
            time.sleep(0.01)
        return self._has[policy] | {"descriptors": descriptors(process.pid)}


def _peer(name: str, driver: str, *options: str) -> Peer:
    command = [sys.executable, str(HERE / "soak_server.py"), "serve", "--log-level", "debug"]
    command += ["--address", "127.0.0.1:0", "--queue-bytes", str(QUEUE_BYTES), *options]
    if driver == "threads":
        command.append("--threads")
    return Peer(_name(name), tuple(command), "kps serves on", KpsWire())


def _name(policy: str) -> str:
    return f"server, {policy}"


def _health(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{address}/healthz", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _log(sample: Sample, sites: dict[str, dict[str, float]]) -> None:
    memory = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in sample.memory.items())
    dropped = sum(site["dropped"] for site in sites.values())
    print(
        f"{sample.at / 60:5.1f} min: published {sample.published:,}, delivered "
        f"{sample.delivered:,}, dropped {dropped:,}; MiB: {memory}",
        file=sys.stderr,
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60, help="default: %(default)s")
    parser.add_argument("--driver", choices=("asyncio", "threads"), default="asyncio")
    parser.add_argument(
        "--rate",
        type=float,
        default=500,
        help="small messages a second, over all servers; default: %(default)s",
    )
    parser.add_argument("--write", action="store_true", help="keep soak.md and soak.svg")
    options = parser.parse_args(arguments)
    # So that the processes which were started are ended in this case too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with ExitStack() as stack:
            soak = Soak(options.minutes, options.driver, options.rate, stack)
            soak.run()
    except Failed as failure:
        sys.exit(str(failure))
    text = soak_report.render(soak.outcome)
    print(text)
    if options.write:
        HERE.joinpath("soak.md").write_text(text, encoding="utf-8")
        soak_report.draw(soak.outcome, HERE / "soak.svg")
    sys.exit(1 if soak.outcome.failures else 0)


if __name__ == "__main__":
    main()
