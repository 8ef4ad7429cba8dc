"""The books of the soak: what the clients counted beside what the server counted.

Nothing may be left over. Three accounts, each of its own kind, have to agree:

* **Numbers.** Who stays subscribed has every number of each stream; what is missing is what the
  server counted as dropped for this client, one for one.
* **Receipts.** On some streams the server told for each message in how many queues it was put. It
  arrived as often, unless a policy dropped it, or a connection broke that it was on its way to. The
  latter can only be the end of what that subscriber had: never a gap, and nothing before.
* **Totals.** What the server says it published, delivered, dropped and refused is what all clients
  together sent, had, missed and were refused.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from soak_plan import (
    CHURN,
    HEAVY,
    KILLED,
    RELAYED,
    SLOW_READERS,
    STABLE_ON_CHURN,
    Plan,
    Site,
    read_marks,
)

Report = dict[str, Any]

OUTCOMES = ("handled", "failed", "timeout", "disconnected", "unsubscribed")


@dataclass
class Books:
    """What was gathered about one server."""

    site: Site
    regulars: Report = field(default_factory=dict)
    slow: dict[str, Report] = field(default_factory=dict)
    left: list[Report] = field(default_factory=list)
    """What each client that left by itself had."""
    killed: list[dict[str, int]] = field(default_factory=list)
    """By topic, the last number that each client had that was killed."""
    logged: Counter[str] = field(default_factory=Counter)
    """By client, what the server dropped for those that have gone, by its log."""
    gone: int = 0
    """The sum of that when the server made its last figures: some were still there then."""
    hostile: Counter[str] = field(default_factory=Counter)
    """What the hostile did, by the server's answers."""
    relayed: int = 0
    """Messages for this server that another one was given."""


class Balance:
    """The sums for one server, and what does not match."""

    def __init__(self, plan: Plan, books: Books) -> None:
        self.plan = plan
        self.books = books
        self.site = books.site
        self.failures: list[str] = []
        self.deliveries: dict[str, int] = {}
        """Where each message for a subscriber ended."""
        self.others: dict[str, int] = {}
        """What else there was."""
        self._figures: Report = books.regulars["figures"]
        self._clients: dict[str, Report] = {
            client["id"]: client for client in self._figures["clients"]
        }
        self._parties: dict[str, Report] = books.regulars["parties"] | books.slow
        self._sent: Counter[str] = Counter(books.regulars["sent"])
        self._sent[RELAYED] = books.relayed
        self._stats = books.regulars["stats_count"] - 1
        """Figures that were published before the last ones, which do not count themselves."""
        self._check_readings()
        self._lost = self._check_churn() + self._check_heavy()
        self._check_asks()
        self._check_clients()
        self._check_totals()
        self._check_rest()

    # -- numbers --------------------------------------------------------------------------

    def _check_readings(self) -> None:
        self._missed: dict[str, int] = {}
        """By party, the numbers of its streams that it did not get."""
        for name, party in self._parties.items():
            missed = 0
            for topic, reading in party["readings"].items():
                sent = self._sent[topic]
                self._expect(f"{name}, out of order on {topic}", reading["disordered"], 0)
                self._expect(f"{name}, last number on {topic}", reading["last"], sent)
                missed += sent - reading["count"]
            self._missed[name] = missed
            self._expect(f"{name}, dropped by the client", party["mailbox_dropped"], 0)
            if name in ("fast", *SLOW_READERS) and not self.site.drops:
                continue  # it may lose its connection, which the receipts account for
            self._expect(f"{name}, connections that ended", party["ends"], [])
            dropped = self._clients[name]["dropped"]
            self._expect(f"{name}, numbers that it missed, and were dropped", missed, dropped)
        for visit in self.books.left:
            came, handled = visit["came"], visit["handled"]
            name = visit["id"]
            for what in (came, handled):
                span = what["last"] - what["first"] + 1
                self._expect(f"{name}, numbers without a gap", what["count"], span)
                self._expect(f"{name}, out of order", what["disordered"], 0)
            self._expect(f"{name}, first number", handled["first"], came["first"])
            self._expect_most(f"{name}, handled of what came", handled["count"], came["count"])

    # -- receipts -------------------------------------------------------------------------

    def _check_churn(self) -> int:
        lost = 0
        for topic in CHURN:
            dangling = [
                visit["came"]["last"] + 1
                for visit in self.books.left
                if visit["topic"] == topic and visit["way"] != "orderly"
            ]
            dangling += [last[topic] + 1 for last in self.books.killed if topic in last]
            excess = self._excess(topic, (*STABLE_ON_CHURN, "leavers", "victim"))
            self._check_ends(topic, excess, dangling)
            lost += int(excess.sum())
        return lost

    def _check_heavy(self) -> int:
        readers = ("fast", *SLOW_READERS)
        excess = self._excess(HEAVY, (*readers, "victim"))
        if self.site.policy == "drop_newest":  # what had no room is not in the receipt
            self._expect_all(f"each of {HEAVY} came to everybody who had room", excess == 0)
            return 0
        if self.site.policy == "drop_oldest":  # all had room, at first
            missed = sum(self._sent[HEAVY] - self._marks(HEAVY, name).sum() for name in readers)
            self._expect(f"{HEAVY}, receipts without arrival, and gaps", int(excess.sum()), missed)
            return 0
        dangling = [last[HEAVY] + 1 for last in self.books.killed if HEAVY in last]
        for name in readers:
            runs = _runs(self._marks(HEAVY, name))
            breaks = len(self._parties[name]["ends"])
            self._expect(f"{name}, gaps of {HEAVY}, and lost connections", len(runs) - 1, breaks)
            dangling += [last + 1 for _, last in runs]
        self._check_ends(HEAVY, excess, dangling)
        return int(excess.sum())

    def _excess(self, topic: str, readers: Iterable[str]) -> npt.NDArray[np.int64]:
        """For each message, how many of the queues that it was put in did not lead to arrival."""
        receipts = self._marks(topic, "receipts")
        self._expect_all(f"{topic}: each has a receipt", receipts[1:] > 0)
        excess = receipts - 1 - sum(self._marks(topic, reader) for reader in readers)
        excess[0] = 0
        self._expect_all(f"{topic}: none came more often than its receipt says", excess >= 0)
        return excess

    def _check_ends(
        self, topic: str, excess: npt.NDArray[np.int64], dangling: Sequence[int]
    ) -> None:
        """What did not arrive begins where somebody left without a word, and ends soon."""
        begins = np.bincount(
            [number for number in dangling if number < len(excess)], minlength=len(excess)
        )
        rises = np.diff(excess, prepend=0)
        self._expect_all(f"{topic}: lost only behind the last that a leaver had", rises <= begins)
        self._expect(f"{topic}: lost of the last message", int(excess[-1]), 0)

    def _marks(self, topic: str, who: str) -> npt.NDArray[np.int64]:
        return read_marks(self.plan.marks(self.site, topic, who), self._sent[topic])

    # -- acks -----------------------------------------------------------------------------

    def _check_asks(self) -> None:
        self._asks: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        for asks in self.books.regulars["asks"]:
            self.failures += [f"{self.site.policy}: {what}" for what in asks["wrong"]]
            self._outcomes.update(asks["outcomes"])
            self._asks.update({name: n for name, n in asks.items() if isinstance(n, int)})
        total = sum(self._outcomes.values())
        requests = self._asks["on_topic"] + self._asks["to_id"]
        self._expect("outcomes as the server told them", self._asks["told_outcomes"], total)
        self._expect("requests, and ends of requests", self._asks["told_ends"], requests)
        self._expect("requests that have not ended", self._asks["open"], 0)
        came = sum(visit["asks_came"] for visit in self.books.left)
        self._asks_lost = self._asks["asked_leavers"] - came
        self._expect_most("requests that leavers got, and were asked", 0, self._asks_lost)
        self._expect_most(
            "requests that leavers did not get, and outcomes that say so",
            self._asks_lost,
            self._asks["unseen_leavers"],
        )

    # -- totals ---------------------------------------------------------------------------

    def _check_clients(self) -> None:
        """What the server counts for each of those who are still there."""
        for name, client in self._clients.items():
            if name == "pub-blocking":
                continue
            party = self._parties[name]
            delivered = party["publications"] + party["directs"] + client["dropped"]
            if name == "observer":
                delivered = self._stats
            elif party["ends"]:  # the connection that is counted is its latest
                first, last = _runs(self._marks(HEAVY, name))[-1]
                delivered = last - first + 1
            self._expect(f"{name}, delivered", client["delivered"], delivered)
            self._expect(f"{name}, waiting", client["queue_messages"], 0)

    def _check_totals(self) -> None:
        books, figures = self.books, self._figures
        streams = [stream.topic for stream in self.plan.streams(self.site)]
        passing = sum(visit["passing"] for visit in books.left)
        sent = sum(self._sent[topic] for topic in streams)
        witness, hostile = books.regulars["witness"], books.hostile
        self.failures += [f"{self.site.policy}: killed: {what}" for what in witness["wrong"]]
        published = sent + self._asks["on_topic"] + passing + books.relayed
        published += witness["count"] + hostile["published"]
        self._expect("published", figures["published"] - self._stats, published)

        handled = sum(party["publications"] for party in self._parties.values())
        handled += sum(visit["handled"]["count"] for visit in books.left) + passing
        handled += sum(int(self._marks(topic, "victim").sum()) for topic in streams)
        late = sum(visit["came"]["count"] - visit["handled"]["count"] for visit in books.left)
        asked = sum(visit["asks_came"] for visit in books.left)
        dropped = sum(self._missed.values()) if self.site.drops else 0
        delivered = figures["delivered"] - self._stats
        closings = sum(len(party["ends"]) for party in self._parties.values())
        # What had no room is not counted as delivered: one message each time that this closes.
        no_room = {"close": closings, "drop_oldest": 0, "drop_newest": dropped}[self.site.policy]
        lost = self._lost + self._asks_lost + closings
        accounted = handled + late + asked + dropped + lost + hostile["delivered"]
        self._expect("delivered", delivered + no_room, accounted)

        present = sum(client["dropped"] for client in self._clients.values())
        gone = books.gone
        self._expect("dropped", figures["dropped"], present + gone)
        still = books.logged.total() - gone
        self._expect("dropped for those who stayed, as logged when they left", still, present)
        by_hostile = sum(n for name, n in books.logged.items() if name.startswith("hostile/"))
        gone -= by_hostile
        self._expect_most("dropped for those who have gone, and what they lost", gone, lost)
        self._expect_most("dropped for the hostile", by_hostile, hostile["for slow"])
        if not by_hostile:
            self.failures.append(f"{self.site.policy}: the hostile were not slow enough")
        refusals = books.regulars["refusals"] + hostile["refused"]
        told = sum(party["refused"] for party in self._parties.values())
        self._expect("refused", figures["refused"], refusals)
        # The blocking publisher is refused nothing; a refused receipt raises, and tells nobody.
        self._expect_most("refused, as the clients were told", told, refusals)
        self.deliveries = {
            "for subscribers": delivered + no_room,
            "handled": handled,
            "ack requests to those who come and go": asked,
            "came when the subscriber was about to leave": late,
            "dropped under the policy": dropped,
            "given up with a connection, counted as dropped": gone,
            "on its way when a connection broke": lost - gone,
            "for the hostile": hostile["delivered"],
            "left over": delivered + no_room - accounted,
        }
        self.others = {
            "published": published,
            "relayed from another server": books.relayed,
            "direct messages": sum(
                count for name, count in self._sent.items() if name.startswith("direct from ")
            ),
            "refused": refusals,
            "ack requests": self._asks["on_topic"] + self._asks["to_id"],
            **{f"outcomes: {name}": self._outcomes[name] for name in OUTCOMES},
            "clients that came and went": len(books.left) + len(books.killed),
            "of them killed": len(books.killed),
            "published by them": witness["count"],
            "hostile visits": hostile["visits"],
            "published by the hostile": hostile["published"],
            "mistakes of the hostile": hostile["refused"],
            "connections closed as too slow": closings,
        }

    def _check_rest(self) -> None:
        """What the server still has, with nobody there but those who stay."""
        figures = self._figures
        self._expect("ack requests under way", figures["pending_acks"], 0)
        names = {*self._parties, "pub-blocking"}
        self._expect("clients", sorted(self._clients), sorted(names))
        self._expect("clients, counted", figures["client_count"], len(names))
        topics = {topic for party in self._parties.values() for topic in party["readings"]}
        topics = {topic for topic in topics if not topic.startswith("direct from ")}
        topics |= {"ask", KILLED, "__kps/stats"}
        self._expect("topics", sorted(t["topic"] for t in figures["topics"]), sorted(topics))
        slow = [self._parties[name] for name in SLOW_READERS]
        if self.site.drops:
            lost = sum(self._missed[name] for name in SLOW_READERS)
        else:
            lost = sum(len(party["ends"]) for party in slow)
        if not lost:
            self.failures.append(f"{self.site.policy}: the slow readers were not slow enough")

    def _expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.failures.append(f"{self.site.policy}: {what}: {found}, not {expected}")

    def _expect_most(self, what: str, found: int, most: int) -> None:
        if found > most:
            self.failures.append(f"{self.site.policy}: {what}: {found}, not at most {most}")

    def _expect_all(self, what: str, holds: npt.NDArray[np.bool_]) -> None:
        wrong = np.flatnonzero(~holds)
        if len(wrong):
            shown = ", ".join(map(str, wrong[:5]))
            self.failures.append(f"{self.site.policy}: {what}: not so for {len(wrong)}, at {shown}")


def _runs(marks: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """The first and the last of each row of numbers that came without a gap."""
    edges = np.diff(np.concatenate(([0], marks > 0, [0])))
    firsts, lasts = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))
