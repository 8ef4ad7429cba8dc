"""Agents that watch machines, and a page with live charts from which one can ask them.

    python examples/monitoring/monitoring.py

This program is the bus. It serves the page, and starts two agents (``agent.py``), which both watch
this machine. Arguments: the ports of the page (8000) and of the bus (9313).
"""

import contextlib
import os
import secrets
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import kps
import kps.sync

HERE = Path(__file__).parent
AGENTS = ("ash", "birch")

# Who may do what. An agent speaks for itself only, and the page of an operator may ask agents.
TOKENS = {name: secrets.token_urlsafe() for name in (*AGENTS, "operator")}
PERMISSIONS = {
    name: kps.Permissions(
        ids=[name], publish=[f"figures/{name}"], subscribe=["agents"], direct=[], groups=[]
    )
    for name in AGENTS
}
PERMISSIONS["operator"] = kps.Permissions(
    ids=["operator-*"],
    publish=[],
    subscribe=["figures/*", "agents"],
    presence=["agents"],
    direct=AGENTS,
    groups=[],
)
IDENTITIES = {TOKENS[name]: kps.Identity(name, PERMISSIONS[name]) for name in TOKENS}


class Page(BaseHTTPRequestHandler):
    """Serves the page, whose ``html`` names the bus."""

    html = b""

    def do_GET(self) -> None:
        """Answer a browser."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.html)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def start_agent(name: str, address: str) -> "subprocess.Popen[bytes]":
    """Start an agent as a process of its own. Its token is not for others to see."""
    environment = {**os.environ, "AGENT_TOKEN": TOKENS[name]}
    return subprocess.Popen([sys.executable, HERE / "agent.py", name, address], env=environment)


def main(page_port: str = "8000", bus_port: str = "9313") -> None:
    """Run all of it until Ctrl-C."""
    pages = ThreadingHTTPServer(("127.0.0.1", int(page_port)), Page)
    url = f"http://127.0.0.1:{pages.server_port}"
    server = kps.sync.Server(
        f"127.0.0.1:{bus_port}",
        origins=[url],
        auth=IDENTITIES.get,
        history=[kps.History("figures/*", size=180, ttl=180)],  # three minutes, for the charts
        limits=kps.ServerLimits(message_rate=50),  # of a client, in a second
    )
    with pages, server, contextlib.ExitStack() as agents:
        html = (HERE / "index.html").read_text(encoding="utf-8")
        Page.html = html.replace("localhost:9313", server.address).encode()
        for name in AGENTS:
            agent = agents.enter_context(start_agent(name, server.address))
            agents.callback(agent.terminate)
        # Behind the # it stays in the browser: no server, and no log, sees it.
        print(f"open {url}/#{TOKENS['operator']} to see this machine", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            pages.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
