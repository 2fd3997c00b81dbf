"""vLLM's own interface, asked in the words of the engine port: token ids in, paths with probabilities out."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from browsing.engine import GenerateRequest, Path
from browsing.vocabulary import EOS, NEVER
from loadtest.bench.errors import BenchError
from loadtest.bench.wire import Wire

MODEL = "predictor"
"""The name under which a server serves."""
ROUTE = "/v1/completions"


class Completions:
    """One server's, over connections that are kept between requests."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._free: list[Wire] = []

    async def generate(self, request: GenerateRequest) -> list[Path]:
        """As `browsing.engine.Engine.generate`. Raises `BenchError`."""
        wire = self._free.pop() if self._free else await Wire.open(self._url)
        try:
            reply = await wire.post(ROUTE, body(request))
        except BaseException:
            await wire.close()
            raise
        self._free.append(wire)
        if reply.status != 200:
            raise BenchError(f"{self._url}: vLLM answered with status {reply.status}")
        return paths(reply.content, request)

    async def rest(self) -> None:
        """Close the connections; the next request opens new ones."""
        wires, self._free = self._free, []
        for wire in wires:
            await wire.close()


class _LogProbabilities(BaseModel):
    top_logprobs: list[dict[str, float]]


class _Choice(BaseModel):
    index: int
    token_ids: list[int]
    logprobs: _LogProbabilities | None = None


class _Completion(BaseModel):
    choices: list[_Choice]


def body(request: GenerateRequest) -> bytes:
    """A completion of token ids that returns the raw log-probabilities of the watched ones. What is forbidden is biased
    away. Seeds are hashed: vLLM draws sample i from seed + i."""
    seed = int.from_bytes(hashlib.sha256(str(request.seed).encode()).digest()[:7], "big")
    document: dict[str, object] = {
        "model": MODEL,
        "prompt": request.prompt,
        "n": request.samples,
        "max_tokens": request.max_steps,
        "temperature": 0.0 if request.greedy else 1.0,
        "seed": seed,
        "stop_token_ids": [EOS],
        "skip_special_tokens": False,
        "return_token_ids": True,
        "logit_bias": {str(token): -100.0 for token in (*NEVER, *request.forbidden)},
    }
    if request.watched:
        document["logprobs"] = 0
        document["logprob_token_ids"] = [*NEVER, *request.watched]
        document["return_tokens_as_token_ids"] = True
    return json.dumps(document, separators=(",", ":")).encode()


def paths(content: bytes, request: GenerateRequest) -> list[Path]:
    choices = sorted(_Completion.model_validate_json(content).choices, key=lambda choice: choice.index)
    return [Path(tuple(c.token_ids), _watched(c, request), c.token_ids[-1] == EOS) for c in choices]


def _watched(choice: _Choice, request: GenerateRequest) -> NDArray[np.float64]:
    if not request.watched or choice.logprobs is None:
        return np.zeros((len(choice.token_ids), len(request.watched)))
    keys = [f"token_id:{token}" for token in (*NEVER, *request.watched)]
    raw = np.exp([[step[key] for key in keys] for step in choice.logprobs.top_logprobs])
    own: NDArray[np.float64] = raw[:, len(NEVER) :] / (1.0 - raw[:, : len(NEVER)].sum(1, keepdims=True))
    return np.minimum(own, 1.0)
