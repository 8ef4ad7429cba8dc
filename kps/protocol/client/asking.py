"""Questions of the program to the server: acks, receipts, barriers."""

from collections.abc import Callable
from typing import Any

from kps.errors import KPSError, QueueFull, RequestTimeout, ServerError
from kps.protocol.bus.ack_handle import AckChanged, AckHandle
from kps.protocol.bus.given import check_id, check_topic
from kps.protocol.calls import verb
from kps.protocol.client.events import AckStatusReceived, AckStatusRefused, BarrierPassed
from kps.protocol.client.pending import (
    ACK_GRACE,
    LOOK_EVERY,
    Barrier,
    ClientAck,
    Pending,
)
from kps.protocol.client.repeats import Repeats
from kps.protocol.client.sender import Sender
from kps.protocol.client.state import ClientState
from kps.protocol.dialect import level1, level2
from kps.protocol.dialect.client import read_group_response, read_response
from kps.protocol.dialect.codes import EXPECT, GROUPS, OUTCOME_UNKNOWN
from kps.protocol.dialect.envelope import Fields, compose, embedded, text
from kps.protocol.dialect.outcome import AckResponse, Receipt, size_of, timed_out
from kps.protocol.dialect.requests import NO_DEMANDS, Demands
from kps.protocol.limits import check_seconds
from kps.protocol.timers import Expiries

_LEAST = 1024 * 1024  # bytes that pending questions may take, however small the queue is
_COST = 1024  # bytes of memory that a pending question takes, roughly
_WRITE_TIME = 5.0  # seconds that a request may be in the queue, or its timeout if that is longer
_MOST_REFUSALS = 10  # that one barrier remembers

_WriteAsk = Callable[[str, str, Any, str, float, Fields], bytes]
"""Writes an ack request: target, sender, payload, its id, seconds, further fields."""


class Asking:
    """Asks the server, and ends each question once, with its answer or with an error."""

    def __init__(self, state: ClientState, sender: Sender) -> None:
        self.calls = state.calls
        self._state = state
        self._sender = sender
        self._most = max(state.config.limits.queue_bytes, _LEAST) // _COST  # pending questions
        self.pending = Pending()
        self.repeats = Repeats(state, self.pending, self._end)
        """Those with messages that may be sent again."""
        self._expiries = Expiries(state.deadlines)

    # -- questions --------------------------------------------------------------------------

    @verb
    def publish_with_ack(
        self,
        topic: object,
        data: Any,
        timeout: object,
        now: float,
        demands: Demands = NO_DEMANDS,
        headers: bytes = b"",
        message_id: str = "",
    ) -> AckHandle:
        """Publish, and gather the acks. Raises as ``publish`` does; it is never kept offline."""
        handle = self._new_ack(timeout, now)
        topic = check_topic(topic, self._state.config.limits)
        if demands != NO_DEMANDS:
            self._state.require_link()
            if demands.expected:
                self._state.require_feature(EXPECT)
            if demands._replace(expected=()) != NO_DEMANDS:
                self._state.require_feature(GROUPS)
        more = demands.fields() | self._sender.more_fields(headers, message_id)
        write = self._sender.dialect.publish_with_ack
        self._ask(handle, write, topic, data, more)
        return handle

    @verb
    def publish_to_id_with_ack(
        self,
        client_id: object,
        data: Any,
        timeout: object,
        now: float,
        headers: bytes = b"",
        message_id: str = "",
    ) -> AckHandle:
        """Send a direct message, and wait for the ack. Raises as ``publish`` does."""
        handle = self._new_ack(timeout, now)
        client_id = check_id(client_id, self._state.config.limits)
        more = self._sender.more_fields(headers, message_id)
        write = self._sender.dialect.publish_to_id_with_ack
        self._ask(handle, write, client_id, data, more)
        return handle

    @verb
    def ask_status(self, handle: AckHandle, now: float) -> bool:
        """Ask for the status of a request: ``AckStatusReceived`` or ``AckStatusRefused`` follows.

        Return ``False`` if the request has ended. Raises ``QueueFull``.
        """
        self._state.now = now
        if handle.finished or self.pending.find(handle.id, ClientAck) is not handle:
            return False
        self._sender.send_or_refuse(
            level1.get_ack_status(handle.id, self._state.id), droppable=False
        )
        return True

    @verb
    def cancel_ack(self, handle: AckHandle, now: float) -> None:
        """Stop gathering answers. May be called twice."""
        self._state.now = now
        ack = self.pending.find(handle.id, ClientAck)
        if ack is handle:
            self._give_up(ack, None)

    @verb
    def publish_with_receipt(
        self, topic: object, data: Any, now: float, headers: bytes = b"", message_id: str = ""
    ) -> Barrier:
        """Publish; ``BarrierPassed`` tells to how many subscribers the server passed it on.

        A server on level 1 does not tell how many. Raises as ``publish``; it is never kept offline.
        """
        self._state.now = now
        self.require_room()
        topic = check_topic(topic, self._state.config.limits)
        send, more = self._sender.send_or_refuse, self._sender.more_fields(headers, message_id)
        if not self._sender.dialect.has_receipts:
            message = level1.publish(topic, self._state.id, data)
            send(message, droppable=False)
            return self._barrier()
        barrier = Barrier(self.pending.new_name("receipt"))
        if message_id:
            data = embedded(compose(data))  # as it is now
        message = level2.publish_with_receipt(topic, data, barrier.name, more)
        if message_id:
            barrier.repeat = self.repeats.new(
                lambda extra, _: level2.publish_with_receipt(
                    topic, data, barrier.name, more | extra
                ),
                len(message),
            )
        send(message, droppable=False)
        self.pending.add(barrier.name, barrier)
        return barrier

    @verb
    def barrier(self, now: float) -> Barrier:
        """Send a barrier; ``BarrierPassed`` tells when the server has handled all messages before.

        Raises ``NotConnected`` and ``QueueFull``.
        """
        self._state.now = now
        return self._barrier()

    def _barrier(self) -> Barrier:
        state = self._state
        self.require_room()
        barrier = Barrier(self.pending.new_name(f"barrier_{state.id}"))
        message = self._sender.dialect.barrier(barrier.name, state.id)
        self._sender.send_or_refuse(message, droppable=False)
        self.pending.add(barrier.name, barrier)
        return barrier

    def forget(self, barrier: Barrier) -> None:
        """Remove a barrier whose caller has stopped waiting."""
        self.pending.take(barrier.name, Barrier)

    def _new_ack(self, timeout: object, now: float) -> ClientAck:
        state = self._state
        state.now = now
        seconds = check_seconds("timeout", timeout)
        ack_id = self.pending.new_name(f"client_ack_{state.id}")
        return ClientAck(ack_id, seconds, now, self._look)

    def _ask(
        self, handle: ClientAck, write: _WriteAsk, target: str, data: Any, more: Fields
    ) -> None:
        self.require_room()
        sender, ack_id = self._state.id, handle.id
        if "message_id" in more:
            data = embedded(compose(data))  # as it is now
            message = write(target, sender, data, ack_id, handle.timeout, more)
            handle.repeat = self.repeats.new(
                lambda extra, left: write(target, sender, data, ack_id, left, more | extra),
                len(message),
            )
        else:
            message = write(target, sender, data, ack_id, handle.timeout, more)
        # The publisher waits, so no policy may drop the request and no offline queue keep it.
        self._sender.send_or_refuse(message, droppable=False)
        link = self._state.link
        assert link is not None
        handle.position = link.outgoing.end
        self._expiries.schedule(handle)
        self.pending.add(handle.id, handle)

    def require_room(self) -> None:
        """Raise ``QueueFull`` while too many questions wait, for a silent server for instance."""
        if len(self.pending) >= self._most:
            raise QueueFull("too many requests wait for the server's answers")

    def _look(self, handle: ClientAck) -> None:
        """Give a request up if its time is over, which begins when it leaves the queue."""
        link, now = self._state.link, self._state.now
        if link is not None and not link.outgoing.has_passed(handle.position):
            write_by = handle.asked + max(handle.timeout, _WRITE_TIME)
            handle.started, handle.look_at = now, min(now + LOOK_EVERY, write_by)
            if now >= write_by:
                self._give_up(handle, RequestTimeout("the network was too slow for the request"))
        else:
            handle.look_at = handle.started + handle.timeout + ACK_GRACE
            if now >= handle.look_at:
                self._give_up(handle, RequestTimeout("the server did not answer in time"))

    def _give_up(self, handle: ClientAck, error: KPSError | None) -> None:
        """End a request, with an error unless the program cancelled it, and tell the server."""
        self._end(handle, error)
        link = self._state.link
        if (
            link is not None and link.registered
        ):  # without room it must go out all the same, or the server goes on
            link.outgoing.send_anyway(level1.cancel_ack(handle.id, self._state.id))

    # -- answers ----------------------------------------------------------------------------

    def passed(self, name: str, fields: Fields | None = None) -> None:
        """Note that the server has reached a barrier; a receipt has the fields of its answer."""
        barrier = self.pending.take(name, Barrier)
        if barrier is not None:
            barrier.passed = True
            delivered = (fields or {}).get("delivered")
            if fields is not None and type(delivered) is int:
                is_degraded = fields.get("degraded") is True
                barrier.receipt = Receipt(delivered, is_degraded=is_degraded)
            self._state.events.append(BarrierPassed(barrier))

    def updated(self, fields: Fields) -> ClientAck | None:
        """Record outcomes of an ack request; return the request if it is pending."""
        handle = self.pending.find(text(fields, "ack_id"), ClientAck)
        if handle is not None:
            self._take_outcomes(handle, fields)
        return handle

    def _take_outcomes(self, handle: ClientAck, fields: Fields) -> None:
        responses, missing = fields.get("responses"), fields.get("missing")
        if type(responses) is dict:
            for client_id, response in responses.items():
                if type(response) is dict:
                    outcome, size = read_response(client_id, response, handle.id)
                    self._record(handle, client_id, outcome, size)
        groups = fields.get("groups")
        for one in groups if type(groups) is list else ():
            if type(one) is dict:
                outcome, size = read_group_response(one, handle.id)
                self._record(handle, outcome.key, outcome, size)
        if type(missing) is list:
            for client_id in missing:
                if type(client_id) is str:
                    missed = timed_out(client_id, handle.id)
                    self._record(handle, client_id, missed, size_of(missed))
        self._state.events.append(AckChanged(handle))

    def _record(self, handle: ClientAck, name: str, response: AckResponse, size: int) -> None:
        """Keep an outcome of ``size`` bytes; without room, end the request with an error."""
        if handle.error is not None:
            return
        pending = self.pending
        if pending.size + size > self._state.config.limits.max_all_results:
            self._give_up(handle, QueueFull("the outcomes of ack requests take too much memory"))
        elif name not in handle.outcomes:
            handle.outcomes[name] = response
            handle.size += size
            pending.size += size

    def answered(self, fields: Fields) -> None:
        """Record the end of an ack request."""
        handle = self.pending.find(fields.get("ack_id") or "", ClientAck)
        if handle is not None:
            version = fields.get("presence")
            handle.presence = version if type(version) is int else None
            handle.is_degraded = fields.get("degraded") is True
            handle.finished = True  # first, so that the last event shows a finished request
            if not fields.get("responses") and self._is_silence(handle):
                handle.error = RequestTimeout("nobody had answered when the server's time was over")
            self._take_outcomes(handle, fields)
            self.pending.take(handle.id, ClientAck)
            self._expiries.cancel(handle)

    def _is_silence(self, handle: ClientAck) -> bool:
        """Tell whether an answer without outcomes, now, means that nobody answered in time."""
        silence = self._sender.dialect.silent_end
        return silence is not None and self._state.now - handle.started >= silence

    def status_received(self, fields: Fields) -> None:
        """Take the status of an ack request, or the answer to a barrier on level 1."""
        name = text(fields, "ack_id")
        handle = self.pending.find(name, ClientAck)
        if handle is None:
            self.passed(name)
            return
        status = fields.get("status")
        known = status if type(status) is dict else {}
        self._state.events.append(
            AckStatusReceived(handle, {name: value is True for name, value in known.items()})
        )

    def refused(self, fields: Fields, error: ServerError) -> bool:
        """End the question that an error names; return ``False`` if it names none of ours."""
        ack = self.pending.find(text(fields, "ack_id"), ClientAck)
        if ack is not None and error.request.endswith("_with_ack"):
            self._refuse(ack, error)
            return True
        if ack is not None and error.request == "get_ack_status":
            self._state.events.append(AckStatusRefused(ack, error))
            return True
        for name in (text(fields, "nonce"), text(fields, "receipt")):
            barrier = self.pending.find(name, Barrier)
            if barrier is not None:
                self._refuse(barrier, error)
                return True
        first = self.pending.first_barrier  # which the error precedes
        if first is not None and len(first.refusals) < _MOST_REFUSALS:
            first.refusals.append(str(error))
        return False

    def _refuse(self, question: Barrier | ClientAck, error: ServerError) -> None:
        """End a question that the server refuses. Of a repeat that says nothing about the first."""
        is_again = question.repeat is not None and question.repeat.is_again
        self._end(
            question, self.repeats.lost if is_again and error.code != OUTCOME_UNKNOWN else error
        )

    def end_all(self, error: KPSError) -> None:
        """End all questions with an error."""
        for question in self.pending.questions():
            self._end(question, error)
        self._expiries.rest()

    def _end(self, question: Barrier | ClientAck, error: KPSError | None) -> None:
        """End a question, with an error unless the program cancelled it."""
        if isinstance(question, Barrier):
            self.pending.take(question.name, Barrier)
            question.error = error
            self._state.events.append(BarrierPassed(question))
        else:
            self.pending.take(question.id, ClientAck)
            question.finished = True
            question.error = error
            self._expiries.cancel(question)
            self._state.events.append(AckChanged(question))
