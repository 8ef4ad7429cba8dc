"""The page about frameworks does what it says: its code runs on real servers."""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kps
import kps.sync
from kps.asgi import Bus
from tests.asgi.harness import PATIENCE, served
from tests.asgi.test_frameworks import get, on_starlette, settle, users
from tests.cluster.harness import Engine
from tests.frameworks.harness import EXAMPLES
from tests.io.harness import eventually
from tests.ports import kept_address

for name in ("uvicorn", "fastapi"):
    pytest.importorskip(name)
httpx = pytest.importorskip("httpx")

PAGE = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text(encoding="utf-8")


def programs_below(heading: str) -> list[str]:
    """The Python of a section, without that of sections behind it."""
    section = PAGE.partition(f"\n{heading}\n")[2].partition("\n##")[0]
    found = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert found, heading
    return found


def run(*programs: str, bus: str = "") -> Any:
    """Run programs as one module, with a bus elsewhere; return its names."""
    module = sys.modules["main"] = ModuleType("main")  # Litestar looks there
    for program in programs:
        exec(re.sub(r"(localhost|bus.internal):9313", bus, program), vars(module))
    return vars(module)


def order(address: str) -> Any:
    """Order tea."""
    return httpx.post(f"http://{address}/orders?item=tea", timeout=PATIENCE)


FASTAPI = programs_below("### FastAPI and Starlette")


def test_fastapi() -> None:
    with served(run(FASTAPI[0])["app"]) as address:
        with kps.sync.Client(f"ws://{address}/bus/") as client:
            orders = client.subscribe("orders")
            settle(client)
            assert order(address).text == "1"
            assert next(orders).data == {"item": "tea"}
        with pytest.raises(kps.ConnectFailed, match="403"):
            kps.sync.Client.connect(f"ws://{address}/bus", reconnect=False)
        assert b'name="kps-path"' in get(address, "/bus/")[1]
        assert get(address, "/bus/kps.js")[0] == 200


def test_a_lifespan_of_the_programs_own() -> None:
    with served(run(*FASTAPI)["app"]) as address:
        with kps.sync.Client(f"ws://{address}/bus/") as client:
            assert client.request("jobs", "the work", PATIENCE) == "the work is done"


def test_a_dependency_of_fastapi_knows_the_user() -> None:
    (program,) = programs_below("### Who a client is")
    names = run(program)
    (session,) = names["SESSIONS"]
    with served(names["app"]) as address:
        cookies = {"Cookie": f"session={session}"}
        with kps.sync.Client(f"ws://{address}/live", id="alice", headers=cookies):
            assert users(names["bus"]) == [("alice", "ann")]
        for path, headers, status in (
            ("/live", {"Cookie": "session=other"}, "403"),
            ("/live", {}, "403"),
            ("/bus/", cookies, "401"),
        ):
            with pytest.raises(kps.ConnectFailed, match=status):
                kps.sync.Client.connect(f"ws://{address}{path}", headers=headers, reconnect=False)
        refused = httpx.post(f"http://{address}/bus/publish?topic=t", content="1")
        assert refused.status_code == 401
        assert get(address, "/bus/kps.js")[0] == 200


def identify_with(middleware: str) -> Bus:
    """The bus of a row of the table of frameworks."""
    (code,) = re.findall(rf"^\| .*`{middleware}` \| `(.*)` \|$", PAGE, re.MULTILINE)
    bus: Bus = eval(code, {"Bus": Bus})
    return bus


def test_users_of_starlette() -> None:
    from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
    from starlette.middleware.authentication import AuthenticationMiddleware

    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: Any) -> Any:
            name = conn.headers.get("x-user")
            return None if name is None else (AuthCredentials(), SimpleUser(name))

    bus = identify_with("AuthenticationMiddleware")
    app = on_starlette(bus)
    app.add_middleware(AuthenticationMiddleware, backend=Backend())
    check_users(app, bus, {"X-User": "ann"})


def test_sessions_of_starlette() -> None:
    signer = pytest.importorskip("itsdangerous", reason="sessions of Starlette need itsdangerous")
    from starlette.middleware.sessions import SessionMiddleware

    bus = identify_with("SessionMiddleware")
    app = on_starlette(bus)
    app.add_middleware(SessionMiddleware, secret_key="secret")
    session = signer.TimestampSigner("secret").sign(b"eyJ1c2VyIjoiYW5uIn0=")  # {"user":"ann"}
    check_users(app, bus, {"Cookie": f"session={session.decode()}"})


def check_users(app: Any, bus: Bus, headers: dict[str, str]) -> None:
    """Connect as ann, and as nobody."""
    with served(app) as address:
        url = f"ws://{address}/bus/"
        with kps.sync.Client(url, id="alice", headers=headers):
            assert users(bus) == [("alice", "ann")]
        with pytest.raises(kps.ConnectFailed, match="401"):
            kps.sync.Client.connect(url, reconnect=False)


def test_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = programs_below("### Several processes")
    engine = Engine()
    monkeypatch.setenv("NATS_URL", engine.url)
    monkeypatch.setenv("CLUSTER_SECRET", "a secret of sixteen bytes")
    try:
        with served(run(program)["app"]) as address:
            health = json.loads(get(address, "/bus/healthz")[1])
            assert (health["status"], health["nodes"]) == ("ok", 1)
    finally:
        engine.end()


def test_the_log() -> None:
    (program,) = programs_below("### The log")
    logger = logging.getLogger("kps")
    before = logger.level
    try:
        run(program)
        assert logger.isEnabledFor(logging.INFO)
    finally:
        logger.setLevel(before)


def test_litestar() -> None:
    pytest.importorskip("litestar", reason="Litestar is not installed")
    (program,) = programs_below("### Litestar")
    names = run(program)
    with served(names["app"]) as address, kps.sync.Client(f"ws://{address}/bus/", id="alice"):
        assert [name for name, _ in users(names["bus"])] == ["alice"]


def test_past_asgi() -> None:
    (program,) = programs_below("### Faster, with uvicorn")
    names = run(FASTAPI[0], program)
    with served(names["app"], ws=names["BusProtocol"]) as address:
        with kps.sync.Client(f"ws://{address}/bus/"):
            kinds = [type(one).__name__ for one in names["bus"]._driver.connections]
            assert kinds == ["CarriedConnection"]


def test_the_application_as_a_client() -> None:
    """It starts although the bus is down, and finds it later."""
    (program,) = programs_below("## The application as a client")
    bus = kept_address()
    names = run(program, bus=bus)
    with served(names["app"]) as address:
        assert order(address).status_code == 500
        with kps.sync.Server(bus) as server:
            orders = server.subscribe("orders", timeout=PATIENCE)
            while order(address).status_code == 500:
                pass  # until it has found the bus
            assert next(orders).data == {"item": "tea"}


def test_channels_of_litestar() -> None:
    pytest.importorskip("litestar", reason="Litestar is not installed")
    from websockets.sync.client import connect

    (program,) = programs_below("### Litestar's channels")
    with kps.sync.Server("127.0.0.1:0", history=[kps.History("site/**")]) as server:
        for number in range(7):
            server.publish("site/news", str(number))
        with served(run(program, bus=server.address)["app"]) as address:
            with connect(f"ws://{address}/news") as user:
                assert [user.recv(PATIENCE) for _ in range(5)] == ["2", "3", "4", "5", "6"]
                server.publish("site/news", "live")
                assert user.recv(PATIENCE) == "live"


def test_broadcaster() -> None:
    pytest.importorskip("broadcaster", reason="broadcaster is not installed")
    (program,) = programs_below("### broadcaster")

    async def test() -> None:
        async with kps.Server("127.0.0.1:0") as server:
            broadcast = run(program, bus=server.address)["broadcast"]
            async with broadcast, broadcast.subscribe("tea") as room:
                await server.publish("rooms/tea", "hello")
                assert (await room.get()).message == "hello"

    asyncio.run(asyncio.wait_for(test(), PATIENCE))


def test_django() -> None:
    """The line is that of the example, which ``test_frameworks.py`` runs."""
    (program,) = programs_below("### Django")
    assert f"\n{program}" in (EXAMPLES / "django_bus.py").read_text(encoding="utf-8")


SITE = """
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="only for this test",
    ALLOWED_HOSTS=["127.0.0.1", "testserver"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}},
)
django.setup()
"""
VIEWS = """
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.test import Client
from django.urls import path

urlpatterns = [path("token", token), path("rooms/<slug:room>/say", say)]
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User

stranger, ann = Client(), Client()
ann.force_login(User.objects.create_user("ann"))
assert stranger.get("/token").status_code == 302
assert stranger.post("/rooms/red/say", {"text": "psst"}).status_code == 302
assert ann.get("/rooms/red/say").status_code == 405
print(ann.get("/token").json()["token"], flush=True)
input()
assert ann.post("/rooms/red/say", {"text": "hello"}).json() == {"room": "red"}
while not client().is_connected:
    time.sleep(0.01)
client().close()
"""


def test_browsers_on_the_bus(tmp_path: Path) -> None:
    """A view gives the logged-in user a token, with which a client hears what a view publishes."""
    for name in ("django", "jwt"):
        pytest.importorskip(name)
    (views,) = programs_below("### Browsers on the bus, with Django")
    (tmp_path / "site_of_test.py").write_text(f"{SITE}\n{views}\n{VIEWS}", encoding="utf-8")
    secret = 64 * "5"
    with (
        kps.sync.Server("127.0.0.1:0", auth=kps.JWTVerifier(secret)) as server,
        subprocess.Popen(
            [sys.executable, "site_of_test.py"],
            cwd=tmp_path,
            env=os.environ
            | {
                "KPS_ADDRESS": server.address,
                "KPS_SECRET": secret,
                "PYTHONPATH": str(EXAMPLES.parent),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as site,
    ):
        assert site.stdout is not None
        token = site.stdout.readline().strip()
        with kps.sync.Client(server.address, token=token) as browser:
            said = browser.subscribe("rooms/red")
            eventually(lambda: any(server.count_subscribers("rooms/red")), "the subscription")
            site.communicate("go on\n", timeout=PATIENCE)
            assert site.returncode == 0
            assert next(said).data == {"from": "ann", "text": "hello"}
            with pytest.raises(kps.ServerError, match="may not publish"):
                browser.publish_with_receipt("rooms/red", {"from": "bob", "text": "it is me"})


def test_there_are_no_other_programs() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    for section in re.split(r"^(?=##)", PAGE, flags=re.MULTILINE):
        if "```python" in section:
            assert f'programs_below("{section.splitlines()[0]}")' in source
