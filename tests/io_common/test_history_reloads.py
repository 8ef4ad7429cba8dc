"""A file for history that is closed, or whose server is killed, at random, beside a log book that
stays in memory.
"""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kps.io_common import history_database, history_file
from kps.protocol.bus.history import History
from kps.protocol.bus.logs import BREAK, LogBook
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.store import KeptPast, KeptTopic
from kps.protocol.timers import Deadlines
from tests.io_common.test_history_file import MUCH, Run, epochs

RULES = (History("a/*", size=3), History("b/*", size=200, ttl=50), History("c", size=1))
TOPICS = ["a/1", "a/2", "b/1", "b/2", "c", "d"]
MOST_TOPICS = 4


def new_book() -> LogBook:
    return LogBook(RULES, Deadlines(), lambda: f"epoch {next(epochs)}", MUCH, MOST_TOPICS)


def contents(book: LogBook) -> dict[str, tuple[int, list[bytes]]]:
    """The top of each topic, and its messages with their offsets, numbers and times."""
    return {
        log.topic: (
            log.top,
            [
                b"%d: %b at %d" % (offset, text, entry.time)
                for entry in log.read(0, MUCH)
                for offset, text in enumerate(entry.text.split(b","), entry.first)
            ],
        )
        for log in book.logs()
    }


class Nothing:
    """A store that keeps nothing."""

    def append(self, *_: object) -> None: ...
    def trim(self, *_: object) -> None: ...
    def forget(self, *_: object) -> None: ...
    def begin(self, *_: object) -> None: ...
    def place(self, *_: object) -> None: ...


class Reloads(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        self.now = 1000.0
        clock = SimpleNamespace(time=lambda: 1e9 + self.now, monotonic=lambda: self.now)
        for module in (history_file, history_database):
            self.patches.setattr(module, "time", clock)
        self.patches.setattr(history_file, "WRITTEN_WITHIN", 0.0)
        self.directory = tempfile.TemporaryDirectory()  # one for each example
        self.run = self.start(Path(self.directory.name) / "history.db")
        self.memory = new_book()
        self.written: dict[str, tuple[int, list[bytes]]] | None = None
        """What is in the file, if nothing is written to it any more."""
        self.names: set[tuple[str, str, int]] = set()
        self.payloads = 0

    def start(self, path: Path) -> Run:
        return Run(path, *RULES, now=self.now, most_topics=MOST_TOPICS)

    @rule(topic=st.sampled_from(TOPICS), messages=st.integers(1, 5))
    def publish(self, topic: str, messages: int) -> None:
        self.payloads += messages
        payloads = range(self.payloads - messages, self.payloads)
        publication = self.run.publish(topic, *payloads)
        same = Publication(topic, "me")
        same.add([b",".join(b"%d" % one for one in payloads)], messages)
        self.memory.keep(same, self.now)
        log = self.run.book.log(topic)
        if log is None:
            assert publication.offset == 0
            return
        names = {(topic, log.epoch, publication.offset + n) for n in range(messages)}
        assert not names & self.names, "an offset stands for two messages"
        self.names |= names

    @rule(seconds=st.sampled_from([1.0, 20.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.run.now = self.now
        for book in (self.run.book, self.memory):
            book._deadlines.handle_timeout(self.now)

    @precondition(lambda self: self.written is None)
    @rule(later=st.sampled_from([0.0, 30.0]))
    def restart(self, later: float) -> None:
        self.run.close()
        assert self.run.lines == []
        self.now += later
        self.memory._deadlines.handle_timeout(self.now)
        self.run = self.start(self.run.path)
        # A file does not tell in which order its topics are to make room for others.
        for order in ("_filled", "_empty"):
            topics = [log.topic for log in getattr(self.run.book, order)]
            setattr(self.memory, order, {self.memory._logs[topic]: None for topic in topics})

    @precondition(lambda self: self.written is None)
    @rule()
    def write_nothing_more(self) -> None:
        """Until the process is killed."""
        self.run.settle()
        self.run.file._is_open = False
        self.written = contents(self.run.book)

    @rule(later=st.sampled_from([0.0, 30.0]))
    def kill(self, later: float) -> None:
        path = self.run.kill()
        written = contents(self.run.book) if self.written is None else self.written
        self.run.close()
        self.now += later
        self.run = self.start(path)
        self.written = None
        book = self.run.book
        assert book.logs() == [] or book.latest % BREAK == 0
        kept = contents(book)
        assert kept.keys() == written.keys()
        for topic, (top, messages) in kept.items():
            before = written[topic][1]
            assert top == book.latest
            assert messages == before[len(before) - len(messages) :]
            if not topic.startswith("b/"):  # of which some may be too old
                assert messages == before
        topics = [
            KeptTopic(log.topic, log.epoch, log.top, list(log.entries), log.forgotten)
            for log in book.logs()
        ]
        self.memory = new_book()
        past = KeptPast(book.epoch, book.latest, True, topics)
        self.memory.open(Nothing(), past, self.now)

    @invariant()
    def both_have_the_same(self) -> None:
        assert contents(self.run.book) == contents(self.memory)
        assert self.run.book.latest == self.memory.latest
        least = self.memory.latest // BREAK * BREAK  # of a place that can be used
        for log in self.run.book.logs():
            same = self.memory.log(log.topic)
            assert same is not None
            for mark in (same.forgotten - 1, same.forgotten, self.memory.latest):
                mark = max(mark, least)
                assert log.since_number(mark) == same.since_number(mark)

    def teardown(self) -> None:
        self.run.close()
        self.patches.undo()
        self.directory.cleanup()


TestReloads: Any = Reloads.TestCase
TestReloads.settings = settings(stateful_step_count=30)
