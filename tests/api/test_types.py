"""What a type checker says about programs that use KPS."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
from typing import TypedDict

import kps
import kps.sync

class Order(TypedDict):
    id: int

async def on_order(message: kps.Message[Order]) -> int:
    return message.data["id"]

def plain(message: kps.Message) -> None:
    print(message.data.whatever)

def decide(request: kps.HttpRequest) -> bool:
    return True
"""

RIGHT = """
async def right(client: kps.Client) -> None:
    await client.subscribe("orders", on_order)
    client.subscribe("orders", plain)
    async for message in client.subscribe("orders"):
        print(message.data.whatever)
    orders: kps.Messages[Order] = client.subscribe("orders")
    async for order in orders:
        print(order.data["id"])
    ack: kps.Ack[int] = await client.publish_with_ack("orders", {"id": 1})
    first = await ack.wait_any()
    if first is not None and first.result is not None:
        print(first.result.bit_length())
    async with kps.Client("localhost:9313", id="a", reconnect=5.0) as other:
        print(other.id)
    tracing = kps.otel.Tracing(links=True)
    kps.Server(on_upgrade=decide, origins=["https://app.example"], tracing=tracing)
    async for order in (traced := kps.Client("a:1", tracing=tracing).subscribe("orders")):
        with tracing.process(order, traced):
            print(order.topic)
    unified = await kps.Client.NewClient(Address="localhost:9313", Id="a")
    print((await unified.PublishWithAck("t", 1)).id)

def right_on_threads(client: kps.sync.Client) -> None:
    for message in client.subscribe("orders"):
        print(message.data.whatever)
    client.subscribe("orders", plain).unsubscribe()
"""

# Each is one line of a coroutine function, and wrong.
WRONG = {
    'kps.Client("a:1", recconect=True)': "Unexpected keyword argument",
    'await kps.Client.connect("a:1", recconect=True)': "Unexpected keyword argument",
    'kps.sync.Client.connect("a:1", recconect=True)': "Unexpected keyword argument",
    'kps.Server("a:1", origin=["*"])': "Unexpected keyword argument",
    'kps.Client("a:1", offline_queue="many")': "incompatible type",
    'kps.Client("a:1", on_connect=on_order)': "incompatible type",
    'kps.Client("a:1", tracing=True)': "incompatible type",
    'kps.Server("a:1", on_upgrade=plain)': "incompatible type",
    'kps.Server("a:1", auth=decide)': "incompatible type",
    'async for _ in client.subscribe("t", plain): pass': "has no attribute",
    'for _ in blocking.subscribe("t", plain): pass': "has no attribute",
    'client.subscribe("t", decide)': "incompatible type|No overload variant",
    "(await client.publish_with_ack('t', 1)).result": "has no attribute",
    'await kps.Client.NewClient(Adress="a:1")': "keyword argument|named argument",
    "kps.Message('t', 1, 'me').payload": "has no attribute",
}


def test_mistakes_are_found_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    lines = [*HEAD.splitlines(), *RIGHT.splitlines()]
    lines.append("async def wrong(client: kps.Client, blocking: kps.sync.Client) -> None:")
    first = len(lines) + 1
    lines += [f"    {line}" for line in WRONG]
    program = tmp_path / "program.py"
    program.write_text("\n".join(lines) + "\n")
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context",
         "--config-file=", f"--cache-dir={tmp_path}", str(program)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent.parent,
    )  # fmt: skip
    found: dict[int, str] = {}
    for line in result.stdout.splitlines():
        match = re.match(r".*?:(\d+): error: (.*)", line)
        if match is not None:
            number = int(match.group(1))
            found[number] = found.get(number, "") + match.group(2)
    said = {line: found.pop(number, "") for number, line in enumerate(WRONG, first)}
    missed = {
        line: said[line] for line, wanted in WRONG.items() if not re.search(wanted, said[line])
    }
    assert (missed, found, result.stderr) == ({}, {}, "")
