"""Programs of web frameworks, each in processes of its own, and what talks to them."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PATIENCE = 30.0


@contextmanager
def running(*arguments: str, bus: str) -> Iterator[str]:
    """Run ``python -m ARGUMENTS`` until the end of the block; return the address it tells."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=EXAMPLES,
        env={**os.environ, "KPS_ADDRESS": bus, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines = []
    try:
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"http://(127\.0\.0\.1:\d+)", line):
                break
        else:
            raise AssertionError("".join(lines))
        yield found[1]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def uvicorn(app: str) -> tuple[str, ...]:
    """The arguments that run an application of the examples."""
    return ("uvicorn", app, "--port", "0", "--ws", "websockets-sansio")


def post(address: str, path: str, data: object) -> tuple[int, Any]:
    """Post JSON; return the status, and what came."""
    request = urllib.request.Request(
        f"http://{address}{path}",
        json.dumps(data).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)
