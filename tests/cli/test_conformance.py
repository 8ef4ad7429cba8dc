"""The command ``kps conformance``, as a user runs it: as a process."""

import json
import shlex
import socket
import struct
import sys
import threading
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

import kps.sync
from kps.testing.conformance.frames import TEXT, frame
from tests.cli.test_cli import PATIENCE, run
from tests.testing.test_conformance import SWITCH, serving

TESTEE = shlex.join([sys.executable, "-m", "kps.testing.testee"])

SILENT = shlex.join(
    [
        sys.executable,
        "-c",
        """
import json, sys
print(json.dumps({"testee": "silent", "needs": []}), flush=True)
for line in sys.stdin:
    told = json.loads(line)
    if "sync" in told:
        print(json.dumps({"synced": told["sync"]}), flush=True)
    elif "end" in told:
        print(json.dumps({"ended": True}), flush=True)
""",
    ]
)
"""A testee whose program does nothing."""


def conformance(*arguments: str) -> tuple[int, list[str], str]:
    result = run("conformance", *arguments)
    return result.returncode, result.stdout.splitlines(), result.stderr


def test_a_server_that_passes(tmp_path: Path) -> None:
    file, junit = tmp_path / "verdicts.json", tmp_path / "verdicts.xml"
    with serving() as new_target:
        address = new_target().address
        code, lines, errors = conformance(
            address, "--only", "12.3", "--only", "15", "--json", str(file), "--junit", str(junit)
        )
    assert (code, errors) == (0, "")
    assert lines[0] == f"ws://{address}/ws/bus"
    assert "  12.3  " in "\n".join(lines)
    verdicts = json.loads(file.read_text())
    assert lines[-1] == f"{verdicts['passed']} vectors: {verdicts['passed']} passed"
    assert verdicts["passed"] == len(verdicts["vectors"]) > 20
    assert len(xml.parse(junit).getroot()) == verdicts["passed"]


def test_what_a_server_cannot_do_is_left_out() -> None:
    with kps.sync.Server("127.0.0.1:0", id="refserver") as server:
        code, lines, _ = conformance(server.address, "--only", "15.6")
    assert code == 0
    told = "the server does not keep 5 messages of topics that begin with kept/"
    assert [line.partition(", because ")[2] for line in lines[-2:]] == [told, ""]


@contextmanager
def only_the_first_is_let_in() -> Iterator[str]:
    """A server that registers one client, and hangs up on the next one. Yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)

        def run() -> None:
            with listener.accept()[0] as connection:
                connection.recv(2**16)
                connection.sendall(SWITCH + frame(TEXT, b'{"action":"pong","id":"x"}'))
            with listener.accept()[0] as connection:
                connection.recv(1)
                reset = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_server_that_fails(tmp_path: Path) -> None:
    """It registers us, and then hangs up on everybody."""
    vectors = tmp_path / "vectors"
    steps = [{"open": "a", "registered": True}]
    vectors.write_text(json.dumps({"vectors": [{"name": "x", "clause": "4.2", "steps": steps}]}))
    with only_the_first_is_let_in() as address:
        code, lines, errors = conformance(address, "--vectors", str(vectors))
    assert (code, errors) == (1, "")
    assert lines[1:3] == ["   4.2  1 failed", "        failed: 'x'"]
    assert "no answer from ws://" in lines[3]


def test_vectors_that_a_server_does_not_pass(tmp_path: Path) -> None:
    file, junit, vectors = tmp_path / "v.json", tmp_path / "v.xml", tmp_path / "vectors"
    steps: list[Any] = [
        {"open": "a", "registered": True},
        {"client": "a", "send": {"action": "ping", "from": "a"}},
        {"client": "a", "receives": []},
    ]
    vectors.write_text(json.dumps({"vectors": [{"name": "x", "clause": "4.2", "steps": steps}]}))
    with serving() as new_target:
        arguments = [new_target().address, "--vectors", str(vectors)]
        code, lines, errors = conformance(*arguments, "--json", str(file), "--junit", str(junit))
    assert (code, errors) == (1, "")
    assert lines[1:3] == ["   4.2  1 failed", "        failed: 'x'"]
    assert "1 messages instead of 0" in lines[4]
    assert lines[-1] == "1 vectors: 1 failed"
    assert json.loads(file.read_text())["vectors"][0]["detail"].startswith("step 3: ")
    assert xml.parse(junit).getroot().attrib["failures"] == "1"


def test_a_client_that_passes() -> None:
    code, lines, errors = conformance("--client", TESTEE, "--only", "16.1", "--jobs", "2")
    assert (code, errors) == (0, "")
    assert lines[0] == TESTEE
    assert lines[-1].endswith(" passed")


def test_a_client_that_fails_and_lacks_something(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.json"
    arguments = ["--client", SILENT, "--patience", "0.2", "--json", str(file)]
    only = ["--only", "ping is the first thing", "--only", "a pong without proto"]
    code, lines, errors = conformance(*arguments, *only)
    assert (code, errors) == (1, "")
    assert "  the client does not connect" in "\n".join(lines)
    assert lines[-2:] == [
        "left out: 1, because the client does not have level_1",
        "2 vectors: 1 failed, 1 left out",
    ]
    verdicts = json.loads(file.read_text())
    assert [one["outcome"] for one in verdicts["vectors"]] == ["failed", "left out"]


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (
            ["localhost:1", "--client", "x"],
            2,
            "kps conformance: give either the address of a se",
        ),
        (["--client", ""], 2, "kps conformance: argument --client: must be a name that is not "),
        (["--client", "'x"], 2, "kps conformance: --client is not a command: No closing quotation"),
        (["--client", " "], 2, "kps conformance: --client is not a command"),
        (["--client", "x", "--only", "99.9"], 2, "kps conformance: there is no vector for 99.9"),
        (["--client", "x", "--jobs", "0"], 2, "kps conformance: argument --jobs: must be a whole"),
        (["x:99999"], 2, "kps conformance: not a server address: 'x:99999'"),
        (["127.0.0.1:1"], 3, "kps conformance: cannot connect to ws://127.0.0.1:1/ws/bus: "),
        (["--client", "/no/such"], 3, "kps conformance: the testee cannot be started: "),
        (["127.0.0.1:1", "--vectors", "/no/such"], 2, "kps conformance: cannot read /no/such: "),
        (
            ["127.0.0.1:1", "--vectors", __file__],
            2,
            "kps conformance: there are no vectors of this ",
        ),
    ],
)
def test_mistakes(arguments: list[str], code: int, error: str) -> None:
    result = run("conformance", *arguments)
    assert result.stderr.startswith(error)
    assert result.stderr.count("\n") == 1
    assert (result.returncode, result.stdout) == (code, "")


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    with serving() as new_target:
        arguments = [new_target().address, "--only", "12.7", "--json", str(tmp_path / "no" / "x")]
        code, lines, errors = conformance(*arguments)
    assert code == 1
    assert lines[-1].endswith(" passed")
    assert errors.startswith(f"kps conformance: {tmp_path / 'no' / 'x'}: cannot write the output: ")


def test_a_token_is_shown() -> None:
    def auth(token: str) -> kps.Identity | None:
        return kps.Identity("judge", kps.Permissions.open()) if token == "secret" else None

    with kps.sync.Server("127.0.0.1:0", id="refserver", auth=auth) as server:
        code, _, errors = conformance(server.address, "--only", "12.7")
        assert code == 3
        assert errors.startswith("kps conformance: the server does not register us: {")
        assert "a token is needed" in errors
        code, lines, errors = conformance(server.address, "--only", "12.7", "--token", "secret")
    assert (code, errors) == (0, "")
    assert lines[-1].endswith(" passed")


def test_the_port_of_something_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        code, lines, errors = conformance(address, "--patience", "0.2")
    assert (code, lines) == (3, [])
    assert errors == f"kps conformance: no answer from ws://{address}/ws/bus: timed out\n"


def test_a_server_with_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    chain, ca = tmp_path / "chain.pem", tmp_path / "ca.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(chain)
    authority.cert_pem.write_to_path(ca)
    with kps.sync.Server("127.0.0.1:0", id="refserver", tls_cert=str(chain)) as server:
        code, lines, errors = conformance(server.address, "--only", "12.7", "--tls-ca", str(ca))
        assert (code, lines[0], errors) == (0, f"wss://{server.address}/ws/bus", "")
        code, _, errors = conformance(f"wss://{server.address}", "--only", "12.7")
    assert code == 3
    assert errors.startswith(f"kps conformance: cannot connect to wss://{server.address}/ws/bus: ")
