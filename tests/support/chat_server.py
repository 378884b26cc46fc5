"""A local OpenAI-compatible endpoint over real HTTP that misbehaves as it is told."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes | Iterator[bytes]]
"""Status (0: hang up; or -1: what follows is all that is sent), headers, and body or its parts."""
Behaviour = Callable[[dict[str, Any]], Reply]


def asked(request: dict[str, Any]) -> int:
    """The number of names that a request asks for."""
    found = re.search(r"Name (\d+) other", request["messages"][-1]["content"])
    assert found
    return int(found.group(1))


def completion(content: str | None, finish: str = "stop", **message: Any) -> Reply:
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": content, **message},
            }
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def good(request: dict[str, Any]) -> Reply:
    """As many names as are asked for, decided by the seed."""
    seed = request.get("seed", 0)
    names = [f"creature {seed} {i}" for i in range(asked(request))]
    return completion(json.dumps({"names": names}))


def error(status: int, message: str = "no", **headers: str) -> Behaviour:
    body = json.dumps({"error": {"message": message}}).encode()
    headers = {"Content-Type": "application/json"} | {
        key.replace("_", "-"): value for key, value in headers.items()
    }
    return lambda request: (status, headers, body)


def says(content: str | None, finish: str = "stop", **message: Any) -> Behaviour:
    return lambda request: completion(content, finish, **message)


def late(seconds: float, then: Behaviour = good) -> Behaviour:
    def behaviour(request: dict[str, Any]) -> Reply:
        time.sleep(seconds)
        return then(request)

    return behaviour


def rejects(*keys: str) -> Behaviour:
    """Status 400 for requests with one of `keys`, as endpoints without that feature answer."""

    def behaviour(request: dict[str, Any]) -> Reply:
        found = [key for key in keys if key in request]
        return error(400, f"unknown field {found}")(request) if found else good(request)

    return behaviour


def parts_of(*body: bytes, again: bytes = b"", every: float = 0, status: int = 200) -> Behaviour:
    """A body that comes in parts, and then never ends: `again`, `every` so many seconds."""

    def parts() -> Iterator[bytes]:
        yield from body
        while again:
            time.sleep(every)
            yield again

    return lambda request: (status, {"Content-Type": "application/json"}, parts())


class ChatServer(ThreadingHTTPServer):
    """Answers with `script`, one behaviour a request, and then with `always`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Behaviour] = []
        self.always: Behaviour = good
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.authorization: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.requests.append(request)
        server.times.append(time.monotonic())
        server.authorization.add(self.headers.get("Authorization", ""))
        behaviour = server.script.pop(0) if server.script else server.always
        status, headers, body = behaviour(request)
        if not status:
            self.connection.close()  # hang up without an answer
            return
        if status > 0:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            if isinstance(body, bytes):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
        for part in [body] if isinstance(body, bytes) else body:
            self.wfile.write(part)
            self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""


@contextmanager
def serving() -> Iterator[ChatServer]:
    with ChatServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
