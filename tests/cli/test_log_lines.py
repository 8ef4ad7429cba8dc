"""The lines of ``kps serve``: text or JSON, each with a time and its zone."""

import http.client
import json
import logging
import re
import socket
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.cli.log_lines import JsonLines, TextLines, iso_time
from kps.io_common.logger import Guard
from kps.version import __version__

PATIENCE = 30.0
KPS = [sys.executable, "-W", "error", "-m", "kps"]
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"


def record(message: str = "a line", args: Any = (), **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("kps", logging.WARNING, __file__, 1, message, args, None)
    made.__dict__.update(extra)
    return made


def read(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonLines().format(made)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


class TestJson:
    def test_a_line_with_fields(self) -> None:
        made = record("%(count)d of %(topic)s", ({"count": 2, "topic": "t"},), event="lost")
        made.created = 1_700_000_000.5
        found = read(made)
        assert datetime.fromisoformat(found.pop("time")).timestamp() == 1_700_000_000.5
        assert found == {
            "level": "warning",
            "logger": "kps",
            "event": "lost",
            "message": "2 of t",
            "fields": {"count": 2, "topic": "t"},
        }

    def test_a_line_of_another_library(self) -> None:
        found = read(record("slow: %s", ("it",)))
        assert (found["event"], found["message"], found["fields"]) == ("", "slow: it", {})

    def test_an_exception(self) -> None:
        made = record()
        try:
            raise ValueError("two\nlines")
        except ValueError:
            made.exc_info = sys.exc_info()
        found = read(made)
        assert found["exception"].startswith("Traceback")
        assert "two\nlines" in found["exception"]

    @given(st.text(st.characters(), max_size=40), st.text(st.characters(), max_size=40))
    def test_no_text_makes_a_second_line(self, name: str, value: str) -> None:
        fields = {"text": value, name: object()}
        found = read(record("%(text)s", (fields,), event="e"))
        assert set(found) == {"time", "level", "logger", "event", "message", "fields"}

    def test_what_the_guard_has_made_safe(self) -> None:
        made = record("%(text)s", ({"text": "\n\ud800" + "x" * 5000, "none": None, "yes": True},))
        assert Guard(logging.Logger("x")).filter(made)
        found = read(made)
        assert found["fields"]["text"] == found["message"]
        assert found["message"].startswith("'\\n\\ud800xxx")
        assert len(found["message"]) < 300
        assert (found["fields"]["none"], found["fields"]["yes"]) == (None, True)


class TestTime:
    @given(st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000))
    def test_it_is_the_moment_with_the_zone(self, seconds: float) -> None:
        text = iso_time(seconds)
        assert re.fullmatch(MOMENT, text)
        assert abs(datetime.fromisoformat(text).timestamp() - seconds) < 0.0011

    @pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone cannot be set here")
    @pytest.mark.parametrize(("zone", "ends"), [("UTC0", "+00:00"), ("XXX-05:45", "+05:45"),
                                                ("YYY+03:30", "-03:30")])  # fmt: skip
    def test_zones(self, zone: str, ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            assert iso_time(0.25).endswith(".250" + ends)
        finally:
            monkeypatch.undo()
            time.tzset()

    def test_lines_of_text_have_it(self) -> None:
        assert re.fullmatch(f"{MOMENT} WARNING kps: a line", TextLines().format(record()))


def lines_of(*options: str) -> list[dict[str, Any]]:
    """The JSON lines of a server that a page and a token have tried, and that was then stopped."""
    process = subprocess.Popen(
        [*KPS, "serve", "--address", "127.0.0.1:0", "--log-format", "json", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("kps serves on ws://127.0.0.1:")
        page = http.client.HTTPConnection(first.split("/")[2], timeout=PATIENCE)
        page.request("GET", "/ws/bus", headers={
            "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": "https://a.example",
        })  # fmt: skip
        assert page.getresponse().status == 403
        page.close()
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
        return [json.loads(line) for line in errors.splitlines()]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("flags", [[], ["--threads"]], ids=["asyncio", "threads"])
def test_a_server_that_logs_json(flags: list[str]) -> None:
    lines = lines_of(*flags)
    assert [line["event"] for line in lines] == ["started", "origin_refused", "stopped"]
    started, refused, stopped = [line["fields"] for line in lines]
    assert started["version"] == __version__
    assert started["driver"] == ("threads" if flags else "asyncio")
    assert started["addresses"].startswith("127.0.0.1:")
    assert refused["origin"] == "https://a.example"
    assert "--origin https://a.example" in lines[1]["message"]
    assert (stopped["drained"], stopped["cut_off"]) == (0, 0)
    assert all(re.fullmatch(MOMENT, line["time"]) for line in lines)
    assert [line["level"] for line in lines] == ["info", "warning", "info"]


def test_a_start_that_fails_is_a_line_as_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = subprocess.run(
            [*KPS, "serve", "--address", address, "--log-format", "json"],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert result.returncode == 1
    (line,) = [json.loads(line) for line in result.stderr.splitlines()]
    assert (line["event"], line["level"]) == ("failed", "error")
    assert line["message"].startswith(f"cannot listen on {address}")
