"""The collector stores readings, answers when they are safe, and tells the latest.

It is a process of its own. Kill it: the sensors keep what has no answer until there is another one.
"""

import contextlib
import os
import sqlite3
import sys

import kps
import kps.sync

TABLE = """CREATE TABLE IF NOT EXISTS readings
(sensor TEXT, time REAL, number INTEGER, celsius REAL, PRIMARY KEY (sensor, time))"""
# A reading comes again if a collector died between storing and answering.
STORE = "INSERT OR IGNORE INTO readings VALUES (:sensor, :time, :number, :celsius)"


def collect(address: str, file: str, token: str) -> None:
    """Store what comes, one after the other."""
    database = sqlite3.connect(file)
    database.execute(TABLE)
    with kps.sync.Client(address, id="collector", token=token) as client:
        readings = client.subscribe(kps.Pattern("readings/*"))
        client.publish("collector", {"process": os.getpid()})
        for message in readings:
            sensor = message.topic.removeprefix("readings/")
            with database:  # a transaction
                database.execute(STORE, {"sensor": sensor, **message.data})
            client.publish(f"latest/{sensor}", message.data)
            # To ask for the next reading says that this one is handled.


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        collect(sys.argv[1], sys.argv[2], os.environ["COLLECTOR_TOKEN"])
