"""The commands, as a user runs them: as processes."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import trustme
from websockets.sync.client import connect as dial

import kps.sync
from kps.protocol.build import BUILD
from kps.protocol.server_limits import ServerLimits
from kps.version import __version__
from tests.ports import kept_address

PATIENCE = 60.0
KPS = [sys.executable, "-W", "error", "-m", "kps"]


def run(*arguments: str, input: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KPS, *arguments],
        input=input,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | environment,
        check=False,
    )


def publish_until_somebody_has(
    topic: str, *options: str, data: str = "1", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Publish again and again, until a subscriber is there and has answered.

    As long as there is none, nobody waits. One that is there gets time to answer: if it seemed to
    be silent, it would get the message twice.
    """
    command = ("pub", topic, data, "--ack", "--timeout", str(PATIENCE / 2), *options)
    end = time.monotonic() + 2 * PATIENCE
    while (result := run(*command, **environment)).returncode:
        assert time.monotonic() < end, result.stderr
    return result


class Serve:
    """A ``kps serve`` process."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*KPS, "serve", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.url = self.line.split()[-1] if self.line else ""

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what came on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors


@pytest.fixture
def serve() -> Iterator[Callable[..., Serve]]:
    started: list[Serve] = []

    def start(*arguments: str, **environment: str) -> Serve:
        started.append(Serve(*arguments, **environment))
        return started[-1]

    yield start
    for server in started:
        server.process.kill()
        server.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_tells_its_address_and_stops_cleanly(
    serve: Callable[..., Serve], number: int
) -> None:
    server = serve("--address", "127.0.0.1:0", "--path", "/bus")
    assert server.line.startswith("kps serves on ws://127.0.0.1:")
    assert server.line.endswith("/bus\n")
    code, errors = server.stop(number)
    assert code == 0
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d INFO kps:"
    begins = f"{moment} the server of version [0-9.]+, on asyncio, listens on 127.0.0.1:[0-9]+"
    ends = f"{moment} stopped in [0-9.]+ s: drained 0 clients, cut off 0"
    assert re.fullmatch(f"{begins}\n{ends}\n", errors)


def test_pub_and_sub(serve: Callable[..., Serve]) -> None:
    server = serve("--address", "127.0.0.1:0")
    subscriber = subprocess.Popen(
        [sys.executable, "-m", "kps", "sub", "more", "news", "--count", "5", "--id", "reader",
         "--address", server.url],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    publish_until_somebody_has("news", "--address", server.url)  # the last subscription is there
    assert run("pub", "more", '{"a": [1, "é"]}', KPS_ADDRESS=server.url).returncode == 0
    assert run("pub", "news", "no {json}", "--id", "p", "--address", server.url).returncode == 0
    assert run("pub", "news", "-", "--address", server.url, input="x\n[2]\n").returncode == 0
    output, _ = subscriber.communicate(timeout=PATIENCE)
    assert subscriber.returncode == 0
    lines = [json.loads(line) for line in output.splitlines()]
    assert [(line["topic"], line["data"]) for line in lines] == [
        ("news", 1),
        ("more", {"a": [1, "é"]}),
        ("news", "no {json}"),
        ("news", "x"),
        ("news", [2]),
    ]
    assert lines[2]["from"] == "p"


def test_sub_shows_a_message_once_for_all_its_topics_and_patterns(
    serve: Callable[..., Serve],
) -> None:
    url = serve("--address", "127.0.0.1:0").url
    subscriber = subprocess.Popen(
        [*KPS, "sub", "news", "news", "--pattern", "sensors/**", "--pattern", "**/1",
         "--count", "5", "--address", url],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    publish_until_somebody_has("last/1", "--address", url)  # the last subscription is there
    for topic in ("news", "other", "sensors/1", "sensors/1/x", "x/1"):
        assert run("pub", topic, "2", "--address", url).returncode == 0
    output, _ = subscriber.communicate(timeout=PATIENCE)
    shown = [json.loads(line)["topic"] for line in output.splitlines()]
    assert sorted(shown) == ["last/1", "news", "sensors/1", "sensors/1/x", "x/1"]


def test_sub_tells_what_was_hardly_meant() -> None:
    topics = ["a/b", "a/*", "it's/**", "a/#", "a/+/b", "a.>", "a#/+b"]
    patterns = ["a/**", "*/b", "a/#", "+.*.>", "a/b", "*"]
    given = [argument for pattern in patterns for argument in ("--pattern", pattern)]
    result = run("sub", *topics, *given, "--address", "127.0.0.1:1")
    *doubts, end = result.stderr.splitlines()
    assert end.startswith("kps sub: cannot connect to 127.0.0.1:1: ")
    no_star = "has no star and matches one topic; put a pattern into quotes, or the shell replaces "
    assert doubts == [
        f"kps sub: {doubt}"
        for doubt in (
            "'a/*' is one topic; for all that match, use --pattern 'a/*'",
            """"it's/**" is one topic; for all that match, use --pattern 'it'"'"'s/**'""",
            "'a/#' is one topic; for all that match, use --pattern 'a/**'",
            "'a/+/b' is one topic; for all that match, use --pattern 'a/*/b'",
            "'a.>' is one topic; for all that match, use --pattern 'a.**'",
            "only stars have a meaning in a pattern: 'a/#' may be meant as 'a/**'",
            "only stars have a meaning in a pattern: '+.*.>' may be meant as '*.*.**'",
            f"the pattern 'a/b' {no_star}its stars",
            "the pattern '*' matches only topics without '/'; '**' matches all",
        )
    ]


def test_sub_with_a_server_without_patterns() -> None:
    cannot = "kps sub: cannot subscribe to 'log/**': the server does not have patterns\n"
    sub = ["sub", "--pattern", "log/**", "--address"]
    address = kept_address()
    with kps.sync.Server(address, level=1):
        result = run(*sub, address)
        assert (result.returncode, result.stdout, result.stderr) == (1, "", cannot)
    with kps.sync.Server(address) as server:
        subscriber = subprocess.Popen(
            [*KPS, *sub, address, "--reconnect"], stderr=subprocess.PIPE, text=True
        )
        while not server.count_subscribers("log/1")[2]:
            time.sleep(0.01)
    with kps.sync.Server(address, level=1):
        _, errors = subscriber.communicate(timeout=PATIENCE)
    assert (subscriber.returncode, errors) == (1, cannot)


def test_pub_ack_tells_who_answered(serve: Callable[..., Serve]) -> None:
    server = serve("--address", "127.0.0.1:0")
    nobody = run("pub", "news", "1", "--ack", "--address", server.url)
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert nobody.stderr == "kps pub: nobody answered on 'news'\n"
    subscriber = subprocess.Popen(
        [sys.executable, "-m", "kps", "sub", "news", "--id", "reader", "--address", server.url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    result = publish_until_somebody_has("news", "--address", server.url)
    assert json.loads(result.stdout) == {"client_id": "reader", "success": True}
    server.stop()
    _, errors = subscriber.communicate(timeout=PATIENCE)
    assert subscriber.returncode == 1
    ended = "the connection ended: the server is stopping"
    assert errors == f"kps sub: the client has ended: {ended}\n"


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "error"),
    [
        (
            ["serve", "--bogus"],
            {},
            2,
            "there is no option --bogus (see kps serve --help)",
        ),
        (["serve", "--max-message", "x"], {}, 2, "argument --max-message: must be a "),
        *[
            (["serve", flag, number], {}, 2, f"argument {flag}: must be a ")
            for flag, number in (
                ("--max-message", str(2**53 + 1)),
                ("--max-message", "9" * 5000),
                ("--queue-bytes", str(2**64)),
                ("--ack-timeout", "1e300"),
            )
        ],
        (["sub", "t", "--count", str(2**64)], {}, 2, "argument --count: must be a "),
        (["bench", "--size", str(2**53)], {}, 2, "argument --size: must be a "),
        (["bench", "--seconds", "inf"], {}, 2, "argument --seconds: must be a "),
        (["pub", "t", "1", "--timeout", "1e300"], {}, 2, "argument --timeout: must be a "),
        (
            ["serve"],
            {"KPS_MAX_MESSAGE": "9" * 5000},
            2,
            "the variable KPS_MAX_MESSAGE: must be a whole number from 1 to",
        ),
        (
            ["sub", "t", "--address", "bob:secret@h:1"],
            {},
            2,
            "not a server address: '…@h:1'; an address has no user and no password",
        ),
        (["serve", "--address", "a b"], {}, 2, "not a server address: 'a b'"),
        (["serve", "--address", "x:1/p"], {}, 2, "a server listens on host:port"),
        (
            ["serve", "--address", "0"],
            {},
            2,
            "not a server address: '0'; a host is a name",
        ),
        (
            ["serve", "--address", "0:80"],
            {},
            2,
            "not a server address: '0:80'; a host is",
        ),
        (
            ["serve", "--address", "localhost:"],
            {},
            2,
            "not a server address: 'localhost:'; a ",
        ),
        (
            ["serve", "--address", "99999"],
            {},
            2,
            "not a server address: 'localhost:99999'; ",
        ),
        (
            ["sub", "t", "--address", "x:99999"],
            {},
            2,
            "not a server address: 'x:99999'; the",
        ),
        (["sub", "t", "--address", "1"], {}, 1, "cannot connect to localhost:1: "),
        (["sub", "t", "--address", ":1"], {}, 1, "cannot connect to localhost:1: "),
        (
            ["sub", "t", "--address", "ws://127.0.0.1:1/other?token=secret"],
            {},
            1,
            "cannot connect to 127.0.0.1:1/other: ",
        ),
        (["pub", "caf\udce9", "1"], {}, 2, "argument TOPIC: is not UTF-8"),
        (["pub", "t", "caf\udce9"], {}, 2, "argument DATA: is not UTF-8"),
        (["pub", "t", "1", "--id", "caf\udce9"], {}, 2, "argument --id: is not UTF-8"),
        (["sub", "t", "caf\udce9"], {}, 2, "argument TOPIC: is not UTF-8"),
        (["sub", "--pattern", "caf\udce9"], {}, 2, "argument --pattern: is not UTF-8"),
        (
            ["sub"],
            {},
            2,
            "there is nothing to subscribe to: name a TOPIC or a --pattern (see",
        ),
        (["sub", "--pattern"], {}, 2, "argument --pattern: expected one argument"),
        (["sub", "--pattern", ""], {}, 2, "a pattern is a text that is not empty, not ''"),
        (
            ["token", "\x1b"],
            {"KPS_ADDRESS": "x"},
            2,
            "not a name for an identity: '\\x1b'",
        ),
        (
            ["serve", "--origin", "app.example"],
            {},
            2,
            "no page has the origin 'app.example'",
        ),
        (
            ["serve", "--origin", "http://x:*"],
            {},
            2,
            "no page has the origin 'http://x:*'",
        ),
        (
            ["serve", "--relay-to", "*"],
            {},
            2,
            "relay: the pattern that allows everything is",
        ),
        (
            ["serve", "--id", "a---ws://x/"],
            {},
            2,
            "an id of this form is that of another",
        ),
        (["serve", "--max-message", "10"], {}, 2, "max_message must be at least 512"),
        (["serve", "--max-head", "10"], {}, 2, "max_head must be at least 512"),
        (["serve", "--path", "p"], {}, 2, "a path starts with '/': 'p'"),
        (["serve", "--tls-key", "k"], {}, 2, "--tls-key needs --tls-cert"),
        (["serve", "--tls-cert", "/nowhere"], {}, 1, "cannot use the certificate /no"),
        (["serve", "--config", "/nowhere"], {}, 2, "cannot read /nowhere: "),
        (["serve"], {"KPS_MAX_MESSAGE": "0"}, 2, "the variable KPS_MAX_MESSAGE: "),
        (["serve", "--tokens", ""], {}, 2, "argument --tokens: must be the name of "),
        (["serve"], {"KPS_TOKENS": ""}, 2, "the variable KPS_TOKENS: must be"),
        (["serve"], {"KPS_JWT_KEY": ""}, 2, "the variable KPS_JWT_KEY: must "),
        (["serve"], {"KPS_THREADS": "x"}, 2, "the variable KPS_THREADS: takes tr"),
        (["serve", "--jwt-audience", "x"], {}, 2, "--jwt-audience needs --jwt-key"),
        (
            ["serve", "--jwt-algorithm", "ES256"],
            {},
            2,
            "--jwt-algorithm needs --jwt-key",
        ),
        (["pub", "t"], {"KPS_THREADS": "x"}, 2, "the following arguments are required: "),
        (
            ["serve"],
            {"KPS_OVERFLOW": "x"},
            2,
            "the variable KPS_OVERFLOW: must be one of",
        ),
        (["pub", "t"], {}, 2, "the following arguments are required: DATA"),
        (["pub", "t", "1", "--timeout", "0"], {}, 2, "argument --timeout: must be a nu"),
        (["pub", "", "1", "--address", "127.0.0.1:1"], {}, 1, "cannot connect to 127.0"),
        (["sub", "t", "--address", "127.0.0.1:1"], {}, 1, "cannot connect to 127.0.0.1"),
    ],
)
def test_mistakes_get_one_line_and_no_traceback(
    arguments: list[str], environment: dict[str, str], code: int, error: str
) -> None:
    result = run(*arguments, **environment)
    assert result.stderr.startswith(f"kps {arguments[0]}: {error}")
    assert result.stderr.count("\n") == 1
    assert (result.returncode, result.stdout) == (code, "")


@pytest.mark.parametrize(
    ("command", "address", "error"),
    [
        (["sub", "t"], "127.0.0.1:1", "cannot connect to 127.0.0.1:1: "),
        (["bench"], "127.0.0.1:1", "cannot connect to 127.0.0.1:1: "),
        (["pub", "t", "1"], "x:99999", "not a server address: 'x:99999'"),
        (
            ["serve"],
            "wss://bus.example/ws/bus",
            "a server listens on host:port, not on 'ws",
        ),
        (["serve"], "203.0.113.1:1", "cannot listen on 203.0.113.1:1: "),
        (["serve"], "0", "not a server address: '0'"),
    ],
)
def test_an_address_from_the_variable_is_named(
    command: list[str], address: str, error: str
) -> None:
    """It may be meant for another command: to connect, or to listen."""
    named = "(the address is from the variable KPS_ADDRESS)"
    result = run(*command, KPS_ADDRESS=address)
    assert result.stderr.startswith(f"kps {command[0]}: {error}")
    assert named in result.stderr
    given = run(*command, "--address", "127.0.0.1:1/x", KPS_ADDRESS=address)
    assert given.returncode
    assert named not in given.stderr


def test_a_port_alone_in_variable_and_file(serve: Callable[..., Serve], tmp_path: Path) -> None:
    config = tmp_path / "kps.toml"
    config.write_text("address = ':0'\n")
    url = serve("--config", str(config)).url
    assert url.startswith("ws://localhost:")
    port = url.split(":")[-1].split("/")[0]
    for form in (port, f":{port}"):
        assert run("pub", "t", "1", KPS_ADDRESS=form).returncode == 0
    config.write_text(f"address = {port}\n")
    assert f"cannot listen on localhost:{port}: " in run("serve", "--config", str(config)).stderr


def test_the_output_is_utf_8_whatever_the_terminal_has() -> None:
    """As JSON and TOML are, and so that a text cannot be one that cannot be written."""
    for words in (["token", "zo\xeb"], ["help", "token"], ["config", "check", "--path", "/zo\xeb"]):
        done = run(*words, PYTHONIOENCODING="ascii", PYTHONUTF8="1")
        assert (done.returncode, "Traceback" in done.stderr) == (0, False)
        assert not done.stdout.isascii()


def test_too_few_descriptors_are_not_an_output_that_fails() -> None:
    resource = pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-m", "kps", "check"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8)),
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.endswith("kps check: too many open files\n")
    assert "never awaited" not in done.stderr


def test_version() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"kps {__version__} ({BUILD})\n")


def test_a_refused_login_and_a_refused_page_leave_a_line(
    serve: Callable[..., Serve], token_file: Path
) -> None:
    server = serve("--address", "127.0.0.1:0", "--tokens", str(token_file))
    assert run("pub", "log", "1", "--address", server.url, "--token", "wrong").returncode == 1
    host = server.url.split("/")[2]
    for _ in range(3):
        connection = http.client.HTTPConnection(host, timeout=PATIENCE)
        fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "http://app.example",
                  "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                  "Sec-WebSocket-Version": "13"}  # fmt: skip
        connection.request("GET", "/ws/bus", headers=fields)
        assert connection.getresponse().status == 403
        connection.close()
    _, errors = server.stop()
    lines = [line.partition("WARNING kps: ")[2] for line in errors.splitlines()]
    login, page = [line for line in lines if line]
    assert re.fullmatch(r"refused a login from 127\.0\.0\.1:\d+: the token is not valid", login)
    assert re.match(r"refused a page of the origin http://app\.example from 127\.0\.0\.1:", page)
    assert "--origin http://app.example" in page


def test_tokens_and_jwt_together(
    serve: Callable[..., Serve], token_file: Path, tmp_path: Path
) -> None:
    jwt = pytest.importorskip("jwt", reason="PyJWT is not installed")
    key = tmp_path / "secret.key"
    key.write_text("a secret of at least thirty-two bytes\n")
    url = serve("--address", "127.0.0.1:0", "--tokens", str(token_file), "--jwt-key", str(key)).url
    claims = {"sub": "user", "exp": 9_999_999_999}
    user = jwt.encode(claims, "a secret of at least thirty-two bytes", "HS256")
    for token in (TOKEN, user):
        assert run("pub", "log", "1", "--address", url, KPS_TOKEN=token).returncode == 0
    assert "HTTP status 401" in run("pub", "log", "1", "--address", url, KPS_TOKEN="no").stderr


def test_a_taken_port(serve: Callable[..., Serve]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("serve", "--address", address)
    assert result.returncode == 1
    hint = "end the program that listens there, or take another port"
    said = f"kps serve: cannot listen on {address}: address already in use; {hint}\n"
    assert result.stderr == said


def test_bench(serve: Callable[..., Serve]) -> None:
    url = serve("--address", "127.0.0.1:0").url
    result = run("bench", "--address", url, "--seconds", "0.1", "--size", "1000")
    assert (result.returncode, result.stderr) == (0, "")
    lines = re.findall(r"^(.{12}) +([0-9,]+) ", result.stdout, re.M)
    assert [name.strip() for name, _ in lines] == ["throughput", "a message", "acks", ""]
    assert all(int(number.replace(",", "")) > 0 for _, number in lines)


def test_bench_without_a_server() -> None:
    result = run("bench", "--address", "127.0.0.1:1")
    assert result.returncode == 1
    assert result.stderr.startswith("kps bench: cannot connect to 127.0.0.1:1: ")


def test_the_console_can_be_switched_off(serve: Callable[..., Serve]) -> None:
    for options, status in (((), 200), (("--no-console",), 404)):
        address = serve("--address", "127.0.0.1:0", *options).url.split("/")[2]
        connection = http.client.HTTPConnection(address, timeout=20)
        connection.request("GET", "/")
        assert connection.getresponse().status == status
        connection.close()


def test_requests_over_http_can_be_switched_off(serve: Callable[..., Serve]) -> None:
    for options, status in (((), 204), (("--no-http-api",), 404)):
        address = serve("--address", "127.0.0.1:0", *options).url.split("/")[2]
        connection = http.client.HTTPConnection(address, timeout=20)
        connection.request("POST", "/publish?topic=t", b"1")
        assert connection.getresponse().status == status
        connection.close()


def test_compression_is_switched_on(serve: Callable[..., Serve]) -> None:
    for options, expected in (((), False), (("--compress",), True)):
        url = serve("--address", "127.0.0.1:0", *options).url
        with dial(url, compression="deflate") as peer:
            assert bool(peer.protocol.extensions) is expected


def test_variables_and_file(serve: Callable[..., Serve], tmp_path: Path) -> None:
    config = tmp_path / "kps.toml"
    config.write_text(
        'address = "127.0.0.1:0"\npath = "/file"\nmax-message = 1000\norigin = ["https://a.example"]\n'
    )
    assert serve("--config", str(config)).url.endswith("/file")
    assert serve(KPS_CONFIG=str(config), KPS_PATH="/variable").url.endswith("/variable")
    both = serve("--path", "/flag", KPS_CONFIG=str(config), KPS_PATH="/variable")
    assert both.url.endswith("/flag")
    result = run("pub", "t", '"' + "x" * 2000 + '"', "--address", both.url)
    assert (result.returncode, result.stderr) == (
        1,
        "kps pub: the message has 2042 bytes, and the server takes 1000 at most\n",
    )
    for text, error in (
        ("\nnonsense = 1", f"{config}, line 2: there is no option nonsense"),
        ("max_mesage = 1", f"{config}, line 1: there is no option max_mesage; did you mean max_me"),
        ("path = '/p'\nid = [1]", f"{config}, line 2: id: takes one value, and not [1]"),
        ("path = 5.5", f"{config}, line 1: path: must be a text, not 5.5"),
        ("max_message = true", f"{config}, line 1: max_message: takes one value, and not True"),
        (
            "origin = [\n'a',\n'b',\n]\nthreads = 2",
            f"{config}, line 5: threads: takes true or false",
        ),
        ('tokens = ""', f"{config}, line 1: tokens: must be the name of a file"),
        ("jwt_key = []", f"{config}, line 1: jwt_key: takes a list that names a file"),
        ("not toml", f"cannot read {config}: "),
    ):
        config.write_text(text)
        result = run("serve", "--config", str(config))
        assert result.returncode == 2
        assert error in result.stderr


def test_every_limit_of_a_server_is_shown_and_can_be_set() -> None:
    """All but those of a program's mailboxes, as a server has none."""
    names = {f.name for f in fields(ServerLimits) if not f.name.startswith("mailbox_")}
    for name, value in (("max_topics", "5"), ("overflow", "drop_oldest"), ("ack_timeout", "2.5")):
        shown = run("serve", f"--{name.replace('_', '-')}", value, "--show-limits")
        assert shown.returncode == 0
        lines = [line.split(maxsplit=2) for line in shown.stdout.splitlines()]
        assert {line[0] for line in lines} == names
        assert [line[1] for line in lines if line[0] == name] == [value]
        assert all(line[2] for line in lines)
    options = run("serve", "--help").stdout
    assert [name for name in names if f"--{name.replace('_', '-')}" not in options] == []


def test_tls(serve: Callable[..., Serve], tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    trust = tmp_path / "ca.pem"
    trust.write_bytes(authority.cert_pem.bytes())
    server = serve("--address", "127.0.0.1:0", "--tls-cert", str(cert), "--tls-key", str(key))
    assert server.url.startswith("wss://")
    assert run("pub", "t", "1", "--address", server.url, SSL_CERT_FILE=str(trust)).returncode == 0
    distrusted = run("pub", "t", "1", "--address", server.url)
    assert distrusted.returncode == 1
    assert "certificate" in distrusted.stderr.lower()


TOKEN = "a-token-of-thirty-two-characters"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.toml"
    file.touch(0o600)
    file.write_text(f'[me]\ntoken = "{TOKEN}"\npublish = ["log"]\nsubscribe = ["log"]\n')
    return file


def test_tokens(serve: Callable[..., Serve], token_file: Path) -> None:
    server = serve("--address", "127.0.0.1:0", "--tokens", str(token_file))
    to_server = "--address", server.url

    def mine(*arguments: str) -> tuple[int, str, str]:
        result = run(*arguments, *to_server, KPS_TOKEN=TOKEN)
        return result.returncode, result.stdout, result.stderr

    assert run("pub", "log", "1", *to_server, "--token", TOKEN).returncode == 0
    assert mine("pub", "log", "1") == (0, "", "")
    not_on_this = "this client may not publish on this topic (the topic "
    for more in ((), ("--ack",)):
        assert mine("pub", "news", "1", *more) == (1, "", f"kps pub: {not_on_this}'news')\n")
    code, _, errors = mine("bench", "--seconds", "0.01")
    assert (code, errors.startswith(f"kps bench: {not_on_this}'kps-bench-")) == (1, True)
    assert mine("sub", "log", "news") == (
        1,
        "",
        "kps sub: cannot subscribe to 'news': this client may not subscribe to this topic\n",
    )
    assert mine("sub", "--pattern", "log/**") == (
        1,
        "",
        "kps sub: cannot subscribe to 'log/**': this client may not subscribe to this pattern\n",
    )
    for command in (["sub", "log"], ["pub", "log", "1"], ["bench"]):
        wrong = run(*command, *to_server, "--token", "wrong")
        assert (wrong.returncode, wrong.stdout) == (1, "")
        refused = (
            r"kps \w+: cannot connect to .* HTTP status 401 \(the token, from argument --token"
        )
        assert re.fullmatch(rf"{refused}, is not valid there\)\n", wrong.stderr)
    missing = run("pub", "log", "1", *to_server, KPS_TOKEN="")
    needed = "the server refused this client: a token is needed (set KPS_TOKEN, or give --token)"
    assert (missing.returncode, missing.stderr) == (1, f"kps pub: {needed}\n")
    bad = run("pub", "log", "1", *to_server, KPS_TOKEN="two words")
    assert (bad.returncode, bad.stderr.count("\n"), "words" in bad.stderr) == (2, 1, False)


def test_sub_ends_when_it_may_not_go_on(serve: Callable[..., Serve], token_file: Path) -> None:
    serving = ("--address", kept_address(), "--tokens", str(token_file))
    first = serve(*serving)
    subscriber = subprocess.Popen(
        [sys.executable, "-m", "kps", "sub", "log", "--reconnect", "--address", first.url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"KPS_TOKEN": TOKEN},
    )  # fmt: skip
    publish_until_somebody_has("log", "--address", first.url, KPS_TOKEN=TOKEN)
    first.stop()
    token_file.write_text(f'[me]\ntoken = "{TOKEN}"\nsubscribe = []\n')
    serve(*serving)
    _, errors = subscriber.communicate(timeout=PATIENCE)
    refusal = "this client may not subscribe to this topic"
    assert errors == f"kps sub: cannot subscribe to 'log': {refusal}\n"
    assert subscriber.returncode == 1


def test_the_smoke_test(serve: Callable[..., Serve]) -> None:
    def smoke(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "kps.cli.smoke", *arguments],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    assert smoke().stdout.endswith("kps-test: all works\n")
    assert smoke(serve("--address", "127.0.0.1:0").url).returncode == 0
    failed = smoke("127.0.0.1:1")
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
