"""Subscribes to topics and patterns, and asks again when the server refuses them for now."""

from collections.abc import Callable
from functools import partial

from kps.errors import InvalidState, QueueFull, ServerError
from kps.protocol.client.events import Lost, Recovered
from kps.protocol.client.positions import Positions, Question, code_of
from kps.protocol.client.reconnect import Backoff
from kps.protocol.client.standings import Standings
from kps.protocol.client.state import ClientState
from kps.protocol.client.topic_states import Extra, Refusal, Topic, TopicState, Verdict
from kps.protocol.dialect import level1
from kps.protocol.dialect.codes import GROUPS, HISTORY, LIMIT_REACHED, PATTERNS, PRESENCE
from kps.protocol.dialect.places import Standing, Start
from kps.protocol.dialect.requests import NO_WISH, PresenceWish
from kps.protocol.patterns import InGroup, Key, Pattern

# Backoff before asking again for topics that the server refused temporarily.
_RETRIES = Backoff(first=0.5, factor=2.0, longest=30.0, jitter=0.5)

# Seconds after which the client expects no answer any more: a server on level 1 may have refused
# the topic, and its errors do not name it.
_PATIENCE = 10.0


# To ask for all refused topics at once would have most of them refused again.
_FIRST_WINDOW = 64


_LEAST = 1024 * 1024  # bytes that open questions may take, however small the queue is


class Topics:
    """Subscribes to topics, and asks again when the server refuses them temporarily.

    ``chance()`` returns a number in [0, 1). ``is_observed(key)`` tells whether the program wants to
    know who is subscribed to a topic.
    """

    def __init__(
        self,
        state: ClientState,
        chance: Callable[[], float],
        is_observed: Callable[[Key], bool],
    ) -> None:
        self._state = state
        self._chance = chance
        self._is_observed = is_observed
        self._topics: dict[Key, Topic] = {}
        self._retry_at: float | None = None
        self._look_at: float | None = None  # when to look for questions without an answer
        self._attempt = 0
        self._window = _FIRST_WINDOW  # how many refused topics to ask for at a time
        self._open = 0  # bytes of open questions, which nothing else bounds
        self.standings = Standings()
        """Where the client stands in the history of topics."""
        self.positions: Positions | None = None
        """Matches errors with questions, if errors on this connection do not name those."""

    def __len__(self) -> int:
        return len(self._topics)

    def is_settled(self, key: Key) -> bool:
        """Tell whether the server has answered all questions about a topic or pattern."""
        found = self._topics.get(key)
        is_live = found is None or (found.state is TopicState.LIVE and not found.extras)
        return self._state.ready and is_live

    def want(
        self,
        key: Key,
        start: Start | None = None,
        wish: PresenceWish = NO_WISH,
        concurrency: int = 1,
    ) -> Extra | None:
        """Subscribe to a topic or pattern, now or on the next connection.

        ``start`` tells with what of the past, ``wish`` what it changes about presence,
        ``concurrency`` how much a member of a group takes. Raises
        :class:`kps.QueueFull` if too many questions are open, :class:`kps.Unsupported`, and
        :class:`kps.InvalidState` if the past is wanted of a topic that the client has already; and
        then changes nothing. Returns the question if it only asks for something besides.
        """
        if self._state.ready:
            for feature in needs(key):
                self._state.require_feature(feature)
            if start is not None:
                self._state.require_feature(HISTORY)
            if wish.observes or wish.info is not None:
                self._state.require_feature(PRESENCE)
        if start is not None and _overlaps(self._topics, key):
            raise InvalidState(
                f"this client is subscribed to {str(key)!r} already: ask for its history instead"
            )
        found = self._topics.get(key)
        is_new = found is None or found.state in (TopicState.WAITING, TopicState.LEAVING)
        # What is refused for now is asked again with all that the program wants.
        is_extra = (
            found is not None and found.state in (TopicState.LIVE, TopicState.ASKED)
        ) and wish != NO_WISH
        asks = is_new or is_extra
        most = max(self._state.config.limits.queue_bytes, _LEAST)
        wants_more = is_new or wish.observes is not False  # to want less is never refused here
        if asks and wants_more and self._state.ready and self._open >= most:
            raise QueueFull("too many questions about topics wait for the server's answers")
        if found is None:
            found = self._topics[key] = Topic()
        if is_new:
            if start is not None or found.state is TopicState.LEAVING:
                found.start = start  # else another subscription may want some, once connected
            found.concurrency = concurrency
        if is_new and self._state.ready:
            self._ask(key, found, wish=wish)
        if not is_extra:
            found.say(wish.info)
            return None
        extra = Extra(wish)
        found.extras.append(extra)
        self._send(key, found, joins=True, wish=wish)
        return extra

    def ignore_members(self, key: Key) -> None:
        """Tell the server that the program does not observe a topic any more, unless it is told."""
        found = self._topics.get(key)
        if found is not None and found.is_to_be_ignored:
            return
        if self._state.ready and self._state.has_feature(PRESENCE):
            self.want(key, None, PresenceWish(None, False))

    def awaits_past(self, topic: str) -> bool:
        """Tell whether messages of a topic are none that a subscription wants.

        They are on their way for an earlier one. What the new one wants comes behind its
        confirmation, messages of the past first.
        """
        found = self._topics.get(topic)
        if found is None or found.state is not TopicState.ASKED:
            return False
        if found.start is None and not found.leaves:
            return False
        return not any(isinstance(key, Pattern) and key.selects(topic) for key in self._topics)

    def leave(self, key: Key) -> None:
        """Unsubscribe from a topic or pattern."""
        found = self._topics.get(key)
        if found is None:
            return
        if self._state.ready and found.state is not TopicState.WAITING:
            found.state = TopicState.LEAVING
            found.has_been_live = found.is_granted = False
            found.info = None
            found.joins += len(found.extras)
            found.extras.clear()
            self._ask_to_leave(key, found)
        else:
            del self._topics[key]
        if not isinstance(key, InGroup):
            self.standings.forget(key, partial(_has_topic, self._topics))

    def connected(self) -> None:
        """Subscribe to all topics and patterns on a new connection."""
        outgoing = self._state.require_link().outgoing
        self.positions = None
        if not outgoing.dialect.names_refusals:
            self.positions = Positions()
            self.positions.begin(outgoing.sent)
        has = self._state.has_feature
        for key, found in self._topics.items():
            if isinstance(key, str):
                self._ask(key, found, is_back=True)
        for key, found in self._topics.items():
            # Patterns come behind the topics, which tell their places exactly.
            if not isinstance(key, str) and all(has(feature) for feature in needs(key)):
                self._ask(key, found, is_back=True)

    def take_unsupported(self) -> list[Key]:
        """Directly behind ``connected``: remove and return what the server does not have."""
        unsupported = [
            key for key, found in self._topics.items() if found.state is TopicState.WAITING
        ]
        for key in unsupported:
            del self._topics[key]
        return unsupported

    def disconnected(self) -> None:
        """Note that the connection, and with it every subscription at the server, is gone."""
        self.standings.disconnected()
        self._retry_at = self._look_at = None
        self._attempt = self._open = 0
        self._window = _FIRST_WINDOW
        self._state.deadlines.cancel(self)
        for key, found in list(self._topics.items()):
            if found.state is TopicState.LEAVING:
                del self._topics[key]
            else:
                found.state = TopicState.WAITING
                found.forget_questions()
                found.is_granted = found.is_reported = False

    def confirmed(self, key: Key, *, joins: bool) -> Verdict:
        """Note that the server confirmed a question about a topic or pattern.

        ``joins`` tells whether the question was to subscribe, or to unsubscribe.
        """
        found = self._topics.get(key)
        if found is None:
            return Verdict.PENDING
        if (extra := found.answer_extra(joins=joins)) is not None:
            self._open -= _cost(key)
            found.grant(extra)
            found.is_granted = True
            return Verdict.EXTRA
        is_late = joins and found.state is TopicState.REFUSED
        is_answer = self._answered(key, found, joins=joins)
        if is_answer and self.positions is not None:
            self.positions.answered(str(key), joins=joins)
        if not (is_answer or is_late) or not found.is_decided:
            return Verdict.PENDING
        if found.state is TopicState.LEAVING:
            del self._topics[key]
        else:
            found.state = TopicState.LIVE
            found.has_been_live = True
            found.start = None
        self._attempt = 0
        self._window += 1
        return Verdict.SETTLED

    def refused_by_position(self, reason: str) -> ServerError | None:
        """Return an error that names no request as one about a topic, if it certainly is."""
        positions = self.positions
        if positions is None:
            return None
        question = positions.refused(reason)
        if question is not None:
            return _about(question, reason)
        if positions.needs_probe:
            link, name = self._state.require_link(), positions.new_name(self._state.id)
            link.outgoing.send_anyway(level1.get_ack_status(name, self._state.id))
            positions.probed(name, link.outgoing.sent)
        return None

    def probe_answered(self, name: str) -> list[ServerError]:
        """Note the answer to a probe, if ``name`` is that of one; return what it shows."""
        positions = self.positions
        if positions is None or not name or name != positions.probe:
            return []
        errors = [_about(question, reason) for question, reason in positions.passed()]
        for error in errors:
            if found := self._topics.get(error.topic):
                found.is_reported = True  # when the error came
        return errors

    def refused(self, key: Key, error: ServerError) -> Refusal:
        """Note that the server refused a question about a topic or pattern."""
        found = self._topics.get(key)
        joins = error.request == "subscribe"
        if found is not None and (extra := found.answer_extra(joins=joins)) is not None:
            self._open -= _cost(key)
            return Refusal(Verdict.EXTRA, False, extra)
        if found is None or not self._answered(key, found, joins=joins):
            return Refusal(Verdict.PENDING, False)
        if not found.is_decided:
            return Refusal(Verdict.PENDING, False)
        if joins and found.resumes and error.code == LIMIT_REACHED:
            found.is_narrow = True  # the next question names no places
        was_reported, found.is_reported = found.is_reported, True
        may_retry = error.is_temporary
        if found.state is TopicState.LEAVING:
            if not may_retry:
                del self._topics[key]
                return Refusal(Verdict.SETTLED, was_reported)
        elif not may_retry or (error.code == LIMIT_REACHED and not found.has_been_live):
            if found.extras or found.is_granted:
                self.leave(key)  # with one of these the server has the subscription
            else:
                del self._topics[key]
            return Refusal(Verdict.FINAL, was_reported)
        else:
            found.state = TopicState.REFUSED
        self._window = max(1, self._window // 2)
        self._retry_later()
        return Refusal(Verdict.RETRY, was_reported)

    def next_deadline(self) -> float | None:
        if self._retry_at is None or self._look_at is None:
            return self._look_at if self._retry_at is None else self._retry_at
        return min(self._retry_at, self._look_at)

    def handle_timeout(self, now: float) -> None:
        """Ask again about topics that were refused temporarily or got no answer."""
        if self._look_at is not None and now >= self._look_at:
            self._give_up_waiting(now)
        if self._retry_at is None or now < self._retry_at:
            return
        self._retry_at = None
        refused = [
            (key, found)
            for key, found in self._topics.items()
            if found.state is TopicState.REFUSED
            or (found.state is TopicState.LEAVING and not found.open_questions)
        ]
        # What is asked while a question is open could not be told apart from that in the answers.
        asked = [one for one in refused if not one[1].extras][: self._window]
        for key, found in asked:
            if found.state is TopicState.REFUSED:
                self._ask(key, found)
            else:
                self._ask_to_leave(key, found)
        self._count_open()
        if len(refused) > len(asked):
            self._retry_later()

    def _give_up_waiting(self, now: float) -> None:
        """Treat questions without an answer in time as refused temporarily."""
        waiting = [found for found in self._topics.values() if found.open_questions]
        late = [found for found in waiting if now >= found.answer_by]
        for found in late:
            found.forget_questions()
            if found.state is TopicState.ASKED:
                found.state = TopicState.REFUSED
        if late:
            self._count_open()
            self._retry_later()
        self._look_at = min(
            (found.answer_by for found in waiting if found.open_questions), default=None
        )

    def _answered(self, key: Key, found: Topic, *, joins: bool) -> bool:
        """Count an answer; tell whether a question of that kind was pending."""
        is_answer = found.answered(joins=joins)
        if is_answer:
            self._open -= _cost(key)
        return is_answer

    def _count_open(self) -> None:
        """Count the bytes of open questions; a topic is open until the server let it go."""
        self._open = sum(
            max(found.open_questions, found.state is TopicState.LEAVING) * _cost(key)
            for key, found in self._topics.items()
        )

    def _retry_later(self) -> None:
        if self._retry_at is None:
            self._retry_at = self._state.now + _RETRIES.delay(self._attempt, self._chance())
            self._attempt += 1
            self._state.deadlines.schedule(self)

    def _ask(
        self,
        key: Key,
        found: Topic,
        *,
        is_back: bool = False,
        wish: PresenceWish | None = None,
    ) -> None:
        """Ask to subscribe, or to change what a subscription has to do with presence.

        Without ``wish`` the server is told all that the program wants of it.
        """
        if wish is None:
            # Of what was refused for now, the server knows only what it has confirmed besides.
            observes = self._is_observed(key) or (False if found.is_granted else None)
            wish = PresenceWish(found.info, observes)
        found.state = TopicState.ASKED
        found.joins += 1
        found.is_missing = is_back or found.has_been_live
        start = self._start(key, found)
        found.resumes = start is not None and start.since is not None
        self._send(key, found, joins=True, start=start, wish=wish)

    def _ask_to_leave(self, key: Key, found: Topic) -> None:
        found.leaves += 1
        self._send(key, found, joins=False)

    def _send(
        self,
        key: Key,
        found: Topic,
        *,
        joins: bool,
        start: Start | None = None,
        wish: PresenceWish = NO_WISH,
    ) -> None:
        self._open += _cost(key)
        found.answer_by = self._state.now + _PATIENCE
        if self._look_at is None:
            self._look_at = found.answer_by
            self._state.deadlines.schedule(self)
        link = self._state.link
        assert link is not None
        dialect = link.outgoing.dialect
        if joins:
            if not self._state.has_feature(PRESENCE):
                wish = NO_WISH
            more = wish.fields()
            if found.concurrency > 1:
                more["concurrency"] = found.concurrency
            message = dialect.subscribe(key, self._state.id, start, more)
        else:
            message = dialect.unsubscribe(key, self._state.id)
        # Not refused for want of room: a subscription must not depend on what else waits.
        link.outgoing.send_anyway(message)
        if self.positions is not None:
            self.positions.asked(Question(link.outgoing.sent, str(key), joins))

    def _start(self, key: Key, found: Topic) -> Start | None:
        """Return with what of the past to subscribe: what the program wants, or what it missed."""
        if isinstance(key, InGroup) or not self._state.has_feature(HISTORY):
            return None
        if not found.is_missing:
            return found.start
        largest = self._state.require_link().outgoing.max_message or _LEAST
        return found.start or self.standings.start(key, 0 if found.is_narrow else largest // 4)

    def stand(self, key: Key, standing: Standing) -> Recovered | Lost | None:
        """Note where a subscription begins, as its confirmation tells; return what that means."""
        found = self._topics.get(key)
        if found is None or found.state is TopicState.LEAVING or isinstance(key, InGroup):
            return None
        resumes, found.resumes = found.resumes, False
        self.standings.begin(key, standing, resumes=resumes)
        if not resumes:
            return None
        if standing.recovered:
            return Recovered(str(key), standing.coming)
        return Lost(str(key), standing.lost)


def _has_topic(topics: dict[Key, Topic], topic: str) -> bool:
    """Tell whether a subscription that has not ended has a topic."""
    return any(
        found.state is not TopicState.LEAVING
        and (key.selects(topic) if isinstance(key, Pattern) else key == topic)
        for key, found in topics.items()
    )


def _overlaps(topics: dict[Key, Topic], key: Key) -> bool:
    """Tell whether a subscription has a topic, or some of those of a pattern."""
    if key in topics and topics[key].state is not TopicState.LEAVING:
        return True
    if isinstance(key, str):
        return any(isinstance(other, Pattern) and other.selects(key) for other in topics)
    return isinstance(key, Pattern) and any(
        isinstance(other, str) and key.selects(other) for other in topics
    )


def needs(key: Key) -> tuple[str, ...]:
    """Return the features of the server that a subscription needs."""
    if isinstance(key, InGroup):
        return (GROUPS, *needs(key.scope))
    return () if isinstance(key, str) else (PATTERNS,)


def _cost(key: Key) -> int:
    """Return the bytes that a question takes while it is open, roughly."""
    return len(str(key)) + 100


def _about(question: Question, reason: str) -> ServerError:
    request = "subscribe" if question.joins else "unsubscribe"
    return ServerError(reason, code_of(reason), request=request, topic=question.topic)
