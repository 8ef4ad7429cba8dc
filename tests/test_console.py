"""The console page and the JavaScript client, as a server serves them."""

import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kps
from tests.io.harness import DRIVERS, AnyDriver, eventually

ROOT = Path(__file__).parent.parent
WEB = Path(kps.__file__).parent / "web"
CLIENTS = ("client.js", "kps.js")
FILES = sorted(file.name for file in WEB.iterdir() if file.suffix in (".css", ".html", ".js"))


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Iterator[AnyDriver]:
    made = DRIVERS[request.param]()
    yield made
    made.close()


def get(server: Any, path: str, *, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(server.address, timeout=20)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


def body(response: http.client.HTTPResponse) -> bytes:
    found: bytes = response.body  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("name", CLIENTS)
def test_the_client_is_that_of_its_own_package(name: str) -> None:
    assert (WEB / name).read_bytes() == (ROOT / "clients" / "js" / name).read_bytes()


@pytest.mark.parametrize("name", CLIENTS)
def test_pages_of_other_origins_may_load_the_client(driver: AnyDriver, name: str) -> None:
    server = driver.server()
    assert get(server, f"/{name}").getheader("access-control-allow-origin") == "*"
    assert get(server, "/console.js").getheader("access-control-allow-origin") is None


def test_every_file_is_served_with_its_type(driver: AnyDriver) -> None:
    server = driver.server()
    types = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
    for name in FILES:
        response = get(server, "/" if name == "console.html" else f"/{name}")
        assert response.status == 200
        assert response.getheader("content-type") == (
            types[name.rpartition(".")[2]] + "; charset=utf-8"
        )
        assert body(response) == (WEB / name).read_bytes()
        assert "default-src 'self'" in str(response.getheader("content-security-policy"))


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for name in FILES:
        text = (WEB / name).read_text(encoding="utf-8")
        loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"|from '([^']+)'|url\(([^)]+)\)", text)
        for address in ("".join(found) for found in loaded):
            assert address.startswith(("data:", "#")) or address.removeprefix("./") in FILES


def test_no_token_gets_into_an_address() -> None:
    scripts = {
        name: (WEB / name).read_text(encoding="utf-8") for name in FILES if "console" in name
    }
    assert not any("searchParams.set" in script for script in scripts.values())
    link = scripts.pop("console-link.js")
    assert link.count("ownToken()") == 2  # its definition, and the client's option
    assert "const token = ownToken() || undefined;" in link
    assert not any("kps-token" in script for script in scripts.values())


def test_the_page_knows_the_path_of_the_bus(driver: AnyDriver) -> None:
    page = body(get(driver.server(path='/a"<b>'), "/")).decode()
    assert '<meta name="kps-path" content="/a&quot;&lt;b&gt;">' in page


def test_who_has_it_is_told_to_keep_it(driver: AnyDriver) -> None:
    server = driver.server()
    first = get(server, "/kps.js")
    tag = str(first.getheader("etag"))
    assert first.getheader("cache-control") == "no-cache"
    for known in (tag, f'"other", W/{tag}'):
        again = get(server, "/kps.js", **{"If-None-Match": known})
        assert (again.status, body(again)) == (304, b"")
        assert again.getheader("etag") == tag
    assert get(server, "/kps.js", **{"If-None-Match": '"other"'}).status == 200


def test_a_head_has_no_body(driver: AnyDriver) -> None:
    response = get(driver.server(), "/", method="HEAD")
    assert (response.status, body(response)) == (200, b"")
    assert int(str(response.getheader("content-length"))) == (WEB / "console.html").stat().st_size


def test_other_methods_and_paths_are_not_found(driver: AnyDriver) -> None:
    server = driver.server()
    assert get(server, "/", method="POST").status == 404
    for path in ("/console.html", "/web/console.js", "/../console.py", "/kps.js/", "//kps.js"):
        assert get(server, path).status == 404


def test_off_means_not_found_but_for_the_client(driver: AnyDriver) -> None:
    server = driver.server(console=False)
    assert [get(server, path).status for path in ("/", "/console.js")] == [404, 404]
    assert [get(server, f"/{name}").status for name in CLIENTS] == [200, 200]
    client = driver.client(server.address)
    messages = client.subscribe("__kps/stats", timeout=1.5)
    with pytest.raises(TimeoutError):
        next(iter(messages))


def test_figures_come(driver: AnyDriver) -> None:
    server = driver.server(id="hub")
    client = driver.client(server.address, id="watcher")
    for message in client.subscribe("__kps/stats"):
        assert message.sender == "hub"
        assert [one["id"] for one in message.data["clients"]] == ["watcher"]
        break


def test_questions_are_answered(driver: AnyDriver) -> None:
    everything = kps.Permissions.open(disconnect=["**"])
    server = driver.server(id="hub", permissions=everything)
    client = driver.client(server.address, id="watcher")
    victim = driver.client(server.address, id="victim")
    victim.subscribe("news", lambda message: None)
    found = client.request("__kps/clients", {"filter": "vic"})
    assert (found["found"], found["clients"][0]["id"]) == (1, "victim")
    assert client.request("__kps/topic", {"topic": "news"})["subscriptions"] == [{"id": "victim"}]
    assert client.request("__kps/disconnect", {"id": "victim"}) == {"id": "victim"}
    with pytest.raises(kps.RequestFailed, match="no client has the id nobody"):
        client.request("__kps/client", {"id": "nobody"})
    events = client.request("__kps/events", {})["events"]
    assert ("dismissed", "victim") in [(one["event"], one.get("client")) for one in events]


def test_the_record_is_kept_without_anybody_watching(driver: AnyDriver) -> None:
    server = driver.server()
    client = driver.client(server.address)
    client.publish_with_receipt("t", 1)
    eventually(lambda: sum(client.request("__kps/record", {})["published"]) == 1)


def test_nobody_disconnects_others_unless_that_is_allowed(driver: AnyDriver) -> None:
    server = driver.server()
    client = driver.client(server.address)
    driver.client(server.address, id="victim")
    with pytest.raises(kps.ServerError, match="this client may not disconnect this id") as refusal:
        client.request("__kps/disconnect", {"id": "victim"})
    assert refusal.value.code == "forbidden"
    assert "victim" in [client.id for client in server.clients()]


def test_nobody_else_publishes_figures(driver: AnyDriver) -> None:
    server = driver.server()
    client = driver.client(server.address)
    with pytest.raises(kps.ServerError, match="this topic is the server's own") as refusal:
        client.publish_with_receipt("__kps/stats", 1)
    assert refusal.value.code == "forbidden"
