"""A served report that a test asks, and a run that goes on writing."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from relax_rl.workflows.watch import ReportServer


@contextmanager
def serving(server: ReportServer) -> Iterator[Callable[..., tuple[int, str]]]:
    """Ask the server for a path."""
    thread = threading.Thread(target=server.serve)
    thread.start()

    def ask(path: str, host: str | None = None) -> tuple[int, str]:
        request = urllib.request.Request(server.address.rstrip("/") + path)
        if host is not None:
            request.add_header("Host", host)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    try:
        yield ask
    finally:
        server.close()
        thread.join()


def add_row(run: Path, step: int) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "reward": 0.125}) + "\n")
