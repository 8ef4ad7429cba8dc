"""The outgoing queue of a connection: its limits, and what they do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.limits import Limits, Overflow
from kps.protocol.wire.outbox import Droppable, Frames, Outbox, Push

A, B, C, D = (Droppable(letter * 10) for letter in (b"A", b"B", b"C", b"D"))
ANSWER = b"answer...."
EVERY_POLICY = list(Overflow)


def outbox(policy: Overflow = Overflow.CLOSE, *, messages: int = 3, size: int = 1000) -> Outbox:
    return Outbox(Limits(queue_messages=messages, queue_bytes=size, overflow=policy))


def fill(box: Outbox, *frames: bytes) -> Outbox:
    for frame in frames:
        assert box.push(frame) is Push.QUEUED
    return box


class TestOrder:
    @pytest.mark.parametrize("policy", EVERY_POLICY)
    def test_first_in_first_out(self, policy: Overflow) -> None:
        box = fill(outbox(policy), A, ANSWER, B)
        assert box.pending_frames == 3
        assert box.take(1000) == A + ANSWER + B
        assert box.take(1000) == b""
        assert (box.pending_frames, box.pending_bytes, box.pending_answers) == (0, 0, 0)

    def test_takes_whole_frames_up_to_the_limit(self) -> None:
        box = fill(outbox(), A, ANSWER, B)
        assert box.take(29) == A + ANSWER
        assert (box.pending_bytes, box.pending_answers) == (10, 0)
        assert box.take(5) == B  # at least one, or nothing would ever move

    def test_counts_what_waits(self) -> None:
        box = fill(outbox(), A, ANSWER)
        assert (box.pending_bytes, box.pending_answers) == (20, 10)


class TestFull:
    @pytest.mark.parametrize("limits", [{"messages": 3}, {"messages": 100, "size": 35}])
    def test_close(self, limits: dict[str, int]) -> None:
        box = fill(outbox(Overflow.CLOSE, **limits), A, B, ANSWER)
        assert box.push(C) is Push.OVERFLOW
        assert box.push(ANSWER) is Push.OVERFLOW
        assert box.take(1000) == A + B + ANSWER
        assert box.dropped == 0

    @pytest.mark.parametrize("limits", [{"messages": 3}, {"messages": 100, "size": 35}])
    def test_drop_newest(self, limits: dict[str, int]) -> None:
        box = fill(outbox(Overflow.DROP_NEWEST, **limits), A, ANSWER, B)
        assert box.push(C) is Push.DROPPED
        assert box.dropped == 1
        assert box.take(1000) == A + ANSWER + B

    @pytest.mark.parametrize("limits", [{"messages": 3}, {"messages": 100, "size": 35}])
    def test_drop_oldest(self, limits: dict[str, int]) -> None:
        box = fill(outbox(Overflow.DROP_OLDEST, **limits), ANSWER, A, B)
        assert box.push(C) is Push.QUEUED
        assert box.dropped == 1
        assert box.push(D) is Push.QUEUED
        assert box.dropped == 2
        assert box.take(1000) == ANSWER + C + D

    @pytest.mark.parametrize("policy", [Overflow.DROP_NEWEST, Overflow.DROP_OLDEST])
    def test_answer_takes_the_place_of_publications(self, policy: Overflow) -> None:
        box = fill(outbox(policy), A, B, C)
        assert box.push(ANSWER) is Push.QUEUED
        assert box.dropped == 1
        assert box.take(1000) == B + C + ANSWER

    @pytest.mark.parametrize("policy", EVERY_POLICY)
    def test_answers_are_never_dropped(self, policy: Overflow) -> None:
        box = fill(outbox(policy), ANSWER, ANSWER, ANSWER)
        assert box.push(ANSWER) is Push.OVERFLOW
        assert box.push(A) is (Push.OVERFLOW if policy is Overflow.CLOSE else Push.DROPPED)
        assert box.take(1000) == ANSWER * 3

    @pytest.mark.parametrize("policy", EVERY_POLICY)
    def test_large_frame_passes_through_an_empty_queue(self, policy: Overflow) -> None:
        large = Droppable(b"x" * 5000)
        box = fill(outbox(policy), large)
        assert not box.has_room(1)
        assert box.take(10) == large
        assert box.has_room(1)

    def test_large_frame_drops_all_before_it(self) -> None:
        box = fill(outbox(Overflow.DROP_OLDEST), A, B)
        large = Droppable(b"x" * 5000)
        assert box.push(large) is Push.QUEUED
        assert box.dropped == 2
        assert box.take(10) == large

    def test_has_room(self) -> None:
        box = fill(outbox(messages=2, size=30), A)
        assert box.has_room(20)
        assert not box.has_room(21)
        assert not fill(box, B).has_room(0)

    @pytest.mark.parametrize("policy", EVERY_POLICY)
    def test_push_anyway(self, policy: Overflow) -> None:
        box = fill(outbox(policy), A, B, C)
        box.push_anyway(ANSWER)
        box.push_anyway(D)
        assert (box.pending_bytes, box.pending_answers, box.dropped) == (50, 10, 0)
        assert box.take(1000) == A + B + C + ANSWER + D
        assert (box.pending_bytes, box.pending_answers) == (0, 0)


class TestSeveralAtOnce:
    def test_fit_or_do_not(self) -> None:
        box = fill(outbox(messages=4, size=1000), A)
        assert box.push_all(Droppable.of([B, C, D]))
        assert (box.pending_frames, box.pending_bytes, box.pending_answers) == (4, 40, 0)
        assert not box.push_all(Droppable.of([A]))
        assert box.push(A) is Push.OVERFLOW
        assert box.take(1000) == A + B + C + D
        assert box.pending_frames == 0
        assert not box.push_all(Droppable.of([A] * 5))
        assert not outbox(size=25).push_all(Droppable.of([A, B, C]))

    def test_count_as_so_many_when_they_are_dropped(self) -> None:
        box = fill(outbox(Overflow.DROP_OLDEST, messages=4), ANSWER)
        assert box.push_all(Droppable.of([A, B]))
        assert box.push_all(Droppable.of([C]))
        assert box.push(D) is Push.QUEUED
        assert (box.dropped, box.pending_frames) == (2, 3)
        assert box.take(1000) == ANSWER + C + D
        assert box.push_all(Droppable.of([A, B]))
        box.clear()
        assert box.dropped == 4

    def test_answers_stay_answers(self) -> None:
        box = outbox(Overflow.DROP_OLDEST)
        assert box.push_all(Frames.of([ANSWER] * 3))
        assert box.pending_answers == 30
        assert box.push(A) is Push.DROPPED
        assert box.take_droppable() == []
        assert (box.pending_frames, box.pending_answers) == (3, 30)
        assert box.take(5) == ANSWER * 3  # they are one piece now


class TestEnd:
    def test_clear_counts_what_it_drops(self) -> None:
        box = fill(outbox(), A, ANSWER)
        box.clear()
        assert (box.pending_frames, box.pending_bytes, box.pending_answers, box.dropped) == (
            0,
            0,
            0,
            2,
        )
        assert box.take(1000) == b""

    def test_publications_can_be_taken_back(self) -> None:
        box = fill(outbox(), A, ANSWER, B)
        assert box.take_droppable() == [A, B]
        assert (box.pending_frames, box.pending_bytes, box.dropped) == (1, 10, 0)
        assert box.take(1000) == ANSWER


def count(frame: bytes) -> int:
    return frame.messages if isinstance(frame, Frames) else 1


class Model:
    """The same queue in the plainest way: a list that is counted anew each time.

    What was queued together is one entry.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.frames: list[bytes] = []
        self.dropped = 0

    @property
    def messages(self) -> int:
        return sum(count(frame) for frame in self.frames)

    def has_room(self, size: int, messages: int = 1) -> bool:
        total = sum(map(len, self.frames))
        return (
            self.messages + messages <= self.limits.queue_messages
            and total + size <= self.limits.queue_bytes
        )

    def push_all(self, frames: Frames) -> bool:
        fits = self.has_room(len(frames), frames.messages)
        if fits:
            self.frames.append(frames)
        return fits

    def push(self, frame: bytes) -> Push:
        policy, droppable = self.limits.overflow, isinstance(frame, Droppable)

        def fits() -> bool:
            return not self.frames or self.has_room(len(frame))

        if not fits() and policy is not Overflow.CLOSE:
            if not droppable or policy is Overflow.DROP_OLDEST:
                for old in [old for old in self.frames if isinstance(old, Droppable)]:
                    if not self.has_room(len(frame)):
                        self.frames.remove(old)
                        self.dropped += count(old)
            if droppable and not fits():
                self.dropped += 1
                return Push.DROPPED
        if not fits():
            return Push.OVERFLOW
        self.frames.append(frame)
        return Push.QUEUED

    def take(self, limit: int) -> bytes:
        taken = self.frames[:1]
        while len(taken) < len(self.frames):
            following = self.frames[len(taken)]
            if sum(map(len, taken)) + len(following) > limit:
                break
            taken.append(following)
        del self.frames[: len(taken)]
        return b"".join(taken)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publication"), st.integers(1, 40)),
        st.tuples(st.just("answer"), st.integers(1, 40)),
        st.tuples(st.just("publications"), st.integers(1, 20)),
        st.tuples(st.just("answers"), st.integers(1, 20)),
        st.tuples(st.just("take"), st.integers(1, 100)),
    ),
    max_size=40,
)


@given(
    policy=st.sampled_from(EVERY_POLICY),
    messages=st.integers(1, 6),
    size=st.integers(1, 100),
    steps=STEPS,
)
def test_is_what_the_plain_model_says(
    policy: Overflow, messages: int, size: int, steps: list[tuple[str, int]]
) -> None:
    box = outbox(policy, messages=messages, size=size)
    model = Model(Limits(queue_messages=messages, queue_bytes=size, overflow=policy))
    for number, (step, amount) in enumerate(steps):
        if step == "take":
            assert box.take(amount) == model.take(amount)
        elif step in ("publications", "answers"):
            kind = Droppable if step == "publications" else Frames
            several = kind.of([number.to_bytes(2, "big") * amount] * (1 + amount % 3))
            assert box.push_all(several) is model.push_all(several)
        else:
            # Each frame differs from all others, so that order shows.
            content = number.to_bytes(2, "big") * amount
            frame = Droppable(content) if step == "publication" else content
            assert box.push(frame) is model.push(frame)
        answers = [frame for frame in model.frames if not isinstance(frame, Droppable)]
        assert box.pending_frames == model.messages
        assert box.pending_bytes == sum(map(len, model.frames))
        assert box.pending_answers == sum(map(len, answers))
        assert box.dropped == model.dropped
    assert box.take(1 << 20) == b"".join(model.frames)


def test_what_cannot_be_dropped_is_looked_at_once() -> None:
    """However many answers wait, a publication for which there is no room costs the same."""
    box = Outbox(Limits(queue_messages=1000, overflow=Overflow.DROP_OLDEST))
    for _ in range(999):
        box.push(b"answer")
    box.push(Droppable(b"first"))
    assert box.push(Droppable(b"second")) is Push.QUEUED
    assert (len(box._settled), len(box._frames)) == (999, 1)
    assert (box.pending_frames, box.dropped) == (1000, 1)
    assert box.take(6 * 999) == b"answer" * 999
    assert box.take(100) == b"second"
    assert (box.pending_frames, box.pending_bytes) == (0, 0)
