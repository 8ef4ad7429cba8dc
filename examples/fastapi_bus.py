"""A vote with live results: a page of FastAPI, and the bus in the same process, on the same port.

pip install /path/to/the/checkout fastapi "uvicorn[standard]"
uvicorn fastapi_bus:app        # and open http://127.0.0.1:8000 twice
"""

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from kps import Permissions
from kps.asgi import Bus

votes = {"tea": 0, "coffee": 0}

# Everybody may watch; only this program publishes.
bus = Bus(permissions=Permissions(publish=(), direct=(), subscribe=("votes",)), console=False)
app = FastAPI(lifespan=bus.lifespan)
app.mount("/bus", bus)  # ws://127.0.0.1:8000/bus/, and the client for browsers below it


@app.post("/vote/{drink}")
async def vote(drink: str) -> dict[str, int]:
    """Count a vote, and tell all who watch."""
    if drink in votes:
        votes[drink] += 1
        await bus.publish("votes", votes)
    return votes


@app.get("/votes")
async def show() -> dict[str, int]:
    """Return what was counted so far."""
    return votes


PAGE = """<!doctype html>
<title>Tea or coffee?</title>
<button value="tea">Tea</button> <button value="coffee">Coffee</button>
<p id="votes"></p>
<script type="module">
  import { Client } from './bus/kps.js';

  const show = (votes) => { document.querySelector('#votes').textContent = JSON.stringify(votes); };
  for (const button of document.querySelectorAll('button')) {
    button.onclick = () => fetch(`/vote/${button.value}`, { method: 'POST' });
  }
  const client = await Client.connect(new URL('bus/', location));
  await client.subscribe('votes', (message) => show(message.data));
  show(await (await fetch('/votes')).json());
</script>
"""


@app.get("/")
async def page() -> HTMLResponse:
    """Return the page."""
    return HTMLResponse(PAGE)
