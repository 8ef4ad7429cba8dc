"""The consumers: people in rooms, the dice in the background, and what comes from the bus."""

import json
import random
from contextlib import suppress
from typing import Any

from channels.consumer import AsyncConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer

import kps
from kps.channels import KpsConsumer


class Person(AsyncJsonWebsocketConsumer):
    """Somebody in a room. All in it are a group of the channel layer, in whatever process.

    The page gets ``{"from": …, "text": …}`` for what is said, and ``{"people": […]}`` when somebody
    comes or goes.
    """

    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        self.user = self.scope["user"]
        if not self.user.is_authenticated:
            await self.close()  # the page sees the HTTP status 403
            return
        self.name = self.user.get_username()
        await self.channel_layer.group_add(self.room, self.channel_name, {"user": self.name})
        await self.accept()
        await self.channel_layer.group_send(self.room, {"type": "room.changed"})

    async def disconnect(self, code: int) -> None:
        if not self.user.is_authenticated:
            return  # it was never in the room
        await self.channel_layer.group_discard(self.room, self.channel_name)
        await self.channel_layer.group_send(self.room, {"type": "room.changed"})

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any
    ) -> None:
        try:
            text = json.loads(text_data or "")["text"]
        except (ValueError, LookupError, TypeError, RecursionError):
            text = None  # a page may send anything
        if not isinstance(text, str) or len(text) > 1000:
            await self.close(1008)
            return
        said = {"type": "room.said", "from": self.name, "text": text}
        await self.channel_layer.group_send(self.room, said)
        if text == "/roll":
            await self.channel_layer.send("dice", {"type": "roll", "room": self.room})

    async def room_said(self, message: dict[str, Any]) -> None:
        await self.send_json({"from": message["from"], "text": message["text"]})

    async def room_changed(self, message: dict[str, Any]) -> None:
        members = await self.channel_layer.group_members(self.room)
        await self.send_json({"people": sorted({info["user"] for info in members.values()})})

    async def send_json(self, content: Any, close: bool = False) -> None:
        with suppress(OSError, RuntimeError):  # it is closed: Channels calls disconnect next
            await super().send_json(content, close)


class Dice(AsyncConsumer):
    """Works in the background: ``python manage.py runworker dice``."""

    async def roll(self, message: dict[str, Any]) -> None:
        text = f"The dice show {random.randint(1, 6)}."
        said = {"type": "room.said", "from": "dice", "text": text}
        await self.channel_layer.group_send(message["room"], said)


class Readings(KpsConsumer, AsyncJsonWebsocketConsumer):
    """Shows what any client of KPS publishes: ``kps pub sensors/kitchen 21.5``."""

    async def connect(self) -> None:
        await self.accept()
        await self.kps_subscribe(kps.Pattern("sensors/**"))
        await self.send_json({"ready": True})

    async def kps_message(self, message: kps.Message) -> str:
        await self.send_json({"sensor": message.topic, "value": message.data})
        return "shown"
