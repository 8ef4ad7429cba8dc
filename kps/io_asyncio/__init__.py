"""The asyncio driver: sockets, timers, tasks and signals around the protocol core."""
