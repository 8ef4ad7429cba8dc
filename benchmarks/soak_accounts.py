"""The accounts of the soak's features: what must have come, and what does not match.

* **Streams.** Every subscription has every number once, in order. What is missing to one that
  resumes is what ``on_lost`` told, one for one. With history a message's offset is its number.
* **Jobs.** Each attempt at a job is given to one member. Members note in files what they begin, so
  that this outlives them: no attempt is begun twice, none that the publisher was not told of, and
  the last one has begun.
* **Members of topics.** What an observer is told of changes leads to the members that it is told;
  these are what the server says to others at the same version; and each guest's way is told as it
  was.
"""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import kps
from soak_plan import Plan, Site, read_marks

KEPT = "kept/"
"""Topics with enough history for all that a client may miss."""
SHORT = "short/"
"""Topics whose history is shorter than some absences."""
HEADED = f"{KEPT}headed"
"""Messages with headers."""
ONCE = f"{KEPT}once"
"""Messages with ids, and receipts, over a connection that breaks."""
RESENT = f"{KEPT}resent"
"""The same by a program that is killed, and sends again what it has not noted before."""
ROOM = "room"
JOBS = "jobs"
TURNS = "turns"
GROUP = "workers"
"""Who does the jobs."""
AUDITORS = "auditors"
"""Another group, of a pattern that has the jobs."""
AUDITED = kps.Pattern("job*")

MOST_ATTEMPTS = 10
"""The server's limit for one job."""
REFUSES = "refuses"
"""What the member says that fails, before the number of the job."""
_MOST_COMPLAINTS = 30


class Complaints:
    """What does not match, of which the first ones are kept."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, text: str) -> None:
        if len(self.texts) < _MOST_COMPLAINTS:
            self.texts.append(text)

    def expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.add(f"{what}: {found}, not {expected}")


def headers_of(topic: str, data: Mapping[str, Any]) -> dict[str, str]:
    """The headers that a message is published with."""
    if topic == HEADED:
        return {"traceparent": f"00-{data['n']:032x}-{data['n']:016x}-01", "schema": "soak/1"}
    if topic == JOBS:
        return {"job": str(data["job"])}
    return {} if topic else {"direct": str(data["n"])}


class Account:
    """What one subscription had of the messages of one publisher on one topic."""

    def __init__(self, name: str, level: int, complaints: Complaints) -> None:
        self.last = self.count = self.missing = 0
        self.has_ended = False
        self._name = name
        self._level = level
        self._complaints = complaints

    def take(self, message: kps.Message) -> None:
        number: int = message.data["n"]
        if number <= self.last:
            self._complaints.add(f"{self._name}: {number} came behind {self.last}")
            return
        self.missing += number - self.last - 1
        self.last = number
        self.count += 1
        self.has_ended = "end" in message.data
        topic, is_full = message.topic, self._level == 2
        offset = number if is_full and topic.startswith((KEPT, SHORT)) else None
        headers = headers_of(topic, message.data) if is_full else {}
        if message.offset != offset or message.headers != headers:
            self._complaints.add(f"{self._name}: {message} has {message.offset}, {message.headers}")


class Losses:
    """What one client was told about what it has missed."""

    def __init__(self, name: str, complaints: Complaints) -> None:
        self.told: Counter[str] = Counter()
        """Messages that are lost, by topic or pattern."""
        self.recovered = 0
        """Messages that came later than they were published, where all of them did."""
        self.resumes = 0
        """Times that a topic or pattern went on, with or without losses."""
        self._name = name
        self._complaints = complaints

    async def note_recovered(self, event: kps.Recovered) -> None:
        self.resumes += 1
        self.recovered += event.messages

    async def note_lost(self, event: kps.Lost) -> None:
        self.resumes += 1
        if event.messages is None:
            self._complaints.add(f"{self._name}: nobody knows what is lost of {event.topic}")
        else:
            self.told[event.topic] += event.messages


# -- jobs ---------------------------------------------------------------------------------


class Tally:
    """How often each attempt at each job was begun, in a file, by one process at a time."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)

    def add(self, number: int, attempt: int = 1) -> None:
        place = number * MOST_ATTEMPTS + attempt - 1
        before = os.pread(self._file, 1, place) or b"\0"
        os.pwrite(self._file, bytes((min(before[0] + 1, 255),)), place)

    @property
    def last(self) -> int:
        """The largest number so far; 0: there is none."""
        return max(0, os.fstat(self._file).st_size - 1) // MOST_ATTEMPTS


def read_tally(path: Path, count: int) -> npt.NDArray[np.int64]:
    """A row for each number from 0 to ``count``, and in it a number for each attempt."""
    return read_marks(path, (count + 1) * MOST_ATTEMPTS - 1).reshape(count + 1, MOST_ATTEMPTS)


class Outcomes:
    """What publishers were told about their jobs."""

    def __init__(self, complaints: Complaints, stable: tuple[str, ...]) -> None:
        self.counts: Counter[str] = Counter()
        self._complaints = complaints
        self._stable = stable
        """Subscribers of the jobs without a group, who stay."""

    def judge(self, job: int, number: int, ack: kps.Ack, told: Mapping[str, Any]) -> int:
        """Look at all outcomes of a job; return the attempts of the group that does it."""
        for name in self._stable:
            one = told.get(name)
            if one is None or not one.success or one.result not in (None, number):
                self._complaints.add(f"job {job}: {name} answers {one}")
        audit, outcome = told.get(f"{AUDITORS} of {AUDITED}"), told.get(f"{GROUP} of {JOBS}")
        if ack.presence is None:
            self._complaints.add(f"job {job}: the version of its members is not told")
        for one in (audit, outcome):
            if not isinstance(one, kps.GroupResponse) or not one.success or one.result != job:
                self._complaints.add(f"job {job}: {one}")
            elif one.attempts != len(one.failures) + 1:
                self._complaints.add(f"job {job}: {one.attempts} attempts, with {one.failures}")
        if not isinstance(outcome, kps.GroupResponse):
            return 0
        self._judge_failures(job, outcome.failures)
        return outcome.attempts

    def _judge_failures(self, job: int, failures: tuple[tuple[str, str], ...]) -> None:
        for member, error in failures:
            if error == f"{REFUSES} {job}":
                self.counts["refused"] += 1
            elif error == "disconnected" and member.startswith("worker/"):
                self.counts["lost with their member"] += 1
            else:
                self._complaints.add(f"job {job}: {member} fails with {error!r}")


def judge_jobs(plan: Plan, site: Site, count: int, complaints: Complaints) -> dict[str, int]:
    """Lay what members began beside what publishers were told; return sums."""
    told = read_marks(plan.marks(site, JOBS, "told"), count)
    files = sorted(Path(plan.folder).glob(plan.marks(site, JOBS, "by-").name + "*"))
    begun = sum((read_tally(path, count) for path in files), np.zeros((1, MOST_ATTEMPTS), np.int64))
    audited = read_tally(plan.marks(site, JOBS, AUDITORS), count)
    attempts = np.arange(1, MOST_ATTEMPTS + 1)
    executions = begun.sum(axis=1)
    untold = begun * (attempts > told[:, None])
    last = begun * (attempts == told[:, None])
    holds = {
        "it has an outcome": told > 0,
        "no attempt is begun twice": begun.max(axis=1) <= 1,
        "no attempt is begun of which its publisher is not told": untold.sum(axis=1) == 0,
        "the last attempt is begun": last.sum(axis=1) > 0,
        "the auditors had it once": (audited[:, 0] == 1) & (audited.sum(axis=1) == 1),
    }
    for what, each in holds.items():
        wrong = np.flatnonzero(~each[1:]) + 1
        if len(wrong):
            shown = ", ".join(map(str, wrong[:5]))
            complaints.add(f"jobs: {what}: not so for {len(wrong)}, such as {shown}")
    return {
        "executions of jobs": int(executions.sum()),
        "of them repeated, with an attempt above 1": int(np.maximum(executions - 1, 0).sum()),
        "attempts that were not begun": int(told.sum() - executions.sum()),
    }


def judge_once(path: Path, what: str, count: int, complaints: Complaints) -> int:
    """Expect each number once, from the first one that there is to ``count``; return how many."""
    found = read_tally(path, count)[:, 0]
    numbers = np.flatnonzero(found)
    first = int(numbers[0]) if len(numbers) else count
    complaints.expect(f"{what}, numbers from {first} to {count}", len(numbers), count - first + 1)
    complaints.expect(f"{what}, at most of a number", int(found.max()), 1)
    return len(numbers)


# -- presence -----------------------------------------------------------------------------


class Roster:
    """What one observer is told about the members of one topic."""

    def __init__(self, name: str, complaints: Complaints) -> None:
        self.members: dict[str, Any] = {}
        self.version: int | None = None
        self.events: Counter[str] = Counter()
        self.ways: dict[str, list[str]] = {}
        """What was told of each guest that is being watched, in order."""
        self._name = name
        self._complaints = complaints

    async def take(self, now: kps.Presence) -> None:
        self.events["told"] += 1
        self.version = now.version
        unknown = now.left.keys() - self.members.keys()
        again = now.joined.keys() & self.members.keys()
        if unknown or again:
            self._complaints.add(f"{self._name}: {unknown} left, {again} joined twice")
        self.members |= {**now.joined, **now.updated}
        for client_id in now.left:
            self.members.pop(client_id, None)
        self._complaints.expect(f"{self._name}: members", now.members, self.members)
        self._complaints.expect(f"{self._name}: their number", now.count, len(self.members))
        for what, ids in (("joined", now.joined), ("updated", now.updated)):
            for client_id in ids:
                self._note(client_id, what)
        for client_id, reason in now.left.items():
            self._note(client_id, reason)

    def _note(self, client_id: str, what: str) -> None:
        self.events[what] += 1
        if client_id in self.ways:
            self.ways[client_id].append(what)
