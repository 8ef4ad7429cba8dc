"""The bus within a web application: FastAPI, Starlette, Litestar, Quart, Django's ``asgi.py``.

:class:`Bus` is an application of ASGI. It needs no other package.
"""

from kps.io_asyncio.asgi_bus import Bus, Identify, Known
from kps.io_asyncio.asgi_scope import Application, Receive, Scope, Send

__all__ = ["Application", "Bus", "Identify", "Known", "Receive", "Scope", "Send"]
