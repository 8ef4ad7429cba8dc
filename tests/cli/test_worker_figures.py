"""The figures of ``kps serve --workers``: one answer for all workers, whatever becomes of one."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_text

import kps
from tests.cli.test_workers import PATIENCE, Served, clients, run
from tests.io.harness import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are for Linux")

Samples = dict[tuple[str, str], float]
"""Samples without labels of their own, by name and worker; the sums of those that have some."""

OPEN = "application/openmetrics-text"


class Shown(Served):
    """A server with workers that shows its figures on both ports."""

    def __init__(self, log: Path, *options: str, workers: int = 2) -> None:
        port = "127.0.0.1:0"
        super().__init__("--metrics", "--metrics-address", port, *options, workers=workers, log=log)
        found = re.search(r"with \d workers, listens on (\S+); figures on (\S+)", log.read_text())
        assert found is not None, log.read_text()
        self.bus, self.operators = found.groups()

    def get(self, path: str, address: str = "", accept: str = "") -> tuple[int, str]:
        connection = http.client.HTTPConnection(address or self.operators, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"Accept": accept})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def scrape(self, address: str = "", accept: str = "") -> Samples:
        status, text = self.get("/metrics", address, accept)
        assert status == 200, text
        read: Any = read_open if accept == OPEN else read_text
        found: Samples = {}
        for family in read(text):
            for sample in family.samples:
                key = sample.name, sample.labels.get("worker", "")
                found[key] = found.get(key, 0) + sample.value
        return found

    def scrape_all(self, address: str = "", accept: str = "") -> Samples:
        """Scrape until no worker is missing: one that is slow counts as missing after a second."""
        whole: list[Samples] = []

        def is_whole() -> bool:
            # A worker that dies takes the connection with it that it has just been given.
            with contextlib.suppress(OSError, http.client.HTTPException):
                found = self.scrape(address, accept)
                whole[:] = [found] if found["kps_workers_missing", ""] == 0 else []
            return bool(whole)

        eventually(is_whole, "an answer of all workers")
        return whole[0]

    def worker_of(self, number: int) -> int:
        """The process of a worker, by its number."""
        for process in self.workers():
            environment = Path(f"/proc/{process}/environ").read_bytes()
            if f'"hub.{number}"'.encode() in environment:
                return process
        raise AssertionError(f"there is no worker {number}")


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    server = Shown(tmp_path / "log")
    try:
        server.scrape_all()
        yield server
    finally:
        server.end()


def test_an_answer_has_all_workers_on_either_port_in_either_format(shown: Shown) -> None:
    async def work() -> None:
        async with clients(shown, 5) as made:
            for number, client in enumerate(made):
                await client.publish_with_receipt("t", number)
            for address in (shown.operators, shown.bus):
                for accept in ("", OPEN):
                    found = await asyncio.to_thread(shown.scrape_all, address, accept)
                    check(found)

    def check(found: Samples) -> None:
        assert (found["kps_workers", ""], found["kps_workers_missing", ""]) == (2, 0)
        by_worker = [found["kps_clients", worker] for worker in "12"]
        assert sum(by_worker) == 5
        assert min(by_worker) >= 2
        assert sum(found["kps_published_messages_total", worker] for worker in "12") == 5
        assert found["kps_build_info", ""] == 1
        for worker in "12":
            assert found["process_resident_memory_bytes", worker] > 1_000_000
            assert found["kps_worker_restarts_total", worker] == 0

    run(work())


def test_a_worker_that_hangs_is_missing_and_nobody_waits_for_long(shown: Shown) -> None:
    stopped = shown.worker_of(1)
    os.kill(stopped, signal.SIGSTOP)
    try:
        for _ in range(5):  # who hangs up meanwhile does no harm
            host, _, port = shown.operators.rpartition(":")
            with socket.create_connection((host, int(port))) as impatient:
                impatient.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(5):  # to whichever worker they would have gone
            begun = time.monotonic()
            found = shown.scrape()
            assert time.monotonic() - begun < PATIENCE / 2
            assert (found["kps_workers", ""], found["kps_workers_missing", ""]) == (2, 1)
            assert ("kps_clients", "1") not in found
            assert ("kps_clients", "2") in found
    finally:
        os.kill(stopped, signal.SIGCONT)
    shown.scrape_all()


def test_a_worker_that_dies_begins_its_own_series_again(shown: Shown) -> None:
    restarts = "kps_worker_restarts_total", "2"
    before = shown.scrape_all()
    os.kill(shown.worker_of(2), signal.SIGKILL)
    eventually(lambda: shown.scrape_all().get(restarts) == 1, "a new worker")
    found = shown.scrape_all()
    assert found["kps_worker_restarts_total", "1"] == 0
    start = "process_start_time_seconds"
    assert found[start, "2"] > before[start, "2"]
    assert found[start, "1"] == before[start, "1"]


def test_health(shown: Shown) -> None:
    for address in (shown.operators, shown.bus):
        status, text = shown.get("/healthz", address)
        found = json.loads(text)
        assert (status, found["status"], found["nodes"]) == (200, "ok", 2)


def test_operators_wait_for_a_worker_that_takes_them(shown: Shown) -> None:
    workers = shown.workers()
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    waiting = [http.client.HTTPConnection(shown.operators, timeout=PATIENCE) for _ in range(3)]
    try:
        for connection in waiting:
            connection.request("GET", "/healthz")
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
    for connection in waiting:
        assert connection.getresponse().status == 200
        connection.close()


def test_a_console_shows_all_workers(shown: Shown) -> None:
    async def work() -> None:
        async with clients(shown, 4) as made:
            for client in made:
                async for message in client.subscribe("__kps/stats"):
                    figures = message.data
                    if figures["client_count"] == 4:
                        break
                assert {one["id"] for one in figures["clients"]} == {f"c{n}" for n in range(4)}
                nodes = {one["id"]: one for one in figures["nodes"]}
                assert nodes.keys() == {"hub.1", "hub.2"}
                assert {one["state"] for one in nodes.values()} == {"up"}
                assert sum(one["client_count"] for one in nodes.values()) == 4

    run(work())


def test_over_tls_the_port_for_operators_is_plain(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {"--tls-cert": tmp_path / "cert.pem", "--tls-key": tmp_path / "key.pem"}
    certificate.cert_chain_pems[0].write_to_path(str(files["--tls-cert"]))
    certificate.private_key_pem.write_to_path(str(files["--tls-key"]))
    options = [part for name, path in files.items() for part in (name, str(path))]
    server = Shown(tmp_path / "log", *options)
    try:
        assert server.scrape()["kps_workers", ""] == 2
    finally:
        server.end()


def test_no_port_for_operators_unless_one_is_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    server = Served(log=log)
    try:
        assert "figures on" not in log.read_text()
    finally:
        server.end()
    assert kps.__version__ in log.read_text()
