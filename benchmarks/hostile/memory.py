"""Little that is sent, and much that the server holds for it."""

from hostile.model import Attack
from hostile.raw import Crowd, array, frame, message

LONG = 240
"""Characters that ids are filled up to, each of four bytes."""


def ack_status(crowd: Crowd) -> None:
    """Ask for the state of one request to many with long ids, in one array; do not read."""
    askers = 10
    for _ in range(200):
        name = crowd.new_id().ljust(LONG, "\N{SNAKE}")
        crowd.prepared(frame(message("subscribe", topic="asked")), client_id=name)
    crowd.begin()
    ask = frame(message("publish_with_ack", topic="asked", ack_id="a", timeout=300))
    questions = array([message("get_ack_status", ack_id="a")] * 310)
    for _ in range(askers):
        crowd.client(ask + questions, reads=False, receive_buffer=4096)
    crowd.run()


def errors(crowd: Crowd) -> None:
    """Batches of payloads that are too deep, on a long topic; do not read."""
    deep = b"[" * 130 + b"]" * 130
    topic = b"t" * 200_000
    batch = b'{"action":"publish","topic":"' + topic + b'","batch":['
    data = frame(batch + b",".join([deep] * 240) + b"]}")
    crowd.begin()
    for _ in range(20):
        crowd.client(data, reads=False, receive_buffer=4096)
    crowd.run()


def results(crowd: Crowd) -> None:
    """Results of acks that are large as objects: lists of empty objects."""
    rounds, readers = 2, 30
    result = b"[" + b",".join([b"{}"] * 150_000) + b"]"
    asked = [crowd.prepared(frame(message("subscribe", topic="asked"))) for _ in range(readers)]
    for number in range(rounds):
        ask = message("publish_with_ack", topic="asked", ack_id=f"a{number}", timeout=300)
        crowd.prepared(frame(ask))
    crowd.begin()
    for peer in asked:
        for ack_id in crowd.find(peer, rb"ack_\d+", rounds):
            answer = b'{"action":"ack","success":true,"ack_id":"' + ack_id + b'","result":'
            crowd.write(peer, frame(answer + result + b"}"))
    crowd.run()


def pending_acks(crowd: Crowd) -> None:
    """Open requests whose ids are long and wide."""
    crowd.prepared(frame(message("subscribe", topic="asked")))
    crowd.begin()
    for asker in range(3):
        asks = [
            frame(
                '{{"action":"publish_with_ack","topic":"asked","timeout":300,"ack_id":"{}"}}'.format(
                    f"{asker}-{number}".ljust(1024, "\N{SNAKE}")
                ).encode()
            )
            for number in range(10_000)
        ]
        crowd.client(*asks)
    crowd.run()


def subscriptions(crowd: Crowd) -> None:
    """Subscriptions to topics that are long and wide."""
    crowd.begin()
    for client in range(5):
        topics = (f"{client}-{n}".ljust(255, "x") + "\N{SNAKE}" for n in range(10_000))
        crowd.client(*(frame(message("subscribe", topic=topic)) for topic in topics))
    crowd.run()


def tiny_for_slow(crowd: Crowd) -> None:
    """Tiny publications, no two of one sender in a row, to a client that does not read."""
    crowd.prepared(frame(message("subscribe", topic="t")), reads=False, receive_buffer=4096)
    publish = frame(b'{"action":"publish","topic":"t"}') * 1000
    crowd.begin()
    for _ in range(4):
        crowd.client(again=publish)
    crowd.run()


def asks_for_slow(crowd: Crowd) -> None:
    """Large ack requests to many who do not read."""
    for _ in range(40):
        crowd.prepared(frame(message("subscribe", topic="t")), reads=False, receive_buffer=4096)
    crowd.begin()
    asks = (
        frame(message("publish_with_ack", topic="t", ack_id=str(n), timeout=300, data="x" * 10**6))
        for n in range(29)
    )
    crowd.client(*asks)
    crowd.run()


ATTACKS = [
    Attack(
        "ack-status",
        "10 times 310 get_ack_status of 200 subscribers, unread",
        ack_status,
    ),
    Attack("errors", "20 batches of 240 refused payloads on a topic of 200 kB, unread", errors),
    Attack("results", "two requests with 27 MB of results that are lists of {}", results),
    Attack("pending-acks", "30,000 open requests with ids of 1,024 wide characters", pending_acks),
    Attack("subscriptions", "50,000 subscriptions to topics of 256 wide characters", subscriptions),
    Attack("tiny-for-slow", "tiny publications to a client that does not read", tiny_for_slow),
    Attack("asks-for-slow", "29 MB of requests to 40 clients that do not read", asks_for_slow),
]
