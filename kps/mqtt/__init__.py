"""The bridge between the bus and an MQTT broker: a pure core, and a driver for asyncio."""
