"""The close codes (spec, 2.8), error codes (spec, 12.6) and features (spec, 12.1) of KPS."""

GOING_AWAY = 1001
SERVICE_RESTART = 1012
"""The codes of a server that stops, on level 2 and on level 1. The client should return later."""

ID_TAKEN = 4001
"""Another connection took over this one's id. Reconnecting would take it back in turn."""

EXPIRED = 4002
"""The lifetime of this client's identity is over. The client may return with a new token."""

DISMISSED = 4003
"""The program of the server has ended this connection. The client does not return."""

RATE_LIMITED = "rate_limited"
LIMIT_REACHED = "limit_reached"
MESSAGE_ID_IN_USE = "message_id_in_use"
OUTCOME_UNKNOWN = "outcome_unknown"

ERRORS = (
    "bad_message",
    "unknown_action",
    "not_registered",
    "bad_request",
    "id_unavailable",
    "no_such_client",
    "no_history",
    "ack_id_in_use",
    MESSAGE_ID_IN_USE,
    OUTCOME_UNKNOWN,
    "relay_failed",
    "wrong_server",
    "forbidden",
    "unavailable",
    "unauthorized",
    LIMIT_REACHED,
    RATE_LIMITED,
)
"""All error codes of a server."""

PATTERNS = "patterns"
HISTORY = "history"
EXPECT = "expect"
PRESENCE = "presence"
GROUPS = "groups"
HEADERS = "headers"
MESSAGE_IDS = "message_ids"
FEATURES = (PATTERNS, HISTORY, EXPECT, PRESENCE, GROUPS, HEADERS, MESSAGE_IDS)
"""What servers of this version have, besides what every server of level 2 has."""
