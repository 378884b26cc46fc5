"""A small HTTP server that answers as the Hugging Face hub does for files of one repository."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SHA = "c" * 40  # of every commit


class Hub(ThreadingHTTPServer):
    """Attributes:

    files: {"repository/resolve/revision/name": bytes}
    asked: ("HEAD" or "GET", Range header or "") of every request for a file.
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

    def commit(self, repository: str, files: list[dict[str, str]]) -> None:
        """Adds files whose `content` is in base 64."""
        said = {"id": repository, "sha": SHA, "siblings": [{"rfilename": f["path"]} for f in files]}
        for revision in ("main", SHA):
            self.files[f"api/models/{repository}/revision/{revision}"] = json.dumps(said).encode()
            for file in files:
                content = base64.b64decode(file["content"])
                self.files[f"{repository}/resolve/{revision}/{file['path']}"] = content


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        """What huggingface_hub asks to create a repository and to commit files to it."""
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).splitlines()
        lines = [json.loads(line) for line in sent]
        hub, parts = self.server, self.path.strip("/").split("/")
        answer: dict[str, Any] = {"errors": [], "warnings": []}
        if parts[:3] == ["api", "repos", "create"]:
            answer = {"url": f"{hub.url}/{lines[0].get('organization', 'me')}/{lines[0]['name']}"}
        elif "preupload" in parts:
            answer = {
                "files": [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in lines[0]["files"]
                ]
            }
        elif "commit" in parts:
            repository = "/".join(parts[2:4])
            hub.commit(repository, [x["value"] for x in lines if x["key"] == "file"])
            answer = {"commitUrl": f"{hub.url}/{repository}/commit/{SHA}", "commitOid": SHA}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, body: bool) -> None:
        hub, wanted = self.server, self.headers.get("Range", "")
        if "/resolve/" in self.path:  # the client asks for things of its own as well
            hub.asked.append((self.command, wanted))
        content = hub.files.get(self.path.lstrip("/").partition("?")[0])
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
        self.send_header("X-Repo-Commit", SHA)
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
