"""An HTTP answer of a program can be written, or is no answer."""

from http import HTTPStatus
from typing import Any

import pytest

from kps.errors import InvalidArgument
from kps.protocol.wire.http import HttpResponse
from tests.protocol.helpers import Answer, Stage, upgrade

BIG = 10**400


@pytest.mark.parametrize(
    "arguments",
    [
        *[{"status": status} for status in ("x", 99, 101, 199, 600, -5, True, 403.0, None, BIG)],
        *[{"status": 403, "body": body} for body in ("text", None, 5, bytearray(b"x"))],
        *[{"status": status, "body": b"x"} for status in (204, 304)],
        *[
            {"status": 401, "content_type": text}
            for text in ("a\r\nb: c", "a\n", "\0", "ü", " a", None, b"text/plain")
        ],
        *[
            {"status": 401, "headers": headers}
            for headers in (
                5,
                "ab",
                {"a": "b"},
                {"ab": 1},
                [("a",)],
                [("a", "b", "c")],
                ["ab"],
                [("a", 5)],
                [(5, "a")],
                [("a\r\nX", "b")],
                [("a", "b\r\nX: c")],
                [("a", "b\n")],
                [("a", "\ud800")],
                [("a", "ü")],
                [("", "a")],
                [("a b", "c")],
                [("Content-Length", "5")],
                [("content-type", "text/html")],
                [("Transfer-Encoding", "chunked")],
                [("connection", "keep-alive")],
            )
        ],
    ],
)
def test_what_cannot_be_written_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        HttpResponse(**arguments)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    "response",
    [
        HttpResponse(200),
        HttpResponse(204),
        HttpResponse(205),
        HttpResponse(304),
        HttpResponse(HTTPStatus.FORBIDDEN, b"no"),
        HttpResponse(599, b"\0\xff", "application/octet-stream"),
        HttpResponse(401, b"x", headers=[["www-authenticate", 'Bearer a="b"\tc'], ["x", ""]]),  # type: ignore[arg-type]
    ],
)
def test_what_is_an_answer_is_written(response: HttpResponse) -> None:
    peer = Stage(asks_upgrade=True).peer()
    peer.feed(upgrade())
    peer.decide(response)
    answer = Answer(peer.read())
    assert (answer.status, answer.body) == (response.status, response.body)
    assert ("content-length" in answer.headers) == (response.status not in (204, 304))


def test_a_client_of_which_an_answer_failed_gets_another_one() -> None:
    peer = Stage(asks_upgrade=True).peer()
    peer.feed(upgrade())
    broken = HttpResponse(403)
    object.__setattr__(broken, "body", "text")
    peer.decide(broken)
    peer.decide(HttpResponse(500, b"sorry"))
    assert Answer(peer.read()).body == b"sorry"
