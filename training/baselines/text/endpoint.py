"""An OpenAI-compatible endpoint: `POST {url}/chat/completions`, with patience.

What is sent is people's browsing and what authorises it is a secret: neither is ever logged or put into an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import httpx
from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError

FIRST_WAIT = 1.0
"""Seconds before the first repetition; every further one waits twice as long."""
LONGEST_WAIT = 300.0
"""Seconds: an endpoint that asks for more is asked again another day."""
REFUSALS = frozenset((400, 413, 422))
"""The endpoint's no to this one prompt (too long for its context, say): the others may still be answered."""
PASSING = frozenset((408, 409, 425, 429))

_REMEDIES = {
    401: "is the key in the environment, and is it the right one?",
    403: "may this key use this model?",
    404: "is the URL the one that ends before /chat/completions (often in /v1), and does it know the model?",
}
_WORD = re.compile(r"[\w.:-]{1,60}")


class EndpointError(Exception):
    """No answer is to be had from this endpoint; the message says why, and never what was asked."""


class RefusedError(EndpointError):
    """No answer to this one prompt."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom to ask and how. `timeout`: seconds per try; `attempts`: tries per prompt; `concurrency`: prompts at once."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    temperature: float = 0.0
    max_tokens: int = 256
    seed: int = 0
    timeout: float = 120.0
    attempts: int = 6
    concurrency: int = 4

    def __post_init__(self) -> None:
        """Raises `ValueError` for what is no address."""
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{self.url!r} is no URL: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(f"{self.url!r} is no URL: it begins with http:// or https:// and a host")
        if parsed.userinfo or parsed.query:
            raise ValueError("the URL holds a password or a query: a key is passed in the environment")

    @property
    def host(self) -> str:
        return httpx.URL(self.url).host

    @property
    def encrypted(self) -> bool:
        return httpx.URL(self.url).scheme == "https"

    @property
    def loopback(self) -> bool:
        """Whether what is sent stays on this machine, as far as the address tells."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def body(self, prompt: str) -> dict[str, object]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }

    def digest(self, prompt: str) -> str:
        """sha256 over all that an answer depends on: the endpoint, the model, the prompt, the settings."""
        material = json.dumps([self.url.rstrip("/"), self.body(prompt)], sort_keys=True)
        return hashlib.sha256(material.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """`text`: what the model wrote, nothing where it wrote nothing. `finished`: false where `max_tokens` cut it."""

    text: str
    finished: bool
    prompt_tokens: int
    completion_tokens: int


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class Chat:
    """Asks one endpoint; an asynchronous context manager. Many `ask`s may run at once."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint = endpoint
        self._sleep = sleep
        self._clock = clock
        self._not_before = 0.0
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(endpoint.timeout, pool=None),
            headers={"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {},
            # A proxy named in the environment is another machine: what is for this one does not go there.
            trust_env=not endpoint.loopback,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def ask(self, prompt: str) -> Reply:
        """The model's answer. Raises `RefusedError` for this prompt, `EndpointError` where asking others is no use."""
        async with self._slots:
            why = ""
            for attempt in range(self.endpoint.attempts):
                await self._wait()
                asked = None
                try:
                    response = await self._client.post(
                        self.endpoint.url.rstrip("/") + "/chat/completions", json=self.endpoint.body(prompt)
                    )
                except httpx.TimeoutException:
                    why = f"no answer within {self.endpoint.timeout:g} s"
                except httpx.TransportError as error:
                    why = type(error).__name__
                else:
                    if response.status_code == httpx.codes.OK:
                        try:
                            return _reply(response.content)
                        except ValidationError:
                            why = "what came back is no chat completion"
                    else:
                        why = _complaint(response)
                        asked = _retry_after(response)
                if attempt + 1 < self.endpoint.attempts:
                    self._put_off(max(FIRST_WAIT * 2**attempt, asked or 0.0), why)
            raise EndpointError(
                f"{self.endpoint.host}: {why}, {self.endpoint.attempts} times over; the answers so far are kept, and "
                "the same command goes on from there"
            )

    async def _wait(self) -> None:
        # Repeated: meanwhile another prompt may have been told to wait for longer.
        while (left := self._not_before - self._clock()) > 0:
            await self._sleep(left)

    def _put_off(self, seconds: float, why: str) -> None:
        """All prompts wait, not only this one: an endpoint that has too much to do is not helped by the others."""
        if seconds > LONGEST_WAIT:
            raise EndpointError(
                f"{self.endpoint.host}: {why}, and it wants to be left alone for {seconds:,.0f} s; the answers so far "
                "are kept: run the same command again then"
            )
        self._not_before = max(self._not_before, self._clock() + seconds)


def _reply(content: bytes) -> Reply:
    completion = _Completion.model_validate_json(content)
    choice, usage = completion.choices[0], completion.usage or _Usage()
    return Reply(
        text=choice.message.content or "",
        finished=choice.finish_reason != "length",
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _complaint(response: httpx.Response) -> str:
    """Why it may pass. Raises where it will not."""
    status = response.status_code
    said = f"HTTP {status}{_named(response)}"
    if status in REFUSALS:
        raise RefusedError(f"{response.url.host}: {said}")
    if status in PASSING or status >= 500:
        return said
    remedy = _REMEDIES.get(status)
    raise EndpointError(f"{response.url.host}: {said}" + (f"; {remedy}" if remedy else ""))


def _named(response: httpx.Response) -> str:
    """The error's type and code, where they are plain words: its message may repeat the prompt."""
    try:
        document = TypeAdapter(dict[str, JsonValue]).validate_json(response.content)
    except ValidationError:
        return ""
    error = document.get("error")
    named = (
        [str(error[name]) for name in ("type", "code", "param") if error.get(name)] if isinstance(error, dict) else []
    )
    plain = dict.fromkeys(
        word for word in named if _WORD.fullmatch(word) and word not in ("None", str(response.status_code))
    )
    return f" ({', '.join(plain)})" if plain else ""


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait, from a number or a date."""
    value = response.headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.replace(".", "", 1).isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
