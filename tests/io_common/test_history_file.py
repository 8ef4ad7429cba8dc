"""The file for history, by itself: a log book writes to it, and another one reads it."""

import logging
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kps.errors import ServerStartFailed
from kps.io_common import history_database, history_file
from kps.io_common.history_database import Append, Command, Database
from kps.io_common.history_file import HistoryFile
from kps.protocol.bus.history import History
from kps.protocol.bus.logs import BREAK, LogBook
from kps.protocol.bus.publication import Publication
from kps.protocol.timers import Deadlines
from tests.io.harness import PATIENCE, eventually

NOW = 1000.0
MUCH = 1 << 28

HEADERS = b'{"kind":"x"}'

FORMAT_1 = """
PRAGMA application_id = 0x4B505348;
PRAGMA user_version = 1;
CREATE TABLE book (epoch TEXT, number INTEGER NOT NULL, is_closed INTEGER NOT NULL);
INSERT INTO book VALUES ('e1', 2, 1);
CREATE TABLE topics (topic TEXT PRIMARY KEY, epoch TEXT NOT NULL, top INTEGER NOT NULL,
    forgotten INTEGER NOT NULL DEFAULT 0);
INSERT INTO topics VALUES ('a', 'e1', 3, 0);
CREATE TABLE entries (number INTEGER PRIMARY KEY, topic TEXT NOT NULL, first INTEGER NOT NULL,
    messages INTEGER NOT NULL, sender TEXT NOT NULL, time REAL NOT NULL, text BLOB NOT NULL);
INSERT INTO entries VALUES (1, 'a', 1, 2, 'me', 1e9, CAST('1,2' AS BLOB));
INSERT INTO entries VALUES (2, 'a', 3, 1, 'x', 1e9, CAST('3' AS BLOB));
CREATE INDEX entries_of_topic ON entries (topic, first);
"""
"""A file that a server has written which knew no headers."""

epochs = count(1)


class Run:
    """A log book, and the file that it has from its start to its end."""

    def __init__(
        self,
        path: Path,
        *rules: History,
        now: float = NOW,
        most_bytes: int = MUCH,
        most_topics: int = 1000,
        sync: str = "off",
        kind: type[LogBook] = LogBook,
    ) -> None:
        self.lines: list[tuple[int, str]] = []
        self.path = path
        self.now = now
        self.file = HistoryFile(path, sync, most_bytes, most_topics, now, self._write)
        self.file.open()
        rules = rules or (History("**"),)
        new_epoch = lambda: f"epoch {next(epochs)}"  # noqa: E731
        self.book = kind(rules, Deadlines(), new_epoch, most_bytes, most_topics)
        self.file.attach(self.book, now)

    def _write(
        self,
        level: int,
        event: str,
        text: str,
        *,
        failure: BaseException | None = None,
        **fields: object,
    ) -> None:
        if failure is not None:
            raise AssertionError(text) from failure
        self.lines.append((level, text % fields))

    def publish(
        self, topic: str, *payloads: object, sender: str = "me", headers: bytes = b""
    ) -> Publication:
        publication = Publication(topic, sender)
        publication.headers = headers
        publication.add([b",".join(str(one).encode() for one in payloads)], len(payloads))
        self.book.keep(publication, self.now)
        return publication

    def settle(self) -> None:
        """Wait until everything is written that was told so far."""
        eventually(lambda: self.file._written == self.file._queued, "the writing")

    def close(self) -> None:
        self.file.close()
        assert self.file._thread is not None
        assert not self.file._thread.is_alive()

    def kill(self) -> Path:
        """Return the file as it is when the process is killed now: a copy."""
        self.settle()
        copy = self.path.with_name(f"killed-{next(epochs)}.db")
        for end in ("", "-wal"):
            if os.path.exists(f"{self.path}{end}"):
                shutil.copy(f"{self.path}{end}", f"{copy}{end}")
        return copy

    def contents(self) -> dict[str, tuple[str, int, list[tuple[int, str, bytes]]]]:
        """Of each topic its epoch, its top, and its messages with their offsets."""
        return {
            log.topic: (
                log.epoch,
                log.top,
                [
                    (offset, entry.sender, text)
                    for entry in log.read(0, MUCH)
                    for offset, text in enumerate(entry.text.split(b","), entry.first)
                ],
            )
            for log in self.book.logs()
        }

    def whole_since(self, topic: str, mark: int) -> bool:
        """Whether all messages of a topic are kept that came after an entry of any topic."""
        log = self.book.log(topic)
        assert log is not None
        return log.since_number(mark)[1]

    def headers(self, topic: str) -> list[tuple[int, bytes]]:
        """The offset and the headers of each entry of a topic."""
        log = self.book.log(topic)
        assert log is not None
        return [(entry.first, entry.headers) for entry in log.read(0, MUCH)]

    def offsets(self, topic: str) -> list[int]:
        return [offset for offset, _, _ in self.contents()[topic][2]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def start(path: Path) -> Iterator[Callable[..., Run]]:
    """Starts runs with the file, which are closed with the test."""
    runs: list[Run] = []

    def begin(*rules: History, path: Path = path, **options: Any) -> Run:
        runs.append(Run(path, *rules, **options))
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


Start = Callable[..., Run]


def rows(path: Path, table: str = "entries") -> int:
    """How many rows a file has that nobody uses."""
    connection = sqlite3.connect(path)
    ((number,),) = connection.execute(f"SELECT count(*) FROM {table}")
    connection.close()
    return int(number)


class TestReading:
    def test_a_new_file(self, start: Start, path: Path) -> None:
        run = start()
        assert (run.contents(), run.book.latest, run.lines) == ({}, 0, [])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        run.close()
        assert os.listdir(path.parent) == [path.name]

    def test_an_empty_file_is_a_new_one(self, start: Start, path: Path) -> None:
        path.touch()
        start()

    @pytest.mark.parametrize("sync", ["off", "normal", "full"])
    def test_everything_comes_back(self, start: Start, sync: str) -> None:
        run = start(sync=sync)
        run.publish("a", 1, 2, 3, sender="x")
        run.publish("b", '"é"')
        run.publish("a", 4)
        run.close()
        again = start(sync=sync)
        assert again.contents() == run.contents()
        assert (again.book.epoch, again.book.latest) == (run.book.epoch, 3)
        assert (again.publish("a", 5).offset, again.publish("c", 1).offset) == (5, 1)
        again.close()
        third = start()
        assert third.contents() == again.contents()
        assert third.book.epoch == run.book.epoch
        assert third.book.latest == 5

    def test_headers_come_back(self, start: Start) -> None:
        run = start()
        run.publish("a", 1, 2, headers=HEADERS)
        run.publish("a", 3)
        run.close()
        again = start()
        assert again.headers("a") == [(1, HEADERS), (3, b"")]
        assert again.book.size == run.book.size

    def test_a_file_of_the_first_format_is_taken_in(self, start: Start, path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.executescript(FORMAT_1)
        connection.close()
        run = start()
        assert run.contents() == {
            "a": ("e1", 3, [(1, "me", b"1"), (2, "me", b"2"), (3, "x", b"3")])
        }
        assert run.headers("a") == [(1, b""), (3, b"")]
        assert run.publish("a", 4, headers=HEADERS).offset == 4
        run.close()
        again = start()
        assert again.headers("a") == [(1, b""), (3, b""), (4, HEADERS)]
        assert (run.lines, again.lines) == ([], [])

    def test_one_that_was_not_closed_in_order_leaves_a_break_too(
        self, start: Start, path: Path
    ) -> None:
        connection = sqlite3.connect(path)
        connection.executescript(FORMAT_1)
        connection.execute("UPDATE book SET is_closed = 0")
        connection.commit()
        connection.close()
        assert start().publish("a", 4).offset == BREAK + 1

    def test_offsets_go_on_though_the_messages_are_forgotten(self, start: Start) -> None:
        rule = History("**", ttl=10)
        run = start(rule)
        run.publish("a", 1, 2, 3)
        log = run.book.log("a")
        assert log is not None
        log.handle_timeout(run.now + 10)
        run.close()
        again = start(rule)
        assert again.contents()["a"][1:] == (3, [])
        assert again.publish("a", 4).offset == 4

    def test_time_goes_on_while_nobody_runs(
        self, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rule, passed = History("**", ttl=100), 0.0
        # The thread of the file may be late, and so may this one, whatever a clock of ours says.
        clock = SimpleNamespace(time=lambda: 1e9 + passed, monotonic=lambda: passed)
        for module in (history_file, history_database):
            monkeypatch.setattr(module, "time", clock)
        run = start(rule)
        run.publish("a", 1)
        run.settle()
        passed = 50.0
        run.now += passed
        run.publish("a", 2)
        run.close()
        for later, left in ((90.0, [1, 2]), (110.0, [2]), (170.0, [])):
            passed = later
            again = start(rule, now=5.0)  # by another clock
            assert again.offsets("a") == left
            if left == [2]:
                deadline = again.book.log("a").next_deadline()  # type: ignore[union-attr]
                assert deadline == pytest.approx(5.0 + 40)
            again.close()

    def test_a_clock_that_went_backwards_makes_no_message_young_for_ever(
        self, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rule, wall = History("**", ttl=100), time.time()
        run = start(rule)
        run.publish("a", 1)
        run.close()
        monkeypatch.setattr(time, "time", lambda: wall - 1e6)
        again = start(rule)
        deadline = again.book.log("a").next_deadline()  # type: ignore[union-attr]
        assert deadline == pytest.approx(NOW + 100, abs=PATIENCE)

    def test_no_more_than_the_bound_of_memory(self, start: Start, path: Path) -> None:
        run = start()
        for number in range(100):
            run.publish(f"t{number % 2}", f'"{number:01000}"')
        size = run.book.size
        run.close()
        again = start(most_bytes=size // 2)
        assert size // 2 - 3000 < again.book.size <= size // 2
        assert again.offsets("t0") == again.offsets("t1") == list(range(26, 51))
        assert [again.whole_since("t0", mark) for mark in (49, 50)] == [False, True]
        again.close()
        assert rows(path) == 50
        none = start(most_bytes=100)
        assert none.offsets("t0") == []
        assert none.publish("t0", 1).offset == 51
        none.close()
        assert rows(path) == 0

    def test_no_more_topics_than_the_bound(self, start: Start, path: Path) -> None:
        run = start()
        for number in range(10):
            run.publish(f"t{number}", 1)
        run.close()
        again = start(most_topics=4)
        assert list(again.contents()) == ["t6", "t7", "t8", "t9"]
        again.close()
        assert rows(path, "topics") == 4
        third = start()
        assert third.publish("t0", 2).offset == BREAK + 1  # the offset 1 is a message's

    def test_a_topic_whose_rule_is_gone_begins_in_another_epoch(
        self, start: Start, path: Path
    ) -> None:
        run = start()
        run.publish("a", 1)
        run.publish("b", 1)
        run.close()
        without = start(History("b"))
        assert list(without.contents()) == ["b"]
        without.close()
        again = start()
        again.publish("a", 2)
        assert again.contents()["a"][:2] == (again.book.epoch, 1)
        assert again.book.epoch != run.book.epoch
        assert again.contents()["b"][0] == run.book.epoch


class TestAnEndThatWasNotOrderly:
    def test_offsets_leave_a_break(self, start: Start) -> None:
        run = start()
        run.publish("a", 1, 2, 3)
        killed = start(path=run.kill())
        epoch, top, messages = killed.contents()["a"]
        assert (epoch, top) == (run.book.epoch, BREAK)
        assert [offset for offset, _, _ in messages] == [1, 2, 3]
        assert killed.book.latest == BREAK
        assert killed.publish("a", 4).offset == BREAK + 1
        killed.close()
        orderly = start(path=killed.path)
        assert orderly.offsets("a") == [1, 2, 3, BREAK + 1]
        assert orderly.publish("a", 5).offset == BREAK + 2
        twice = start(path=orderly.kill())
        assert twice.publish("a", 6).offset == 2 * BREAK + 1

    def test_so_do_those_of_a_topic_of_which_nothing_new_was_written(self, start: Start) -> None:
        """The server before may have given the offsets behind its own break to messages."""
        run = start()
        run.publish("a", 1)
        once = start(path=run.kill())
        twice = start(path=once.kill())
        assert twice.publish("a", 2).offset == 2 * BREAK + 1

    def test_so_do_those_of_a_topic_of_which_nothing_was_written(self, start: Start) -> None:
        run = start()
        copy = run.kill()
        run.publish("a", 1)  # too late
        killed = start(path=copy)
        assert killed.publish("a", 2).offset == BREAK + 1
        killed.book.log("b")  # which has no message
        killed.close()
        orderly = start(path=copy)
        assert killed.lines == []
        assert orderly.publish("a", 3).offset == BREAK + 2
        assert orderly.publish("b", 1).offset == BREAK + 1

    def test_it_does_so_before_anything_is_written(self, start: Start) -> None:
        """What the next server publishes is delivered at once."""
        run = start()
        copy = run.kill()
        again = copy.with_name("again.db")
        killed = start(path=copy)
        shutil.copy(copy, again)  # the moment at which it listens
        shutil.copy(f"{copy}-wal", f"{again}-wal")
        assert killed.publish("a", 1).offset == BREAK + 1
        assert start(path=again).publish("a", 2).offset == 2 * BREAK + 1

    def test_a_start_that_gave_up_changes_nothing(self, start: Start, path: Path) -> None:
        """Whoever opens it knows as much as before about how it was closed."""
        run = start()
        run.publish("a", 1)
        copy = run.kill()
        for _ in range(2):
            file = HistoryFile(copy, "off", MUCH, 1000, NOW, run._write)
            file.open()
            file.close()
        killed = start(path=copy)
        assert killed.publish("b", 1).offset % BREAK == killed.publish("a", 2).offset % BREAK == 1
        killed.close()
        for _ in range(2):
            file = HistoryFile(copy, "off", MUCH, 1000, NOW, run._write)
            file.open()
            file.close()
        orderly = start(path=copy)
        assert orderly.publish("b", 2).offset % BREAK == orderly.publish("a", 3).offset % BREAK == 2

    def test_what_a_signal_handler_kept_from_the_file(self, start: Start, path: Path) -> None:
        """An exception out of it may come between the memory's turn and the file's."""
        run = start()
        run.publish("a", 1)
        store, run.book.store = run.book.store, None
        run.publish("a", 2)
        run.book.store = store
        run.close()
        assert [level for level, _ in run.lines] == [logging.ERROR]
        again = start()
        assert (again.offsets("a"), again.publish("a", 3).offset) == ([1], BREAK + 1)
        store, again.book.store = again.book.store, None
        again.publish("a", 4)
        again.book.store = store
        again.publish("a", 5)
        again.close()
        third = start()
        assert third.offsets("a") == [BREAK + 3]  # what is before a gap is not kept
        assert [third.whole_since("a", BREAK + number) for number in (1, 2)] == [False, True]
        assert third.contents()["a"][1] == BREAK + 3

    def test_a_killed_process(self, path: Path, start: Start) -> None:
        program = (
            "import os, sys\n"
            "from tests.io_common.test_history_file import Path, Run\n"
            f"run = Run(Path({str(path)!r}))\n"
            "for number in range(1000):\n"
            "    run.publish('a', number)\n"
            "run.settle()\n"
            "os.kill(os.getpid(), 9)\n"
        )
        subprocess.run([sys.executable, "-c", program], check=False, timeout=PATIENCE)
        assert start().offsets("a") == list(range(1, 1001))


class TestRefused:
    def refusal(self, path: Path) -> str:
        with pytest.raises(ServerStartFailed) as refused:
            Run(path)
        text = str(refused.value)
        assert text.startswith(f"cannot use the history in {path}: ")
        return text.partition(f"{path}: ")[2]

    def test_format_2_did_not_tell_the_break_behind_each_topic(self, path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.executescript(FORMAT_1)
        connection.executescript(
            "ALTER TABLE entries ADD COLUMN headers BLOB NOT NULL DEFAULT x'';"
            f"PRAGMA user_version = 2; UPDATE book SET number = {BREAK}"
        )
        connection.close()
        run = Run(path)
        assert run.contents()["a"][1] == BREAK
        run.close()

    def test_a_newer_format(self, start: Start, path: Path) -> None:
        start().close()
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 4")
        connection.close()
        assert self.refusal(path) == "it has the format 4, and this version of KPS knows 3"

    def test_a_database_of_something_else(self, path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE t (x)")
        connection.commit()
        connection.close()
        before = path.read_bytes()
        assert self.refusal(path) == "it is a database of something else"
        assert path.read_bytes() == before

    def test_no_database(self, path: Path) -> None:
        path.write_text("notes\n" * 1000)
        assert self.refusal(path) == "file is not a database"
        assert path.read_text().startswith("notes\n")

    def test_no_file(self, path: Path) -> None:
        assert self.refusal(path / "x") == "no such file or directory"
        path.mkdir()
        assert self.refusal(path) == "unable to open database file"

    def test_a_damaged_file(self, start: Start, path: Path) -> None:
        run = start()
        for number in range(500):
            run.publish("a", f'"{number:01000}"')
        run.close()
        whole = path.read_bytes()
        path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
        assert self.refusal(path) == "database disk image is malformed"
        path.write_bytes(whole)
        connection = sqlite3.connect(path)
        connection.execute("UPDATE entries SET text = 'x' WHERE number = 7")
        connection.commit()
        connection.close()
        assert self.refusal(path) == "it is damaged"

    def test_a_second_server(self, start: Start, path: Path) -> None:
        run = start()
        assert self.refusal(path) == "another server uses it"
        program = (
            f"from tests.io_common.test_history_file import Path, Run\nRun(Path({str(path)!r}))\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        assert result.stderr.rstrip().endswith("another server uses it")
        run.publish("a", 1)
        run.close()
        assert start().offsets("a") == [1]

    def test_no_thread(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        file = HistoryFile(path, "off", MUCH, 1000, NOW, lambda *a, **k: None)
        with pytest.raises(ServerStartFailed, match="the server has no thread"):
            file.open()
        file.close()


class TestForgetting:
    def test_the_file_has_little_more_than_the_memory(self, start: Start, path: Path) -> None:
        run = start(History("**", size=10))
        for number in range(5000):
            run.publish("a", f'"{number:01000}"')
            if number % 500 == 0:
                run.settle()
        run.close()
        assert 10 <= rows(path) <= 10 + 64
        assert path.stat().st_size < 1_000_000

    @pytest.mark.parametrize("rule", [History("a", size=5), History("b")])
    def test_the_file_shrinks(self, start: Start, path: Path, rule: History) -> None:
        run = start()
        for number in range(1000):
            run.publish("a", f'"{number:04000}"')
        run.close()
        before = path.stat().st_size
        assert before > 4_000_000
        again = start(rule)
        again.close()
        assert path.stat().st_size < before // 10

    def test_a_topic_that_makes_room_for_others(self, start: Start, path: Path) -> None:
        run = start(most_topics=3)
        for number in range(50):
            run.publish(f"t{number % 7}", number)
        run.close()
        assert (rows(path, "topics"), rows(path)) == (3, 3)
        again = start(most_topics=3)
        assert again.contents() == run.contents()
        assert again.book.epoch == run.book._latest_epoch

    def test_what_is_forgotten_at_once_is_not_written(
        self, start: Start, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written: list[Command] = []
        write = Database.write

        def count(self: Database, commands: list[Command], shift: float) -> None:
            before = self._connection.total_changes
            write(self, commands, shift)
            written.extend(commands)
            assert self._connection.total_changes - before < 200

        monkeypatch.setattr(Database, "write", count)
        monkeypatch.setattr(history_file, "WRITTEN_WITHIN", 1.0)
        run = start(History("**", size=1))
        for number in range(1000):
            run.publish("a", number)
        run.close()
        assert sum(type(one) is Append for one in written) == 1000
        again = start(History("**", size=1))
        assert again.offsets("a") == [1000]


class Disk:
    """Makes the disk fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.failures = 0
        write = Database.write

        def maybe(database: Database, commands: list[Command], shift: float) -> None:
            assert self.goes_on.wait(PATIENCE)
            if self.is_full:  # SQLite itself finds that, in the middle of the transaction
                (pages,) = database._run("PRAGMA page_count")[0]
                database._run(f"PRAGMA max_page_count = {pages}")
            try:
                write(database, commands, shift)
            except sqlite3.Error:
                self.failures += 1
                raise
            finally:
                database._run("PRAGMA max_page_count = 1000000")

        monkeypatch.setattr(Database, "write", maybe)
        monkeypatch.setattr(history_file, "_RETRY", 0.001)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def fill(run: Run, topic: str = "a", messages: int = 100) -> None:
    for number in range(messages):
        run.publish(topic, f'"{number:01000}"')


class TestDisk:
    def test_one_that_is_full_for_a_while(self, start: Start, disk: Disk) -> None:
        run = start()
        fill(run)
        run.settle()
        disk.is_full = True
        fill(run)
        eventually(lambda: disk.failures > 3)
        assert run.offsets("a") == list(range(1, 201))
        assert [level for level, _ in run.lines] == [logging.ERROR]
        text = f"cannot write the history to {run.path}: database or disk is full"
        assert run.lines[0][1] == text
        disk.is_full = False
        run.settle()
        assert run.lines[1:] == [(logging.WARNING, f"the history is written to {run.path} again")]
        run.close()
        assert start().contents() == run.contents()

    def test_one_that_is_full_until_the_end(self, start: Start, disk: Disk) -> None:
        run = start()
        fill(run)
        run.settle()
        disk.is_full = True
        fill(run)
        run.close()
        assert run.file.lost == 100
        assert [level for level, _ in run.lines] == [logging.ERROR] * 2
        assert "lacks 100 messages" in run.lines[1][1]
        disk.is_full = False
        again = start()
        assert again.offsets("a") == list(range(1, 101))
        assert again.publish("a", 1).offset == BREAK + 1

    @pytest.mark.parametrize("most_topics", [2, 1000])
    def test_one_that_fails_when_all_is_written(
        self, start: Start, monkeypatch: pytest.MonkeyPatch, most_topics: int
    ) -> None:
        write = Database.write
        failures = iter([sqlite3.OperationalError("disk I/O error")])

        def fail(database: Database, commands: list[Command], shift: float) -> None:
            write(database, commands, shift)
            for failure in failures:
                raise failure

        monkeypatch.setattr(Database, "write", fail)
        monkeypatch.setattr(history_file, "_RETRY", 0.0)
        run = start(most_topics=most_topics)
        for topic in "abcab":
            fill(run, topic, 2)
        run.settle()
        run.close()
        assert [level for level, _ in run.lines] == [logging.ERROR, logging.WARNING]
        assert start().contents() == run.contents()

    def test_one_that_is_too_slow(
        self, start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(history_file, "MOST_WAITING", 100_000)
        run = start()
        fill(run, "a", 10)
        fill(run, "b", 10)
        run.settle()
        disk.goes_on.clear()
        fill(run, "a", 200)
        assert run.file._queued - run.file._written < 110_000
        assert [level for level, _ in run.lines] == [logging.ERROR]
        assert "too slow" in run.lines[0][1]
        lost = run.file.lost
        assert 120 < lost < 200
        queued = run.file._queued
        run.file.trim("a", 50)
        run.file.forget("a")
        assert run.file._queued == queued
        disk.goes_on.set()
        run.settle()
        fill(run, "a", 5)
        assert run.file.lost == lost
        assert run.lines[1:] == [
            (
                logging.WARNING,
                f"the disk that has {run.path} has caught up; {lost} messages were not written",
            )
        ]
        assert run.offsets("a") == list(range(1, 216))  # in memory it has all of them
        run.close()
        again = start()
        assert again.offsets("a") == list(range(211, 216))
        assert again.offsets("b") == list(range(1, 11))
        assert again.publish("a", 1).offset == BREAK + 1  # it was not closed in order

    def test_one_that_is_too_slow_to_forget(
        self, start: Start, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What waits is bounded also if each message has a topic of its own."""
        monkeypatch.setattr(history_file, "MOST_WAITING", 100_000)
        run = start(most_topics=5000)
        disk.goes_on.clear()
        for number in range(3000):
            run.publish(f"t{number}", number)
        assert run.file._queued - run.file._written < 250_000
        disk.goes_on.set()
        run.close()
        again = start()
        assert 100 < len(again.contents()) < 500
        assert again.publish("t2999", 1).offset == BREAK + 1

    def test_a_failure_of_ours(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        run = start()
        fill(run)
        run.settle()

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        failures: list[object] = []
        monkeypatch.setattr(Database, "write", fail)
        monkeypatch.setattr(
            run.file, "_write_line", lambda *_, failure, **__: failures.append(type(failure))
        )
        fill(run)
        eventually(lambda: bool(failures))
        assert failures == [ZeroDivisionError]
        fill(run)
        assert run.file.lost >= 100
        run.close()  # its thread tells the failure before it closes the file
        monkeypatch.undo()
        again = start()
        assert again.publish("a", 1).offset == BREAK + 1


class TestMoments:
    def test_a_message_is_written_soon(self, start: Start) -> None:
        run = start()
        run.publish("a", 1)
        run.settle()
        assert start(path=run.kill()).offsets("a") == [1]

    def test_much_is_written_at_once(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(history_file, "WRITTEN_WITHIN", 1e6)
        run = start()
        for number in range(1100):
            run.publish("a", f'"{number:01000}"')
        eventually(lambda: run.file._written > 1_000_000)
        run.close()
        assert len(start().offsets("a")) == 1000

    def test_closing_waits_for_nothing_but_the_disk(
        self, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(history_file, "WRITTEN_WITHIN", 1e6)
        run = start()
        run.publish("a", 1)
        run.close()
        run.close()
        run.publish("a", 2)  # which nobody does
        assert start().offsets("a") == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "run.file.close(); sys.exit()"])
def test_a_forked_child_leaves_the_file_alone(path: Path, start: Start, end: str) -> None:
    program = f"""
import gc, os, sys
from tests.io_common.test_history_file import Path, Run
run = Run(Path({str(path)!r}))
run.publish("a", 1)
run.settle()
if os.fork() == 0:
    run.publish("a", 2)
    gc.collect()
    {end}
os.wait()
assert os.path.exists({str(path)!r} + "-wal")
run.publish("a", 3)
run.settle()
os.kill(os.getpid(), 9)
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (-9, "")
    run = start()
    assert [text for _, _, text in run.contents()["a"][2]] == [b"1", b"3"]


class Node(LogBook):
    """Others may go on with all topics but one."""

    def owns(self, topic: str) -> bool:
        return topic == "mine"


@pytest.mark.pure("it extends a class of the core")
class TestOfANode:
    @pytest.fixture
    def file(self, path: Path) -> Path:
        """A file of a node that has ended in order, and had a place noted for each topic."""
        run = Run(path, kind=Node)
        for topic in ("mine", "other", "anew"):
            run.publish(topic, 1, 2)
        for topic in ("mine", "other"):
            run.file.place(topic, f"of {topic}", 2, 0)
        run.file.forget("anew")
        run.file.place("anew", "of anew", 7, 3)
        run.book._logs["anew"].top = 7
        run.close()
        assert run.lines == []
        return path

    def test_it_knows_what_it_has_all_of(self, file: Path) -> None:
        database = Database(str(file), "off")
        past = database.load(MUCH, 9, NOW)
        database.close()
        assert past is not None
        assert not past.is_orderly
        assert {
            one.topic: (one.epoch, one.top, len(one.entries), one.forgotten, one.is_whole)
            for one in past.topics
        } == {
            "mine": ("of mine", 2, 1, 0, True),
            "other": ("of other", 2, 1, 0, False),
            "anew": ("of anew", 7, 0, 3, False),
        }

    def test_nothing_is_whole_after_a_kill(self, file: Path) -> None:
        for is_whole in (True, False):
            database = Database(str(file), "off")
            past = database.load(MUCH, 9, NOW)
            database.close()
            assert past is not None
            assert [one.is_whole for one in past.topics if one.topic == "mine"] == [is_whole]

    def test_a_server_alone_goes_on_behind_a_break(self, file: Path) -> None:
        for offset in (1, 2):
            run = Run(file)
            assert run.publish("mine", 3).offset == BREAK + offset
            assert run.contents()["other"][1] == BREAK
            run.close()
