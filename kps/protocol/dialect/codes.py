"""The close codes (spec, 2.8) and error codes (spec, 12.6) to which KPS gives a meaning."""

GOING_AWAY = 1001
SERVICE_RESTART = 1012
"""The codes of a server that stops, on level 2 and on level 1. The client should return later."""

ID_TAKEN = 4001
"""Another connection took over this one's id. Reconnecting would take it back in turn."""

EXPIRED = 4002
"""The lifetime of this client's identity is over. The client may return with a new token."""

RATE_LIMITED = "rate_limited"
LIMIT_REACHED = "limit_reached"
