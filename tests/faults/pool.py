"""A pool of worker processes, of which one is killed in the middle of a job, and the books of it.

    python -m tests.faults.pool
    python -m tests.faults.pool --jobs 1000 --workers 3 --concurrency 1 --driver threads

Each worker notes in a file what it begins, so the books have also what the killed one has begun.
"""

import argparse
import itertools
import os
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import kps
import kps.sync
from tests.faults.processes import KINDS, Process, Serve

_WINDOW = 1000  # jobs under way
_LONG = 300.0  # seconds for each


class Execution(NamedTuple):
    """A job that a worker has begun."""

    job: int
    attempt: int
    worker: str


class Books(NamedTuple):
    """What has become of all jobs."""

    outcomes: dict[int, kps.GroupResponse[str]]
    executions: list[Execution]
    victim: str
    seconds: float

    def of(self, job: int) -> list[Execution]:
        """Return the executions of a job, by attempt."""
        return sorted(one for one in self.executions if one.job == job)

    @property
    def again(self) -> list[list[Execution]]:
        """The executions of the jobs that were begun more than once."""
        counts = Counter(one.job for one in self.executions)
        return [self.of(job) for job, count in counts.items() if count > 1]

    def faults(self) -> Iterator[str]:
        """Yield what does not hold."""
        firsts = Counter(one.job for one in self.executions if one.attempt == 1)
        last = {one.job: one for one in sorted(self.executions)}
        for job, outcome in self.outcomes.items():
            if not outcome.success:
                yield f"job {job} has failed: {outcome.error}"
            elif job not in last:
                yield f"nobody has begun job {job}"
            elif (outcome.client_id, outcome.attempts) != (last[job].worker, last[job].attempt):
                yield f"job {job} was handled by {last[job]}, and the publisher is told {outcome}"
            elif outcome.result != outcome.client_id:
                yield f"job {job} has the result of {outcome.result}: {outcome}"
            if firsts[job] > 1:
                yield f"job {job} was begun {firsts[job]} times as if for the first time"
            if set(outcome.failures) - {(self.victim, "disconnected")}:
                yield f"job {job} has failures of others than {self.victim}: {outcome.failures}"
            if len(outcome.failures) != outcome.attempts - 1:
                yield f"job {job} does not tell of all attempts: {outcome}"
        if len(self.executions) != len(set(self.executions)):
            yield "a worker had an attempt twice"
        if strange := {one.job for one in self.executions} - self.outcomes.keys():
            yield f"there are jobs that nobody has published: {strange}"

    def lines(self) -> Iterator[str]:
        """Yield them for people."""
        jobs = len(self.outcomes)
        handled = sum(outcome.success for outcome in self.outcomes.values())
        passed_on = sum(outcome.attempts > 1 for outcome in self.outcomes.values())
        yield f"jobs: {jobs}, handled: {handled}, in {self.seconds:.1f} s"
        yield f"executions: {len(self.executions)}; killed in the middle of one: {self.victim}"
        yield f"passed on to another worker: {passed_on}"
        for executions in self.again:
            told = ", then ".join(f"{one.worker} (attempt {one.attempt})" for one in executions)
            yield f"executed again: job {executions[0].job} by {told}"
        for worker, count in sorted(Counter(one.worker for one in self.executions).items()):
            yield f"{worker}: {count}"
        faults = list(self.faults())
        yield from faults
        yield f"faults: {len(faults)}"


def run_pool(address: str, folder: Path, jobs: int, workers: int, concurrency: int) -> Books:
    """Give jobs to workers of a server, and kill the first worker in the middle of one.

    There are more jobs if that worker is so slow that the others have done these.
    """
    names = [f"worker-{number}" for number in range(workers)]
    pool: list[Process] = []
    try:
        for name in names:
            last = jobs // (5 * workers) if name == names[0] else 0
            given = address, name, str(folder / name), str(concurrency), str(last)
            pool.append(Process("-m", "tests.faults.pool", "work", *given))
        for process in pool:
            process.expect("ready")
        killer = threading.Thread(target=_kill_in_mid_job, args=(pool[0],), daemon=True)
        killer.start()
        began = time.monotonic()
        with kps.sync.Client(address, id="boss") as boss:
            outcomes = dict(_outcomes(boss, jobs, killer.is_alive))
        seconds = time.monotonic() - began
        killer.join()
    finally:
        for process in pool:
            process.close()
    executions = [one for name in names for one in _executions(folder / name)]
    return Books(outcomes, executions, names[0], seconds)


def _executions(notes: Path) -> Iterator[Execution]:
    for line in notes.read_text().splitlines():
        job, attempt = line.split()
        yield Execution(int(job), int(attempt), notes.name)


def _outcomes(
    boss: kps.sync.Client, jobs: int, is_more_wanted: Callable[[], bool]
) -> Iterator[tuple[int, kps.GroupResponse[str]]]:
    """Publish jobs, and more as long as they are wanted; yield what becomes of each."""
    under_way: deque[kps.sync.Ack[str]] = deque()
    begun = 0
    for job in itertools.count():
        while begun < job + _WINDOW and (begun < jobs or is_more_wanted()):
            under_way.append(boss.publish_with_ack("jobs", begun, _LONG))
            begun += 1
        if not under_way:
            return
        (outcome,) = under_way.popleft().wait().values()
        assert isinstance(outcome, kps.GroupResponse)
        yield job, outcome


def _kill_in_mid_job(process: Process) -> None:
    process.expect("in the middle of a job")
    process.kill()


def work(address: str, name: str, file: str, concurrency: int, last: int) -> None:
    """Handle jobs; stand still in the middle of the one of this number, if it is not 0."""
    notes = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    numbers = itertools.count(1)

    def handle(message: kps.Message[int]) -> str:
        # Without a buffer of its own, so nothing of it is lost when the process is killed.
        os.write(notes, b"%d %d\n" % (message.data, message.attempt))
        if next(numbers) == last:  # one thread only sees that one
            print("in the middle of a job", flush=True)
            threading.Event().wait()
        return name

    with kps.sync.Client(address, id=name) as client:
        client.subscribe("jobs", handle, group="pool", concurrency=concurrency)
        print("ready", flush=True)
        client.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--driver", choices=list(KINDS), default="asyncio")
    options = parser.parse_args()
    server = Serve(options.driver)
    try:
        with tempfile.TemporaryDirectory() as folder:
            books = run_pool(
                server.address, Path(folder), options.jobs, options.workers, options.concurrency
            )
    finally:
        server.close()
    for line in books.lines():
        print(line)
    sys.exit(any(books.faults()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        arguments: list[Any] = sys.argv[2:]
        work(*arguments[:3], *map(int, arguments[3:]))
    else:
        main()
