"""What is read out of HTTP requests for the bus, whatever is in them."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar
from urllib.parse import quote, urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.dialect.envelope import InvalidMessage
from kps.protocol.dialect.event_stream import Place, Subscribe, Wanted, id_of, read_id
from kps.protocol.dialect.http_answers import STATUSES, in_json
from kps.protocol.dialect.http_calls import Publish, Request
from kps.protocol.dialect.http_fields import check_length, check_type, payload_in
from kps.protocol.wire.http import HttpRequest, HttpResponse
from tests.protocol.helpers import THOROUGH

WANTED = st.builds(Wanted, st.sampled_from(["topic", "pattern"]), st.text(min_size=1))
PLACES = st.tuples(st.text(), st.integers(0, 2**53 - 1))


T = TypeVar("T")


def outcome(read: Callable[[], T]) -> T | InvalidMessage:
    """What comes of reading something: nothing but an InvalidMessage is raised."""
    try:
        return read()
    except InvalidMessage as error:
        assert str(error)  # noqa: PT017
        return error


@given(st.dictionaries(WANTED, PLACES, min_size=1))
def test_the_id_of_an_event_can_be_read(places: dict[Wanted, Place]) -> None:
    text = id_of(places)
    assert text.isascii()
    assert text.isprintable()
    assert read_id(text, list(places)) == places


@given(st.text())
def test_no_id_does_harm(text: str) -> None:
    places = outcome(lambda: read_id(text, [Wanted("topic", "t")]))
    if isinstance(places, InvalidMessage):
        assert places.code == "bad_request"
    else:
        assert set(places) <= {Wanted("topic", "t")}


NAMES = st.sampled_from(
    ["topic", "to", "ack", "receipt", "timeout", "key", "retry", "pattern", "last", "since", "id"]
)
VALUES = st.text(max_size=8) | st.sampled_from(["1", "0", "t", "1e9", "-1", "nan", "1@e"])


@THOROUGH
@given(st.lists(st.tuples(NAMES, VALUES)), st.lists(st.text(max_size=5)), st.binary())
def test_requests_are_read_or_refused(
    pairs: list[tuple[str, str]], values: list[str], body: bytes
) -> None:
    fields = ["traceparent", "kps-header-a", "idempotency-key", "content-type", "last-event-id"]
    latin = [value.encode("utf-8", "replace").decode("latin-1") for value in values]
    query = urlencode(pairs, errors="replace")
    request = HttpRequest("POST", f"/publish?{query}", tuple(zip(fields, latin, strict=False)))
    for read in (Publish, Request, Subscribe):
        read_one = outcome(partial(read, request))
        if isinstance(read_one, InvalidMessage):
            assert read_one.code == "bad_request"
        elif isinstance(read_one, Subscribe):
            for message in read_one.messages():
                assert orjson.loads(message)["action"] == "subscribe"
        else:
            assert isinstance(read_one, (Publish, Request))
            message = orjson.loads(read_one.message(b"[1]"))
            assert message["data"] == [1]
            assert ("topic" in message) != ("to" in message)
    refusal = outcome(lambda: check_type(request))
    assert refusal is None or refusal.code == "content_type"
    payload = outcome(lambda: payload_in(request, body, 100))
    if isinstance(payload, InvalidMessage):
        assert payload.code == "bad_message"
    else:
        orjson.loads(payload)


@given(st.text(max_size=20))
def test_lengths(text: str) -> None:
    request = HttpRequest("POST", "/publish", (("content-length", text),))
    refusal = outcome(lambda: check_length(request, 1000))
    assert refusal is None or STATUSES[refusal.code] in (411, 413)


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists), st.sampled_from("\n\r \t"))
def test_a_payload_is_passed_as_it_is_written(data: object, space: str) -> None:
    try:
        body = space.encode() + orjson.dumps(data) + space.encode()
    except TypeError:  # an integer that JSON of this library does not have
        return
    request = HttpRequest("POST", "/publish?topic=t", ())
    assert payload_in(request, body, 10_000) == orjson.dumps(data)


@pytest.mark.parametrize(("text", "seconds"), [("2", 2.0), ("0.5", 0.5), ("1e2", 100.0)])
def test_seconds(text: str, seconds: float) -> None:
    request = HttpRequest("POST", f"/request?topic=t&timeout={quote(text)}", ())
    assert orjson.loads(Request(request).message(b"1"))["timeout"] == seconds


def test_refusals_have_one_form() -> None:
    plain = in_json(HttpResponse.text(403, "no"))
    assert orjson.loads(plain.body) == {"code": "forbidden", "error": "no"}
    page = HttpResponse(403, b"<p>", "text/html")
    assert in_json(page) is page
    text = HttpResponse.text(200, "yes")
    assert in_json(text) is text
