"""A Flask view that publishes: one client for the whole process, used by all its threads.

    pip install flask
    kps serve
    flask --app examples/flask_view run
    curl -X POST -H 'Content-Type: application/json' -d '{"n": 1}' localhost:5000/orders

The server's address is taken from the variable ``KPS_ADDRESS``.
"""

import os
from functools import cache

from flask import Flask, request
from flask.typing import ResponseReturnValue

import kps.sync

app = Flask(__name__)


@cache
def bus() -> kps.sync.Client:
    """The process's connection to the bus, made when it is first needed."""
    address = os.environ.get("KPS_ADDRESS", "localhost:9313")
    return kps.sync.Client.connect(address, id=f"shop-{os.getpid()}", connect_timeout=2)


@app.post("/orders")
def order() -> ResponseReturnValue:
    """Pass an order on, and answer with who has taken it."""
    responses = bus().publish_with_ack("orders", request.get_json(), timeout=2).wait()
    taken = [client_id for client_id, response in responses.items() if response.success]
    return {"taken by": taken}, 202 if taken else 503
