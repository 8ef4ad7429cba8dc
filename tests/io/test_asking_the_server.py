"""The program of a server asks it what its clients may ask."""

import pytest

import kps
from tests.io.harness import AnyDriver


def test_the_program_may_ask_and_disconnect(servers: AnyDriver, clients: AnyDriver) -> None:
    server = servers.server(id="hub")
    clients.client(server.address, id="ann")
    found = server.request("__kps/clients", {"filter": "an"})
    assert [one["id"] for one in found["clients"]] == ["ann"]
    assert server.request("__kps/client", {"id": "ann"})["may_disconnect"] is True
    assert server.request("__kps/disconnect", {"id": "ann"}) == {"id": "ann"}
    with pytest.raises(kps.RequestFailed, match="no client has the id nobody"):
        server.request("__kps/client", {"id": "nobody"})


def test_a_question_that_makes_no_sense(servers: AnyDriver) -> None:
    server = servers.server()
    with pytest.raises(kps.InvalidArgument, match="missing id"):
        server.request("__kps/client", {})
    with pytest.raises(kps.InvalidArgument, match="a question to the server is an object"):
        server.request("__kps/clients", 1)


def test_a_server_without_console_answers_none(servers: AnyDriver) -> None:
    server = servers.server(console=False)
    with pytest.raises(kps.InvalidState, match="it runs without the console"):
        server.request("__kps/clients", {})
