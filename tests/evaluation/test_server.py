"""A server that speaks the OpenAI protocol, played by a thread: what is sent, what is tried again, what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from relax_rl.errors import ConfigError, ModelError
from relax_rl.evaluation import EvaluationFolder, EvaluationResult
from relax_rl.evaluation.runner import Evaluation
from relax_rl.evaluation.samplers.protocol import SamplingSettings, request_seed
from relax_rl.evaluation.samplers.server import ServerSampler

SETTINGS = SamplingSettings(num_samples=4, max_completion_length=7, temperature=0.5, top_p=0.9, seed=3)


class Server:
    """Answers every request by a function of its body: a reply (dict), raw bytes, or (status, headers)."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any]) -> None:
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.requests.append((self.path, body, dict(self.headers)))
                    reply = answer(body)
                status, headers, data = 200, {}, reply
                if isinstance(reply, tuple):
                    status, headers = reply
                    data = {"error": {"message": "no such model"}}
                if isinstance(data, dict):
                    data = json.dumps(data).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers = []

    def start(answer: Callable[[dict[str, Any]], Any]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def reply(body: dict[str, Any], text: str | None = None, finish: str = "stop") -> dict[str, Any]:
    """A completion that follows from the seed, in the form of the path asked for."""
    text = "abcdefghij"[body["seed"] % 10] if text is None else text
    choice = {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
    return {"choices": [choice | {"finish_reason": finish}], "usage": {"completion_tokens": 5}}


def sampler(server: Server, pauses: list[float] | None = None, **options: Any) -> ServerSampler:
    async def sleep(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)

    return ServerSampler(server.url, "policy", **{"sleep": sleep, "concurrency": 3} | options)


def test_no_two_samples_share_a_seed_also_of_neighbouring_seeds() -> None:
    seeds = {request_seed(seed, f"p{p}", i) for seed in (0, 1, 2) for p in range(50) for i in range(50)}
    assert len(seeds) > 7490  # of 7500; a coincidence among 2^31 is rare, and would be no harm
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_request_a_sample_with_everything_that_decides_it(serve, task) -> None:
    server = serve(reply)
    problems = task.problems("test", 3)
    draws = [
        draw
        for lot in sampler(server, api_key="secret").sample(problems, SETTINGS, done={(1, 2), (2, 0)})
        for draw in lot
    ]
    assert {(draw.prompt, draw.index) for draw in draws} == {(p, i) for p in range(3) for i in range(4)} - {
        (1, 2),
        (2, 0),
    }
    for path, body, headers in server.requests:
        assert path == "/v1/chat/completions"
        assert headers["Authorization"] == "Bearer secret"
        assert (body["model"], body["max_tokens"], body["temperature"], body["top_p"]) == ("policy", 7, 0.5, 0.9)
        assert body["messages"] in [problem.messages for problem in problems]
    for draw in draws:
        seed = request_seed(3, problems[draw.prompt].id, draw.index)
        assert draw.completion.text == "abcdefghij"[seed % 10]
        assert (draw.completion.num_tokens, draw.completion.is_truncated) == (5, False)
    assert len({body["seed"] for _, body, _ in server.requests}) == 10


def test_plain_prompts_truncation_and_silence(serve, task) -> None:
    server = serve(lambda body: reply(body, "", "length"))
    problems = task.problems("test", 1)
    draws = [draw for lot in sampler(server, plain=True).sample(problems, SETTINGS) for draw in lot]
    path, body, headers = server.requests[0]
    assert (path, body["prompt"]) == ("/v1/completions", problems[0].prompt)
    assert "Authorization" not in headers
    assert all(draw.completion.is_truncated and draw.completion.text == "" for draw in draws)
    silent = serve(lambda body: {**reply(body), "choices": [{"message": {"content": None}, "finish_reason": "stop"}]})
    assert next(iter(sampler(silent).sample(problems, SETTINGS)))[0].completion.text == ""


@pytest.mark.parametrize(
    "fault", [(503, {}), (429, {"Retry-After": "7"}), b"", b"<html>", (500, {"Retry-After": "tomorrow"})], ids=str
)
def test_what_may_pass_is_tried_again(serve, task, fault) -> None:
    """Every first try fails, every second succeeds: nothing is lost, nothing is there twice."""
    seen: set[int] = set()
    pauses: list[float] = []

    def answer(body: dict[str, Any]) -> Any:
        if body["seed"] in seen:
            return reply(body)
        seen.add(body["seed"])
        return fault

    server = serve(answer)
    lots = sampler(server, pauses).sample(task.problems("test", 2), SETTINGS)
    draws = [draw for lot in lots for draw in lot]
    assert len(draws) == len({(draw.prompt, draw.index) for draw in draws}) == 8
    assert len(server.requests) == 16
    assert pauses == [7.0 if fault == (429, {"Retry-After": "7"}) else 0.5] * 8


def test_a_server_that_stays_away(serve, task) -> None:
    server = serve(reply)
    server.close()
    pauses: list[float] = []
    gone = sampler(server, pauses, retries=3, concurrency=1)
    with pytest.raises(ModelError, match=r"failed 4 times, at last with .*connection.*give the same command again"):
        list(gone.sample(task.problems("test", 1), SamplingSettings(1, 5)))
    assert pauses == [0.5, 1.0, 2.0]


def test_a_server_that_is_too_slow(serve, task) -> None:
    release = threading.Event()
    server = serve(lambda body: release.wait(20) and reply(body))
    try:
        with pytest.raises(ModelError, match="failed 1 times, at last with timed out"):
            list(sampler(server, timeout_s=0.1, retries=0).sample(task.problems("test", 1), SamplingSettings(1, 5)))
    finally:
        release.set()


def test_what_will_not_pass_is_not_tried_again(serve, task) -> None:
    server = serve(lambda body: (404, {}))
    with pytest.raises(ModelError, match=r"refused a request to .*HTTP 404: .*no such model"):
        list(sampler(server, concurrency=1).sample(task.problems("test", 1), SamplingSettings(1, 5)))
    assert len(server.requests) == 1
    odd = serve(lambda body: {"choices": []})
    with pytest.raises(ModelError, match=r"no completion in the OpenAI form \(IndexError"):
        list(sampler(odd).sample(task.problems("test", 1), SamplingSettings(1, 5)))


@pytest.mark.parametrize(
    "options", [{"base_url": "localhost:8000"}, {"concurrency": 0}, {"retries": -1}, {"timeout_s": 0.0}]
)
def test_settings_out_of_range(options) -> None:
    with pytest.raises(ConfigError, match=r"http://|concurrency >= 1"):
        ServerSampler(**{"base_url": "http://h/v1", "model": "m"} | options)


def test_an_evaluation_that_the_server_interrupts_ends_in_the_same_files(serve, task, tmp_path) -> None:
    served: list[int] = []
    is_back = threading.Event()

    def failing(body: dict[str, Any]) -> Any:
        if len(served) == 11 and not is_back.is_set():
            return (503, {})
        served.append(body["seed"])
        return reply(body)

    server = serve(failing)

    def run(folder: EvaluationFolder) -> EvaluationResult:
        return Evaluation(sampler(server, retries=0), task, SETTINGS, num_problems=6, name="policy").run(folder)

    broken, whole = EvaluationFolder(tmp_path / "broken"), EvaluationFolder(tmp_path / "whole")
    with pytest.raises(ModelError):
        run(broken)
    kept = len(broken.partial_path.read_text().splitlines())
    assert 0 < kept <= 11
    is_back.set()
    del served[:]
    result = run(broken)
    assert len(set(served)) == 24 - kept  # a request of before may still come in; none is asked for again
    assert run(whole) == result
    for name in ("samples.jsonl", "result.json", "settings.json"):
        assert (broken.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert "entropy" not in result.metrics
    assert result.backend == "server"
