"""The programs in ``examples/`` and in the README run, and do what they say."""

import asyncio
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import kps
import kps.sync
from tests.io.harness import eventually
from tests.mqtt.harness import broker, needs_broker

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PATIENCE = 30.0


def start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", log: str = "") -> str:
    """End a program's input and return its output; ``log`` is what its errors must tell."""
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert (log in errors) if log else (errors == "")
    return output


def patient(folder: Path, name: str, *, before: str, after: str) -> Path:
    """A copy of a program that gives others the time that a busy machine may need."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert text.count(before) == 1
    copy = folder / name
    copy.write_text(text.replace(before, after), encoding="utf-8")
    return copy


def with_server(program: Path, log: str) -> str:
    """Run a program that takes the address of a server, and return its output."""

    async def run() -> str:
        async with kps.Server("127.0.0.1:0") as server:
            process = start(str(program), server.address)
            return await asyncio.to_thread(finish, process, log)

    return asyncio.run(run())


def test_request_with_acks(tmp_path: Path) -> None:
    program = patient(tmp_path, "request_with_acks.py", before="timeout=0.5", after="timeout=2.0")
    assert with_server(program, log="ValueError: cannot resize") == (
        "full: cannot resize cat.png: no space left\nquick: done\nslow: timeout\n"
    )


def test_journal(tmp_path: Path) -> None:
    journal = tmp_path / "orders.jsonl"

    def write(server: kps.sync.Server, *expected: str, lost: str = "") -> None:
        process = start(str(EXAMPLES / "journal.py"), str(journal), server.address)
        assert process.stdout is not None
        assert process.stderr is not None
        assert [process.stdout.readline().rstrip() for _ in expected] == list(expected)
        if lost:  # the library's warning comes before it
            assert lost in (line.rstrip() for line in process.stderr)
        process.kill()
        process.communicate()

    rules = [kps.History("orders", size=3)]
    with kps.sync.Server("127.0.0.1:0", history=rules) as server:
        for number in (1, 2):
            server.publish("orders", number)
        write(server, "wrote order 1", "wrote order 2")
        server.publish("orders", 3)
        with journal.open("a") as file:
            file.write('{"order": 3, "posi')  # as if it had been killed then
        write(server, "wrote order 3")
        for number in range(4, 9):
            server.publish("orders", number)
        lost = "2 orders are lost: the server has not kept them"
        write(server, "wrote order 6", "wrote order 7", "wrote order 8", lost=lost)
    written = [json.loads(line)["order"] for line in journal.read_text().splitlines()]
    assert written == [1, 2, 3, 6, 7, 8]
    with kps.sync.Server("127.0.0.1:0") as server:
        journal.unlink()
        process = start(str(EXAMPLES / "journal.py"), str(journal), server.address)
        eventually(lambda: server.count_subscribers("orders")[1] > 0, "the subscription")
        server.publish("orders", 1)
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (1, "the server keeps no history of orders\n")


def test_rooms() -> None:
    process = start(str(EXAMPLES / "rooms.py"), "127.0.0.1:0")
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    with (
        kps.sync.Client(url, id="ann") as ann,
        kps.sync.Client(url, id="bob") as bob,
        kps.sync.Client(url, id="cid") as cid,
    ):
        for client in (ann, bob):
            client.subscribe("rooms/red", print)
        with pytest.raises(kps.ServerError, match="rooms/red is full"):
            cid.subscribe("rooms/red", print)
        with pytest.raises(kps.ServerError, match="a pattern would have rooms"):
            cid.subscribe(kps.Pattern("rooms/*"), print)
        cid.subscribe("news", print)
        bob.unsubscribe("rooms/red")
        bob.flush()
        cid.subscribe("rooms/red", print)
        cid.unsubscribe("rooms/red")
    lines = [process.stdout.readline().rstrip() for _ in range(13)]
    process.terminate()
    assert finish(process) == ""
    assert lines[:6] == [
        *(f"{name} connects" for name in ("ann", "bob", "cid")),
        "ann comes into rooms/red",
        "bob comes into rooms/red",
        "cid finds rooms/red full",
    ]
    assert sorted(lines[6:]) == [
        "ann is gone",
        "ann leaves rooms/red: closed",
        "bob is gone",
        "bob leaves rooms/red: unsubscribed",
        "cid comes into rooms/red",
        "cid is gone",
        "cid leaves rooms/red: unsubscribed",
    ]


def test_sensors() -> None:
    async def run() -> None:
        async with kps.Server("127.0.0.1:0") as server:
            readings = server.subscribe("readings", timeout=PATIENCE)
            process = start(str(EXAMPLES / "sensors.py"), server.address)
            seen = set()
            async for message in readings:
                assert 5 < message.data["celsius"] < 25
                seen.add(message.data["sensor"])
                if len(seen) == 3:
                    break
            process.kill()
            await asyncio.to_thread(process.communicate)

    asyncio.run(run())


def test_chat(tmp_path: Path) -> None:
    async def run() -> None:
        async with kps.Server("127.0.0.1:0") as server:
            program = str(patient(tmp_path, "chat.py", before="timeout=5", after="timeout=30"))
            alice, bob = (start(program, name, server.address) for name in ("alice", "bob"))
            assert alice.stdin is not None
            assert alice.stdout is not None
            assert bob.stdout is not None
            for process in (alice, bob):
                assert process.stdout is not None
                line = await asyncio.to_thread(process.stdout.readline)
                assert line.endswith(" in lobby\n")
            alice.stdin.write("hello\n")
            alice.stdin.flush()
            assert await asyncio.to_thread(alice.stdout.readline) == "  seen by bob\n"
            assert await asyncio.to_thread(bob.stdout.readline) == "alice: hello\n"
            for process in (alice, bob):
                await asyncio.to_thread(finish, process)

    asyncio.run(run())


def test_publish() -> None:
    async def run() -> None:
        async with kps.Server("127.0.0.1:0") as server:
            news = server.subscribe("news")
            process = start(str(EXAMPLES / "publish.py"), server.address)
            assert await asyncio.to_thread(finish, process) == ""
            assert (await anext(news)).data == {"title": "hello"}

    asyncio.run(run())


def test_worker() -> None:
    async def run() -> None:
        async with kps.Server("127.0.0.1:0", id="boss") as server:
            worker = start(str(EXAMPLES / "worker.py"), server.address, "2")
            assert worker.stdout is not None
            assert await asyncio.to_thread(worker.stdout.readline) == "ready\n"
            acks = [
                await server.publish_with_ack("jobs", {"add": numbers}, timeout=PATIENCE)
                for numbers in ([1, 2], [3, 4])
            ]
            for ack in acks:
                assert (await ack.wait())["workers of jobs"].success
            assert await asyncio.to_thread(finish, worker) == "boss gets 3\nboss gets 7\n"

            worker = start(str(EXAMPLES / "worker.py"), server.address)
            assert worker.stdout is not None
            assert await asyncio.to_thread(worker.stdout.readline) == "ready\n"
            ack = await server.publish_with_ack("jobs", {}, timeout=PATIENCE)
            assert (await ack.wait())["workers of jobs"].error == "'add'"
            worker.communicate(timeout=PATIENCE)
            assert worker.returncode == 1

    asyncio.run(run())


def test_worker_pool() -> None:
    again, done = finish(start(str(EXAMPLES / "worker_pool.py"))).splitlines()
    told = re.fullmatch(r"job 7: (worker-\d) disconnected; executed again by (worker-\d)", again)
    assert told is not None
    assert told[1] != told[2]
    assert done == "40 of 40 jobs are done"


def test_tracing() -> None:
    """Each line of a span has the ends of its parent's id and of its own."""
    pytest.importorskip("opentelemetry.sdk", reason="the SDK of OpenTelemetry is not installed")
    output = with_server(EXAMPLES / "tracing.py", log="ValueError: an order without an address")
    outcomes, lines = output.splitlines()[:2], output.splitlines()[2:]
    assert outcomes == ["bills: an order without an address", "packers of orders: done"]
    spans = {text: (parent, own) for parent, _, own, text in (one.split(" ", 3) for one in lines)}
    order = "PRODUCER shop: send orders: 1 of 2 failed, bills: an order without an address"
    chain = [order, "CONSUMER stock: process orders", "PRODUCER stock: send packed",
             "CONSUMER mail: process packed"]  # fmt: skip
    bill = "CONSUMER bills: process orders: an order without an address"
    assert spans.keys() == {*chain, bill}
    assert [spans[one][0] for one in chain] == ["----", *(spans[one][1] for one in chain[:-1])]
    assert spans[bill][0] == spans[order][1]


def test_flask_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flask", reason="Flask is not installed")
    with kps.sync.Server("127.0.0.1:0") as server:
        monkeypatch.setenv("KPS_ADDRESS", server.address)
        program = patient(tmp_path, "flask_view.py", before=", timeout=5)", after=", timeout=30)")
        view = runpy.run_path(str(program))
        client = view["app"].test_client()
        try:
            assert client.post("/orders", json={"n": 1}).status_code == 503
            server.subscribe("orders", lambda message: None)
            answer = client.post("/orders", json={"n": 1})
            assert (answer.status_code, answer.json) == (202, {"taken by": [server.id]})
        finally:
            view["bus"].client().close()


@needs_broker
def test_mqtt_sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bridge of bridge.toml, and a broker."""
    with broker(tmp_path) as there, kps.sync.Server("127.0.0.1:0") as server:
        monkeypatch.setenv("KPS_MQTT_BROKER", there.url)
        monkeypatch.setenv("KPS_ADDRESS", server.address)
        bridge = start("-m", "kps", "bridge", "mqtt", "--config", str(EXAMPLES / "bridge.toml"))
        sensor = start(str(EXAMPLES / "mqtt_sensor.py"), "127.0.0.1", str(there.port))
        try:
            for message in server.subscribe("sensors/1/temperature", timeout=PATIENCE):
                assert 10 < message.data < 30
                break
            ack = server.publish_with_ack("lamps/1", "on", timeout=PATIENCE)
            assert ack.wait()["hall-bridge"].success
            assert sensor.stdout is not None
            assert sensor.stdout.readline() == "the lamp is on\n"
        finally:
            bridge.terminate()
            sensor.kill()
            sensor.communicate(timeout=PATIENCE)
        assert "the bridge has ended: " in bridge.communicate(timeout=PATIENCE)[1]
        assert bridge.returncode == 0


@pytest.mark.parametrize("page", sorted(EXAMPLES.glob("*.html")), ids=lambda page: page.name)
def test_pages_load_scripts_from_their_own_origin_only(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"\bimport\s*\(|<script[^>]*\bsrc|\beval\b|new Function", text)
    (source,) = re.findall(r"\bimport .* from '([^']*)'", text)
    assert (page.parent / source).samefile(ROOT / "clients" / "js" / "kps.js")


def test_every_example_is_tested() -> None:
    source = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    for path in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.sh")):
        assert path.stem in source


def test_every_whole_program_has_its_tests_and_its_page() -> None:
    for folder in EXAMPLES.iterdir():
        name = folder.name
        if (folder / f"{name}.py").exists():
            assert (ROOT / "tests" / "examples" / f"test_{name}.py").exists()
            page = ROOT / "docs" / "examples" / f"{name}.md"
            assert f"../pictures/example-{name}." in page.read_text(encoding="utf-8")
            if (folder / "index.html").exists():
                assert (ROOT / "tests" / "web" / f"example-{name}.test.js").exists()


def test_the_table_of_drivers_has_every_scenario() -> None:
    suite = (ROOT / "tests" / "io" / "test_scenarios.py").read_text()
    scenarios = [name.replace("_", " ") for name in re.findall(r"^def test_(\w+)", suite, re.M)]
    table = (ROOT / "docs" / "drivers.md").read_text()
    assert re.findall(r"^\| ([^|]+) \| ✓", table, re.M) == scenarios
    assert "failed" not in table
