"""Answers requests for a server's figures: gathers them from the core, its driver and the system.

``Exporter.gather`` returns plain numbers, and ``kps.web.exposition`` writes them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from kps.io_common import process_figures
from kps.protocol.histogram import Histogram
from kps.protocol.server import metrics as of_core
from kps.protocol.server.hub import Hub
from kps.protocol.server.metrics import COUNTER, GAUGE, HISTOGRAM, INFO, Figures, Metric
from kps.protocol.server.relays import RelayQueues
from kps.protocol.wire.http import Answer, HttpRequest, HttpResponse
from kps.web import exposition

if TYPE_CHECKING:
    from kps.io_common.handing import Place
    from kps.io_common.history_file import HistoryFile

_OF_DRIVER = (
    Metric("kps_driver_lag_seconds", HISTOGRAM,
           "How late the driver is, tried four times a second: the event loop with a timer; on "
           "threads the thread that keeps all deadlines, with the driver's lock."),
    Metric("kps_workers", GAUGE, "Processes that share the clients; 1 without --workers."),
    Metric("kps_workers_missing", GAUGE,
           "Those of them that are not in this answer, because they have not told their figures "
           "in time."),
    Metric("kps_worker_restarts", COUNTER,
           "Times that a worker was started again; with --workers only."),
    Metric("kps_relay_links", GAUGE, "Connections to other servers."),
    Metric("kps_relay_queue_bytes", GAUGE, "Bytes that wait for other servers."),
    Metric("kps_history_file_failing", GAUGE, "1 while the disk takes nothing; with a file only."),
    Metric("kps_history_file_queue_bytes", GAUGE, "Bytes that wait for the disk."),
    Metric("kps_history_file_lost_messages", COUNTER,
           "Messages that the disk did not take in time."),
)  # fmt: skip

METRICS: Final = (*of_core.METRICS, *_OF_DRIVER, *process_figures.METRICS)
"""Everything that a server may tell."""

INTERVAL: Final = 0.25
"""Seconds between two looks at how late the driver is."""

_SHARED = {metric.name for metric in METRICS if metric.kind == INFO}
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Lag:
    """How late a driver does what is due."""

    def __init__(self) -> None:
        self.seconds = Histogram(_BOUNDS)
        self._due: float | None = None

    def look(self, now: float) -> float:
        """Note how late it is, if it is time; return when to look again."""
        if self._due is None:
            self._due = now + INTERVAL
        elif now >= self._due:
            self.seconds.note(now - self._due)
            self._due = now + INTERVAL
        return self._due


class Exporter:
    """The figures of one server, whose driver has this name."""

    def __init__(self, driver: str, relays: RelayQueues) -> None:
        self.lag = Lag()
        self.hub: Hub
        """The core, once there is one."""
        self.history: HistoryFile | None = None
        """The file for history, if there is one."""
        self.place: Place | None = None
        """The place of this process among workers, if it is one."""
        self._driver = driver
        self._relays = relays

    def gather(self) -> Figures:
        """Return all figures of this process. It is called as the core is, and blocks no longer."""
        figures = of_core.gather(self.hub, self._driver) | process_figures.gather()
        figures |= of_core.distribution("kps_driver_lag_seconds", self.lag.seconds)
        figures["kps_relay_links",] = len(self._relays)
        figures["kps_relay_queue_bytes",] = self._relays.size
        history = self.history
        if history is not None:
            figures["kps_history_file_failing",] = int(history.is_failing)
            figures["kps_history_file_queue_bytes",] = history.waiting
            figures["kps_history_file_lost_messages",] = history.lost
        if self.place is not None:
            figures["kps_worker_restarts",] = self.place.restarts
        return figures

    def respond(self, request: HttpRequest, answer: Answer) -> None:
        """Answer a request for the figures of this process."""
        answer(self.answer(request, {self.hub.config.id: self.gather()}))

    def answer(self, request: HttpRequest, by_node: Mapping[str, Figures]) -> HttpResponse:
        """Return the answer to a request, with the figures of this process, or of all workers.

        Each worker has its own series, which begin again when it does: a sum that fell would look
        as if all workers had. What tells nothing of one worker is there once.
        """
        workers = 1 if self.place is None else self.place.workers
        shared: Figures = {
            ("kps_workers",): workers,
            ("kps_workers_missing",): max(0, workers - len(by_node)),
        }
        by_worker = {"": shared}
        for node, figures in sorted(by_node.items()):
            of_worker = by_worker.setdefault(self._label_of(node), {})
            for key, figure in figures.items():
                (shared if key[0] in _SHARED else of_worker)[key] = figure
        return exposition.answer(METRICS, by_worker, request)

    def _label_of(self, node: str) -> str:
        """Return the label of a worker: its number, which stays the same when it begins again."""
        return "" if self.place is None else self.place.number_of(node)
