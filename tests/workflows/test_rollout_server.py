"""A run that samples from a vLLM server: it is asked for before the run, and the settings arrive at TRL."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import threading
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError
from relax_rl.workflows.rollout_server import check_rollout_server


class Server(NamedTuple):
    address: str
    asked: list[str]


Serve = Callable[[dict[str, tuple[int, Any]]], Server]


@pytest.fixture
def serve() -> Generator[Serve]:
    """Starts a server with one reply a path."""
    started: list[ThreadingHTTPServer] = []

    def start(replies: dict[str, tuple[int, Any]]) -> Server:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path.partition("?")[0])
                status, body = replies.get(asked[-1], (404, None))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *args: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return Server(f"http://127.0.0.1:{server.server_address[1]}", asked)

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def asks(address: str | None = None, **settings: Any) -> Any:
    usual = {"use_vllm": True, "vllm_mode": "server", "use_cpu": False, "vllm_server_timeout": 4.0}
    place = {"vllm_server_base_url": address, "vllm_server_host": "127.0.0.1", "vllm_server_port": 9}
    return SimpleNamespace(**(usual | place | settings))


INFO = {"vllm_config": {"weight_transfer_config": {"backend": "nccl"}, "model_config": {}}}


def test_a_server_that_takes_weights_will_do(serve: Serve) -> None:
    server = serve({"/health": (200, None), "/server_info": (200, INFO)})
    check_rollout_server(asks(server.address))
    assert server.asked == ["/health", "/server_info"]


@pytest.mark.parametrize("settings", [{"use_vllm": False}, {"vllm_mode": "colocate"}])
def test_a_run_that_samples_by_itself_asks_no_server(serve: Serve, settings: dict[str, Any]) -> None:
    server = serve({})
    check_rollout_server(asks(server.address, **settings))
    assert server.asked == []


@pytest.mark.parametrize(
    ("replies", "sentence"),
    [
        ({"/health": (200, None)}, r"does not answer at /server_info \(404\).*VLLM_SERVER_DEV_MODE=1 vllm serve"),
        (
            {"/health": (200, None), "/server_info": (200, {"vllm_config": {"weight_transfer_config": None}})},
            "takes no weights of a trainer; start it with .*--weight-transfer-config",
        ),
        ({"/health": (200, None), "/server_info": (200, [])}, "takes no weights"),
        ({"/health": (503, None)}, "No vLLM server answers"),
    ],
)
def test_a_server_of_another_kind_is_refused(serve: Serve, replies: dict[str, tuple[int, Any]], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_rollout_server(asks(serve(replies).address), wait=lambda seconds: None)


def test_it_is_waited_for_as_long_as_was_asked() -> None:
    waits: list[float] = []
    with pytest.raises(
        ConfigError, match=r"No vLLM server answers at http://127\.0\.0\.1:9 .*waited 4 s.*vllm serve MODEL"
    ):
        check_rollout_server(asks(), wait=waits.append)
    assert waits == [2.0, 2.0]


def test_on_a_cpu_it_is_refused_before_anything_is_written(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    importlib.import_module("trl.generation")  # it looks for the package once, and must not find what is not there
    found = importlib.util.find_spec

    def as_installed(name: str, package: str | None = None) -> Any:
        return importlib.machinery.ModuleSpec("vllm", None) if name == "vllm" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", as_installed)
    words = ["--trainer.use_vllm", "true", "--trainer.vllm_mode", "server", "--output", str(tmp_path / "run")]
    assert main(["train", "countdown", *words]) == 2
    assert "server sends the weights of each update by NCCL, which needs a GPU" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
