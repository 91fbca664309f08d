"""A Debian mirror on the loopback: slow, interrupted, or with files missing, as one likes."""

from __future__ import annotations

import http.server
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

__all__ = ["Find", "Mirror", "recorded", "serving"]

Find = Callable[[str], bytes | None]
"""The content of a path below the archive's root, or None for a 404."""

_CHUNK = 1 << 16


class Mirror(http.server.ThreadingHTTPServer):
    """Serves what `find` gives, with Range, at no more than `rate` bytes a second for all together.

    `cuts` are (end of a path, bytes): the next answer for it ends after so many, once. `asked` has each
    path with the first byte that was wanted of it.
    """

    daemon_threads = True

    def __init__(self, find: Find, *, rate: float | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.find = find
        self.rate = rate
        self.cuts: dict[str, int] = {}
        self.asked: list[tuple[str, int]] = []
        self._lock = threading.Lock()
        self._free_at = 0.0

    @property
    def url(self) -> str:
        """What `LKM_DEBIAN_MIRROR` gets."""
        return f"http://127.0.0.1:{self.server_port}/debian"

    def cut_of(self, path: str) -> int | None:
        """After how many bytes this answer ends; the next one does not."""
        found = next((end for end in self.cuts if path.endswith(end)), None)
        return self.cuts.pop(found) if found else None

    def wait_for(self, amount: int) -> None:
        """Sleep until so many bytes more may go."""
        if not self.rate:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + amount / self.rate
            until = self._free_at
        time.sleep(max(0.0, until - time.monotonic()))


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Mirror)
        path = unquote(self.path).removeprefix("/debian/")
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.server.asked.append((path, start))
        body = self.server.find(path)
        if body is None:
            self._answer(404, 0)
        elif start and start >= len(body):
            self._answer(416, 0, range_of=f"*/{len(body)}")
        else:
            last = f"{start}-{len(body) - 1}/{len(body)}"
            self._answer(206 if start else 200, len(body) - start, range_of=start and last)
            self._send(body[start:], self.server.cut_of(path))

    def _answer(self, code: int, length: int, *, range_of: str | int = 0) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(length))
        # One time for all: a client goes on only with a file of the same.
        self.send_header("Last-Modified", "Tue, 24 Nov 2026 00:00:00 GMT")
        if range_of:
            self.send_header("Content-Range", f"bytes {range_of}")
        self.end_headers()

    def _send(self, body: bytes, cut: int | None) -> None:
        assert isinstance(self.server, Mirror)
        for at in range(0, len(body), _CHUNK):
            chunk = body[at : at + _CHUNK]
            if cut is not None and at + len(chunk) > cut:
                self.wfile.write(chunk[: max(0, cut - at)])
                self.close_connection = True
                return
            self.server.wait_for(len(chunk))
            self.wfile.write(chunk)

    def handle(self) -> None:
        """A client that goes away is what some tests are about."""
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(find: Find, *, rate: float | None = None) -> Iterator[Mirror]:
    """A mirror that answers as long as the block lasts."""
    with Mirror(find, rate=rate) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def recorded(upstream: str, directory: Path) -> Find:
    """What the mirror `upstream` has, kept in `directory` from the first time on."""

    def find(path: str) -> bytes | None:
        file = directory / path
        if not file.is_file():
            try:
                with urllib.request.urlopen(f"{upstream.rstrip('/')}/{path}", timeout=60) as answer:
                    body: bytes = answer.read()
            except urllib.error.HTTPError:
                return None
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_name(f"{file.name}.{threading.get_ident()}")
            partial.write_bytes(body)
            partial.rename(file)
        return file.read_bytes()

    return find
