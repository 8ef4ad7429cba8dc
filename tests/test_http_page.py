"""The page about HTTP does what it says, with the curl of this machine, and so does its example."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kps
import kps.sync
from tests.io.harness import PATIENCE, eventually

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
BLOCKS = re.findall(r"```sh\n(.*?)```(?:\n\n```(?:json|text)\n(.*?)```)?", PAGE, re.DOTALL)

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture
def server() -> Iterator[kps.sync.Server]:
    with kps.sync.Server("127.0.0.1:0", history=[kps.History("orders/**", size=1000)]) as server:
        yield server


@pytest.fixture
def adder(server: kps.sync.Server) -> Iterator[None]:
    """The program of the page."""
    program = PROGRAM.replace("localhost:9313", server.address)
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as it:
        try:
            eventually(lambda: server.count_subscribers("numbers")[2] == 1, "it listens")
            # It heeds the signal only from ``run`` on, which comes later.
            eventually(lambda: heeds(it.pid, signal.SIGTERM), "its handlers")
            yield
        finally:
            it.terminate()
            _, complaints = it.communicate(timeout=PATIENCE)
    assert it.returncode == 0
    errors = re.findall(r"^ *(\w+Error: .*)$", complaints, re.MULTILINE)
    assert set(errors) <= {"ValueError: these are no numbers"}


def heeds(process: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal, as far as the system tells."""
    path = Path(f"/proc/{process}/status")
    if not path.exists():
        return True
    caught = int(re.findall(r"^SigCgt:\s*(\w+)$", path.read_text(), re.MULTILINE)[0], 16)
    return bool(caught >> (number - 1) & 1)


def run(script: str) -> str:
    command = ["sh", "-e", "-c", script.replace("curl ", f"curl -sS -m {PATIENCE} ")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 8
    assert PAGE.count("```sh") == len(BLOCKS)


@pytest.mark.usefixtures("adder")
@pytest.mark.parametrize(("script", "output"), BLOCKS)
def test_the_page(server: kps.sync.Server, script: str, output: str) -> None:
    script = script.replace("localhost:9313", server.address)
    # Nobody waits for these seconds to pass, and a busy machine may take them.
    script = script.replace("ack=2", f"ack={PATIENCE}").replace("timeout=2", f"timeout={PATIENCE}")
    if "curl -N" not in script:
        assert run(script) == output
        return
    with subprocess.Popen(["sh", "-c", f"exec {script}"], stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        try:
            assert it.stdout.readline() == "retry: 3000\n"
            run(BLOCKS[0][0].replace("localhost:9313", server.address))
            assert output in iter(it.stdout.readline, "")
        finally:
            it.kill()


def test_a_script_repeats_what_has_no_answer(server: kps.sync.Server) -> None:
    """Its first answers are lost, and the message comes once."""
    reports = server.subscribe("disks", timeout=PATIENCE)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        script = [
            str(ROOT / "examples" / "report.sh"),
            f"127.0.0.1:{proxy.getsockname()[1]}",
            "disks",
        ]
        with subprocess.Popen(script) as report:
            try:
                for is_last in (False, False, True):
                    pass_on(proxy, server.address, answers=is_last)
                assert report.wait(PATIENCE) == 0
            finally:
                report.kill()
    assert next(reports).data.keys() == {"disk", "percent"}
    server.publish("disks", "the next one")
    assert next(reports).data == "the next one"


def pass_on(proxy: socket.socket, address: str, *, answers: bool) -> None:
    """Pass one request on, and maybe the answer."""
    proxy.settimeout(PATIENCE)
    client, _ = proxy.accept()
    host, _, port = address.rpartition(":")
    with client, socket.create_connection((host, int(port)), PATIENCE) as there:
        request = b""
        while not request.endswith(b"}"):  # the end of its body
            request += client.recv(65536)
        there.sendall(request)
        answer = b"".join(iter(lambda: there.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 204 ")
        if answers:
            client.sendall(answer)


def test_a_script_goes_on_where_it_was(server: kps.sync.Server) -> None:
    script = [str(ROOT / "examples" / "watch.sh"), server.address, "orders/new"]
    with subprocess.Popen(
        script, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as watch:
        assert watch.stdout is not None
        try:
            lines = []
            for number in range(2):
                eventually(lambda: server.count_subscribers("orders/new")[2] == 1, "it listens")
                server.publish("orders/new", 2 * number)
                lines.append(watch.stdout.readline())
                (client,) = server.clients()
                assert server.disconnect(client.id)
                server.publish("orders/new", 2 * number + 1)
                lines.append(watch.stdout.readline())
        finally:
            os.killpg(watch.pid, signal.SIGKILL)
    assert [f'"data":{number}}}\n' in line for number, line in enumerate(lines)] == [True] * 4
