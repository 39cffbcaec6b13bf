"""A language model on a server that answers in JSON: asked in parallel, kept on disk, and not trusted."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from relax_rl.errors import ConfigError, ModelError, RunError
from relax_rl.evaluation.samplers.background import in_background, side_by_side
from relax_rl.evaluation.samplers.exchange import Exchange
from relax_rl.rewards.extraction.thoughts import after_thinking
from relax_rl.runs.files import append_whole

__all__ = ["Failure", "Judge", "Question"]

_MAX_BYTES = 2**20
_MAX_TOKENS = 2048
_MAX_FAILURES = 16
"""So many requests without a reply, before the first reply, end the work: the server is not there."""


@dataclass(frozen=True)
class Question:
    """A question to the judge.

    Attributes:
        instruction: system message.
        data: JSON object of the user's message.
        reads: takes the object of the reply, and gives the answer. Raises ValueError for another form.
    """

    instruction: str
    data: Mapping[str, Any]
    reads: Callable[[Mapping[str, Any]], Any]

    @property
    def messages(self) -> list[dict[str, str]]:
        """The request's messages."""
        user = json.dumps(self.data, ensure_ascii=False)
        return [{"role": "system", "content": self.instruction}, {"role": "user", "content": user}]


@dataclass(frozen=True)
class Failure:
    """A question without an answer.

    Attributes:
        name: "no reply", "no JSON" or "wrong form".
        detail: a sentence about it; "" for none.
    """

    name: str
    detail: str = ""


@dataclass
class Judge:
    """Any server that speaks the OpenAI protocol for chats, at temperature 0.

    Replies are kept in a file, each under a digest of the address, the model and all words of its question, and are not
    asked for again. Failures are not kept.

    Attributes:
        base_url: address with its version: ``http://localhost:8000/v1``.
        model: the name that the server knows.
        cache: the file; None: nothing is kept.
        api_key: sent as a bearer token, if given.
        concurrency: requests at a time.
        timeout_s: seconds for one request.
        retries: how often a request is tried again.
        sleep: waits so many seconds; tests replace it.

    Raises:
        ConfigError: an address or a key that cannot be sent, or numbers out of range.
    """

    base_url: str
    model: str
    cache: Path | None = None
    api_key: str | None = None
    concurrency: int = 16
    timeout_s: float = 60.0
    retries: int = 3
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    num_asked: int = field(default=0, init=False)
    num_kept: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.retries < 0 or self.timeout_s <= 0:
            raise ConfigError(
                f"A judge needs concurrency >= 1, retries >= 0 and timeout_s > 0; got {self.concurrency}, "
                f"{self.retries} and {self.timeout_s}."
            )
        self.base_url = self.base_url.rstrip("/")
        url = f"{self.base_url}/chat/completions"
        self._exchange = Exchange(url, self.api_key, self.timeout_s, _MAX_BYTES, self.retries, self.sleep)
        self._kept = {} if self.cache is None else _read_cache(self.cache)

    def ask(self, questions: Sequence[Question]) -> list[Any]:
        """The answer to each question, or its `Failure`; equal questions are asked once.

        Raises:
            ModelError: the server gives no reply at all.
            RunError: the file cannot be written.
        """
        keys = [self._key(question) for question in questions]
        missing = {
            key: question for key, question in zip(keys, questions, strict=True) if not self._is_kept(key, question)
        }
        self.num_kept += len(set(keys) - set(missing))
        self.num_asked += len(missing)
        failed: dict[str, Failure] = {}
        if missing:
            for key, found in in_background(partial(self._work, missing)):
                if isinstance(found, Failure):
                    failed[key] = found
                else:
                    self._keep(key, found)
        return [
            failed[key] if key in failed else question.reads(self._kept[key])
            for key, question in zip(keys, questions, strict=True)
        ]

    async def _work(self, missing: Mapping[str, Question], hand_over: Callable[[tuple[str, Any]], None]) -> None:
        rest, replied, silent = iter(missing.items()), False, 0
        # A server that has replied before may fail at a few questions.
        most = _MAX_FAILURES if self._kept else min(_MAX_FAILURES, len(missing))

        async def serve() -> None:
            nonlocal replied, silent
            for key, question in rest:
                try:
                    reply = await self._exchange.post(client, self._body(question))
                except ModelError as error:
                    silent += 1
                    if not replied and silent >= most:
                        raise
                    hand_over((key, Failure("no reply", str(error))))
                    continue
                replied = True
                hand_over((key, _object(reply, question)))

        async with self._exchange.client(self.concurrency) as client:
            await side_by_side(serve, min(self.concurrency, len(missing)))

    def _is_kept(self, key: str, question: Question) -> bool:
        return key in self._kept and not isinstance(_read(self._kept[key], question), Failure)

    def _body(self, question: Question) -> dict[str, Any]:
        return {"model": self.model, "messages": question.messages, "temperature": 0.0, "max_tokens": _MAX_TOKENS}

    def _key(self, question: Question) -> str:
        asked = json.dumps([self.base_url, self._body(question)], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()

    def _keep(self, key: str, found: Mapping[str, Any]) -> None:
        self._kept[key] = found
        if self.cache is None:
            return
        try:
            append_whole(self.cache, (json.dumps({"key": key, "reply": found}) + "\n").encode())
        except OSError as error:
            raise RunError(f"The judge's replies cannot be kept in {self.cache} ({error}); make room.") from error


def _read_cache(path: Path) -> dict[str, Mapping[str, Any]]:
    """The replies in a file; a line that is cut or changed is asked for again."""
    found: dict[str, Mapping[str, Any]] = {}
    if path.is_file():
        for line in path.read_bytes().splitlines():
            try:
                row = json.loads(line)
                key, reply = row["key"], row["reply"]
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            if isinstance(key, str) and isinstance(reply, dict):
                found[key] = reply
    return found


def _object(reply: Any, question: Question) -> Mapping[str, Any] | Failure:
    """The JSON object in a reply, if the question can read it."""
    try:
        content = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        content = None
    if not isinstance(content, str):
        return Failure("wrong form", "the reply has no message of text in the OpenAI form")
    text = (after_thinking(content) or "").strip()
    text = text.removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return Failure("no JSON")
    return _read(found, question)


def _read(found: Any, question: Question) -> Mapping[str, Any] | Failure:
    """The object itself, if the question can read it."""
    if not isinstance(found, dict):
        return Failure("wrong form", "the reply is no JSON object")
    try:
        question.reads(found)
    except ValueError as error:
        return Failure("wrong form", str(error))
    return found
