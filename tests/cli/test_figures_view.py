"""What ``kps top`` shows, without a terminal and without a server."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.cli.figures_view import NAME, SORTS, Figures, Row, Wish, draw, fit, ordered


def client(name: str, **more: Any) -> dict[str, Any]:
    fields = {"id": name, "address": "127.0.0.1:5000", "level": 2, "age": 5.0, "topics": 1}
    counts = ("queue_messages", "queue_bytes", "dropped", "received", "delivered")
    return fields | dict.fromkeys(counts, 0) | more


def stats(uptime: float, *clients: dict[str, Any], **more: Any) -> dict[str, Any]:
    counts = ("client_count", "topic_count", "pending_acks", "connections", "lost", "published",
              "delivered", "dropped", "refused", "bytes_in", "bytes_out")  # fmt: skip
    start = {"id": "hub", "version": "1.2.3", "uptime": uptime, **dict.fromkeys(counts, 0)}
    return start | {"clients": list(clients), "topics": []} | more


def texts(figures: Figures, columns: int = 80, rows: int | None = None, **wish: Any) -> list[str]:
    return [line.text for line in draw(figures, Wish(**wish), columns, rows)]


class TestRates:
    def test_are_what_has_grown_per_second(self) -> None:
        before = stats(10.0, client("a", received=100, delivered=5), published=1000)
        now = stats(12.0, client("a", received=300, delivered=5), published=1500)
        (row,) = Figures(now, before).clients()
        assert (row.received, row.delivered) == (100.0, 0.0)
        assert "published 250 " in Figures(now, before).summary()[2]

    def test_a_client_that_is_new_has_grown_from_nothing(self) -> None:
        (row,) = Figures(stats(12.0, client("a", age=1.0, received=50)), stats(10.0)).clients()
        assert row.received == 25.0

    def test_one_that_was_not_listed_has_the_rate_that_the_server_tells_or_none(self) -> None:
        known = client("b", received=50, received_rate=3.5, delivered_rate=0.0)
        a, b = Figures(stats(12.0, client("a", received=50), known), stats(10.0)).clients()
        assert (a.received, b.received, b.delivered) == (0.0, 3.5, 0.0)

    @pytest.mark.parametrize("before", [None, stats(50.0, published=9)])
    def test_there_are_none_of_one_object_or_of_a_server_that_has_begun_anew(
        self, before: dict[str, Any] | None
    ) -> None:
        figures = Figures(stats(3.0, client("a", received=50), published=70), before)
        assert not figures.has_rates
        assert figures.clients()[0].received == 0.0
        assert "published 0 " in figures.summary()[2]

    def test_a_client_that_has_come_back_counts_anew(self) -> None:
        before, now = stats(1.0, client("a", received=90)), stats(2.0, client("a", received=3))
        assert Figures(now, before).clients()[0].received == 0.0


class TestSlow:
    @pytest.mark.parametrize(
        ("before", "now", "is_slow"),
        [
            ({"queue_bytes": 5}, {"queue_bytes": 9}, True),
            ({}, {"queue_bytes": 9}, False),  # it may be for a moment
            ({"queue_bytes": 5}, {}, False),
            ({"dropped": 1}, {"dropped": 2}, True),
            ({"dropped": 2}, {"dropped": 2}, False),
        ],
    )
    def test_who_is(self, before: dict[str, int], now: dict[str, int], is_slow: bool) -> None:
        figures = Figures(stats(2.0, client("a", **now)), stats(1.0, client("a", **before)))
        assert figures.clients()[0].is_slow is is_slow
        assert f"slow {int(is_slow)} " in figures.summary()[1]
        (line,) = [line for line in draw(figures, Wish(), 80, None) if "a  " in line.text[:6]]
        assert line.is_strong is is_slow
        assert line.text.startswith("! a" if is_slow else "  a")

    def test_they_come_first_and_then_those_with_the_most_in_their_queues(self) -> None:
        rows = [Row("idle"), Row("busy", queue=900), Row("slow", queue=5, is_slow=True),
                Row("dropping", is_slow=True)]  # fmt: skip
        assert [row.name for row in ordered(rows, Wish())] == ["slow", "dropping", "busy", "idle"]


class TestOrder:
    ROWS = (Row("b", age=1, topics=2, received=3, delivered=4, dropped=5),
            Row("a", age=2, topics=3, received=4, delivered=5, dropped=6), Row("c"))  # fmt: skip

    @pytest.mark.parametrize("sort", [sort for sort in SORTS if sort != "slow"])
    def test_the_most_first(self, sort: str) -> None:
        names = [row.name for row in ordered(self.ROWS, Wish(sort=sort))]
        assert names == ["a", "b", "c"]
        names = [row.name for row in ordered(self.ROWS, Wish(sort=sort, is_reversed=True))]
        assert names == ["c", "b", "a"]

    def test_names_from_a_to_z(self) -> None:
        assert [row.name for row in ordered(self.ROWS, Wish(sort=NAME))] == ["a", "b", "c"]

    def test_topics_by_what_is_published_on_them(self) -> None:
        def of(sort: str) -> list[str]:
            topics = [
                {"topic": "many", "subscribers": 9, "published": 10},
                {"pattern": "x/**", "subscribers": 1, "published": 30},
                {"topic": "loud", "subscribers": 2, "published": 20},
            ]
            before = [one | {"published": 10} for one in topics]
            figures = Figures(stats(2.0, topics=topics), stats(1.0, topics=before))
            lines = texts(figures, sort=sort)
            heading = next(n for n, line in enumerate(lines) if line.startswith("  topic "))
            return [line.split()[0] for line in lines[heading + 1 : -1]]

        assert of("slow") == ["x/**", "loud", "many"]
        assert of("topics") == ["many", "loud", "x/**"]
        assert of("name") == ["loud", "many", "x/**"]


class TestPicture:
    def many(self, clients: int = 200, topics: int = 200) -> Figures:
        now = stats(
            100_000.0,
            *(client(f"client-with-a-long-name-{number}", address="[2001:db8::1:2:3:4]:50000",
                     received=10**9, delivered=10**10, queue_bytes=10**8, dropped=10**7,
                     age=10.0**8) for number in range(clients)),
            topics=[{"topic": f"a/topic/{number}", "subscribers": 10**6, "published": 10**12}
                    for number in range(topics)],
            client_count=10**6, published=10**12, delivered=10**15, bytes_out=10**16,
            nodes=[{"id": "n1", "state": "up", "client_count": 5}, {"id": "n2", "state": "down"}],
        )  # fmt: skip
        return Figures(now, stats(99_999.0))

    @pytest.mark.parametrize("columns", [40, 80, 81, 200])
    @pytest.mark.parametrize("rows", [4, 10, 24, 60, None])
    @pytest.mark.parametrize(("clients", "topics"), [(0, 0), (200, 200), (2, 200), (200, 2)])
    def test_fits(self, columns: int, rows: int | None, clients: int, topics: int) -> None:
        lines = texts(self.many(clients, topics), columns, rows)
        assert max(map(len, lines)) <= columns
        if rows is not None:
            assert len(lines) == rows
            assert lines[-1].startswith("q quit, space pause, r reverse; by "[:columns])

    def test_uses_the_room(self) -> None:
        lines = texts(self.many(200, 2), 80, 24)
        assert sum("client-with" in line for line in lines) == 24 - 5 - 1 - 3 - 2
        assert sum("a/topic" in line for line in lines) == 2
        lines = texts(self.many(200, 200), 80, 24)
        assert sum("a/topic" in line for line in lines) == (24 - 5 - 1 - 3) // 3

    def test_eighty_columns_have_all_figures_and_the_keys(self) -> None:
        before = stats(9.0, client("alice", queue_bytes=1))
        now = stats(10.0, client("alice", received=12, delivered=3456, queue_bytes=70_000,
                                 dropped=3), topics=[{"topic": "t", "subscribers": 2,
                                                     "published": 7}])  # fmt: skip
        lines = texts(Figures(now, before), 80, 24)
        assert lines[0] == "kps 1.2.3, hub, up 10s"
        heading = "  client             address             age topics   in/s  out/s  queue dropped"
        assert lines[4] == heading
        row = "! alice              127.0.0.1:5000       5s      1     12   3456  70.0k       3"
        assert lines[5] == row
        assert lines[-1].endswith("by [slow] in out dropped age topics name")

    def test_the_keys_tell_what_is_on(self) -> None:
        last = texts(Figures(stats(1.0)), 100, 10, sort="in", is_paused=True, is_reversed=True)[-1]
        assert last.startswith("paused; q quit")
        assert "reversed, by slow [in] out" in last
        assert "quit" not in texts(Figures(stats(1.0)), has_keys=False)[-1]

    def test_nodes(self) -> None:
        assert "nodes: n1 5 clients, n2 down" in texts(self.many())

    @pytest.mark.parametrize("field", ["clients", "topics", "nodes", "uptime", "id", "published"])
    @pytest.mark.parametrize("value", [None, 5, "x", [1], {"a": 1}, [{"id": 7, "topic": []}]])
    def test_what_no_server_says_does_no_harm(self, field: str, value: object) -> None:
        figures = Figures(stats(2.0) | {field: value}, stats(1.0) | {field: value})
        assert len(texts(figures, 80, 24)) == 24


class TestFit:
    @pytest.mark.parametrize(
        ("text", "width", "fitted"),
        [
            ("ab", 4, "ab  "),
            ("abcd", 4, "abcd"),
            ("abcde", 4, "abc~"),
            ("日本", 4, "日本"),
            ("日本", 5, "日本 "),
            ("日本語", 4, "日~ "),
            ("e\u0301e", 2, "e\u0301e"),
            ("\x1b[2J", 8, "\\u001b[~"),
            ("", 2, "  "),
            ("abc", 0, ""),
        ],
    )
    def test_fit(self, text: str, width: int, fitted: str) -> None:
        assert fit(text, width) == fitted

    def test_numbers_stand_at_the_right(self) -> None:
        assert fit("12", 4, is_number=True) == "  12"

    @given(st.text(), st.integers(0, 30))
    def test_no_text_moves_the_cursor(self, text: str, width: int) -> None:
        categories = {unicodedata.category(character) for character in fit(text, width)}
        assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (0.04, "0.0"), (0.5, "0.5"), (9.96, "10"), (1234, "1234"), (9994, "9994"),
     (9996, "10.0k"), (12_345, "12.3k"), (99_960, "100k"), (999_400, "999k"), (999_600, "1.00M"),
     (10**9, "1.00G"), (10**18, "1000P")],
)  # fmt: skip
def test_numbers_are_short(number: float, shown: str) -> None:
    now = stats(2.0, client("a", queue_bytes=number))
    assert f" {shown} " in next(line for line in texts(Figures(now)) if line.startswith("  a "))
