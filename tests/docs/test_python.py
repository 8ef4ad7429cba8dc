"""The Python of the documentation runs: block after block of a page, in one namespace.

A block may ``await`` as if it were in a coroutine, since it shows what is within one; ``client`` is
a client there. A block that is a whole program runs in a process of its own, and prints what the
page says. Addresses in the text are those of a server that the test runs in threads, so that both
kinds of clients can reach it; a server in the text listens on a free port.
"""

import ast
import asyncio
import re
import subprocess
import sys
from contextlib import suppress
from inspect import CO_COROUTINE
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

import kps.sync
from tests.docs.blocks import ROOT, Block, blocks_of

# Other tests run these, and how to move from something else: test_tutorial.py, test_moving.py,
# tests/testing/test_pytest_plugin.py, and those of the frameworks.
_ELSEWHERE = ("tutorial.md", "testing.md", "channels.md", "frameworks.md")
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if any(block.language == "python" for block in blocks_of(page))
    and page.name not in _ELSEWHERE
    and not page.name.startswith("from-")
]
PRELUDE = "import asyncio, json, os, re, time, kps\nfrom kps import *\n"
_IS_PROGRAM = re.compile(r"^(?:asyncio\.run\(|.*sys\.argv)", re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_it_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    history = [kps.History("**", size=100)]
    with kps.sync.Server("127.0.0.1:0", history=history) as server:
        asyncio.run(asyncio.wait_for(_run(page, server.address), 120))


async def _run(page: Path, address: str) -> None:
    namespace: dict[str, Any] = {"__name__": "docs"}
    exec(PRELUDE, namespace)
    running: list[asyncio.Task[None]] = []
    made: set[kps.Client] = set()
    blocks = blocks_of(page)
    async with kps.Client(address, id="docs") as client:
        for number, block in enumerate(blocks):
            namespace["client"] = client
            if block.language != "python" or block.not_run:
                continue
            if _IS_PROGRAM.search(block.code):
                follower = blocks[number + 1] if number + 1 < len(blocks) else None
                await asyncio.to_thread(_run_program, block, follower, address)
                continue
            if block.before:
                await _execute(_compiled(block, block.before, address), namespace)
            step = _execute(_compiled(block, block.code, address), namespace)
            if block.in_background:
                running.append(asyncio.create_task(step))
                await asyncio.sleep(0)
            else:
                await step
            made.update(one for one in namespace.values() if isinstance(one, kps.Client))
        for task in running:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task  # which raises what has gone wrong
        for other in made - {client}:
            await other.close(timeout=1)
        for server in [one for one in namespace.values() if isinstance(one, kps.Server)]:
            await server.stop(grace=0)


def _run_program(block: Block, follower: Block | None, address: str) -> None:
    path = Path("program.py").absolute()
    path.write_text(_replaced(block.code, address), encoding="utf-8")
    command = [sys.executable, str(path), *([address] if "sys.argv" in block.code else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{block}: {done.stderr}"
    if follower is not None and follower.language == "text":
        # Where callbacks run side by side, nothing promises which is first.
        printed = sorted(done.stdout.splitlines())
        assert printed == sorted(follower.code.splitlines()), str(block)


def _compiled(block: Block, code: str, address: str) -> CodeType:
    """Compile code of a block, so that tracebacks show the lines of the page."""
    lines = "\n" * (block.line - 1) + _replaced(code, address)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compiled: CodeType = compile(lines, str(block.page), "exec", flags=flags)
    return compiled


def _replaced(code: str, address: str) -> str:
    """Return code with addresses that exist here, and with patience: this machine may be slow."""
    code = re.sub(r"\btimeout=[1-9]\b", "timeout=60", code)
    code = re.sub(r'(Server\(\s*)"(?:0\.0\.0\.0|localhost):9313"', r'\1"127.0.0.1:0"', code)
    return re.sub(r"(?:localhost|bus\.internal):9313|wss://bus\.example(?=[\"'])", address, code)


async def _execute(code: CodeType, namespace: dict[str, Any]) -> None:
    result = eval(code, namespace)
    if code.co_flags & CO_COROUTINE:
        await result
