"""Threads that wait for each other, and exceptions out of signal handlers."""

import threading
from collections.abc import Callable

import pytest

from kps.io_common import condition as module
from kps.io_common.condition import Condition
from tests.interrupting import Interruption, at_every_place

HERE = ("/kps/io_common/condition.py", "/tests/io_common/test_condition.py")
PATIENCE = 30.0


def from_another_thread(work: Callable[[], None]) -> None:
    """Do something that needs the lock, and fail if it is taken."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_an_exception_at_any_place_of_waiting_leaves_the_lock_free() -> None:
    def run(interruption: Interruption) -> None:
        condition = Condition()

        def work() -> None:
            with condition.lock, condition.lock:
                condition.wait(0.0)
                condition.wait_for(lambda: False, 0.0)
            with condition.lock:
                condition.notify_all()

        interruption.during(work)  # an unlocked lock would raise as it is left

        def other() -> None:
            with condition.lock:
                condition.notify_all()

        from_another_thread(other)

    assert at_every_place(run, *HERE) > 15


def test_an_exception_at_any_place_of_notifying_loses_no_thread() -> None:
    def run(interruption: Interruption) -> None:
        condition = Condition()
        is_set = False

        def wait() -> None:
            with condition.lock:
                while not is_set:
                    condition.wait()

        threads = [threading.Thread(target=wait, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        while True:
            with condition.lock:
                if len(condition._waiters) == 2:
                    break
        is_set = True

        def work() -> None:
            with condition.lock:
                condition.notify_all()

        interruption.during(work)
        work()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    assert at_every_place(run, *HERE) > 10


def test_one_of_those_that_wait_goes_on() -> None:
    condition = Condition()
    tickets = 0
    done: list[int] = []

    def wait(number: int) -> None:
        nonlocal tickets
        with condition.lock:
            while not tickets:
                condition.wait()
            tickets -= 1
            done.append(number)
            condition.notify_all()

    threads = [threading.Thread(target=wait, args=(n,), daemon=True) for n in range(3)]
    for thread in threads:
        thread.start()
    for count in range(1, 4):
        with condition.lock:
            tickets += 1
            condition.notify()
            assert condition.wait_for(lambda count=count: len(done) == count, PATIENCE)  # type: ignore[misc]
    assert sorted(done) == [0, 1, 2]


def test_a_signal_handler_may_notify_in_between() -> None:
    def run(at: int) -> bool:
        condition = Condition()
        threads = [threading.Thread(target=wait, args=(condition,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        while len(condition._waiters) < 3:
            pass
        interruption = Interruption(at, "/condition.py", handler=condition.notify_all)
        with condition.lock:
            interruption.during(condition.notify_all)
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        return interruption.place != ""

    def wait(condition: Condition) -> None:
        with condition.lock:
            condition.wait()

    at = 0
    while run(at):
        at += 1
    assert at > 5


def test_the_main_thread_looks_for_signals_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes as it is about to wait does not wake it."""
    monkeypatch.setattr(module, "STEP", 0.001)
    condition = Condition()
    with condition.lock:
        condition.wait()  # nobody will notify it
    assert not condition.has_waiters
