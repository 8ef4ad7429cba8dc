"""``examples/notifications``: who gets what, and when, and who cannot."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import kps
from tests.examples.harness import PATIENCE, running, until_async

for name in ("uvicorn", "fastapi"):
    pytest.importorskip(name)
httpx = pytest.importorskip("httpx")


class User:
    """A user who has signed in, and what the devices show."""

    def __init__(self, url: str, name: str) -> None:
        self.name, self.url = name, url
        self.bus = url.replace("http", "ws") + "/bus/"
        answer = httpx.post(f"{url}/login", json={"user": name}, timeout=PATIENCE)
        assert answer.json() == name
        self.cookie = {"Cookie": f"session={answer.cookies['session']}"}

    def sends(self, to: str, text: str) -> Any:
        """Send a notification; who got it."""
        form = {"to": to, "text": text}
        url = f"{self.url}/notices"
        return httpx.post(url, json=form, headers=self.cookie, timeout=PATIENCE).json()

    def device(self, name: str) -> kps.Client:
        return kps.Client(self.bus, id=f"{self.name}:{name}", headers=self.cookie)


async def look(device: kps.Client, user: str) -> list[str]:
    """Show notifications as the page does; the list grows."""
    shown: list[str] = []

    async def show(message: kps.Message) -> None:
        shown.append(message.data["text"])

    for topic in (f"users/{user}/inbox", "everybody"):
        await device.subscribe(topic, show, last=100)
    return shown


def test_all_devices_get_it_and_the_sender_learns_who() -> None:
    async def run(url: str) -> None:
        ann, bob = User(url, "ann"), User(url, "bob")
        send = asyncio.to_thread
        async with bob.device("phone") as phone, bob.device("desk") as desk:
            one, other = await look(phone, "bob"), await look(desk, "bob")
            assert await send(ann.sends, "bob", "tea?") == {"shown": {"bob": 2}, "kept": []}
            assert one == other == ["tea?"]
            told = await send(bob.sends, "everybody", "cake")
            assert told == {"shown": {"bob": 2}, "kept": ["ann", "cid"]}
            assert await send(bob.sends, "cid", "psst") == {"shown": {}, "kept": ["cid"]}
            assert one == other == ["tea?", "cake"]

    with running("notifications", "0") as program:
        asyncio.run(run(program.url))
        assert program.interrupt() == ""


def test_who_was_away_gets_each_once_also_after_a_restart(tmp_path: Path) -> None:
    file = str(tmp_path / "kept.db")

    async def before(url: str) -> None:
        ann, bob = User(url, "ann"), User(url, "bob")
        await asyncio.to_thread(ann.sends, "bob", "one")
        async with bob.device("phone") as phone:
            shown = await look(phone, "bob")
            await until_async(lambda: shown == ["one"])
            await asyncio.to_thread(ann.sends, "bob", "two")
            await phone.publish_with_receipt("users/bob/read", "the id of two")
        await asyncio.to_thread(ann.sends, "bob", "three")

    async def after(url: str) -> None:
        bob = User(url, "bob")
        async with bob.device("phone") as phone:
            shown = await look(phone, "bob")
            await until_async(lambda: shown == ["one", "two", "three"])
            read = [message.data for message in (await phone.history("users/bob/read")).messages]
            assert read == ["the id of two"]

    for step in (before, after):
        with running("notifications", "0", file) as program:
            asyncio.run(step(program.url))
            program.interrupt()


def test_nobody_reads_or_sends_for_another() -> None:
    async def run(url: str) -> None:
        bob = User(url, "bob")
        async with bob.device("phone") as phone:
            for topic in ("users/ann/inbox", "users/ann/read", kps.Pattern("users/**")):
                with pytest.raises(kps.ServerError) as refused:
                    await phone.subscribe(topic, print)
                assert refused.value.code == "forbidden"
            with pytest.raises(kps.ServerError, match="may not"):
                await phone.history("users/ann/inbox")
            for topic in ("users/ann/inbox", "users/bob/inbox", "everybody", "users/ann/read"):
                with pytest.raises(kps.ServerError, match="may not"):
                    await phone.publish_with_receipt(topic, {"text": "I am Ann"})
        with pytest.raises(kps.ServerError, match="may not use this id"):
            await kps.Client.connect(bob.bus, id="ann:phone", headers=bob.cookie)
        with pytest.raises(kps.ConnectFailed) as away:
            await kps.Client.connect(bob.bus, headers={"Cookie": "session=x"}, reconnect=False)
        assert away.value.status == 403
        assert httpx.get(f"{url}/me", timeout=PATIENCE).status_code == 401
        notice = {"to": "bob", "text": "x"}
        assert httpx.post(f"{url}/notices", json=notice, timeout=PATIENCE).status_code == 401

    with running("notifications", "0") as program:
        asyncio.run(run(program.url))
        program.interrupt()
