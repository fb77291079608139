"""/metrics, /livez and /readyz over HTTP, on a port and in a thread of their own. Knows no RPCs.

A busy event loop or a full queue cannot starve them: liveness is the age of the loop's last heartbeat.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# A loop that has not turned for this long is stuck; the heartbeat comes four times a second.
MAX_HEARTBEAT_AGE_S = 10.0
# How long `stop` may take to be noticed.
_STOP_POLL_S = 0.05


class Probes:
    """Serves until `stop`. `beat` must be called from the event loop, `ready` follows the server's state."""

    def __init__(self, host: str, port: int, exposition: Callable[[str], tuple[str, bytes]]) -> None:
        """`exposition` gets the header `Accept`, and gives content type and body.

        Raises OSError if the port is taken.
        """
        self.ready = False
        self._exposition = exposition
        self._last_beat = time.monotonic()
        self._server = ThreadingHTTPServer((host, port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": _STOP_POLL_S},
            name="tessera-probes",
            daemon=True,
        )

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def beat(self) -> None:
        """The event loop is alive."""
        self._last_beat = time.monotonic()

    def answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a path."""
        if path == "/metrics":
            return 200, *self._exposition(accept)
        if path == "/livez":
            return _verdict(time.monotonic() - self._last_beat < MAX_HEARTBEAT_AGE_S)
        if path == "/readyz":
            return _verdict(self.ready)
        return 404, "text/plain", b"try /metrics, /livez or /readyz\n"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        probes = self

        class Handler(BaseHTTPRequestHandler):
            # A client that connects and says nothing must not hold a thread for ever.
            timeout = 10

            def do_GET(self) -> None:
                path, accept = self.path.partition("?")[0], self.headers.get("Accept", "")
                status, content_type, body = probes.answer(path, accept)
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Scrapes are no news."""

        return Handler


def _verdict(good: bool) -> tuple[int, str, bytes]:
    return (200, "text/plain", b"ok\n") if good else (503, "text/plain", b"not ok\n")
