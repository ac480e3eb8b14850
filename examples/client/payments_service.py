"""The payment provider: it works, fails, or is slow, as it is told by `PUT /mode`."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_S = 0.3
"""How long an answer takes where it is told to be slow."""

PROVIDER = "payments"
"""Where a front keeps the provider's address, for scenes that tell it how to be."""

WELL, FAILING, SLOW = "well", "failing", "slow"


class _Provider(ThreadingHTTPServer):
    daemon_threads = True
    mode = WELL
    seen = 0


class _Handler(BaseHTTPRequestHandler):
    """`GET /payments/n` as the mode says; `PUT /mode` sets it; `GET /seen` counts what was asked."""

    server: _Provider

    def do_GET(self) -> None:
        if self.path == "/seen":
            self._send(200, {"seen": self.server.seen})
            return
        self.server.seen += 1
        if self.server.mode == SLOW:
            time.sleep(SLOW_S)
        if self.server.mode == FAILING:
            self._send(503, {"status": "down"})
        else:
            self._send(200, {"status": "paid"})

    def do_PUT(self) -> None:
        self.server.mode = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._send(200, {"mode": self.server.mode})

    def _send(self, status: int, data: object) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        """Write nothing: the transcript is the demo's."""


@contextmanager
def payments_service() -> Iterator[str]:
    """Serve on a free port of the loopback while the block lasts; yields the URL."""
    with _Provider(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
