"""Writes all orders into a file, each once, and misses none over its own restart.

    kps serve --history 'orders=10000'
    python examples/journal.py orders.jsonl

Each line has an order and its position, so the last line says where to go on.
Arguments: the file, and optionally the address of the server.
"""

import json
import sys
from pathlib import Path

import kps
import kps.sync


def last_position(journal: Path) -> kps.Position | None:
    """Return the position in the last line. Cut off a line that was not written to its end."""
    if not journal.exists():
        return None
    lines = journal.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
        journal.write_bytes(b"".join(lines))
    return kps.Position(*json.loads(lines[-1])["position"]) if lines else None


def on_lost(event: kps.Lost) -> None:
    lost = event.messages or "some"
    print(f"{lost} orders are lost: the server has not kept them", file=sys.stderr)


def main(name: str, address: str = "localhost:9313") -> None:
    position = last_position(Path(name))
    with kps.sync.Client(address, id="journal", on_lost=on_lost) as client, open(name, "a") as file:
        if position is None:
            orders = client.subscribe("orders", last=10_000)
        else:
            orders = client.subscribe("orders", since=position)
        for order in orders:
            if order.position is None:
                raise SystemExit("the server keeps no history of orders")
            print(json.dumps({"order": order.data, "position": order.position}), file=file)
            file.flush()
            print(f"wrote order {order.data}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
