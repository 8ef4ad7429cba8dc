"""Settings that all tests share."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from kps.io_common.logger import guard

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


@pytest.fixture(autouse=True)
def new_log() -> Iterator[None]:
    """Let no test use up the lines of the log that another one waits for, nor keep settings.

    A framework that a test starts may set the level of the root logger, and handlers.
    """
    guard.tell()
    loggers = [logging.getLogger(), logging.getLogger("kps")]
    before = [(logger, logger.level, logger.disabled, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, disabled, handlers in before:
        logger.setLevel(level)
        logger.disabled = disabled
        logger.handlers[:] = handlers
