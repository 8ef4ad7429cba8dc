"""Threads that wait for news wake up when there is something for them."""

import threading
from typing import Any

from kps.io_common.condition import Condition
from kps.io_sync.news import News
from kps.io_sync.runtime import Runtime
from tests.io.harness import PATIENCE, eventually


class Counting(Runtime):
    """Counts how often each thread goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.wakes: dict[str, int] = {}
        self.waiting = 0
        self.now = 0.0
        self.clock = lambda: self.now

    def wait(self, condition: Condition, timeout: float | None) -> None:
        self.waiting += 1
        condition.wait(PATIENCE)
        name = threading.current_thread().name
        self.wakes[name] = self.wakes.get(name, 0) + 1


def test_an_announcement_wakes_only_those_whose_condition_holds() -> None:
    runtime = Counting()
    lock = threading.RLock()
    news = News(lock, runtime)
    happened: set[str] = set()
    outcomes: dict[str, bool] = {}

    def wait(name: str, timeout: float | None) -> None:
        outcomes[name] = news.until(lambda: name in happened, timeout)

    waiters: dict[str, Any] = {}
    for name, timeout in (("a", None), ("b", 1000.0), ("late", 5.0)):
        waiters[name] = threading.Thread(target=wait, args=(name, timeout), name=name)
        waiters[name].start()
    eventually(lambda: runtime.waiting == 3)

    def announce(*names: str) -> None:
        with lock:
            happened.update(names)
            news.announce()

    for _ in range(10):
        announce()
    announce("a")
    waiters["a"].join(PATIENCE)
    runtime.now = 10.0
    announce()
    waiters["late"].join(PATIENCE)
    with lock:
        news.is_held = True
        announce("b")
        news.is_held = False
    assert "b" not in outcomes
    announce()
    waiters["b"].join(PATIENCE)
    assert outcomes == {"a": True, "b": True, "late": False}
    assert runtime.wakes == {"a": 1, "b": 1, "late": 1}
    assert not news._waiting


def test_of_two_that_wait_for_one_thing_the_second_waits_on() -> None:
    runtime = Counting()
    lock = threading.RLock()
    news = News(lock, runtime)
    things: list[int] = []
    taken: list[int] = []

    def take() -> None:
        with lock:
            news.until(lambda: bool(things))
            taken.append(things.pop())

    takers = [threading.Thread(target=take) for _ in range(2)]
    for taker in takers:
        taker.start()
    eventually(lambda: runtime.waiting == 2)
    for number in range(2):
        with lock:
            things.append(number)
            news.announce()
        eventually(lambda number=number: len(taken) == number + 1)  # type: ignore[misc]
    assert taken == [0, 1]
