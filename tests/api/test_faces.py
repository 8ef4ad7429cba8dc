"""The blocking faces are what is made of the asyncio ones."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "tools" / "unasync.py"


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="needs ruff")
def test_what_is_made_of_the_asyncio_faces_is_up_to_date() -> None:
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_marked_method_holds_the_lock_behind_its_docstring() -> None:
    spec = importlib.util.spec_from_file_location("unasync", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    unasync = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unasync)
    original = '''\
class Client:
    @locked
    async def publish(
        self, topic: str
    ) -> None:
        """Publish.

        To all.
        """
        if topic:

            await self._send()

    @property
    @locked
    def id(self) -> str:
        return "me"

    async def close(self) -> None:
        """Close."""
'''
    assert (
        "".join(unasync.lock(original.splitlines(keepends=True)))
        == '''\
class Client:
    async def publish(
        self, topic: str
    ) -> None:
        """Publish.

        To all.
        """
        with self._driver.lock:
            if topic:

                await self._send()

    @property
    def id(self) -> str:
        with self._driver.lock:
            return "me"

    async def close(self) -> None:
        """Close."""
'''
    )
