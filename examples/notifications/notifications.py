"""Notifications for the users of a web application, live on all their devices.

    pip install fastapi uvicorn websockets
    python examples/notifications/notifications.py

A user signs in with the application, and the bus, which is in the same process, knows the user by
the same cookie. Arguments: the port (8000); a file, with which notifications outlive the program.
"""

import contextlib
import secrets
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, get_args

import uvicorn
from fastapi import Cookie, Depends, FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

import kps
from kps.asgi import Bus

PAGE = Path(__file__).with_name("index.html")
EVERYBODY = "everybody"
KEPT = 100  # notifications of each topic, for those who are away

User = Literal["ann", "bob", "cid"]
sessions: dict[str, User] = {}


async def who(request: kps.HttpRequest) -> kps.Identity | bool:
    """Tell the bus whose device connects, and what it may do there."""
    user = sessions.get(request.cookies.get("session", ""))
    if user is None:
        return False
    permissions = kps.Permissions(
        subscribe=[EVERYBODY, f"users/{user}/*"],  # nobody reads what is another's
        publish=[f"users/{user}/read"],  # only the application sends notifications
        direct=[],
        groups=[],
        ids=[f"{user}:*"],  # an outcome names a device, and so tells the user
    )
    return kps.Identity(user, permissions)


bus = Bus(
    on_upgrade=who,
    history=[
        kps.History(EVERYBODY, size=KEPT),
        kps.History("users/*/inbox", size=KEPT),
        kps.History("users/*/read", size=2 * KEPT),  # the marks of both
    ],
    history_file=sys.argv[2] if len(sys.argv) > 2 else None,
    limits=kps.ServerLimits(message_rate=50),  # devices send marks only
    console=False,
)
app = FastAPI(lifespan=bus.lifespan)
app.mount("/bus", bus)


class Login(BaseModel):
    """Who signs in. A real site asks for more than a name."""

    user: User


@app.post("/login")
async def login(form: Login, response: Response) -> User:
    """Begin a session."""
    session = secrets.token_urlsafe()
    sessions[session] = form.user
    response.set_cookie("session", session, httponly=True, samesite="strict")
    return form.user


async def signed_in(session: Annotated[str, Cookie()] = "") -> User:
    """Return the user of a request."""
    if session not in sessions:
        raise HTTPException(401, "sign in first")
    return sessions[session]


SignedIn = Annotated[User, Depends(signed_in)]


@app.get("/me")
async def me(user: SignedIn) -> User:
    """Tell a page whose it is."""
    return user


class Notice(BaseModel):
    """What a user sends to another one, or to everybody."""

    to: Literal[User, "everybody"]
    text: str = Field(min_length=1, max_length=500)


class Outcome(BaseModel):
    """On how many devices of each user it is shown, and who gets it later."""

    shown: dict[str, int]
    kept: list[str]


@app.post("/notices")
async def notify(notice: Notice, user: SignedIn) -> Outcome:
    """Send a notification, and tell who has got it."""
    topic = EVERYBODY if notice.to == EVERYBODY else f"users/{notice.to}/inbox"
    sent = {"id": secrets.token_hex(8), "from": user, "text": notice.text, "time": time.time()}
    ack = await bus.publish_with_ack(topic, sent, timeout=10)
    outcomes = await ack.wait()
    shown = Counter(device.partition(":")[0] for device, one in outcomes.items() if one.success)
    users = get_args(User) if notice.to == EVERYBODY else (notice.to,)
    return Outcome(shown=shown, kept=[name for name in users if name not in shown])


@app.get("/")
async def page() -> FileResponse:
    """Return the page."""
    return FileResponse(PAGE)


def main(port: int) -> None:
    """Serve until Ctrl-C."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        url = "http://{}:{}".format(*listener.getsockname())
        print(f"open {url} in two browsers, and sign in as two users", flush=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
