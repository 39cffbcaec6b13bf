"""A report or a board served on this machine alone, which follows its runs while they train."""

from __future__ import annotations

import hashlib
import html
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from relax_rl.errors import ConfigError, RelaxError

__all__ = ["ReportServer", "version_of"]

_LOOPBACK = "127.0.0.1"
_WATCHED = (
    *("config.json", "metrics.jsonl", "starts.jsonl", "ends.jsonl", ".lock"),
    *("evaluations/*.json", "evaluations/during/*.json", "dynamics/*.json"),
)


def version_of(runs: Sequence[Path]) -> str:
    """Changes when a run writes something that a page shows; a sign of life alone is no change."""
    found: list[str] = []
    for run in runs:
        for pattern in _WATCHED:
            for path in sorted(run.glob(pattern)):
                try:
                    facts = path.stat()
                except OSError:  # gone since it was listed
                    continue
                mark = "" if path.name == ".lock" else f"{facts.st_size} {facts.st_mtime_ns}"
                found.append(f"{path} {mark}")
    return hashlib.sha256("\n".join(found).encode("utf-8", "surrogateescape")).hexdigest()[:16]


class ReportServer:
    """Serves pages on the loopback address until it is closed.

    Runs' texts are nobody else's business: other machines cannot connect, and a web page elsewhere that points its own
    name at this address is refused, since the Host header is then not this one.

    Args:
        runs: the run directories at this moment, by name.
        front: makes the first page of the runs and a version.
        single: makes the page of one of them, at ``/run/NAME``; None where the front page has all.
        port: 0 for any that is free.

    Raises:
        ConfigError: the port is not available.
    """

    def __init__(
        self,
        runs: Callable[[], Mapping[str, Path]],
        front: Callable[[Sequence[Path], str], str],
        single: Callable[[Path, str], str] | None = None,
        port: int = 0,
    ) -> None:
        self._runs, self._front, self._single = runs, front, single
        self._pages: dict[str, tuple[str, str]] = {}
        self._making = threading.Lock()
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = answer(self.path, self.headers.get("Host", ""))
                content = body.encode("utf-8", "replace")
                self.send_response(status)
                for name, value in (
                    ("Content-Type", f"{kind}; charset=utf-8"),
                    ("Content-Length", str(len(content))),
                    ("Cache-Control", "no-store"),
                    ("X-Content-Type-Options", "nosniff"),
                    ("X-Frame-Options", "DENY"),
                ):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: a terminal full of requests helps nobody."""

        try:
            self._server = ThreadingHTTPServer((_LOOPBACK, port), Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"port {port} cannot be used ({error}); choose another with --port, or leave it out."
            ) from error
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """Address of the first page."""
        return f"http://{_LOOPBACK}:{self._server.server_address[1]}/"

    def serve(self) -> None:
        """Answer until `close` is called from another thread, or the process is interrupted."""
        try:
            self._server.serve_forever(poll_interval=0.2)
        finally:
            self._server.server_close()

    def close(self) -> None:
        """End `serve`."""
        self._server.shutdown()

    def _answer(self, path: str, host: str) -> tuple[int, str, str]:
        names = {f"{name}:{self._server.server_address[1]}" for name in (_LOOPBACK, "localhost")}
        if host not in names:
            return 403, "text/plain", "This server answers to its own address alone."
        asked = urlsplit(path)
        page = unquote(asked.query if asked.path == "/version" else asked.path).removeprefix("/")
        name = page.removeprefix("run/") if self._single is not None else ""
        try:
            runs = self._runs()
            if page and (name == page or name not in runs):
                return 404, "text/plain", "There is no such page."
            chosen = [runs[name]] if page else list(runs.values())
            version = version_of(chosen)
            if asked.path == "/version":
                return 200, "text/plain", version
            return 200, "text/html", self._page(page, chosen, version)
        except (RelaxError, OSError) as error:
            return 500, "text/html", _excuse(str(error))

    def _page(self, name: str, runs: Sequence[Path], version: str) -> str:
        with self._making:  # drawing takes a second; two tabs need not do it twice
            known = self._pages.get(name)
            if known is None or known[0] != version:
                make = self._single if name else None
                page = make(runs[0], version) if make is not None else self._front(runs, version)
                known = self._pages[name] = (version, page)
            return known[1]


def _excuse(sentence: str) -> str:
    """A page that asks again by itself: a run that is only beginning, or half copied, is readable a moment later."""
    head = '<meta http-equiv="refresh" content="5"><meta name="color-scheme" content="light dark"><title>Wait</title>'
    return f"<!doctype html><html lang=en><head>{head}</head><body><p>{html.escape(sentence)}</p></body></html>"
