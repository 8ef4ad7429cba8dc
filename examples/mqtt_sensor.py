"""A thing that knows only MQTT: it reports a temperature, and has a lamp. See bridge.toml.

    pip install paho-mqtt
    python examples/mqtt_sensor.py

Arguments: optionally the host and the port of the broker.
"""

import random
import sys
import threading

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion


def switch(client: Client, userdata: object, message: MQTTMessage) -> None:
    print(f"the lamp is {bytes(message.payload).decode()}", flush=True)


def subscribe(client: Client, *_: object) -> None:
    client.subscribe("hall/lamps/1", qos=1)


def main(host: str = "localhost", port: str = "1883") -> None:
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = switch
    client.on_connect = subscribe
    client.connect(host, int(port))
    client.loop_start()
    while True:
        celsius = round(random.gauss(20.5, 0.5), 1)
        client.publish("hall/1/temperature", str(celsius), qos=1, retain=True)
        threading.Event().wait(1.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
