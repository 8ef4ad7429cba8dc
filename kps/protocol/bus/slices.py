"""Work that one event makes due for very many, done in slices with a turn for others in between."""

from collections import deque
from collections.abc import Callable, Iterator

from kps.protocol.timers import PAUSE, Deadlines

AT_ONCE = 500
"""Steps of one call. They take some milliseconds at most; after a pause, in which others get their
turn, the next call goes on."""

MakeWork = Callable[[], Iterator[int]]


class Slices:
    """Does work in slices, the first of them at once.

    Work is an iterator. Each step does something, and yields for how many it counts. An exception
    out of a signal handler ends an iterator, so work begins with a function that makes one: it is
    called again after such an exception, and what it makes does what is left.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._work: deque[tuple[MakeWork, Iterator[int]]] = deque()
        self._due: float | None = None  # when the work goes on; work that comes before waits

    def begin(self, make: MakeWork, resume_at: float = 0.0) -> None:
        """Begin work, in front of other work; what is left of it waits until ``resume_at``."""
        self._work.appendleft((make, make()))
        if self._due is None:
            self._work_on(resume_at)

    def go_on(self) -> bool:
        """Do a slice before its time, because somebody waits for it; tell whether there was one."""
        if not self._work:
            return False
        self._work_on(0.0)
        return True

    def next_deadline(self) -> float | None:
        return self._due

    def handle_timeout(self, now: float) -> None:
        """Go on with the work that is left."""
        if self._due is not None and now >= self._due:
            self._work_on(now + PAUSE)

    def _work_on(self, resume_at: float) -> None:
        """Work until enough has been done; go on at ``resume_at`` at the earliest."""
        self._due = resume_at
        done = 0
        try:
            while self._work and done < AT_ONCE:
                make, work = self._work[0]
                del self._work[0]  # not ``popleft``: no signal handler comes in from here
                try:
                    others = len(self._work)
                    step = next(work, None)
                    if step is not None:
                        done += step
                        # behind what came from within
                        self._work.insert(len(self._work) - others, (make, work))
                except Exception:
                    raise
                except BaseException:
                    self._work.append((make, make()))
                    raise
        finally:  # also after an exception out of a signal handler
            if self._work or done >= AT_ONCE:
                self._deadlines.schedule(self)
            else:
                self._due = None
