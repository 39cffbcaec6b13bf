"""Completions from a server that speaks the OpenAI protocol: vLLM, SGLang, llama.cpp, Ollama, or a remote one."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from relax_rl.errors import ConfigError, ModelError
from relax_rl.evaluation.samplers.protocol import Completion, Draw, SamplingSettings, refuse_images, request_seed
from relax_rl.tasks.base import Problem

__all__ = ["ServerSampler"]

_TRY_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_LONGEST_PAUSE_S = 60.0


class ServerSampler:
    """One request a sample, several at a time; what fails for a moment is tried again.

    Each request carries a seed that follows from (seed, problem, sample). Whether the server heeds it, and gives the
    same text whatever else it is serving, is the server's affair: samples that are kept are never asked for again.

    Args:
        base_url: up to and with the version, such as ``http://localhost:8000/v1``.
        model: the name that the server knows.
        plain: send ``Problem.prompt`` to ``/completions`` in place of the messages to ``/chat/completions``.
        concurrency: requests at a time.
        timeout_s: wall-clock seconds without a byte from the server after which a request is given up.
        retries: how often a request is tried again, after pauses that double from 0.5 s, or as the server asks.
        api_key: sent as a bearer token, if given.
        sleep: waits so many seconds; tests replace it.

    Raises:
        ConfigError: an address that is not http(s), or numbers out of range.
    """

    backend = "server"

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        plain: bool = False,
        concurrency: int = 16,
        timeout_s: float = 600.0,
        retries: int = 6,
        api_key: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ConfigError(f"The server's address is {base_url!r}; it begins with http:// or https://.")
        if concurrency < 1 or retries < 0 or timeout_s <= 0:
            raise ConfigError(
                f"A server needs concurrency >= 1, retries >= 0 and timeout_s > 0; got {concurrency}, {retries} and "
                f"{timeout_s}."
            )
        self._base_url = base_url.rstrip("/")
        self._model = model
        self._plain = plain
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._retries = retries
        self._api_key = api_key
        self._sleep = sleep

    @property
    def fingerprint(self) -> str:
        """The address: weights behind a server cannot be seen."""
        return self._base_url

    def render(self, problem: Problem) -> str:
        """What is sent: the prompt, or the messages as JSON. Raises ConfigError for a problem with images."""
        refuse_images(problem, self.backend)
        return problem.prompt if self._plain else json.dumps(problem.messages, ensure_ascii=False)

    def sample(
        self, problems: Sequence[Problem], settings: SamplingSettings, done: Container[tuple[int, int]] = frozenset()
    ) -> Iterator[list[Draw]]:
        """See :class:`.sampler.Sampler`. Raises ModelError when a request is refused, or has failed too often."""
        wanted = [
            (place, index)
            for place in range(len(problems))
            for index in range(settings.num_samples)
            if (place, index) not in done
        ]
        executor = ThreadPoolExecutor(self._concurrency)
        try:
            requests = {executor.submit(self._complete, problems[row[0]], row[1], settings): row for row in wanted}
            for request in as_completed(requests):
                yield [Draw(*requests[request], request.result())]
        finally:
            executor.shutdown(wait=False, cancel_futures=True)

    def _complete(self, problem: Problem, index: int, settings: SamplingSettings) -> Completion:
        asked = {"prompt": problem.prompt} if self._plain else {"messages": problem.messages}
        body = asked | {
            "model": self._model,
            "max_tokens": settings.max_completion_length,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": request_seed(settings.seed, problem.id, index),
            "n": 1,
        }
        url = f"{self._base_url}/{'completions' if self._plain else 'chat/completions'}"
        return _completion(self._post(url, body), url)

    def _post(self, url: str, body: Mapping[str, Any]) -> Any:
        """The server's reply; tries again after what may pass."""
        headers = {"Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        words = ""
        for attempt in range(self._retries + 1):
            pause = min(0.5 * 2**attempt, _LONGEST_PAUSE_S)
            try:
                with urllib.request.urlopen(request, timeout=self._timeout_s) as reply:
                    return json.loads(reply.read())
            except urllib.error.HTTPError as error:
                words = f"HTTP {error.code}: {error.read(2000).decode('utf-8', 'replace').strip()[:300]}"
                if error.code not in _TRY_AGAIN:
                    raise ModelError(f"The server refused a request to {url}: {words}.") from error
                pause = _asked_pause(error.headers.get("Retry-After"), pause)
            except (OSError, http.client.HTTPException, ValueError) as error:  # no connection, none in time, no JSON
                words = str(error) or type(error).__name__
            if attempt < self._retries:
                self._sleep(pause)
        raise ModelError(
            f"The server at {url} failed {self._retries + 1} times, at last with {words}; what it has sampled is kept: "
            "give the same command again when it is back."
        )


def _asked_pause(header: str | None, default: float) -> float:
    """The seconds of a Retry-After header, within reason; a date or nonsense is passed over."""
    try:
        return min(max(float(header or ""), 0.0), _LONGEST_PAUSE_S)
    except ValueError:
        return default


def _completion(reply: Any, url: str) -> Completion:
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        num_tokens = int(reply["usage"]["completion_tokens"])
        return Completion(text or "", (), num_tokens, choice["finish_reason"] == "length")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(
            f"The server at {url} sent no completion in the OpenAI form ({type(error).__name__}: {error}); it must "
            "have choices, finish_reason and usage.completion_tokens."
        ) from error
