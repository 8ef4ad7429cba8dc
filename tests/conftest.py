"""Settings that all tests share."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from kps.io_common.logger import guard
from kps.io_sync.log import log_thread
from kps.protocol.build import BUILD

# A loaded machine makes single examples slow, which says nothing about the code; and a run
# that failed must fail again when it is repeated. HYPOTHESIS_PROFILE=search looks at other
# examples each time, and at many more of them.
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "repeat", deadline=None, derandomize=True, max_examples=100, suppress_health_check=_SLOW
)
settings.register_profile(
    "search", deadline=None, derandomize=False, max_examples=2000, suppress_health_check=_SLOW
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


def pytest_configure() -> None:
    """Refuse to test another build than the one that ``BUILD_UNDER_TEST`` names."""
    wanted = os.environ.get("BUILD_UNDER_TEST", BUILD)
    if wanted != BUILD:
        raise pytest.UsageError(f"the {BUILD} build is imported, and not the {wanted} one")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what only the pure build lets a test do."""
    for item in items if BUILD == "compiled" else ():
        mark = item.get_closest_marker("pure")
        if mark is not None:
            item.add_marker(pytest.mark.skip(reason=f"on the pure build only: {mark.args[0]}"))


@pytest.fixture(autouse=True)
def new_log() -> Iterator[None]:
    """Let no test use up the lines of the log that another one waits for, nor keep settings.

    A framework that a test starts may set the level of the root logger, and handlers. And what one
    test did on threads must not be in the log of the next one, because it was written late.
    """
    guard.tell()
    loggers = [logging.getLogger(), logging.getLogger("kps")]
    before = [(logger, logger.level, logger.disabled, logger.handlers[:]) for logger in loggers]
    yield
    log_thread.finish()
    for logger, level, disabled, handlers in before:
        logger.setLevel(level)
        logger.disabled = disabled
        logger.handlers[:] = handlers
