"""A server that steals, hangs, floods or lies: nothing leaves, nothing grows, and no folder is spoiled."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, ModelError
from relax_rl.evaluation import EvaluationFolder
from relax_rl.evaluation.runner import Evaluation
from relax_rl.evaluation.samplers.protocol import SamplingSettings
from relax_rl.evaluation.samplers.server import ServerSampler
from relax_rl.stopping import Stopped, StopRequest
from relax_rl.tasks.countdown import CountdownTask

KEY = "sk-SECRET-KEY-of-this-test"
ONE = SamplingSettings(num_samples=1, max_completion_length=5)
GOOD = {
    "choices": [{"message": {"role": "assistant", "content": "<answer>1+2</answer>"}, "finish_reason": "stop"}],
    "usage": {"completion_tokens": 5},
}


class RawServer:
    """Reads each request whole and lets a function answer on the bare connection."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self.requests: list[str] = []
        self.closed_by_client = threading.Event()
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = f"http://{self.host}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._one, args=self._socket.accept()[:1], daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            while len(body) < length:
                body += connection.recv(65536)
            self.requests.append(head.decode())
            try:
                self._answer(connection)
            except OSError:
                self.closed_by_client.set()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    servers: list[RawServer] = []

    def start(answer: Any) -> RawServer:
        given: Any = answer if callable(answer) else sends(answer)
        servers.append(RawServer(given))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def sends(body: Any, status: str = "200 OK", headers: str = "") -> Callable[[socket.socket], None]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\nConnection: close\r\n{headers}\r\n"
    return lambda connection: connection.sendall(head.encode() + data)


def sampler(server: RawServer, **options: Any) -> ServerSampler:
    async def no_pause(seconds: float) -> None:
        pass

    return ServerSampler(server.url, "policy", **{"sleep": no_pause, "retries": 0, "api_key": KEY} | options)


def sample(server: RawServer, **options: Any) -> list[str]:
    problems = CountdownTask().problems("test", 1)
    return [d.completion.text for lot in sampler(server, **options).sample(problems, ONE) for d in lot]


def refusal(server: RawServer, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        sample(server, **options)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("place", ["http://{other}/v1/chat/completions", "//{other}/", "https://{self}/", "/elsewhere"])
def test_no_redirect_is_followed_and_no_key_goes_along(serve, status: str, place: str) -> None:
    other = serve(GOOD)
    server = serve(lambda connection: answers[0](connection))
    answers = [sends(b"", status, f"Location: {place.format(other=other.host, self=server.host)}\r\n")]
    assert "redirects to " in refusal(server, retries=3)
    assert other.requests == []
    assert len(server.requests) == 1
    assert f"Bearer {KEY}" in server.requests[0]


def test_what_the_server_repeats_is_shown_without_the_key_and_in_one_harmless_line(serve) -> None:
    said = f"You sent Bearer {KEY} and hf_abcdefghijklmnop\n\x1b[2J\x1b]0;title\x07 to http://me:pass@host/v1 \u202e"
    for status in ("401 Unauthorized", "503 Busy"):
        words = refusal(serve(sends(said.encode() * 300, status)))
        assert "You sent Bearer [redacted]" in words
        assert words.isprintable()
        assert not any(part in words for part in ("hf_abc", "me:pass", "\x1b"))
        assert len(words) < 600


def test_the_command_line_shows_no_key_either(serve, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve(sends(f"Wrong key {KEY}".encode(), "403 Forbidden"))
    words = ["--task", "countdown", "-k", "1", "-n", "1", "--backend", "server", "--base-url", server.url, "-o", "out"]
    assert main(["eval", "name", *words]) == 2
    captured = capsys.readouterr()
    assert "Wrong key [redacted]" in captured.err
    assert KEY not in captured.err + captured.out
    for path in Path("out").rglob("*"):
        assert KEY not in path.read_text()


def drips_a_head(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(400):
        connection.sendall(b"X")
        time.sleep(0.05)


def drips_a_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(400):
        connection.sendall(b" ")
        time.sleep(0.05)


def drips_early_replies(connection: socket.socket) -> None:
    for _ in range(400):
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
        time.sleep(0.05)


@pytest.mark.parametrize("drip", [drips_a_head, drips_a_body, drips_early_replies])
def test_a_server_that_drips_is_given_up_after_the_time_in_all(serve, drip: Any) -> None:
    server = serve(drip)
    started = time.monotonic()
    assert "failed 2 times, at last with timed out after 0.3 s" in refusal(server, timeout_s=0.3, retries=1)
    assert time.monotonic() - started < 30  # of 2 x 20 s of dripping
    assert server.closed_by_client.wait(60)


def floods(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n[")
    while True:
        connection.sendall(b"0," * 2**17)


def floods_in_the_head(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-A: " + b"a" * 2**16 + b"\r\n")


def test_a_reply_without_end_is_cut_and_not_asked_for_again(serve) -> None:
    import resource

    server = serve(floods)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "sent more than 4,199,424 bytes in reply to one request" in refusal(server, retries=3)
    assert len(server.requests) == 1
    assert server.closed_by_client.wait(60)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # kB
    assert "failed 1 times" in refusal(serve(floods_in_the_head), timeout_s=20)


def test_a_long_completion_fits(serve) -> None:
    text = "\u1234" * 100_000
    assert sample(serve({**GOOD, "choices": [{"message": {"content": text}, "finish_reason": "stop"}]})) == [text]


def with_content(content: Any) -> dict[str, Any]:
    return {**GOOD, "choices": [{"message": {"content": content}, "finish_reason": "stop"}]}


def with_tokens(count: Any) -> dict[str, Any]:
    return {**GOOD, "usage": {"completion_tokens": count}}


LIES: dict[str, Any] = {
    "number": with_content(3),
    "true": with_content(True),
    "object": with_content({"text": "a"}),
    "list of texts": with_content(["a"]),
    "part without a type": with_content([{"text": "a"}]),
    "part of a number": with_content([{"type": "text", "text": 3}]),
    "no choices": {**GOOD, "choices": []},
    "choices are text": {**GOOD, "choices": "abc"},
    "choices are null": {**GOOD, "choices": None},
    "choice is null": {**GOOD, "choices": [None]},
    "message is text": {**GOOD, "choices": [{"message": "content", "finish_reason": "stop"}]},
    "message is null": {**GOOD, "choices": [{"message": None, "finish_reason": "stop"}]},
    "no finish": {**GOOD, "choices": [{"message": {"content": "a"}}]},
    "text is a number": {**GOOD, "choices": [{"text": 3, "finish_reason": "stop"}]},
    "reply is a list": [GOOD],
    "reply is a number": 3,
    "reply is null": None,
    "error with status 200": {"error": {"message": "no"}},
    "no usage": {"choices": GOOD["choices"]},
    "usage is null": {**GOOD, "usage": None},
    "negative tokens": with_tokens(-1),
    "tokens as text": with_tokens("5"),
    "half a token": with_tokens(2.5),
    "tokens true": with_tokens(True),
    "tokens null": with_tokens(None),
    "more tokens than there are": with_tokens(10**400),
    "deep JSON": b"[" * 1_000_000 + b"]" * 1_000_000,
    "deep content": b'{"choices":' + b'[{"a":' * 400_000,
    "tokens NaN": json.dumps(with_tokens(0)).replace(": 0", ": NaN").encode(),
    "tokens infinite": json.dumps(with_tokens(0)).replace(": 0", ": 1e999").encode(),
    "not UTF-8": b"\xff\xfe\xfa",
    "nothing": b"",
    "long number": b"1" * 1_000_000,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_reply_of_another_form_is_one_sentence_and_spoils_no_folder(serve, tmp_path: Path, lie: str) -> None:
    """Half of the samples are there when the server begins to lie; when it stops, the same command ends as if never."""
    lies = threading.Event()
    count = iter(range(1000))

    def answer(connection: socket.socket) -> None:
        if next(count) == 2:
            lies.set()
        sends(LIES[lie] if lies.is_set() else GOOD)(connection)

    def run(server: RawServer, name: str) -> EvaluationFolder:
        folder = EvaluationFolder(tmp_path / name)
        two = SamplingSettings(num_samples=2, max_completion_length=5)
        one_after_another = sampler(server, concurrency=1)
        Evaluation(one_after_another, CountdownTask(), two, num_problems=2, name="policy").run(folder)
        return folder

    server = serve(answer)
    with pytest.raises(ModelError, match=r"no completion in the OpenAI form|at last with") as caught:
        run(server, "spoiled")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800
    assert len((tmp_path / "spoiled" / "partial.jsonl").read_text().splitlines()) == 2
    lies.clear()
    after = run(server, "spoiled").read_samples()
    assert after == run(server, "whole").read_samples()
    assert len(after) == 4


def test_a_list_of_parts_is_its_texts(serve) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "b"}, {"type": "text", "text": " c"}]
    assert sample(serve(with_content(parts))) == ["a c"]
    assert sample(serve(with_content([]))) == [""]
    assert sample(serve(with_content("half a pair \ud800"))) == ["half a pair \ud800"]


@pytest.mark.parametrize(
    "address",
    [
        "http://me:w0rd@h/v1",
        "http://me@h/v1",
        "http://h/v1?api_key=x1y2",
        "http://h/v1#x",
        "ftp://h/",
        "h:80/v1",
        "http://",
    ],
)
def test_an_address_that_holds_more_than_a_place_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerSampler(address, "m")
    assert not any(part in str(caught.value) for part in ("w0rd", "x1y2"))


@pytest.mark.parametrize("key", ["a b", "a\nb", "a\r\nX-Evil: 1", "schlüssel", "a\x00"])
def test_a_key_that_would_break_a_header_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        ServerSampler("http://h/v1", "m", api_key=key)
    assert key not in str(caught.value)


def hangs(connection: socket.socket) -> None:
    while connection.recv(1):  # ends when the client closes the connection
        pass
    raise ConnectionResetError


def test_ctrl_c_ends_the_requests_at_once(serve) -> None:
    server = serve(hangs)
    problems = CountdownTask().problems("test", 8)
    before = threading.active_count()

    def interrupt() -> None:
        while len(server.requests) < 8:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    started = time.monotonic()
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        list(sampler(server, timeout_s=600, retries=6).sample(problems, ONE))
    assert time.monotonic() - started < 60  # of the 600 that a request may take
    assert server.closed_by_client.wait(60)
    assert len(server.requests) == 8
    assert [t.name for t in threading.enumerate() if t.name == "relax-requests"] == []
    assert threading.active_count() <= before + 8 + 2  # the interrupting one, and the server's own


def test_a_stop_that_waits_for_the_next_sample_does_not_wait_for_a_server_that_hangs(serve, tmp_path: Path) -> None:
    server = serve(hangs)
    folder = EvaluationFolder(tmp_path / "out")
    with StopRequest() as stop:

        def ask_once_it_waits() -> None:
            while not server.requests:
                time.sleep(0.01)
            stop.ask()

        threading.Thread(target=ask_once_it_waits, daemon=True).start()
        started = time.monotonic()
        with pytest.raises(Stopped):
            Evaluation(sampler(server), CountdownTask(), ONE, num_problems=4, name="policy").run(folder)
    assert time.monotonic() - started < 60
    assert server.closed_by_client.wait(60)


def test_whoever_stops_reading_ends_the_requests(serve) -> None:
    replies = iter([sends(GOOD)])
    server = serve(lambda connection: next(replies, hangs)(connection))
    lots = sampler(server, concurrency=4).sample(CountdownTask().problems("test", 8), ONE)
    next(lots)
    lots.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert server.closed_by_client.wait(60)
    assert [t.name for t in threading.enumerate() if t.name == "relax-requests"] == []


@pytest.mark.slow  # a process of its own, which imports torch
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_within_seconds_of_ctrl_c_and_goes_on_later(serve, tmp_path: Path, sent: int) -> None:
    replies = iter([sends(GOOD)])
    server = serve(lambda connection: next(replies, hangs)(connection))
    words = [
        "eval",
        "name",
        "--task",
        "countdown",
        "-k",
        "1",
        "-n",
        "4",
        "--backend",
        "server",
        "--base-url",
        server.url,
    ]
    process = subprocess.Popen([sys.executable, "-m", "relax_rl.cli.main", *words, "-o", "out"], cwd=tmp_path)
    partial = tmp_path / "out" / "partial.jsonl"
    until = time.monotonic() + 250
    while not partial.is_file() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(sent)
    sent_at = time.monotonic()
    assert process.wait(120) == 128 + sent
    assert time.monotonic() - sent_at < 100  # about a second on an idle machine; it was 202
    assert len(partial.read_text().splitlines()) == 1
