"""One running vLLM server over HTTP: what it is asked, whether it is the right one, and how its errors read."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping

import anyio
import httpx
from pydantic import BaseModel, ValidationError

from browsing.engine import EngineDown, EngineError, EngineTimeout, GenerateRequest, Path
from browsing.vocabulary import BOS, EOS
from service.engines import completions, fingerprint
from service.engines.fingerprint import Fingerprint

MAX_ANSWER = 64 * 2**20
"""Bytes. 128 probabilities at 20 steps of 256 samples are 20 MiB; more is no answer but a flood."""

_PROBE_TIMEOUT = 10.0
_UNBIASED = 1e-30
"""A model's own probability of `[EOS]` is above this; one from which the bias was not left out is below."""


class Unreachable(EngineDown):
    """Nobody answers there, or not yet."""


class _Model(BaseModel):
    id: str
    max_model_len: int


class _Models(BaseModel):
    data: list[_Model]


class Server:
    """One vLLM server, one predictor.

    `model`: the name under which it must serve; None takes the name it has. `context`: the least number of tokens that
    prompt and path must have room for. `api_key` goes into the `Authorization` header. `fingerprint`: what its model is
    recognised by, shared by the servers of one cluster. `block`: which of the predictors stacked there is asked (see
    `service.engines.stacked`); 0 is also the only one of a server that has one. `probes_first`: whether it schedules by
    priority, so that the question whether it answers need not wait behind all that it has to do.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        vocabulary_size: int,
        *,
        model: str | None = None,
        context: int = 0,
        api_key: str | None = None,
        fingerprint: Fingerprint | None = None,
        block: int = 0,
        probes_first: bool = False,
    ) -> None:
        self.url = url.rstrip("/")
        self._client = client
        self._vocabulary_size = vocabulary_size
        self._expected = model
        self._least_context = context
        self._first = block * vocabulary_size
        self._probe_priority = {"priority": -1} if probes_first else {}
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._fingerprint = fingerprint or Fingerprint()
        self._model: _Model | None = None

    async def check(self) -> None:
        """That the right model is served, and answers a real token.

        Raises `Unreachable` where it may only be too early, and `EngineError`, naming the URL, where waiting is vain.
        """
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                model = await self._served()
                await self._check_vocabulary(model)
        except TimeoutError:
            raise Unreachable(f"{self.url}: no answer within {_PROBE_TIMEOUT:.0f} seconds") from None
        self._model = model

    async def well(self, timeout: float) -> bool:
        """Whether, within `timeout` seconds, it still serves the model that was checked and gives a real token."""
        if self._model is None:
            return False
        try:
            async with asyncio.timeout(timeout):
                await self._check_fingerprint(await self._served())
        except (EngineError, TimeoutError):
            return False
        return True

    async def answers(self, timeout: float) -> bool:
        """Whether one real token comes within `timeout` seconds."""
        request = GenerateRequest(0, (BOS,), samples=1, max_steps=1, watched=(EOS,), deadline=timeout)
        try:
            await self._ask(request, self._probe_priority)
        except EngineError:
            return False
        return True

    async def generate(self, request: GenerateRequest) -> list[Path]:
        """See `browsing.engine.Engine.generate`. When the caller gives up, the connection closes and vLLM aborts."""
        return await self._ask(request, {})

    async def _ask(self, request: GenerateRequest, further: Mapping[str, object]) -> list[Path]:
        if self._model is None:
            raise Unreachable(f"{self.url}: not checked yet")
        completions.check(request, self._vocabulary_size, self._model.max_model_len)
        document = {**completions.body(request, self._model.id, self._vocabulary_size, self._first), **further}
        try:
            async with asyncio.timeout(request.deadline):
                status, content = await self._send("POST", "/v1/completions", document)
        except TimeoutError:
            raise EngineTimeout(f"{self.url}: no answer within {request.deadline:g} seconds") from None
        if status != 200:  # its message may quote the prompt
            raise EngineError(f"{self.url}: answered with status {status}")
        try:
            return completions.paths(content, request, self._vocabulary_size)
        except EngineError as error:
            raise EngineError(f"{self.url}: {error}") from None

    async def _send(self, method: str, path: str, document: object = None) -> tuple[int, bytes]:
        """Status and body. Raises `Unreachable` without a connection, `EngineError` for a broken answer.

        A caller's cancellation reaches the client through a cancel scope, from which it can shield its tidying up:
        cancelled plainly, it leaves connections open that it was about to close.
        """
        scope = anyio.CancelScope()

        async def within() -> tuple[int, bytes]:
            with scope:
                return await self._exchange(method, path, document)
            raise EngineError(f"{self.url}: given up")

        task = asyncio.create_task(within())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # who gave up does not look
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            scope.cancel()
            await asyncio.wait((task,))
            raise
        return task.result()

    async def _exchange(self, method: str, path: str, document: object) -> tuple[int, bytes]:
        content = bytearray()
        try:
            async with self._client.stream(
                method, self.url + path, json=document, headers={**self._headers, "Accept-Encoding": "identity"}
            ) as response:
                async for chunk in response.aiter_raw():
                    content += chunk
                    if len(content) > MAX_ANSWER:
                        break
        except httpx.ConnectError:
            raise Unreachable(f"{self.url}: no connection") from None
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:  # the last one from a pool closed meanwhile
            raise EngineError(f"{self.url}: a broken answer ({type(error).__name__})") from None
        if len(content) > MAX_ANSWER:
            raise EngineError(f"{self.url}: an answer of more than {MAX_ANSWER} bytes")
        return response.status_code, bytes(content)

    async def _served(self) -> _Model:
        status, content = await self._send("GET", "/v1/models")
        if status in (502, 503, 504):
            raise Unreachable(f"{self.url}: answered with status {status}")
        if status != 200:
            raise EngineError(f"{self.url}: /v1/models answered with status {status}; is it a vLLM server?")
        try:
            models = _Models.model_validate_json(content).data
        except ValidationError:
            raise EngineError(f"{self.url}: /v1/models is not vLLM's list of models") from None
        served = {model.id: model for model in models}
        known = self._model.id if self._model is not None else next(iter(served), "")
        expected = self._expected or known
        if expected not in served:
            raise EngineError(f"{self.url}: serves {', '.join(served) or 'no model'}, not {expected or 'any'}")
        model = served[expected]
        if model.max_model_len < self._least_context:
            raise EngineError(
                f"{self.url}: a context of {model.max_model_len} tokens where {self._least_context} are needed; "
                "start it with a larger --max-model-len"
            )
        return model

    async def _check_vocabulary(self, model: _Model) -> None:
        """Ask for the last id of the vocabulary, which must be there, and for the one after it, which must not."""
        document = await self._check_fingerprint(model)
        status, _ = await self._send(
            "POST", "/v1/completions", {**document, "logprob_token_ids": [self._vocabulary_size]}
        )
        if status != 400:
            raise EngineError(
                f"{self.url}: its model knows id {self._vocabulary_size}, which a vocabulary of "
                f"{self._vocabulary_size} does not have (status {status}): it is another model's server"
            )

    async def _check_fingerprint(self, model: _Model) -> dict[str, object]:
        """That one real token comes, with the model's own probabilities, and that these are those of before. Returns
        the document that asked for it."""
        watched, last = fingerprint.watched(self._vocabulary_size), self._vocabulary_size - 1
        request = GenerateRequest(0, (BOS,), samples=1, max_steps=1, watched=watched, forbidden=(EOS,))
        document = completions.body(request, model.id, self._vocabulary_size, self._first)
        status, content = await self._send("POST", "/v1/completions", document)
        if status in (502, 503, 504):
            raise Unreachable(f"{self.url}: answered with status {status}")
        if status != 200:
            raise EngineError(
                f"{self.url}: refuses a request that names id {last} (status {status}{_message(content)}): does its "
                f"model have a vocabulary of {self._vocabulary_size}?"
            )
        try:
            (path,) = completions.paths(content, request, self._vocabulary_size)
        except EngineError as error:
            raise EngineError(f"{self.url}: {error}") from None
        if path.watched[0, 0] < _UNBIASED:
            raise EngineError(
                f"{self.url}: its log-probabilities are not the model's own; start it with --logprobs-mode raw_logprobs"
            )
        if not self._fingerprint.matches(path.watched[0]):
            raise EngineError(f"{self.url}: answers as another model than was first seen for this cluster")
        return document


def _message(content: bytes) -> str:
    """What vLLM says of a refused probe, which holds nothing personal."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return f": {json.loads(content)['error']['message'][:200]}"
    return ""


def new_client() -> httpx.AsyncClient:
    """One pool for all servers. vLLM closes a connection after 5 idle seconds: ours are given up before. Proxies of
    the environment are not used, for histories go nowhere but to the engines."""
    return httpx.AsyncClient(
        timeout=None,  # every call has its deadline
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=3.0),
        follow_redirects=False,
        trust_env=False,
    )
