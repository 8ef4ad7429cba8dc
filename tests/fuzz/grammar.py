"""Messages put together from decisions: mostly what a peer would send, with some of it odd.

All values are JSON texts, so that there can be some that no library would write.
"""

from collections.abc import Sequence

from tests.fuzz.choices import Choices

ABSENT = b""
TOPICS = (
    b'"red"',
    b'"red"',
    b'"green"',
    b'"blue"',
    b'"__kps/stats"',
    b'""',
    b'"' + b"t" * 300 + b'"',
    *(b'"__kps/topic"', b'"__kps/clients"', b'"__kps/disconnect"'),
)
PATTERNS = (
    ABSENT,
    ABSENT,
    b'"r*"',
    b'"**"',
    b'"*e*"',
    b'"__kps/*"',
    b'"*/**"',
    b'""',
    b'"' + b"*t" * 100 + b'"',
)
IDS = (b'"a"', b'"b"', b'"c"', b'"d"', b'"server"', b'"nobody"', b'""', b'"x\\u0000"')
ACK_IDS = (
    *(b'"1"', b'"1"', b'"2"', b'"$last"', b'"$last"', b'"$last.1"', b'"ack_1.1"', b'"ack_2"'),
    b'""',
)
DATA = (
    b"1",
    b'"text"',
    b"null",
    b'{"data":1,"from":"forged"}',
    b'{"topic":"red","data":[1,2]}',
    b'{"ack_id":"$last","success":true}',
    b'{"ack_id":"$last","success":false,"error":"no"}',
    ABSENT,
    b"[" * 200 + b"]" * 200,
    b"[" * 251 + b"]" * 251,
    b"[" * 253 + b"]" * 253,
    b"[" * 600 + b"]" * 600,
    b'"' + b"x" * 130 + b'"',
    b'"' + b"y" * 3000 + b'"',
    b"18446744073709551615",
    b'"\\ud83d\\ude00"',
    b'{"id":"a","topic":"red","filter":"A","sort":"received_rate"}',
)
BATCHES = (
    ABSENT,
    ABSENT,
    ABSENT,
    b"[1,2,3]",
    b"[]",
    b"[1," + b"[" * 253 + b"]" * 253 + b",2]",
    b"7",
)
TIMEOUTS = (ABSENT, b"2", b"7.25", b"0.001", b"0", b"-1", b"1e300", b'"2"', b"true", b"null")
BOOLEANS = (b"true", b"true", b"false", ABSENT, b"1", b"null")
ERRORS = (ABSENT, b'"no"', b'"' + b"e" * 1500 + b'"', b"null", b"5")

ODD = (
    b"null", b"0", b"true", b'"odd"', b"[]", b"{}", b"1e400", b"NaN", b"[", b'"\\ud800"', b'"\xff"',
)  # fmt: skip

FIELDS: dict[str, Sequence[bytes]] = {
    "topic": TOPICS,
    "pattern": PATTERNS,
    "features": (
        ABSENT,
        b'["patterns"]',
        b'["patterns","history","expect","presence","groups","headers"]',
        b'["history","groups","headers","message_ids"]',
        b"[]",
        b'["later",5]',
        b'"patterns"',
    ),
    "from": (ABSENT, *IDS),
    "to": (*IDS, b'"localhost:9313"', b'"localhost:1/x"', b'":"'),
    "id": IDS,
    "ack_id": ACK_IDS,
    "data": DATA,
    "batch": BATCHES,
    "headers": (
        ABSENT,
        ABSENT,
        b'{"a":"b"}',
        b'{"a":"b"}',
        b'{ "a":"1", "\\u0061":"\\u0000", "":"" }',
        b'{"a":"' + b"h" * 300 + b'"}',
        b"{}",
        b'{"a":5}',
        b"5",
    ),
    "message_id": (ABSENT, ABSENT, b'"m"', b'"m"', b'"n"', b'"' + b"m" * 20 + b'"', b'""', b"5"),
    "repeat_until": (ABSENT, ABSENT, b"1e9", b"-1.5", b'"5"', b"true"),
    "message_ids": (
        ABSENT,
        b'{"window":"w","seconds":5,"most":2,"time":1000.5}',
        b'{"window":"w","seconds":5,"most":2,"time":1e300}',
        b'{"window":"v","seconds":0.5,"most":1000,"time":-1}',
        b'{"window":5}',
        b"5",
    ),
    "timeout": TIMEOUTS,
    "proto": (ABSENT, b"2", b"2", b"1", b"3", b'"2"', b"true", b"2.0"),
    "receipt": (ABSENT, b'"1"', b'"2"', b'""', b"null", b"5"),
    "updates": BOOLEANS,
    "success": BOOLEANS,
    "result": DATA,
    "error": ERRORS,
    "code": (ABSENT, b'"forbidden"', b"5"),
    "request": (ABSENT, b'"publish_with_ack"', b'"subscribe"', b'"unsubscribe"', b'"ping"', b"5"),
    "status": (ABSENT, b'{"is_secure":true}', b'{"a":true,"b":false,"c":0}', b"5"),
    "delivered": (b"3", ABSENT, b"-1", b"1.5"),
    "token": (ABSENT, ABSENT, b'"secret"', b'""', b"5", b"{}"),
    "limits": (ABSENT, b'{"max_message":200}', b'{"max_message":20}', b'{"max_message":0}', b"5"),
    "degraded": (ABSENT, ABSENT, b"true", b"5"),
    "unconfirmed": (ABSENT, ABSENT, b'["n2"]', b'["n2",5]', b"5"),
    "missing": (ABSENT, b'["a","b"]', b'["a",5]', b"5"),
    "responses": (
        ABSENT,
        b'{"a":{"ack_id":"1","client_id":"a","success":true,"result":[1]}}',
        b'{"a":{"success":false,"error":"no"},"b":5}',
        b"[]",
    ),
    "complete": BOOLEANS,
    "since": (
        ABSENT,
        b'{"epoch":"e1","offset":1}',
        b'{"epoch":"","offset":9007199254740992}',
        b'{"epoch":"e1","mark":2,"topics":{"a/x":{"epoch":"e1","offset":1}}}',
        b'{"epoch":5}',
        b"5",
    ),
    "last": (ABSENT, ABSENT, b"0", b"3", b"1e3", b"-1", b'"3"', b"null"),
    "expect": (ABSENT, ABSENT, b'["a","b"]', b'["a",{"group":"g"}]', b'["a",5]', b'"a"'),
    "group": (ABSENT, ABSENT, b'"g"', b'"g"', b'"h"', b'""', b'"' + b"g" * 300 + b'"', b"5"),
    "concurrency": (ABSENT, ABSENT, b"2", b"100", b"0", b"1.5", b'"2"', b"null"),
    "key": (ABSENT, ABSENT, b'"k"', b'"l"', b'""', b'"' + b"k" * 300 + b'"', b"5"),
    "retry": (ABSENT, ABSENT, b"1", b"3", b"0", b"-1", b'"1"', b"1e300"),
    "begun": (ABSENT, ABSENT, ABSENT, b"false", b"true", b"0"),
    "attempt": (ABSENT, b"2", b"7", b"0", b"-1", b'"2"'),
    "groups": (
        ABSENT,
        b'[{"topic":"red","group":"g","member":"a","attempts":1,"success":true,"result":[1]}]',
        b'[{"pattern":"*e*","group":"g","attempts":2,"success":false,"error":"no member",'
        b'"failures":[{"member":"a","error":"disconnected"},{"member":5},7]}]',
        b'[{"group":5,"topic":5,"attempts":"1","failures":{}},5,{}]',
        b"5",
    ),
    "info": (
        ABSENT,
        ABSENT,
        b'{"x":1}',
        b'{"x":1}',
        b"{}",
        b'{ "x":2.50, "\\u0041":[] }',
        b'{"x":"' + b"i" * 1100 + b'"}',
        b'{"x":' + b"[" * 200 + b"]" * 200 + b"}",
        b"null",
        b"5",
    ),
    "presence": (
        ABSENT,
        b"true",
        b"true",
        b"false",
        b'{"count":2,"version":1,"members":[{"id":"a","info":{"x":1}},{"id":"b"}]}',
        b'{"count":5000,"version":2}',
        b"{}",
        b"7",
    ),
    "count": (b"2", b"5000", ABSENT, b"-1", b'"2"'),
    "version": (b"2", b"3", ABSENT, b"1.5", b'"2"'),
    "members": (
        ABSENT,
        ABSENT,
        b'[{"id":"a","info":{"x":2}},{"id":"c"}]',
        b"[]",
        b'[{"id":5},5]',
        b"5",
    ),
    "joined": (
        ABSENT,
        b'[{"id":"b"}]',
        b'[{"id":"a","info":{}},{"id":"d"}]',
        b"[]",
        b'[{"id":5},5]',
        b"5",
    ),
    "left": (
        ABSENT,
        b'[{"id":"b","reason":"lost"}]',
        b'[{"id":"a"}]',
        b"[]",
        b'[{"id":5},5]',
        b"5",
    ),
    "nonce": (b'"n1"', b'"n2"', b'""', ABSENT, b"5"),
    "epoch": (ABSENT, b'"e1"', b'"e1"', b'"e2"', b'""', b"5"),
    "offset": (ABSENT, b"1", b"2", b"7", b"0", b"-1", b"1.5", b'"1"'),
    "mark": (ABSENT, b"1", b"5", b"-1", b'"1"'),
    "coming": (ABSENT, b"0", b"1", b"3", b"-1", b'"1"'),
    "recovered": BOOLEANS,
    "lost": (ABSENT, b"0", b"2", b"-1", b"true"),
    "messages": (
        ABSENT,
        b"[]",
        b'[{"offset":1,"from":"a","data":1},{"offset":2,"from":"b","data":{}}]',
        b'[{"offset":1,"data":1,"headers":{"a":"b"}},{"offset":2,"headers":{"a":5}}]',
        b'[{"offset":"1"},5]',
        b"5",
    ),
}

TO_SERVER: dict[str, tuple[str, ...]] = {
    "publish": ("topic", "data", "batch", "receipt", "headers", "message_id", "repeat_until"),
    "subscribe": (
        *("topic", "pattern", "since", "last", "info", "presence", "group", "concurrency"),
    ),
    "publish_with_ack": (
        *("topic", "ack_id", "data", "timeout", "updates", "expect", "headers", "key", "retry"),
        *("message_id", "repeat_until"),
    ),
    "ack": ("ack_id", "data", "success", "error", "result", "begun"),
    "ping": ("from", "proto", "token"),
    "unsubscribe": ("topic", "pattern", "group"),
    "direct_message": ("to", "data", "headers"),
    "publish_to_id_with_ack": (
        *("to", "ack_id", "data", "timeout", "updates", "headers", "message_id"),
        "repeat_until",
    ),
    "get_ack_status": ("ack_id",),
    "cancel_ack": ("ack_id",),
    "history": ("topic", "nonce", "since", "last"),
    "publish_to_server": ("to", "data", "status"),
    "server-to-server": ("to", "data", "id"),
    "odd": ("topic",),
    "presence": ("topic", "nonce"),
}

TO_CLIENT: dict[str, tuple[str, ...]] = {
    "pong": ("id", "proto", "limits", "features", "message_ids"),
    "publish": ("topic", "data", "batch", "from", "offset", "epoch", "headers", "group"),
    "publish_ack": (
        *("topic", "ack_id", "data", "from", "offset", "epoch", "headers", "group", "attempt"),
    ),
    "subscribed": (
        *("topic", "pattern", "epoch", "offset", "mark", "coming", "recovered", "lost"),
        *("presence", "group", "unconfirmed"),
    ),
    "ack_response": (
        *("ack_id", "responses", "missing", "complete", "presence", "groups", "degraded"),
    ),
    "ack_update": ("ack_id", "responses", "groups"),
    "published": ("topic", "receipt", "delivered", "degraded"),
    "error": ("error", "code", "request", "topic", "ack_id", "receipt"),
    "direct_message": ("from", "data", "headers"),
    "unsubscribed": ("topic", "pattern", "group"),
    "ack_status": ("ack_id", "status"),
    "ack_cancelled": ("ack_id",),
    "history": ("topic", "nonce", "messages", "epoch", "offset", "coming", "recovered", "lost"),
    "server_message_sent": ("to",),
    "odd": ("topic",),
    "presence": ("topic", "count", "version", "members", "joined", "left"),
}

# What each end may send: the fields of each action, in all their forms.
STANDING = frozenset(("epoch", "offset", "mark", "coming", "recovered", "lost"))
DELIVERED = frozenset(("from", "data", "headers"))
ON_A_TOPIC = DELIVERED | {"topic", "offset", "epoch", "group", "pattern"}
SENT_BY_SERVER: dict[str, frozenset[str]] = {
    "pong": frozenset(("id", "proto", "limits", "features", "message_ids")),
    "subscribed": frozenset(("topic", "pattern", "group", "presence", "unconfirmed")) | STANDING,
    "presence": frozenset(("topic", "nonce", "count", "version", "members", "joined", "left")),
    "history": frozenset(("topic", "nonce", "messages")) | STANDING - {"mark"},
    "unsubscribed": frozenset(("topic", "pattern", "group")),
    "published": frozenset(("topic", "receipt", "delivered", "degraded")),
    "publish": ON_A_TOPIC | {"batch"},
    "publish_ack": ON_A_TOPIC | {"ack_id", "attempt"},
    "direct_message": DELIVERED,
    "server_message_sent": frozenset(("to",)),
    "ack_response": frozenset(
        ("ack_id", "responses", "groups", "complete", "missing", "presence", "degraded")
    ),
    "ack_update": frozenset(("ack_id", "responses", "groups")),
    "ack_status": frozenset(("ack_id", "status")),
    "ack_cancelled": frozenset(("ack_id",)),
    "error": frozenset(("error", "code", "request", "topic", "pattern", "to", "ack_id", "receipt")),
}
SENT_BY_CLIENT: dict[str, frozenset[str]] = {
    action: frozenset((*fields, "from")) for action, fields in TO_SERVER.items() if action != "odd"
}


WORDS = (
    *(b'"%s"' % word.encode() for word in sorted({*TO_SERVER, *TO_CLIENT, *FIELDS})),
    *(b'"action":"', b'"ack_1"', b'"red"', b"null", b"true", b"[[", b"{}", b"1e9", b"\\u0000"),
)
"""What libFuzzer puts into its inputs now and then."""


def message(choices: Choices, actions: dict[str, tuple[str, ...]], last: bytes) -> bytes:
    """The JSON of a message; ``last`` is the ack id that stands for ``$last``."""
    action = choices.pick(list(actions))
    fields = {name: choices.pick(FIELDS[name]) for name in actions[action]}
    if choices.below(8) == 7:
        fields[choices.pick(list(FIELDS))] = choices.pick(ODD)
    parts = [b'"action":"' + action.encode() + b'"']
    parts += [b'"' + name.encode() + b'":' + value for name, value in fields.items() if value]
    return (b"{" + b",".join(parts) + b"}").replace(b"$last", last)
