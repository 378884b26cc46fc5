"""An HTTP client that bounds every answer in time and size.

The libraries' timeouts count from one byte to the next: an endpoint that sends a byte now and then
is waited for without end, and one that never stops sending fills the memory.
"""

import contextlib
import queue
import threading
from importlib import import_module
from typing import Any

from sar.command_line.extras import extra

with extra("novel"):
    import openai

_HTTPX: Any = import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
"""The library that the installed openai client is built on: httpx, or what has followed it."""
LARGEST = 16 * 2**20
"""Bytes of an answer."""
_OF_THE_TRANSFER = ("content-encoding", "content-length", "transfer-encoding")


class TooLargeError(Exception):
    """An answer goes on beyond `LARGEST`."""


class BoundedClient(openai.DefaultHttpxClient):
    """What `openai.OpenAI` sends its requests with.

    Args:
        seconds: from the request to the end of its answer; then it has failed like any request
            without an answer, and the openai client may send it again.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(timeout=seconds)
        self._seconds = seconds

    def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """The whole answer to a request, in either mode.

        Raises:
            TooLargeError: its body is larger than `LARGEST`.
        """
        outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()
        late = threading.Event()
        send = super().send

        def work() -> None:
            try:
                with contextlib.closing(send(request, stream=True, **options)) as response:
                    outcome.put(_whole(response, request, late))
            except BaseException as error:
                outcome.put(error)

        # Whoever sends headers byte by byte can only be left alone.
        threading.Thread(target=work, daemon=True).start()
        try:
            found = outcome.get(timeout=self._seconds)
        except queue.Empty:
            late.set()
            message = f"no whole answer within {self._seconds:g} seconds"
            raise _HTTPX.ReadTimeout(message, request=request) from None
        if isinstance(found, BaseException):
            raise found
        return found


def _whole(response: Any, request: Any, late: threading.Event) -> Any:
    """The response with its body read and unpacked; as far as it came when it is late."""
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if late.is_set():
            break
        if len(body) > LARGEST:
            raise TooLargeError(f"more than {LARGEST / 2**20:.0f} MB")
    headers = [(k, v) for k, v in response.headers.multi_items() if k not in _OF_THE_TRANSFER]
    return _HTTPX.Response(
        response.status_code, headers=headers, content=bytes(body), request=request
    )
