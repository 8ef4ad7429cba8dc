"""Reloading, as the handler of SIGHUP does it."""

import logging
from typing import Any

import pytest

from kps.errors import ServerStartFailed
from kps.io_common.certificates import Certificates


class Broken:
    """A program's own hook, whose reload fails in its own way."""

    def __call__(self, token: str) -> None: ...

    def reload(self) -> None:
        raise ValueError("no such table")


def test_whatever_a_reload_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    hook: Any = Broken()
    with caplog.at_level(logging.ERROR, "kps"):
        Certificates(None, None).reload_and_log(hook, bool)
    assert "old files stay in use" in caplog.text
    with pytest.raises(ServerStartFailed, match="no such table"):
        Certificates(None, None).reload(hook, bool)
