"""Origins as an operator writes them."""

import pytest

from kps.errors import InvalidArgument
from kps.protocol.access.origins import Origins, read_origin
from kps.protocol.wire.http import HttpRequest, HttpResponse


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("*", "*"),
        ("null", "null"),
        ("NULL", "null"),
        ("file://", "file://"),
        ("file:///", "file://"),
        ("https://app.example", "https://app.example"),
        ("https://app.example/", "https://app.example"),
        ("HTTPS://APP.example", "https://app.example"),
        (" https://app.example ", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80/", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://localhost:08080", "http://localhost:8080"),
        ("http://localhost:", "http://localhost"),
        ("http://192.0.2.1:8080", "http://192.0.2.1:8080"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://BÜCHER.example:8443/", "https://xn--bcher-kva.example:8443"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_is_written_as_browsers_write_it(text: str, origin: str) -> None:
    assert read_origin(text) == origin
    assert read_origin(origin) == origin


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "https://app.example"),
        ("app.example", "https://app.example"),
        ("localhost:3000", "https://localhost:3000"),
        ("//app.example", "it begins with a scheme"),
        ("http://localhost:*", "no wildcards"),
        ("https://*.example", "no wildcards"),
        ("*.example", "no wildcards"),
        ("https://app.example/page", "it ends after host and port: https://app.example"),
        ("https://app.example//", "it ends after host and port: https://app.example"),
        ("https://app.example?x", "it ends after host and port: https://app.example"),
        ("https://app.example/#", "it ends after host and port: https://app.example"),
        ("wss://app.example", "https://app.example"),
        ("ws://app.example:80", "http://app.example:80"),
        ("https://me@app.example", "scheme, host and port"),
        ("https://", "scheme, host and port"),
        ("https://:8080", "scheme, host and port"),
        ("https://app.example:99999", "scheme, host and port"),
        ("https://app.example:x", "scheme, host and port"),
        ("https://a.example,https://b.example", "it ends after host and port"),
        ("https://a.example https://b.example", "it ends after host and port"),
        ("https://a b", "scheme, host and port"),
        ("https://a,b", "scheme, host and port"),
        ("https://..", "scheme, host and port"),
        ("http://[::1", "scheme, host and port"),
        ("http://[::x]", "scheme, host and port"),
        ("https://\ud800", "scheme, host and port"),
        ("https://a\x00b", "scheme, host and port"),
    ],
)
def test_one_that_no_page_has_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_origin(text)
    assert hint in str(caught.value)


def test_remembers_some_of_the_refused_origins() -> None:
    origins = Origins(())
    assert [origins.is_news(f"http://{n}") for n in range(1000)] == [True] * 1000
    assert not origins.is_news("http://999")
    assert origins.is_news("http://0")
    assert len(origins._told) == 100


class TestRefusal:
    def refusal(self, origin: str | None, *allowed: str) -> HttpResponse | None:
        fields = [("host", "localhost:9313")]
        if origin is not None:
            fields.append(("origin", origin))
        request = HttpRequest("GET", "/ws/bus", headers=tuple(fields))
        return Origins(allowed).refusal(request)

    def test_says_what_to_do(self) -> None:
        refusal = self.refusal("http://localhost:8000")
        assert refusal is not None
        assert refusal.status == 403
        assert refusal.body == (
            b"pages of http://localhost:8000 may not connect: start the server with "
            b"--origin http://localhost:8000 (origins= in a program)\n"
        )
        assert dict(refusal.headers)["access-control-allow-origin"] == "*"

    @pytest.mark.parametrize("origin", [None, "http://localhost:9313", "https://friend.example"])
    def test_is_not_for_who_may_connect(self, origin: str | None) -> None:
        assert self.refusal(origin, "https://friend.example") is None

    def test_what_it_advises_lets_the_page_in(self) -> None:
        for origin in ("http://localhost:8000", "chrome-extension://abc", "null", "file://"):
            refusal = self.refusal(origin)
            assert refusal is not None
            option = refusal.body.decode().split("--origin ")[1].split()[0]
            assert self.refusal(origin, read_origin(option)) is None

    @pytest.mark.parametrize(
        "origin", ["", "*", "x" * 10_000, f"http://{'x' * 400}", "http://$(reboot)"]
    )
    def test_repeats_nothing_that_is_no_origin(self, origin: str) -> None:
        refusal = self.refusal(origin)
        assert refusal is not None
        assert refusal.body == (
            b"pages of this origin may not connect: start the server with --origin "
            b"(origins= in a program)\n"
        )
