"""Members of a group that are killed in the middle of a job."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.pool import run_pool
from tests.faults.processes import Serve


@pytest.mark.parametrize("concurrency", [1, 8])
def test_each_job_is_handled_when_a_worker_is_killed(
    lasting: Callable[..., Serve], tmp_path: Path, concurrency: int
) -> None:
    books = run_pool(lasting().address, tmp_path, 1000, 4, concurrency)
    assert list(books.faults()) == []
    assert len(books.outcomes) >= 1000
    # What the killed one had begun was begun again, and so was what it had done without being able
    # to say so any more. All that it had was passed on.
    assert books.again
    for again in books.again:
        whose = [(one.worker == books.victim, one.attempt) for one in again]
        assert whose == [(True, 1), (False, 2)]
    passed_on = [outcome for outcome in books.outcomes.values() if outcome.attempts > 1]
    assert 1 <= len(passed_on) <= concurrency
