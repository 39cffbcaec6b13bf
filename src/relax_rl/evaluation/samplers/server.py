"""Completions from a server that speaks the OpenAI protocol: vLLM, SGLang, llama.cpp, Ollama, or a remote one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Container, Generator, Mapping, Sequence
from typing import Any

from relax_rl.errors import ConfigError, ModelError
from relax_rl.evaluation.samplers.background import in_background, side_by_side
from relax_rl.evaluation.samplers.exchange import Exchange
from relax_rl.evaluation.samplers.protocol import Completion, Draw, SamplingSettings, refuse_images, request_seed
from relax_rl.tasks.base import Problem

__all__ = ["ServerSampler"]

_MAX_BYTES, _MAX_BYTES_PER_TOKEN = 2**22, 2**10
"""Limits of a reply: no server needs so much to say a completion of so many tokens."""
_MAX_TOKENS = 2**31


class ServerSampler:
    """One request a sample, several at a time; what fails for a moment is tried again.

    Each request carries a seed that follows from (seed, problem, sample). Whether the server heeds it, and gives the
    same text whatever else it is serving, is the server's affair: samples that are kept are never asked for again.

    The server is not trusted: the time and the bytes of a reply are bounded, no redirect is followed, and a reply of
    another form than the protocol's becomes no sample.

    Args:
        base_url: up to and with the version, such as ``http://localhost:8000/v1``.
        model: the name that the server knows.
        switches: switches of the server's chat template, sent as ``chat_template_kwargs`` (vLLM, SGLang) if there are
            any.
        plain: send ``Problem.prompt`` to ``/completions`` in place of the messages to ``/chat/completions``.
        concurrency: requests at a time.
        timeout_s: wall-clock seconds for one request and all of its reply, after which it is given up.
        retries: further attempts at a request, after pauses that double from 0.5 s, or as the server asks.
        api_key: sent as a bearer token, if given.
        sleep: waits so many seconds; tests replace it.

    Raises:
        ConfigError: an address that is not http(s) or holds more than a place, a key that is none, or numbers out of
            range.
    """

    backend = "server"

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        plain: bool = False,
        switches: Mapping[str, Any] | None = None,
        concurrency: int = 16,
        timeout_s: float = 600.0,
        retries: int = 6,
        api_key: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if concurrency < 1 or retries < 0 or timeout_s <= 0:
            raise ConfigError(
                f"A server needs concurrency >= 1, retries >= 0 and timeout_s > 0; got {concurrency}, {retries} and "
                f"{timeout_s}."
            )
        Exchange(base_url, api_key, timeout_s, _MAX_BYTES, retries)  # what is wrong with the address is said about it
        self._base_url = base_url.rstrip("/")
        self._model = model
        self._plain = plain
        self._switches = dict(switches or {})
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
        """Body of the request: the prompt, or the messages as JSON. Raises ConfigError for a problem with images."""
        refuse_images(problem, self.backend)
        if self._plain:
            return problem.prompt
        switches = json.dumps(self._switches, sort_keys=True) if self._switches else ""
        return json.dumps(problem.messages, ensure_ascii=False) + switches

    def sample(
        self, problems: Sequence[Problem], settings: SamplingSettings, done: Container[tuple[int, int]] = frozenset()
    ) -> Generator[list[Draw]]:
        """See :class:`.protocol.Sampler`.

        Closing the iterator, or Ctrl-C in it, closes all connections at once.

        Raises:
            ModelError: a request was refused, redirected or failed too often, or the reply is no completion.
        """
        wanted = [
            (place, index)
            for place in range(len(problems))
            for index in range(settings.num_samples)
            if (place, index) not in done
        ]
        exchange = self._exchange(settings)

        async def work(hand_over: Callable[[list[Draw]], None]) -> None:
            rest = iter(wanted)

            async def serve() -> None:
                for place, index in rest:
                    body = self._body(problems[place], index, settings)
                    reply = await exchange.post(client, body)
                    hand_over([Draw(place, index, _completion(reply, exchange.url))])

            async with exchange.client(self._concurrency) as client:
                await side_by_side(serve, min(self._concurrency, len(wanted)))

        yield from in_background(work)

    def _exchange(self, settings: SamplingSettings) -> Exchange:
        return Exchange(
            url=f"{self._base_url}/{'completions' if self._plain else 'chat/completions'}",
            api_key=self._api_key,
            timeout_s=self._timeout_s,
            max_bytes=_MAX_BYTES + _MAX_BYTES_PER_TOKEN * settings.max_completion_length,
            retries=self._retries,
            sleep=self._sleep,
        )

    def _body(self, problem: Problem, index: int, settings: SamplingSettings) -> dict[str, Any]:
        asked: dict[str, Any] = {"prompt": problem.prompt} if self._plain else {"messages": problem.messages}
        if self._switches:
            asked["chat_template_kwargs"] = self._switches
        return asked | {
            "model": self._model,
            "max_tokens": settings.max_completion_length,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": request_seed(settings.seed, problem.id, index),
            "n": 1,
        }


def _completion(reply: Any, url: str) -> Completion:
    """The completion in a reply, every part of it of the type that the protocol has."""
    try:
        choice = reply["choices"][0]
        content = choice["message"]["content"] if "message" in choice else choice["text"]
        num_tokens = reply["usage"]["completion_tokens"]
        if type(num_tokens) is not int or not 0 <= num_tokens < _MAX_TOKENS:
            raise TypeError("completion_tokens is no count")
        return Completion(_text(content), (), num_tokens, choice["finish_reason"] == "length")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The server at {url} sent no completion in the OpenAI form ({type(error).__name__}: {error}); it must "
            "have choices, finish_reason and usage.completion_tokens."
        ) from error


def _text(content: Any) -> str:
    """The words of a message: text, null for none, or a list of parts, whose texts are joined."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise TypeError("the content is neither text nor a list of parts")
    texts = [part["text"] for part in content if part["type"] == "text"]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a part of the content has a text that is none")
    return "".join(texts)
