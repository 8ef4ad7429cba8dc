"""A Flask view that publishes, and a page that shows it live.

    pip install /path/to/the/checkout flask gunicorn
    kps serve --origin http://localhost:5000
    flask --app examples/flask_view run
    gunicorn --chdir examples --workers 2 --threads 4 --preload flask_view:app      # or this

Then open http://localhost:5000, and order something. The server's address is taken from the
variable ``KPS_ADDRESS``; with gunicorn, which has another port, give its origin to ``kps serve``.
"""

import os
from threading import Lock

from flask import Flask, render_template_string, request
from flask.typing import ResponseReturnValue

import kps.sync

ADDRESS = os.environ.get("KPS_ADDRESS", "localhost:9313")

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Orders</title>
<form><input name="what" placeholder="What do you want?" required> <button>Order</button></form>
<output></output>
<ul></ul>
<script type="module">
  import { Client } from {{ ("http://" + bus + "/kps.js") | tojson }};
  const state = document.querySelector('output');
  // Before the page waits for the bus: until this is set, Enter loads the page anew.
  document.forms[0].addEventListener('submit', async (event) => {
    event.preventDefault();
    const body = JSON.stringify({ what: event.target.what.value });
    const headers = { 'Content-Type': 'application/json' };
    const answer = await fetch('/orders', { method: 'POST', headers, body });
    state.value = answer.ok ? 'ordered' : `not ordered: ${(await answer.json()).error}`;
  });
  const client = await Client.connect({{ bus | tojson }});
  await client.subscribe('orders', ({ data }) => {
    const line = document.createElement('li');
    line.textContent = data.what;
    document.querySelector('ul').append(line);
  });
  state.value = 'live';
</script>
"""

app = Flask(__name__)


class Bus:
    """The process's connection to the bus, which all its threads share.

    It is made when it is first needed, so in the process that needs it and not in one that forks,
    and again by the next request when it is gone: a request never waits for a server that is down.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._client: kps.sync.Client | None = None

    def client(self) -> kps.sync.Client:
        """Return the client. Raises :class:`kps.ConnectFailed`."""
        with self._lock:
            if self._client is None or not self._client.is_connected:
                self._client = kps.sync.Client.connect(ADDRESS, reconnect=False, connect_timeout=5)
            return self._client


bus = Bus()


@app.get("/")
def page() -> str:
    """Show the orders as they come."""
    return render_template_string(PAGE, bus=ADDRESS)


@app.post("/orders")
def order() -> ResponseReturnValue:
    """Pass an order on, and answer with who has taken it."""
    try:
        ack = bus.client().publish_with_ack("orders", request.get_json(), timeout=5)
        responses = ack.wait()
    except kps.InvalidArgument as error:  # it is too large, for instance
        return {"error": str(error)}, 400
    except (ConnectionError, TimeoutError) as error:
        return {"error": str(error)}, 503
    taken = [client_id for client_id, response in responses.items() if response.success]
    if not taken:
        return {"error": "nobody has taken it"}, 503
    return {"taken by": taken}, 202
