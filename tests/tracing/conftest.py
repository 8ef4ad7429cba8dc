"""Fixtures of the tests of tracing."""

import importlib.util

import pytest

from tests.io.conftest import clients as clients
from tests.io.conftest import servers as servers

if importlib.util.find_spec("opentelemetry") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from tests.tracing.spans import Spans

    @pytest.fixture
    def spans() -> Spans:
        """Spans of this test only."""
        return Spans()
