"""A small HTTP server that answers as the Hugging Face hub does for files of one repository."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub(ThreadingHTTPServer):
    """Attributes:

    files: {"repository/resolve/revision/name": bytes}
    asked: ("HEAD" or "GET", Range header or "") of every request.
    stop_after: bytes of the next GET's answer before `stop` is called, which may wait or raise.
    refuse: number of further GETs that are answered with 500.
    """

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(files)
        self.asked: list[tuple[str, str]] = []
        self.stop: Callable[[], object] | None = None
        self.stop_after, self.refuse = 0, 0
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub, wanted = self.server, self.headers.get("Range", "")
        hub.asked.append((self.command, wanted))
        content = hub.files.get(self.path.lstrip("/"))
        refused = body and hub.refuse > 0
        hub.refuse -= refused
        if content is None or refused:
            self.send_response(500 if refused else 404)
            if not refused:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "c" * 40)
        self.end_headers()
        if not body:
            return
        if hub.stop is None:
            self.wfile.write(content[start:])
            return
        stop, hub.stop = hub.stop, None
        self.wfile.write(content[start : start + hub.stop_after])
        self.wfile.flush()
        stop()
        self.close_connection = True


@contextmanager
def serve(files: Mapping[str, bytes]) -> Iterator[Hub]:
    hub = Hub(files)
    thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
