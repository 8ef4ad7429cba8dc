"""The program of a vector on the blocking client."""

import queue
import threading
from collections.abc import Callable
from typing import Any

from kps.errors import KPSError
from kps.io_sync.ack import Ack
from kps.io_sync.client import Client
from kps.io_sync.subscription import Subscription
from kps.protocol.bus.message import Message
from kps.protocol.patterns import Scope
from kps.testing.testee.ears import Ears
from kps.testing.testee.spelling import (
    Failed,
    Step,
    Teller,
    of_change,
    of_message,
    of_outcome,
    of_past,
    of_presence,
    options_in,
    past_in,
    scope_in,
    some_of,
)

_MOST_HELD = 10  # messages that a subscription may hold at the end of a vector


class _Client(Client):
    """Tells when a call has sent its question, and begins to wait for the answer."""

    begun: Callable[[], None]

    def _in_time(self, subject: object, condition: Callable[[], bool], late: str) -> None:
        self.begun()
        super()._in_time(subject, condition, late)

    def _result_of(self, ack: Ack[Any], target: str) -> Any:
        self.begun()
        return super()._result_of(ack, target)


class Program:
    """The program of one vector. Each step has a thread, which may wait."""

    def __init__(self, url: str, options: Step, tell: Teller) -> None:
        self._tell = tell
        self._here = threading.local()
        self._scopes: dict[str, Scope] = {}
        self._subscriptions: dict[str, Subscription[Any]] = {}
        self._answers: dict[str, queue.SimpleQueue[Step]] = {}
        self._acks: dict[str, Ack[Any]] = {}
        self._ears = Ears(self._tell, reports_direct=options.get("reports_direct", False))
        self._client = _Client(url, **options_in(options), **self._ears.hooks())
        self._client.begun = self._begun
        self._ears.session = self._client._session

    def begin(self, step: Step) -> None:
        """Begin a step; return when it waits for the network, or has come to its end."""
        verb = getattr(self, f"do_{step['do']}", None)
        begun = threading.Event()
        threading.Thread(target=self._carry_out, args=(verb, step, begun), daemon=True).start()
        begun.wait()

    def end(self) -> None:
        """Close the client without a word."""
        self._tell.end()
        for answers in self._answers.values():
            for _ in range(_MOST_HELD):
                answers.put({})
        self._client.close(0.1)

    def _carry_out(
        self, verb: Callable[[Step], None] | None, step: Step, begun: threading.Event
    ) -> None:
        self._here.begun = begun
        name = step.get("as", step["do"])
        try:
            if verb is None:
                self._tell("failed", **{"as": name, "error": "unsupported"})
            else:
                verb(step)
        except KPSError as error:
            if step["do"] == "connect":
                self._ears.ended(error)
            else:
                self._tell.failed(name, error)
        finally:
            begun.set()

    def _begun(self) -> None:
        """Note that the step of this thread has begun."""
        begun = getattr(self._here, "begun", None)
        if begun is not None:
            begun.set()

    # -- what it does, one method for each verb -----------------------------------------------

    def do_connect(self, step: Step) -> None:
        self._begun()  # it waits for nothing that tells so
        self._client.__enter__()

    def do_close(self, step: Step) -> None:
        self._ears.is_closing = True
        self._begun()
        self._client.close()
        self._ears.ended(None)

    def do_subscribe(self, step: Step) -> None:
        name, answer = step["as"], step.get("answer", {})
        self._answers[name] = queue.SimpleQueue()

        def handle(message: Message) -> Any:
            self._tell("message", **{"as": name}, **of_message(message))
            told = self._answers[name].get() if "hold" in answer else answer
            if "error" in told:
                raise Failed(told["error"])
            return told.get("result")

        def observe(presence: Any) -> None:
            self._tell("members", **{"as": name}, **of_change(presence))

        scope = self._scopes[name] = scope_in(step)
        self._subscriptions[name] = self._client.subscribe(
            scope,
            handle,
            presence=observe if step.get("presence") else None,
            **past_in(step),
            **some_of(step, "group", "concurrency", "info"),
        )
        self._tell.done(name)

    def do_answer(self, step: Step) -> None:
        self._answers[step["as"]].put(step)

    def do_unsubscribe(self, step: Step) -> None:
        subscription = self._subscriptions.get(step["as"])
        if subscription is None:  # the call that makes it still waits
            self._client.unsubscribe(self._scopes[step["as"]])
        else:
            subscription.unsubscribe()

    def do_publish(self, step: Step) -> None:
        self._client.publish(step["topic"], step["data"], **some_of(step, "headers"))

    def do_publish_to_id(self, step: Step) -> None:
        self._client.publish_to_id(step["to"], step["data"], **some_of(step, "headers"))

    def do_publish_with_receipt(self, step: Step) -> None:
        more = some_of(step, "headers", "message_id")
        number = self._client.publish_with_receipt(step["topic"], step["data"], **more)
        self._tell.done(step["as"], number)

    def do_publish_with_ack(self, step: Step) -> None:
        name, client = step["as"], self._client
        more = some_of(step, "timeout", "headers", "message_id")
        if "to" in step:
            ack = client.publish_to_id_with_ack(step["to"], step["data"], **more)
        else:
            more |= some_of(step, "expect", "expect_groups", "key", "retry")
            ack = client.publish_with_ack(step["topic"], step["data"], **more)
        self._acks[name] = ack
        self._begun()
        for response in ack:
            self._tell("outcome", **{"as": name}, **of_outcome(response))
        self._tell.done(name)

    def do_request(self, step: Step) -> None:
        more = some_of(step, "timeout", "headers", "message_id")
        if "to" in step:
            result = self._client.request_to_id(step["to"], step["data"], **more)
        else:
            more |= some_of(step, "key", "retry")
            result = self._client.request(step["topic"], step["data"], **more)
        self._tell.done(step["as"], result)

    def do_cancel(self, step: Step) -> None:
        self._acks[step["as"]].cancel()

    def do_status(self, step: Step) -> None:
        self._tell.done(step["as"], self._acks[step["of"]].status())

    def do_history(self, step: Step) -> None:
        start = past_in(step)
        if "last" in start:
            start["limit"] = start.pop("last")
        self._tell.done(step["as"], of_past(self._client.history(step["topic"], **start)))

    def do_presence(self, step: Step) -> None:
        self._tell.done(step["as"], of_presence(self._client.presence(step["topic"])))

    def do_flush(self, step: Step) -> None:
        self._client.flush()
        self._tell.done(step["as"])
