"""Runs a testee: reads what the judge wants, and lets the program of each vector do it."""

import argparse
import asyncio
import json
import sys
from typing import Any

from kps.testing.testee.spelling import NEEDS, Teller, write


async def _on_asyncio() -> None:
    from kps.testing.testee.on_asyncio import Program, read_line

    write({"testee": "kps, asyncio", "needs": NEEDS})
    program: Program | None = None
    while line := await read_line():
        told: dict[str, Any] = json.loads(line)
        if "vector" in told:
            program = Program(told["url"], told["options"], Teller(write))
            continue
        assert program is not None, "no vector has begun"
        if "sync" in told:
            await program.settle()
            write({"synced": told["sync"]})
        elif "end" in told:
            await program.end()
            write({"ended": True})
        else:
            await program.begin(told)


def _on_threads() -> None:
    from kps.testing.testee.on_threads import Program

    write({"testee": "kps, blocking", "needs": NEEDS})
    program: Program | None = None
    while line := sys.stdin.readline():
        told: dict[str, Any] = json.loads(line)
        if "vector" in told:
            program = Program(told["url"], told["options"], Teller(write))
            continue
        assert program is not None, "no vector has begun"
        if "sync" in told:
            write({"synced": told["sync"]})
        elif "end" in told:
            program.end()
            write({"ended": True})
        else:
            program.begin(told)


def main() -> None:
    """Run a testee until the end of the input."""
    parser = argparse.ArgumentParser(prog="python -m kps.testing.testee", description=__doc__)
    parser.add_argument("--blocking", action="store_true", help="the client of kps.sync")
    options = parser.parse_args()
    if options.blocking:
        _on_threads()
    else:
        asyncio.run(_on_asyncio())


if __name__ == "__main__":
    main()
