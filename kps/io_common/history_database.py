"""The database of a file for history: SQLite, with one connection, in one thread.

It tells whether it was closed in order. If it was not, messages may be missing that clients have
got, and the core leaves a gap (``BREAK``) behind all numbers that it may have used. So it does if
another node of a cluster may have gone on with a topic.
"""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from kps.errors import ServerStartFailed
from kps.protocol.bus.logs import BREAK
from kps.protocol.bus.store import Entry, KeptPast, KeptTopic, new_entry

FORMAT: Final = 3
"""The version of the tables below."""

_MARK: Final = 0x4B505348  # "KPSH": whose database it is

# The row of ``book``: the latest epoch, a number above which no entry has one, and whether the file
# was closed in order. Of topics: the latest offset, the number of the latest entry that is
# forgotten, and whether all was there when the file was closed. Entries are numbered as they come,
# so each goes to the end of its table. Times are those of the system's clock.
_TABLES = """
CREATE TABLE book (epoch TEXT, number INTEGER NOT NULL, is_closed INTEGER NOT NULL);
INSERT INTO book VALUES (NULL, 0, 1);
CREATE TABLE topics (topic TEXT PRIMARY KEY, epoch TEXT NOT NULL, top INTEGER NOT NULL,
    forgotten INTEGER NOT NULL DEFAULT 0, is_whole INTEGER NOT NULL DEFAULT 1);
CREATE TABLE entries (number INTEGER PRIMARY KEY, topic TEXT NOT NULL, first INTEGER NOT NULL,
    messages INTEGER NOT NULL, sender TEXT NOT NULL, time REAL NOT NULL, text BLOB NOT NULL,
    headers BLOB NOT NULL DEFAULT x'');
CREATE INDEX entries_of_topic ON entries (topic, first);
"""
# What makes a file of each earlier format one of the next.
_CHANGES = {
    1: "ALTER TABLE entries ADD COLUMN headers BLOB NOT NULL DEFAULT x''",
    2: "ALTER TABLE topics ADD COLUMN is_whole INTEGER NOT NULL DEFAULT 1;"
    f"UPDATE topics SET top = max(top, (SELECT number FROM book) / {BREAK} * {BREAK})",
}
_ROW = [int, str, int, int, str, float, bytes, bytes]

_PUT = """
INSERT INTO topics (topic, epoch, top, forgotten) VALUES (?, ?, ?, ?) ON CONFLICT (topic) DO UPDATE
SET epoch = excluded.epoch, top = excluded.top, forgotten = max(forgotten, excluded.forgotten)
"""

# The file shrinks when so many of its pages are free, and they are half of it.
_MOST_FREE = 256
# Bytes of SQLite's log beside the file that stay when it has been copied into the file.
_LOG_SIZE = 16 * 1024 * 1024


class Append(NamedTuple):
    """Keep messages."""

    topic: str
    epoch: str
    entry: Entry


class Trim(NamedTuple):
    """Forget the messages of a topic before an offset."""

    topic: str
    offset: int


class Forget(NamedTuple):
    """Forget a topic."""

    topic: str


class Put(NamedTuple):
    """Note where a topic is, whatever was known of it."""

    topic: str
    epoch: str
    top: int
    forgotten: int


class Begin(NamedTuple):
    """Note an epoch, and a number below all new ones."""

    epoch: str
    number: int


Command = Append | Trim | Forget | Put | Begin


class Database:
    """A file that is open, and locked against everybody else.

    ``sync`` is when SQLite waits for the disk: ``off``, ``normal`` or ``full``. Raises
    :class:`kps.ServerStartFailed`, or :class:`sqlite3.Error`.
    """

    def __init__(self, path: str, sync: str) -> None:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            self._run("PRAGMA locking_mode = EXCLUSIVE")
            is_new = self._is_new()
            if is_new:
                self._run("PRAGMA auto_vacuum = INCREMENTAL")
            self._run("PRAGMA journal_mode = WAL")
            self._run(f"PRAGMA synchronous = {sync}")
            self._run(f"PRAGMA journal_size_limit = {_LOG_SIZE}")
            if is_new:
                self._create()
        except BaseException:
            self._connection.close()
            raise

    def _is_new(self) -> bool:
        """Tell whether the file is empty. Raises if it is not ours."""
        mark, version = self._number("PRAGMA application_id"), self._number("PRAGMA user_version")
        if mark == _MARK:
            if version in _CHANGES:
                with self._transaction():
                    for older in range(version, FORMAT):
                        for statement in _CHANGES[older].split(";"):
                            self._run(statement)
                    self._run(f"PRAGMA user_version = {FORMAT}")
            elif version != FORMAT:
                raise ServerStartFailed(
                    f"it has the format {version}, and this version of KPS knows {FORMAT}"
                )
            return False
        if mark or self._number("SELECT count(*) FROM sqlite_master"):
            raise ServerStartFailed("it is a database of something else")
        return True

    def _create(self) -> None:
        with self._transaction():
            self._run(f"PRAGMA application_id = {_MARK}")
            self._run(f"PRAGMA user_version = {FORMAT}")
            for statement in _TABLES.split(";"):
                self._run(statement)

    def load(self, most_bytes: int, most_topics: int, now: float) -> KeptPast | None:
        """Return what is kept, and note that the file is in use; ``None``: it is new.

        The oldest messages that would take more than ``most_bytes`` in memory are forgotten, and so
        are topics beyond ``most_topics``. ``now`` is the core's time.
        """
        with self._transaction():
            ((epoch, number, is_closed),) = self._run("SELECT epoch, number, is_closed FROM book")
            surplus = self._number("SELECT count(*) FROM topics") - most_topics
            if surplus > 0:
                these = "SELECT topic FROM topics ORDER BY rowid LIMIT ?"
                self._run(f"DELETE FROM entries WHERE topic IN ({these})", surplus)
                self._run(f"DELETE FROM topics WHERE topic IN ({these})", surplus)
            if not is_closed or surplus > 0:
                self._run("UPDATE topics SET is_whole = 0")
            entries = self._load_entries(most_bytes, now)
            columns = "topic, epoch, top, forgotten, is_whole"
            topics = [
                KeptTopic(
                    topic, its_epoch, top, entries.pop(topic, [])[::-1], forgotten, bool(is_whole)
                )
                for topic, its_epoch, top, forgotten, is_whole in self._run(
                    f"SELECT {columns} FROM topics"
                )
            ]
            is_orderly = bool(is_closed) and surplus <= 0 and all(one.is_whole for one in topics)
            self._run("UPDATE book SET is_closed = 0")
            if not is_orderly:  # now, as the core uses such numbers before anything is written
                self._run(f"UPDATE book SET number = (number / {BREAK} + 1) * {BREAK}")
                self._run(f"UPDATE topics SET top = (top / {BREAK} + 1) * {BREAK}")
        return None if epoch is None else KeptPast(epoch, number, is_orderly, topics)

    def _load_entries(self, most_bytes: int, now: float) -> dict[str, list[Entry]]:
        """Return the latest entries of each topic, the latest first."""
        found: dict[str, list[Entry]] = {}
        gaps: dict[str, int] = {}
        size = cut = 0
        shift = now - time.time()
        columns = "number, topic, first, messages, sender, time, text, headers"
        rows = self._connection.execute(f"SELECT {columns} FROM entries ORDER BY number DESC")
        for row in rows:
            if list(map(type, row)) != _ROW:
                raise ServerStartFailed("it is damaged")
            number, topic, first, messages, sender, when, text, headers = row
            came = min(when + shift, now)
            entry = new_entry(number, first, messages, sender, text, came, headers)
            size += entry.size
            if size > most_bytes:
                cut = number
                break
            of_topic = found.setdefault(topic, [])
            if not of_topic or _follows(of_topic[-1], entry):
                of_topic.append(entry)
            else:
                gaps[topic] = of_topic[-1].number - 1
        rows.close()
        forget = "UPDATE topics SET forgotten = max(forgotten, ?) WHERE topic"
        self._run(f"{forget} IN (SELECT topic FROM entries WHERE number <= ?)", cut, cut)
        self._run("DELETE FROM entries WHERE number <= ?", cut)
        for topic, before in gaps.items():  # what is before a gap is of no use
            self._run(f"{forget} = ?", before, topic)
            self._run("DELETE FROM entries WHERE topic = ? AND number <= ?", topic, before)
        return found

    def write(self, commands: Sequence[Command], shift: float) -> None:
        """Carry out commands: all or, when this raises :class:`sqlite3.Error`, none.

        ``shift`` is what the core's clock lacks to the system's. To carry them out twice does no
        harm.
        """
        with self._transaction():
            batch = _Batch(self._connection, shift)
            for command in commands:
                match command:
                    case Append():
                        batch.append(command)
                    case Trim(topic, offset):
                        batch.trims[topic] = offset
                    case Forget(topic):
                        batch.write()
                        self._run("DELETE FROM entries WHERE topic = ?", topic)
                        self._run("DELETE FROM topics WHERE topic = ?", topic)
                    case Put():
                        batch.write()
                        self._run(_PUT, *command)
                    case Begin(epoch, number):
                        self._run("UPDATE book SET epoch = ?", epoch)
                        batch.number = number
            batch.write()
            self._run("UPDATE book SET number = max(number, ?)", batch.number)
        with suppress(sqlite3.Error):  # it has time until the next writing
            free = self._number("PRAGMA freelist_count")
            if free > _MOST_FREE and 2 * free > self._number("PRAGMA page_count"):
                self._connection.executescript("PRAGMA incremental_vacuum")

    def finish(self, tops: Mapping[str, int] | None, copies: Iterable[str] = ()) -> bool:
        """Note that the file is closed in order, unless something is missing; tell whether it is.

        ``tops`` are the latest offsets of all topics; ``None``: the core has not begun. Other
        servers may go on with those topics that are ``copies``.
        """
        with self._transaction():
            if tops is not None:
                kept = dict(self._run("SELECT topic, top FROM topics"))
                begun = {topic for topic, top in tops.items() if top % BREAK}  # with messages since
                if not begun <= kept.keys() or any(tops.get(one) != kept[one] for one in kept):
                    return False
                self._run("UPDATE topics SET is_whole = 1")
                self._connection.executemany(
                    "UPDATE topics SET is_whole = 0 WHERE topic = ?", [(one,) for one in copies]
                )
            self._run("UPDATE book SET is_closed = 1")
        return True

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _number(self, question: str) -> int:
        ((number,),) = self._run(question)
        return int(number)

    def _run(self, statement: str, *values: object) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                with suppress(sqlite3.Error):
                    self._run("ROLLBACK")
            raise


class _Batch:
    """Messages of one transaction, of which those are not written that it also forgets."""

    def __init__(self, connection: sqlite3.Connection, shift: float) -> None:
        self.trims: dict[str, int] = {}
        """The offsets before which topics forget messages."""
        self.number = 0
        """The number of the latest entry, or one below all new ones."""
        self._connection = connection
        self._shift = shift
        self._entries: list[tuple[str, Entry]] = []
        self._tops: dict[str, tuple[str, int]] = {}

    def append(self, command: Append) -> None:
        """Add messages."""
        topic, epoch, entry = command
        self._entries.append((topic, entry))
        self._tops[topic] = epoch, entry.behind - 1
        self.number = entry.number

    def write(self) -> None:
        """Write what there is so far."""
        trims, shift, run = self.trims, self._shift, self._connection.executemany
        rows = []
        skipped: dict[str, int] = {}
        for topic, (number, first, messages, sender, text, when, _, headers) in self._entries:
            if first + messages > trims.get(topic, 0):
                rows.append((number, topic, first, messages, sender, when + shift, text, headers))
            else:
                skipped[topic] = number
        run("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        run(
            "INSERT INTO topics (topic, epoch, top) VALUES (?, ?, ?) "
            "ON CONFLICT (topic) DO UPDATE SET epoch = excluded.epoch, top = excluded.top",
            [(topic, epoch, top) for topic, (epoch, top) in self._tops.items()],
        )
        old = "entries.topic = ? AND first < ? AND first + messages <= ?"
        run(
            "UPDATE topics SET forgotten = max(forgotten, ?, ifnull("
            f"(SELECT max(number) FROM entries WHERE {old}), 0)) WHERE topic = ?",
            [(skipped.get(one, 0), one, offset, offset, one) for one, offset in trims.items()],
        )
        run(
            f"DELETE FROM entries WHERE {old}",
            [(topic, offset, offset) for topic, offset in trims.items()],
        )
        self._entries.clear()
        self._tops.clear()
        trims.clear()


def _follows(entry: Entry, before: Entry) -> bool:
    """Tell whether nothing is missing between two entries, as far as can be known."""
    return before.behind == entry.first or entry.first % BREAK == 1
