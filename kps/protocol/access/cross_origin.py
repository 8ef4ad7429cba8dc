"""What the pages of other origins may do with the HTTP face: CORS, by the server's origins."""

from kps.protocol.access.origins import Origins
from kps.protocol.wire.http import HttpRequest, HttpResponse, is_value

Fields = tuple[tuple[str, str], ...]

_MAX_AGE = 600
"""Seconds for which a browser may remember the answer to a preflight request."""


def fields_for(origins: Origins, request: HttpRequest) -> Fields:
    """Return the header fields by which a browser lets an allowed page read the answer.

    Cookies are for pages whose origin the server names, not for those that only ``*`` allows.
    """
    origin = request.header("origin")
    if not origin or not is_value(origin) or not origins.allows(request):
        return ()
    if not origins.names(request):
        return (("access-control-allow-origin", "*"),)
    return (
        ("access-control-allow-origin", origin),
        ("access-control-allow-credentials", "true"),
        ("vary", "Origin"),
    )


def preflight(request: HttpRequest, methods: str) -> HttpResponse:
    """Return the answer to a browser that asks what an allowed page may send."""
    fields = [("allow", methods)]
    if request.header("origin"):
        fields += [
            ("access-control-allow-methods", methods),
            ("access-control-max-age", str(_MAX_AGE)),
        ]
    asked = request.header("access-control-request-headers")
    if asked and is_value(asked):
        fields.append(("access-control-allow-headers", asked))
    return HttpResponse(204, headers=tuple(fields))
