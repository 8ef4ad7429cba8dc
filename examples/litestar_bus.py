"""A wall of notes: a page of Litestar, and the bus in its process, which keeps the latest ones.

    pip install /path/to/the/checkout litestar 'uvicorn[standard]'
    uvicorn --app-dir examples litestar_bus:app      # and open http://127.0.0.1:8000/login?name=ann

Who has signed in may read the notes, and write some. The bus knows that by Litestar's session.
"""

from typing import Any

from litestar import Litestar, MediaType, Request, asgi, get, post
from litestar.exceptions import NotAuthorizedException
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.response import Redirect
from litestar.types import Receive, Scope, Send

import kps.asgi
from kps import History, Permissions
from kps.asgi import Bus


def identify(scope: kps.asgi.Scope) -> str | None:
    """Return who a client of the bus is: the name with which its browser has signed in."""
    session = scope.get("session")
    return session.get("name") if isinstance(session, dict) else None


# Who has signed in may watch; only this program publishes.
bus = Bus(
    identify=identify,
    history=[History("notes", size=20)],
    permissions=Permissions(publish=(), direct=(), subscribe=("notes",)),
    console=False,
)


@asgi("/bus", is_mount=True, copy_scope=True)
async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    """Give what is below ``/bus`` to the bus."""
    await bus(scope, receive, send)  # type: ignore[arg-type]


@get("/login")
async def login(request: Request[Any, Any, Any], name: str) -> Redirect:
    """Begin a session. A real site would ask for more than a name."""
    request.set_session({"name": name})
    return Redirect("/")


@post("/notes")
async def write(request: Request[Any, Any, Any], data: dict[str, str]) -> None:
    """Put a note on the wall."""
    if not request.session:
        raise NotAuthorizedException("sign in first: /login?name=YOURS")
    await bus.publish("notes", {"by": request.session["name"], "text": data["text"]})


PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Notes</title>
<form><input name="text" placeholder="A note" autofocus required></form>
<ul></ul>
<script type="module">
  import { Client } from './bus/kps.js';

  // Before the page waits for the bus: until this is set, Enter loads the page anew.
  document.forms[0].addEventListener('submit', async (event) => {
    event.preventDefault();
    const body = JSON.stringify({ text: event.target.text.value });
    const headers = { 'Content-Type': 'application/json' };
    await fetch('/notes', { method: 'POST', headers, body });
    event.target.reset();
  });
  const client = await Client.connect(new URL('bus/', location));
  await client.subscribe('notes', ({ data }) => {
    const note = document.createElement('li');
    note.textContent = `${data.by}: ${data.text}`;
    document.querySelector('ul').prepend(note);
  }, { last: 20 });
</script>
"""


@get("/", media_type=MediaType.HTML)
async def page() -> str:
    """Return the page."""
    return PAGE


app = Litestar(
    [mounted, login, write, page],
    lifespan=[bus.lifespan],
    middleware=[ServerSideSessionConfig().middleware],
)
