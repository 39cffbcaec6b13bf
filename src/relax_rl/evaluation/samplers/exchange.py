"""Requests to a server that is not trusted: bounded in time and bytes, sent to one host, and silent about the key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from relax_rl.errors import ConfigError, ModelError
from relax_rl.redaction import redacted

__all__ = ["Exchange", "printable"]

_TRY_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_LONGEST_PAUSE_S = 60.0
_SHOWN_BYTES = 2000
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


class _TooLargeError(Exception):
    pass


@dataclass(frozen=True)
class Exchange:
    """How a JSON body is posted and its JSON reply read.

    No redirect is followed: the key and the prompts go to the address that the user gave, and nowhere else.

    Attributes:
        url: the address. It holds no user name, password, query or fragment.
        api_key: sent as a bearer token, if given.
        timeout_s: seconds for one request and all of its reply.
        max_bytes: largest size of a reply, in bytes.
        retries: further attempts at a request, after pauses that double from 0.5 s, or as the server asks.
        sleep: waits so many seconds.

    Raises:
        ConfigError: an address or a key that cannot be sent.
    """

    url: str
    api_key: str | None
    timeout_s: float
    max_bytes: int
    retries: int
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        try:
            parts = httpx2.URL(self.url)
        except httpx2.InvalidURL as error:
            raise ConfigError(f"The server's address cannot be read: {printable(str(error), self.api_key)}.") from error
        if parts.scheme not in ("http", "https") or not parts.host:
            raise ConfigError(
                f"The server's address is {printable(self.url, self.api_key)!r}; it begins with http:// or https://."
            )
        if parts.userinfo or parts.query or parts.fragment:
            raise ConfigError(
                f"The server's address {parts.scheme}://{parts.netloc.decode()}{parts.path} was given with a user "
                "name, a password, a query or a fragment, which would be written into the evaluation; leave it out, "
                "and put the key into the environment variable OPENAI_API_KEY."
            )
        key = self.api_key or ""
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError("The key in OPENAI_API_KEY has a space, a line break or a letter that no key has.")

    def client(self, connections: int) -> httpx2.AsyncClient:
        """The client of `post`; to be entered once for all requests."""
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        return httpx2.AsyncClient(headers=headers, timeout=self.timeout_s, limits=limits, follow_redirects=False)

    async def post(self, client: httpx2.AsyncClient, body: Mapping[str, Any]) -> Any:
        """The server's reply as JSON; tries again after what may pass.

        Raises:
            ModelError: the server refused, redirected, sent too much, or failed too often.
        """
        content, words = json.dumps(body).encode(), ""
        for attempt in range(self.retries + 1):
            pause = min(0.5 * 2**attempt, _LONGEST_PAUSE_S)
            try:
                async with asyncio.timeout(self.timeout_s):
                    reply = await self._once(client, content)
                if reply.status < 300:
                    return json.loads(reply.body)
                words = self._refusal(reply)
                pause = _asked_pause(reply.headers.get("Retry-After"), pause)
            except (TimeoutError, httpx2.TimeoutException):
                words = f"timed out after {self.timeout_s:g} s"
            except _TooLargeError as error:
                raise ModelError(
                    f"The server at {self.url} sent more than {self.max_bytes:,} bytes in reply to one request."
                ) from error
            except (httpx2.HTTPError, ValueError) as error:  # no connection, a broken reply, or no JSON
                words = printable(str(error), self.api_key) or type(error).__name__
            except RecursionError:
                words = "JSON that is nested too deeply"
            if attempt < self.retries:
                await self.sleep(pause)
        raise ModelError(
            f"The server at {self.url} failed {self.retries + 1} times, at last with {words}; what it has sampled is "
            "kept: give the same command again when it is back."
        )

    async def _once(self, client: httpx2.AsyncClient, content: bytes) -> _Reply:
        async with client.stream("POST", self.url, content=content) as reply:
            is_error, body = reply.status_code >= 300, bytearray()
            async for chunk in reply.aiter_raw():
                body += chunk
                if is_error and len(body) >= _SHOWN_BYTES:
                    break
                if len(body) > self.max_bytes:
                    raise _TooLargeError
            return _Reply(reply.status_code, reply.headers, bytes(body))

    def _refusal(self, reply: _Reply) -> str:
        """The server's answer in words. Raises ModelError for permanent refusals."""
        if reply.status < 400:
            place = printable(reply.headers.get("Location", "nowhere"), self.api_key)
            raise ModelError(
                f"The server at {self.url} redirects to {place}, and the key and the prompts are sent to no other "
                "address than the one given; if you trust it, name it with --base-url."
            )
        said = printable(reply.body[:_SHOWN_BYTES].decode("utf-8", "replace"), self.api_key)
        words = f"HTTP {reply.status}: {said}"
        if reply.status not in _TRY_AGAIN:
            raise ModelError(f"The server refused a request to {self.url}: {words}.")
        return words


def printable(text: str, api_key: str | None = None) -> str:
    """A server's words as one short line: without the key, and without signs that would steer a terminal."""
    line = "".join(sign if sign.isprintable() else " " for sign in redacted(text, api_key))
    return " ".join(line.split())[:_SHOWN_CHARACTERS]


def _asked_pause(header: str | None, default: float) -> float:
    """The seconds of a Retry-After header, within reason; a date or nonsense is passed over."""
    try:
        return min(max(float(header or ""), 0.0), _LONGEST_PAUSE_S)
    except ValueError:
        return default
