"""Another program that has taken a port."""

from __future__ import annotations

import http.server
import threading
from types import TracebackType
from typing import Self


class Listener:
    """Answers every request with a page that is not ours."""

    def __init__(self, port: int) -> None:
        self._server = http.server.HTTPServer(("127.0.0.1", port), _Page)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>It works!</html>")

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""
