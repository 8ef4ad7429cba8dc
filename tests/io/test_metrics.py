"""The figures over real HTTP, from both drivers; and the lines at a server's start and end."""

import http.client
import logging
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_text

import kps
from kps.io_common.metrics import INTERVAL
from tests.io.harness import PATIENCE, AnyDriver, Inbox, eventually
from tests.io.raw import Raw
from tests.ports import kept_address

OPEN_METRICS = "application/openmetrics-text"
CONSOLE = kps.Permissions(console=True)


def get(address: str, path: str = "/metrics", **headers: str) -> tuple[int, str, str]:
    """Status, content type and body of an answer."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.request(
            "GET", path, headers={n.replace("_", "-"): v for n, v in headers.items()}
        )
        response = connection.getresponse()
        content_type = response.getheader("content-type") or ""
        return response.status, content_type, response.read().decode()
    finally:
        connection.close()


def values(address: str, **headers: str) -> dict[tuple[str, ...], float]:
    """All figures: by name, and the values of their labels."""
    status, _, body = get(address, **headers)
    assert status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in read_text(body)
        for sample in family.samples
    }


def test_both_formats(servers: AnyDriver, clients: AnyDriver) -> None:
    server = servers.server(metrics=True)
    clients.client(server.address).subscribe("t", Inbox())
    status, content_type, body = get(server.address)
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    text = {family.name: family.type for family in read_text(body)}
    status, content_type, body = get(server.address, accept=OPEN_METRICS)
    form = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert (status, content_type) == (200, form)
    families = list(read_open(body))  # type: ignore[no-untyped-call]
    assert len(families) == len(text)
    assert values(server.address)["kps_subscriptions",] == 1


def test_what_is_counted_is_told(servers: AnyDriver, clients: AnyDriver) -> None:
    server = servers.server(metrics=True)
    inbox = Inbox()
    bob, alice = clients.client(server.address), clients.client(server.address)
    bob.subscribe("t", inbox)
    for number in range(3):
        alice.publish("t", number)
    assert inbox.take(3) == [0, 1, 2]
    assert alice.publish_with_ack("t", 3).wait()
    found = values(server.address)
    driver = found.keys() & {("kps_build_info", kps.__version__, name) for name in
                             ("asyncio", "threads")}  # fmt: skip
    assert len(driver) == 1
    assert found["kps_clients",] == 2
    assert found["kps_published_messages_total",] == 4
    assert found["kps_ack_outcomes_total", "handled"] == 1
    assert found["kps_ack_duration_seconds_count",] == 1


def test_it_is_off_unless_asked_for(server: Any) -> None:
    assert get(server.address)[0] == 404
    assert server.metrics_address is None


def test_a_port_of_its_own(servers: AnyDriver, clients: AnyDriver) -> None:
    server = servers.server(metrics_address="127.0.0.1:0", auth=lambda token: None)
    address = server.metrics_address
    assert address != server.address
    assert not address.endswith(":0")
    assert values(address)["kps_clients",] == 0
    assert get(address, "/healthz")[0] == 200
    assert get(server.address)[0] == 404
    for path in ("/", "/kps.js", "/ws/bus"):
        assert get(address, path)[0] == 404
    with pytest.raises(kps.ConnectFailed):
        clients.client(address, token="x", reconnect=False)


def test_a_port_of_its_own_beside_tls(servers: AnyDriver, secure: Any) -> None:
    context, _ = secure
    server = servers.server(metrics_address="127.0.0.1:0", ssl=context)
    assert server.url.startswith("wss://")
    assert values(server.metrics_address)["kps_clients",] == 0


def test_a_port_that_is_taken(servers: AnyDriver) -> None:
    first = servers.server(metrics_address="127.0.0.1:0")
    with pytest.raises(kps.ServerStartFailed, match=first.metrics_address):
        servers.server(metrics_address=first.metrics_address)
    with pytest.raises(kps.ServerStartFailed):
        servers.server(metrics_address=first.address)


def test_both_ports_are_free_after_the_end(servers: AnyDriver) -> None:
    address, metrics_address = kept_address(), kept_address()
    servers.server(address, metrics_address=metrics_address).stop()
    again = servers.server(address, metrics_address=metrics_address)
    assert (again.address, again.metrics_address) == (address, metrics_address)


@pytest.mark.parametrize("metrics_address", [5, "localhost:1/metrics", "a b:1", b"localhost:1"])
def test_an_address_that_is_none(servers: AnyDriver, metrics_address: Any) -> None:
    with pytest.raises(kps.InvalidArgument):
        servers.server(metrics_address=metrics_address)


class TestTokens:
    def test_of_who_may_see_the_console(self, servers: AnyDriver) -> None:
        known = {"secret": kps.Identity("ops", CONSOLE), "other": kps.Identity("x")}
        server = servers.server(metrics=True, auth=known.get)
        assert get(server.address)[0] == 401
        assert get(server.address, authorization="Bearer wrong")[0] == 401
        assert get(server.address, authorization="Bearer other")[0] == 403
        found = values(server.address, authorization="Bearer secret")
        assert found["kps_connections_refused_total", "login"] == 1
        assert found["kps_http_responses_total", "401"] == 2

    def test_a_hook_that_fails(self, servers: AnyDriver) -> None:
        def fail(token: str) -> None:
            raise ValueError(token)

        server = servers.server(metrics=True, auth=fail)
        assert get(server.address, authorization="Bearer x")[0] == 500

    def test_who_asks_waits_while_the_hook_decides(
        self, servers: AnyDriver, clients: AnyDriver
    ) -> None:
        goes_on = threading.Event()

        def decide(token: str) -> kps.Identity:
            if token == "slow":
                assert goes_on.wait(PATIENCE)
            return kps.Identity(token, CONSOLE)

        server = servers.server(metrics=True, auth=decide)
        with ThreadPoolExecutor(1) as pool:
            scrape = pool.submit(values, server.address, authorization="Bearer slow")
            try:
                assert clients.client(server.address, token="fast").is_connected
            finally:
                goes_on.set()
            assert scrape.result()["kps_clients",] == 1


def test_scrapes_at_one_time(servers: AnyDriver, clients: AnyDriver) -> None:
    server = servers.server(metrics=True, metrics_address="127.0.0.1:0")
    client, inbox = clients.client(server.address), Inbox()
    client.subscribe("t", inbox)
    addresses = [server.address, server.metrics_address] * 8
    with ThreadPoolExecutor(len(addresses)) as pool:
        scrapes = [pool.submit(values, address) for address in addresses]
        for number in range(200):
            client.publish("t", number)
        assert inbox.take(200) == list(range(200))
        for scrape in scrapes:
            assert scrape.result()["kps_clients",] == 1


def test_a_scraper_that_never_reads_takes_no_place(servers: AnyDriver) -> None:
    server = servers.server(
        metrics_address="127.0.0.1:0", limits=kps.ServerLimits(max_connections=2)
    )
    silent = [Raw(server.metrics_address) for _ in range(4)]
    for raw in silent:
        raw.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")  # and no more
    assert values(server.metrics_address)["kps_connections",] == 5
    with Raw(server.address) as client:
        client.upgrade()
    for raw in silent:
        raw.close()
    eventually(lambda: values(server.metrics_address)["kps_connections",] == 1)


def test_how_late_the_driver_is(servers: AnyDriver) -> None:
    server = servers.server(metrics=True)

    def tries() -> float:
        return values(server.address)["kps_driver_lag_seconds_count",]

    eventually(lambda: tries() >= 2)
    assert 0 < INTERVAL < 1


def test_a_loop_that_is_kept(servers: AnyDriver) -> None:
    """The program keeps the driver for longer than the interval: it was late by that."""
    server = servers.server(metrics=True)
    eventually(lambda: values(server.address)["kps_driver_lag_seconds_count",] > 0)
    seconds = 2 * INTERVAL + 0.3
    hold = threading.Event()
    if isinstance(server, kps.sync.Server):
        with server._driver.lock:
            hold.wait(seconds)
    else:
        server._thread.call(hold.wait, seconds)

    def is_late() -> bool:
        found = values(server.address)
        return (
            found["kps_driver_lag_seconds_bucket", "0.25"] < found["kps_driver_lag_seconds_count",]
        )

    eventually(is_late)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells this")
def test_the_process(servers: AnyDriver) -> None:
    server = servers.server(metrics=True)
    found, again = values(server.address), values(server.address)
    assert 0 < found["process_cpu_seconds_total",] <= again["process_cpu_seconds_total",]
    assert found["process_resident_memory_bytes",] > 1_000_000
    assert found["process_virtual_memory_bytes",] > found["process_resident_memory_bytes",]
    assert 3 < found["process_open_fds",] <= found["process_max_fds",]
    assert found["process_start_time_seconds",] == again["process_start_time_seconds",]
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert found["process_start_time_seconds",] > 1e9
    assert uptime > 0


def test_descriptors_are_counted(servers: AnyDriver) -> None:
    server = servers.server(metrics=True)
    before = values(server.address).get(("process_open_fds",))
    if before is None:
        pytest.skip("only Linux tells this")
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]
    try:  # what tests before this one have left may be closed meanwhile
        assert values(server.address)["process_open_fds",] > before + 80
    finally:
        for file in files:
            os.close(file)


def test_a_file_for_history(servers: AnyDriver, tmp_path: Path) -> None:
    path = str(tmp_path / "history.db")
    server = servers.server(metrics=True, history=[kps.History("**")], history_file=path)
    server.publish("t", "x" * 100)
    found = values(server.address)
    assert found["kps_history_messages",] == 1
    assert found["kps_history_file_failing",] == 0
    assert found["kps_history_file_lost_messages_total",] == 0


# -- the lines of the log --------------------------------------------------------------------


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    """The fields of all lines of one event."""
    return [
        dict(record.args) if isinstance(record.args, dict) else {}
        for record in caplog.records
        if getattr(record, "event", "") == name
    ]


def test_a_start_and_an_end_are_told(
    servers: AnyDriver, clients: AnyDriver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kps")
    server = servers.server(metrics_address="127.0.0.1:0")
    address, metrics_address = server.address, server.metrics_address
    for _ in range(2):
        clients.client(server.address, reconnect=False)
    server.stop()
    eventually(lambda: bool(events(caplog, "stopped")))
    (started,), (stopped,) = events(caplog, "started"), events(caplog, "stopped")
    assert started["driver"] in ("asyncio", "threads")
    assert {name: started[name] for name in ("version", "addresses", "metrics")} == {
        "version": kps.__version__,
        "addresses": address,
        "metrics": metrics_address,
    }
    assert (stopped["drained"], stopped["cut_off"]) == (2, 0)
    assert stopped["seconds"] >= 0


def test_who_does_not_read_is_cut_off(
    servers: AnyDriver, clients: AnyDriver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kps")
    server = servers.server()
    clients.client(server.address, reconnect=False)
    with Raw(server.address) as stuck, ThreadPoolExecutor(1) as pool:
        stuck.register("stuck")
        stopping = pool.submit(server.stop, PATIENCE)
        eventually(lambda: len(server._driver.connections) == 1, "the end of who reads")
        server.stop(0.3)
        stopping.result()
    eventually(lambda: bool(events(caplog, "stopped")))
    (stopped,) = events(caplog, "stopped")
    assert (stopped["drained"], stopped["cut_off"]) == (1, 1)
    assert 0.3 <= stopped["seconds"] < PATIENCE


def test_a_refused_login_is_one_line_with_the_reason(
    servers: AnyDriver, caplog: pytest.LogCaptureFixture
) -> None:
    jwt = pytest.importorskip("jwt", reason="PyJWT is not installed")
    caplog.set_level(logging.DEBUG, logger="kps")
    secret = "a secret of at least thirty-two bytes"
    verifier = kps.JWTVerifier(secret)
    # A hook of the program, around two of ours.
    server = servers.server(auth=lambda token: kps.FirstOf(lambda _: None, verifier)(token))
    expired = jwt.encode({"sub": "alice", "exp": 1}, secret, "HS256")
    with Raw(server.address) as raw:
        head = b"GET /ws/bus HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n"
        head += b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        head += b"Sec-WebSocket-Version: 13\r\nAuthorization: Bearer %b\r\n\r\n"
        raw.send(head % expired.encode())
        assert b"exp" not in raw.rest()
    eventually(lambda: bool(events(caplog, "login_refused")))
    (refused,) = events(caplog, "login_refused")
    assert refused["reason"] == "the token is not valid"
    assert refused["why"] == "exp: the token has expired"
    assert re.fullmatch(r"127\.0\.0\.1:\d+", refused["address"])
    lines = [record.getMessage() for record in caplog.records]
    reason = "the token is not valid (exp: the token has expired)"
    assert f"refused a login from {refused['address']}: {reason}" in lines
    assert not any(part in line for line in lines for part in expired.split("."))


def test_a_refused_origin_is_told_with_the_option(
    servers: AnyDriver, caplog: pytest.LogCaptureFixture
) -> None:
    server = servers.server()
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
              "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    assert get(server.address, "/ws/bus", Origin="https://a.example", **fields)[0] == 403
    eventually(lambda: bool(events(caplog, "origin_refused")))
    (refused,) = events(caplog, "origin_refused")
    assert refused["origin"] == "https://a.example"
    assert "--origin https://a.example" in caplog.text
