"""What users of the bus rely on, over real sockets, whatever the driver."""

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

import kps
from tests.io.harness import PATIENCE, AnyDriver, Cable, Inbox, ThreadsDriver, eventually

Connect = Callable[..., Any]

QUICK = kps.Backoff(first=0.01, longest=0.05)


# -- publishing ----------------------------------------------------------------------------


def test_publication_reaches_every_subscriber_the_publisher_included(connect: Connect) -> None:
    alice, bob = connect("alice"), connect("bob")
    at_alice, at_bob, elsewhere = Inbox(), Inbox(), Inbox()
    alice.subscribe("news", at_alice)
    bob.subscribe("news", at_bob)
    bob.subscribe("other", elsewhere)
    alice.publish("news", {"title": "héllo \U0001f680", "n": 2**63})
    for inbox in (at_alice, at_bob):
        message = inbox.get()
        assert (message.topic, message.sender) == ("news", "alice")
        assert message.data == {"title": "héllo \U0001f680", "n": 2**63}
    bob.flush()
    assert elsewhere.is_empty()


def test_one_publishers_messages_arrive_in_order(connect: Connect) -> None:
    publisher, subscriber = connect("publisher"), connect("subscriber")
    inbox = Inbox()
    subscriber.subscribe("count", inbox)
    for number in range(500):
        publisher.publish("count", number)
    assert inbox.take(500) == list(range(500))


def test_two_callbacks_on_one_topic_both_get_the_message(connect: Connect) -> None:
    client = connect("client")
    first, second = Inbox(), Inbox()
    client.subscribe("t", first)
    subscription = client.subscribe("t", second)
    client.publish("t", 1)
    assert first.data() == second.data() == 1
    subscription.unsubscribe()
    client.publish("t", 2)
    assert first.data() == 2
    client.flush()
    assert second.is_empty()


def test_a_pattern_gets_what_it_matches_once(connect: Connect, server: Any) -> None:
    client, other = connect("client"), connect("other")
    sensors, everything, exact = Inbox(), Inbox(), Inbox()
    pattern = kps.Pattern("sensors/*/temperature")
    client.subscribe(pattern, sensors)
    client.subscribe(kps.Pattern("**"), everything)
    client.subscribe("sensors/1/temperature", exact)
    assert client.publish_with_receipt("sensors/1/temperature", 1) == 1
    other.publish("sensors/a/b/temperature", 2)
    other.publish("sensors/2/temperature", 3)
    for _ in range(2):
        message = sensors.get()
        assert (message.topic, message.data) in [
            ("sensors/1/temperature", 1),
            ("sensors/2/temperature", 3),
        ]
    assert everything.take(3) == [1, 2, 3]
    assert exact.data() == 1
    responses = other.publish_with_ack("sensors/1/temperature", 4).wait()
    assert [(name, response.success) for name, response in responses.items()] == [("client", True)]
    assert server.count_subscribers("sensors/1/temperature") == (0, 1, 1)
    assert sensors.data() == 4
    client.unsubscribe(pattern)
    other.publish("sensors/3/temperature", 5)
    assert everything.take(2) == [4, 5]
    client.flush()
    assert sensors.is_empty()


def test_a_group_shares_its_messages_and_does_the_jobs_of_one_that_is_gone(
    connect: Connect, clients: AnyDriver, cable: Cable
) -> None:
    release, begun, done = threading.Event(), Inbox(), Inbox()

    def hang(message: kps.Message) -> None:
        begun(message)
        if message.wants_ack:
            release.wait(PATIENCE)

    unlucky = clients.client(cable.address, id="unlucky", reconnect=False)
    lucky, publisher = connect("lucky"), connect("publisher")
    unlucky.subscribe("jobs", hang, group="workers")
    unlucky.flush()
    lucky.subscribe("jobs", done, group="workers")
    lucky.flush()
    for number in (1, 2, 3, 4):
        publisher.publish("jobs", number)
    assert (begun.take(2), done.take(2)) == ([1, 3], [2, 4])
    acks = [publisher.publish_with_ack("jobs", number, timeout=60.0) for number in (5, 6)]
    assert begun.get().attempt == 1
    cable.cut()
    outcomes = [ack.wait()["workers of jobs"] for ack in acks]
    assert all(isinstance(one, kps.GroupResponse) and one.success for one in outcomes)
    assert [(one.client_id, one.attempts) for one in outcomes] == [("lucky", 2), ("lucky", 1)]
    assert sorted((one.data, one.attempt) for one in (done.get(), done.get())) == [(5, 2), (6, 1)]
    release.set()


def test_a_level_1_server_has_no_patterns(clients: AnyDriver, servers: AnyDriver) -> None:
    server = servers.server(level=1)
    client = clients.client(server.address, id="client")
    with pytest.raises(kps.Unsupported, match="does not have patterns"):
        client.subscribe(kps.Pattern("**"), Inbox())
    client.publish("still/there", 1)
    client.flush()
    assert server.count_subscribers("still/there") == (0, 0, 0)


def test_unsubscribed_means_no_more_messages(connect: Connect, server: Any) -> None:
    client = connect("client")
    inbox = Inbox()
    client.subscribe("t", inbox)
    client.unsubscribe("t")
    client.publish("t", 1)
    client.flush()
    assert inbox.is_empty()
    assert server.count_subscribers("t") == (0, 0, 0)


def test_a_slow_callback_does_not_hold_up_another_topic(
    connect: Connect, clients: AnyDriver
) -> None:
    if isinstance(clients, ThreadsDriver):
        pytest.skip("the blocking client runs all its callbacks on one thread")
    client = connect("client")
    release = threading.Event()
    started = threading.Event()

    def slow(message: kps.Message) -> None:
        started.set()
        assert release.wait(20)

    inbox = Inbox()
    client.subscribe("slow", slow)
    client.subscribe("fast", inbox)
    client.publish("slow", 1)
    assert started.wait(20)
    client.publish("fast", 2)
    assert inbox.data() == 2
    release.set()


def test_an_exception_in_a_callback_ends_nothing(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect("client")
    inbox = Inbox()

    def fails_first(message: kps.Message) -> None:
        if message.data == 1:
            raise ValueError('no "ones"')
        inbox(message)

    client.subscribe("t", fails_first)
    response = client.publish_with_ack("t", 1).wait()["client"]
    assert (response.success, response.error) == (False, 'no "ones"')
    client.publish("t", 2)
    assert inbox.data() == 2
    assert [record.message for record in caplog.records if record.exc_info] == [
        "a callback for topic 't' failed"
    ]


def test_a_callback_refuses_without_a_traceback(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="kps")
    client = connect("client")

    class Closed(kps.Refused):
        """A program may make its own."""

    def refuse(message: kps.Message) -> None:
        raise (Closed if message.data else kps.Refused)("say something")

    client.subscribe("t", refuse)
    for data in (0, 1):
        with pytest.raises(kps.RequestFailed, match=r"^say something$"):
            client.request("t", data)
    refusals = [one for one in caplog.records if "say something" in one.getMessage()]
    assert [(one.levelno, one.getMessage()) for one in refusals] == 2 * [
        (logging.DEBUG, "a callback for topic 't' refused a message: say something")
    ]
    assert not [one for one in caplog.records if one.exc_info]


def test_an_endless_error_text_is_cut(connect: Connect) -> None:
    def fail(message: kps.Message) -> None:
        raise ValueError("x" * 1_000_000)

    connect("fails").subscribe("t", fail)
    response = connect("publisher").publish_with_ack("t", 1).wait()["fails"]
    assert response.error == "x" * kps.ServerLimits().max_error


def test_a_worker_that_is_asked_with_much_at_once_answers_all_of_it(connect: Connect) -> None:
    """Requests wait in the server's queue, answers in the worker's; each end goes on reading."""
    worker, publisher = connect("worker"), connect("publisher")
    worker.subscribe("jobs", lambda message: message.data)
    payload = "x" * 100_000
    acks = [publisher.publish_with_ack("jobs", payload, timeout=PATIENCE) for _ in range(300)]
    for ack in acks:
        assert ack.wait()["worker"].result == payload


def test_what_cannot_be_sent_is_refused_and_changes_nothing(connect: Connect) -> None:
    client = connect("client")
    attempts: list[Callable[[], Any]] = [
        lambda: client.publish("", 1),
        lambda: client.publish(5, 1),
        lambda: client.publish("t", object()),
        lambda: client.publish("t", b"bytes"),
        lambda: client.publish("t", {1: 2}),
        lambda: client.publish("t", 2**64),
        lambda: client.publish("t\ud800", 1),
        lambda: client.publish_to_id("", 1),
        lambda: client.publish_with_ack("t", 1, timeout=0),
        lambda: client.publish_with_ack("t", 1, timeout=-1),
        lambda: client.subscribe("", Inbox()),
    ]
    for attempt in attempts:
        with pytest.raises(kps.InvalidArgument):
            attempt()
    inbox = Inbox()
    client.subscribe("t", inbox)
    client.publish("t", "still here")
    assert inbox.data() == "still here"


# -- direct messages -----------------------------------------------------------------------


def test_direct_messages(connect: Connect) -> None:
    inbox, errors = Inbox(), Inbox()
    alice = connect("alice", on_error=errors)
    connect("bob", on_id=inbox)
    alice.publish_to_id("bob", {"data": 5})
    message = inbox.get()
    assert (message.data, message.sender, message.topic) == ({"data": 5}, "alice", "")
    alice.publish_to_id("nobody", 1)
    assert str(errors.get()) == "no client has the id nobody"


def test_direct_message_with_ack(connect: Connect) -> None:
    def refuse_two(message: kps.Message) -> None:
        if message.data == 2:
            raise ValueError("not two")

    alice = connect("alice")
    connect("bob", on_id=refuse_two)
    connect("deaf")
    assert alice.publish_to_id_with_ack("bob", 1).wait()["bob"].success
    assert alice.publish_to_id_with_ack("bob", 2).wait()["bob"].error == "not two"
    assert alice.publish_to_id_with_ack("nobody", 3).wait() == {}
    deaf = alice.publish_to_id_with_ack("deaf", 4).wait()["deaf"]
    assert (deaf.success, deaf.error) == (False, "no subscriber for topic")


# -- acknowledged publishing ---------------------------------------------------------------


def test_what_a_callback_returns_comes_back_with_its_ack(connect: Connect) -> None:
    asker = connect("asker")
    connect("adder", on_id=lambda message: sum(message.data)).subscribe(
        "sum", lambda message: {"sum": sum(message.data)}
    )
    connect("old", level=1).subscribe("sum", lambda message: "a level 1 client has no results")
    responses = asker.publish_with_ack("sum", [1, 2]).wait()
    assert {name: response.result for name, response in responses.items()} == {
        "adder": {"sum": 3},
        "old": None,
    }
    assert asker.publish_to_id_with_ack("adder", [3, 4]).wait()["adder"].result == 7
    assert connect("old2", level=1).publish_with_ack("sum", [5]).wait()["adder"].result is None


def test_a_result_that_is_not_json_is_an_error(connect: Connect) -> None:
    connect("odd").subscribe("t", lambda message: object())
    response = connect("asker").publish_with_ack("t", 1).wait()["odd"]
    assert not response.success
    assert "cannot be written as JSON" in str(response.error)


def test_a_request_has_one_result_or_says_why_not(connect: Connect, server: Any) -> None:
    client, worker, silent = connect("client"), connect("worker"), connect("silent")

    def double(message: kps.Message) -> int:
        if message.data == 0:
            raise ValueError("nothing to double")
        return int(message.data) * 2

    with pytest.raises(kps.NobodyThere, match="'double'"):
        client.request("double", 1)
    worker.subscribe("double", double)
    assert client.request("double", 21) == 42
    assert server.request("double", 4) == 8
    with pytest.raises(kps.RequestFailed, match="nothing to double") as failure:
        client.request("double", 0)
    assert failure.value.errors == {"worker": "nothing to double"}
    messages = silent.subscribe("double")  # it answers none
    assert client.request("double", 5) == 10
    worker.unsubscribe("double")
    with pytest.raises(kps.RequestTimeout):
        client.request("double", 5, timeout=0.2)
    with pytest.raises(kps.NobodyThere):
        client.request_to_id("nobody", 1)
    messages.unsubscribe()
    assert len(client._session.asking.pending) == 0


def test_who_was_expected_and_is_not_there(connect: Connect, server: Any) -> None:
    client, worker = connect("client"), connect("worker")
    worker.subscribe("t", lambda message: "done")
    for publisher in (client, server):
        outcomes = publisher.publish_with_ack("t", 1, expect=["worker", "absentee"]).wait()
        assert {name: one.error or one.result for name, one in outcomes.items()} == {
            "worker": "done",
            "absentee": "absent",
        }
    with pytest.raises(kps.InvalidArgument):
        client.publish_with_ack("t", 1, expect="worker")


def test_the_first_answer_does_not_wait_for_the_others(connect: Connect) -> None:
    release = threading.Event()
    connect("quick").subscribe("t", lambda message: "quick")
    connect("slow").subscribe("t", lambda message: release.wait(20))
    ack = connect("asker").publish_with_ack("t", 1, timeout=30)
    assert ack.wait_any().client_id == "quick"
    assert ack.responses.keys() == {"quick"}
    answers = iter(ack)
    assert next(answers).result == "quick"
    release.set()
    assert [(answer.client_id, answer.result) for answer in answers] == [("slow", True)]


def test_an_iterator_replies_with_the_message(connect: Connect) -> None:
    asker, worker = connect("asker"), connect("worker")
    messages = worker.subscribe("t")
    first, second = asker.publish_with_ack("t", 1), asker.publish_with_ack("t", 2)
    for message in messages:
        message.reply(message.data * 10)
        if message.data == 2:
            break
    messages.unsubscribe()
    assert [ack.wait()["worker"].result for ack in (first, second)] == [10, 20]


def test_a_receipt_tells_how_many_got_it(connect: Connect, server: Any) -> None:
    publisher = connect("publisher")
    assert publisher.publish_with_receipt("t", 1) == 0
    connect("a").subscribe("t", Inbox())
    connect("b", level=1).subscribe("t", Inbox())
    server.subscribe("t", Inbox())
    assert publisher.publish_with_receipt("t", 2) == 3
    assert connect("old", level=1).publish_with_receipt("t", 3) is None


def test_both_levels_share_topics_and_ids(connect: Connect) -> None:
    inboxes = {}
    for name, level in (("old", 1), ("new", 2)):
        on_topic, direct = Inbox(), Inbox()
        client = connect(name, level=level, on_id=direct)
        client.subscribe("t", on_topic)
        inboxes[client] = on_topic, direct
    old, new = inboxes
    for sender, receiver in ((old, new), (new, old)):
        sender.publish("t", {"data": 1, "from": "not the sender"})
        sender.publish_to_id(receiver.id, [2])
        for client in (old, new):
            message = inboxes[client][0].get()
            assert (message.data, message.sender) == (
                {"data": 1, "from": "not the sender"},
                sender.id,
            )
        message = inboxes[receiver][1].get()
        assert (message.data, message.sender) == ([2], sender.id)


def test_a_burst_is_taken_at_the_programs_pace(connect: Connect) -> None:
    limits = kps.ClientLimits(mailbox_messages=1000)
    subscriber, publisher = connect("subscriber", limits=limits), connect("publisher")
    inbox = Inbox()
    subscription = subscriber.subscribe("t", inbox)
    for number in range(5000):  # so large that few come in one read
        publisher.publish("t", f"{number:01000}")
    assert [int(data) for data in inbox.take(5000)] == list(range(5000))
    assert subscription.dropped == 0


def test_every_subscriber_ends_in_exactly_one_outcome(
    connect: Connect, clients: AnyDriver, cable: Cable
) -> None:
    release = threading.Event()
    reached = Inbox()

    def fail(message: kps.Message) -> None:
        raise RuntimeError("boom")

    def hang(message: kps.Message) -> None:
        reached(message)
        release.wait(20)

    connect("handles").subscribe("t", Inbox())
    connect("fails").subscribe("t", fail)
    hangs = connect("hangs")
    hangs.subscribe("t", hang)
    hangs.subscribe("slow", hang)
    clients.client(cable.address, id="dies", reconnect=False).subscribe("t", hang)
    publisher = connect("publisher")
    ack = publisher.publish_with_ack("t", 1, timeout=300.0)
    reached.take(2)
    cable.cut()
    eventually(lambda: ack.responses.keys() == {"handles", "fails", "dies"}, "the outcomes")

    def times_out() -> bool:
        """Whether the server says so, and not the client, which waits a second longer for that."""
        try:
            outcomes = publisher.publish_with_ack("slow", 1, timeout=0.2).wait()
        except kps.RequestTimeout:
            return False  # this process has stood still
        assert [(name, one.error) for name, one in outcomes.items()] == [("hangs", "timeout")]
        return True

    eventually(times_out, "a timeout in time")
    release.set()
    assert {name: (r.success, r.error) for name, r in ack.wait().items()} == {
        "handles": (True, None),
        "fails": (False, "boom"),
        "hangs": (True, None),
        "dies": (False, "disconnected"),
    }


def test_who_disconnects_is_not_waited_for(
    connect: Connect, clients: AnyDriver, cable: Cable
) -> None:
    release, reached = threading.Event(), Inbox()

    def hang(message: kps.Message) -> None:
        reached(message)
        release.wait(20)

    clients.client(cable.address, id="dies", reconnect=False).subscribe("t", hang)
    ack = connect("publisher").publish_with_ack("t", 1, timeout=300.0)
    reached.get()
    cable.cut()
    assert ack.wait()["dies"].error == "disconnected"  # long before the time is over
    release.set()


def test_answers_that_came_before_wait_are_not_lost(connect: Connect) -> None:
    client = connect("client")
    client.subscribe("t", Inbox())
    ack = client.publish_with_ack("t", 1)
    eventually(lambda: bool(ack.responses), "the answer")
    assert ack.wait()["client"].success
    assert ack.wait()["client"].success
    assert ack.wait_any().client_id == "client"
    assert [response.client_id for response in ack] == ["client"]
    assert ack.is_complete()
    assert ack.status() == {"client": True}


def test_nobody_subscribed_is_known_at_once(connect: Connect) -> None:
    ack = connect("client").publish_with_ack("nobody-listens", 1, timeout=300.0)
    assert ack.wait() == {}
    assert ack.wait_any() is None
    assert list(ack) == []
    assert not ack.is_complete()


def test_status_and_cancel(connect: Connect) -> None:
    release, reached = threading.Event(), Inbox()

    def hang(message: kps.Message) -> None:
        reached(message)
        release.wait(20)

    connect("slow").subscribe("t", hang)
    ack = connect("publisher").publish_with_ack("t", 1, timeout=300.0)
    reached.get()
    assert ack.status() == {"slow": False}
    assert not ack.is_complete()
    ack.cancel()
    ack.cancel()
    assert ack.wait() == {}
    assert ack.status() == {}
    release.set()


def test_many_requests_at_once_are_kept_apart(connect: Connect) -> None:
    def odd_only(message: kps.Message) -> None:
        if message.data % 2 == 0:
            raise ValueError(str(message.data))

    connect("odd").subscribe("t", odd_only)
    publisher = connect("publisher")
    acks = [publisher.publish_with_ack("t", number) for number in range(50)]
    for number, ack in enumerate(acks):
        response = ack.wait()["odd"]
        assert (response.success, response.error) == (
            (True, None) if number % 2 else (False, str(number))
        )


# -- connections that come and go ----------------------------------------------------------


def test_everything_is_restored_after_the_connection_was_cut(
    connect: Connect, clients: AnyDriver, cable: Cable
) -> None:
    connected, disconnected = Inbox(), Inbox()
    direct, news, more = Inbox(), Inbox(), Inbox()
    client = clients.client(
        cable.address,
        id="client",
        reconnect=QUICK,
        on_id=direct,
        on_connect=connected,
        on_disconnect=disconnected,
    )
    client.subscribe("news", news)
    client.subscribe("more", more)
    client.subscribe("given up", Inbox())
    client.unsubscribe("given up")
    assert not connected.get().again
    for round in range(3):
        cable.cut()
        event = disconnected.get()
        assert event.closed.code == 1006
        assert event.retry_in is not None
        assert connected.get().again
        client.flush()
        other = connect(f"other-{round}")
        other.publish("news", round)
        other.publish("more", round)
        other.publish_to_id("client", round)
        assert [inbox.data() for inbox in (news, more, direct)] == [round] * 3


def test_what_was_pending_ends_at_once_with_a_typed_error(
    connect: Connect, clients: AnyDriver, cable: Cable
) -> None:
    release, reached = threading.Event(), Inbox()

    def hang(message: kps.Message) -> None:
        reached(message)
        release.wait(20)

    connect("slow").subscribe("t", hang)
    client = clients.client(cable.address, id="client", reconnect=QUICK)
    ack = client.publish_with_ack("t", 1, timeout=300.0)
    reached.get()
    cable.refuses = True
    cable.cut()
    for wait in (ack.wait, ack.wait_any, lambda: list(ack)):
        with pytest.raises(kps.ConnectionLost):
            wait()
    assert not ack.is_complete()
    with pytest.raises(kps.NotConnected):
        client.publish("t", 2)
    with pytest.raises(kps.NotConnected):
        client.publish_with_ack("t", 2)
    release.set()


def test_offline_queue_is_bounded_and_sent_in_order(
    connect: Connect, clients: AnyDriver, cable: Cable
) -> None:
    inbox, disconnected = Inbox(), Inbox()
    connect("subscriber").subscribe("t", inbox)
    client = clients.client(
        cable.address, id="client", reconnect=QUICK, offline_queue=3, on_disconnect=disconnected
    )
    cable.refuses = True
    cable.cut()
    disconnected.get()
    for number in range(3):
        client.publish("t", number)
    with pytest.raises(kps.QueueFull):
        client.publish("t", 3)
    cable.refuses = False
    assert inbox.take(3) == [0, 1, 2]
    client.publish("t", 4)
    assert inbox.data() == 4


def test_a_server_that_restarts_gets_its_clients_back(
    servers: AnyDriver, clients: AnyDriver, address: str
) -> None:
    first = servers.server(address, id="first")
    connected, disconnected, inbox = Inbox(), Inbox(), Inbox()
    client = clients.client(
        address,
        id="client",
        reconnect=QUICK,
        on_connect=connected,
        on_disconnect=disconnected,
    )
    client.subscribe("t", inbox)
    connected.get()
    first.stop()
    assert disconnected.get().closed.code == 1001
    second = servers.server(address, id="second")
    connected.get()
    eventually(lambda: second.count_subscribers("t") == (0, 1, 1), "the subscription")
    second.publish("t", "back")
    message = inbox.get()
    assert (message.data, message.sender) == ("back", "second")


def test_a_server_that_is_down_at_the_start_is_waited_for(
    servers: AnyDriver, clients: AnyDriver, address: str
) -> None:
    with pytest.raises(kps.ConnectFailed, match=f"{address}: connection refused"):
        clients.client(address, reconnect=False)
    found: list[Any] = []
    waiting = threading.Thread(
        target=lambda: found.append(clients.client(address, id="early", reconnect=QUICK))
    )
    waiting.start()
    servers.server(address)
    waiting.join(20)
    assert found[0].is_connected


def test_the_servers_refusal_is_not_retried(clients: AnyDriver, server: Any) -> None:
    with pytest.raises(kps.ConnectFailed) as refusal:
        clients.client(server.address, path="/elsewhere", reconnect=QUICK)
    assert refusal.value.status == 404


def test_secure_path_and_query_survive_a_reconnect(servers: AnyDriver, clients: AnyDriver) -> None:
    requests = Inbox()

    def look(request: kps.HttpRequest) -> bool:
        requests(request)
        return True

    server = servers.server(path="/bus", on_upgrade=look)
    cable = Cable(server.address)
    connected = Inbox()
    clients.client(
        f"ws://{cable.address}/bus?token=a%20b",
        headers={"X-Key": "k"},
        reconnect=QUICK,
        on_connect=connected,
    )
    connected.get()
    cable.cut()
    connected.get()
    for _ in range(2):
        request = requests.get()
        assert (request.path, request.query, request.header("x-key")) == (
            "/bus",
            "token=a%20b",
            "k",
        )
    cable.close()


def test_a_taken_id_closes_the_older_client_for_good(connect: Connect) -> None:
    closed, disconnected = Inbox(), Inbox()
    older = connect("same", on_close=closed, on_disconnect=disconnected)
    newer = connect("same")
    event = disconnected.get()
    assert (event.closed.code, event.retry_in) == (4001, None)
    closed.get()
    with pytest.raises(kps.ClientClosed):
        older.publish("t", 1)
    assert newer.is_connected


def test_closing_writes_what_was_published_and_ends_what_waits(connect: Connect) -> None:
    inbox, release, reached = Inbox(), threading.Event(), Inbox()
    listener = connect("listener")
    listener.subscribe("t", inbox)

    def hang(message: kps.Message) -> None:
        reached(message)
        release.wait(20)

    connect("slow").subscribe("slow", hang)
    closed = Inbox()
    client = connect("client", on_close=closed)
    ack = client.publish_with_ack("slow", 1, timeout=300.0)
    reached.get()
    for number in range(100):
        client.publish("t", number)
    client.close()
    client.close()
    with pytest.raises(kps.ClientClosed):
        ack.wait()
    for call in (
        lambda: client.publish("t", 1),
        lambda: client.subscribe("t", Inbox()),
        lambda: client.publish_with_ack("t", 1),
        client.flush,
    ):
        with pytest.raises(kps.ClientClosed):
            call()
    assert inbox.take(100) == list(range(100))
    closed.get()
    release.set()


def test_a_dead_peer_is_noticed_by_the_heartbeat(servers: AnyDriver, clients: AnyDriver) -> None:
    limits = kps.ServerLimits(heartbeat_interval=0.1, heartbeat_timeout=1.0)
    client_limits = kps.ClientLimits(heartbeat_interval=0.1, heartbeat_timeout=1.0)
    disconnected, left = Inbox(), Inbox()
    server = servers.server(limits=limits, on_disconnect=left)
    cable = Cable(server.address)
    clients.client(cable.address, limits=client_limits, reconnect=False, on_disconnect=disconnected)
    cable.stalled = True
    assert disconnected.get().closed.code == 1006
    assert left.get().closed.code == 1006
    assert server.count_clients() == 0
    cable.close()


# -- what was before, and who is there -----------------------------------------------------


def test_a_topic_with_history_is_resumed(servers: AnyDriver, clients: AnyDriver) -> None:
    server = servers.server(id="server", history=[kps.History("log/*", size=10)])
    cable = Cable(server.address)
    try:
        connected, recovered, lost = Inbox(), Inbox(), Inbox()
        client = clients.client(
            cable.address,
            id="client",
            reconnect=QUICK,
            on_connect=connected,
            on_recovered=recovered,
            on_lost=lost,
        )
        connected.get()
        for number in range(5):
            server.publish("log/1", number)
        inbox = Inbox()
        client.subscribe("log/1", inbox, last=3)
        assert inbox.take(3) == [2, 3, 4]
        server.publish("log/1", 5)
        last = inbox.get()
        assert (last.data, last.position.offset) == (5, 6)
        cable.refuses = True
        cable.cut()
        for number in (6, 7):
            server.publish("log/1", number)
        cable.refuses = False
        connected.get()
        assert inbox.take(2) == [6, 7]
        event = recovered.get()
        assert (event.topic, event.messages) == ("log/1", 2)
        assert lost.is_empty()
        past = client.history("log/1", since=last.position)
        assert ([message.data for message in past.messages], past.recovered) == ([6, 7], True)
        assert [message.data for message in server.history("log/1", limit=2).messages] == [6, 7]
    finally:
        cable.close()


def test_an_observer_is_told_who_comes_and_goes(connect: Connect, server: Any) -> None:
    seen = Inbox()
    watch, alice = connect("watch"), connect("alice")
    watch.subscribe("room", Inbox(), presence=seen)
    assert seen.get().members == {"watch": None}
    alice.subscribe("room", Inbox(), info={"name": "Alice"})
    presence = seen.get()
    assert presence.members == {"watch": None, "alice": {"name": "Alice"}}
    assert presence.joined == {"alice": {"name": "Alice"}}
    assert alice.presence("room").members == server.presence("room").members == presence.members
    assert [client.id for client in server.clients()] == ["watch", "alice"]
    assert server.disconnect("alice", "enough")
    presence = seen.get()
    assert (presence.members, presence.left) == ({"watch": None}, {"alice": "closed"})


# -- the server ----------------------------------------------------------------------------


def test_the_servers_program_takes_part(server: Any, connect: Connect) -> None:
    inbox, at_client, direct = Inbox(), Inbox(), Inbox()
    server.subscribe("t", inbox)
    server.on_id(direct)
    client = connect("client", on_id=at_client)
    client.subscribe("t", at_client)
    assert server.count_clients() == 1
    assert server.count_subscribers("t") == (1, 1, 2)
    client.publish("t", 1)
    assert (inbox.data(), at_client.data()) == (1, 1)
    assert server.publish("t", 2) == 2
    assert (inbox.data(), at_client.get().sender) == (2, "server")
    assert server.publish_to_id("client", 3)
    assert at_client.data() == 3
    assert not server.publish_to_id("nobody", 3)
    client.publish_to_id("server", 4)
    assert direct.data() == 4
    responses = server.publish_with_ack("t", 5).wait()
    assert {name: r.success for name, r in responses.items()} == {"server": True, "client": True}
    assert client.publish_with_ack("t", 6).wait().keys() == {"server", "client"}
    assert client.publish_to_id_with_ack("server", 7).wait()["server"].success
    assert server.publish_to_id_with_ack("client", 8).wait()["client"].success
    assert server.publish_to_id_with_ack("nobody", 9).wait() == {}


def test_the_servers_acks_come_one_by_one(server: Any, connect: Connect) -> None:
    release, reached = threading.Event(), Inbox()

    def hang(message: kps.Message) -> None:
        reached(message)
        release.wait(20)

    connect("fast").subscribe("t", Inbox())
    connect("slow").subscribe("t", hang)
    ack = server.publish_with_ack("t", 1, timeout=300.0)
    assert ack.wait_any().client_id == "fast"
    assert ack.status() == {"fast": True, "slow": False}
    outcomes = iter(ack)
    assert next(outcomes).client_id == "fast"
    reached.get()
    release.set()
    assert next(outcomes).client_id == "slow"
    assert ack.is_complete()


def test_stop_writes_what_is_queued_and_closes_with_1001(
    servers: AnyDriver, clients: AnyDriver, address: str
) -> None:
    server = servers.server(address)
    inbox, disconnected = Inbox(), Inbox()
    client = clients.client(server.address, reconnect=False, on_disconnect=disconnected)
    client.subscribe("t", inbox)
    for number in range(1000):
        server.publish("t", number)
    server.stop()
    server.stop()
    assert inbox.take(1000) == list(range(1000))
    assert disconnected.get().closed.code == 1001
    with pytest.raises(kps.ConnectFailed):
        clients.client(server.address, reconnect=False)


def test_a_taken_port_is_told(servers: AnyDriver, server: Any) -> None:
    with pytest.raises(kps.ServerStartFailed, match="address already in use"):
        servers.server(server.address)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 1_000_000])
def test_payloads_of_all_sizes(connect: Connect, size: int) -> None:
    client = connect("client")
    inbox = Inbox()
    client.subscribe("t", inbox)
    client.publish("t", "x" * size)
    assert inbox.data() == "x" * size


def test_a_message_over_the_limit_closes_its_sender_with_1009(connect: Connect) -> None:
    inbox, disconnected = Inbox(), Inbox()
    connect("other").subscribe("t", inbox)
    client = connect("client", reconnect=QUICK, on_disconnect=disconnected, level=1)
    with contextlib.suppress(kps.ConnectionLost):  # when it is cut off before all is written
        client.publish("t", "x" * 1024 * 1024)
    assert disconnected.get().closed.code == 1009
    connect("third").publish("t", "fine")
    assert inbox.data() == "fine"


def test_a_message_over_the_servers_limit_is_refused_to_the_program(connect: Connect) -> None:
    inbox = Inbox()
    client = connect("client")
    client.subscribe("t", inbox)
    most = 1024 * 1024 - len('{"action":"publish","topic":"t","data":""}')
    attempts: list[Callable[[], object]] = [
        lambda: client.publish("t", "x" * (most + 1)),
        lambda: client.publish_with_ack("t", "x" * most),
        lambda: client.publish_with_receipt("t", "x" * most),
        lambda: client.publish_to_id("client", "x" * most),
    ]
    for send in attempts:
        with pytest.raises(kps.MessageTooLarge, match="the server takes 1048576 at most"):
            send()
    client.publish("t", "x" * most)
    assert len(inbox.data()) == most
