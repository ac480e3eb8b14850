"""The service that keeps the plans: it counts who asks, takes its time, and can be put out of order."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_S = 0.1
"""How long it takes to list the plans."""


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_GET(self) -> None:
        if self.path == "/asked":
            self._send(200, {"asked": self.server.asked})
            return
        with self.server.lock:
            self.server.asked += 1
        time.sleep(SLOW_S)
        plans = [{"name": name, "price": price} for name, price in self.server.prices.items()]
        self._send(503 if self.server.down else 200, {"plans": plans})

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.path.rpartition("/")[2]
        if self.path == "/down":
            self.server.down = body["down"]
        elif name in self.server.prices:
            self.server.prices[name] = body["price"]
        else:
            self._send(404, {})
            return
        self._send(200, {})

    def _send(self, status: int, body: object) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        """Write nothing: the transcript is the demo's."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.asked = 0
        self.down = False
        self.prices = {"free": 0, "team": 12, "company": 40}


@contextmanager
def plans_service() -> Iterator[str]:
    """Serve on a free port of the loopback while the block lasts; yields the URL."""
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
