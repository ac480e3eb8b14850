"""The other team's service, as it is on a bad day: what it answers depends on whose score is asked for, by name."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_S = 1.2
"""How long it takes for Edith."""

HTML = b"<html><h1>502 Bad Gateway</h1><p>nginx at 10.0.0.7</p></html>"
UNKNOWN = {"code": "SCORE_UNKNOWN", "message": "No score yet", "details": [], "requestId": "theirs"}


class _Handler(BaseHTTPRequestHandler):
    """Barbara: a proxy's page. Cynthia: an error by name. Donald: not what was agreed upon. Edith: late. Others: a score."""

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if name == "Edith":
            time.sleep(SLOW_S)
        if name == "Barbara":
            self._send(502, "text/html", HTML)
        elif name == "Cynthia":
            self._send(404, "application/json", json.dumps({"error": UNKNOWN}).encode())
        else:
            body = {"points": 7} if name == "Donald" else {"score": 7}
            self._send(200, "application/json", json.dumps(body).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        """Write nothing: the transcript is the demo's."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def scores_service() -> Iterator[str]:
    """Serve on a free port of the loopback while the block lasts; yields the URL."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
