"""A request of the engine port as vLLM's `POST /v1/completions`, and its answer read strictly.

vLLM's log-probabilities are the model's own, before any bias: what is forbidden is biased away and can be watched all
the same. Nothing here names a token of the prompt in an error: histories are personal.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from browsing.engine import EngineError, GenerateRequest, Path
from browsing.vocabulary import EOS, NEVER

MAX_BIASED = 1024
"""As many ids can vLLM's GPU runner bias in one request; above, the allowed ones are listed instead."""

_TOLERANCE = 1e-3

_LogProbability = Annotated[float, Field(le=_TOLERANCE, allow_inf_nan=False)]


class _LogProbabilities(BaseModel):
    top_logprobs: list[dict[str, _LogProbability]]


class _Choice(BaseModel):
    index: int
    token_ids: list[int]
    finish_reason: Literal["stop", "length"]
    logprobs: _LogProbabilities | None = None


class _Completion(BaseModel):
    choices: list[_Choice]


def check(request: GenerateRequest, vocabulary_size: int, context: int) -> None:
    """Raises `ValueError` for what the model behind the server cannot be asked."""
    for token in (*request.prompt, *request.watched, *request.forbidden):
        if not 0 <= token < vocabulary_size:
            raise ValueError(f"token id {token} is outside the vocabulary of {vocabulary_size}")
    if len({*NEVER, *request.forbidden}) == vocabulary_size:
        raise ValueError("nothing is allowed: every token is forbidden")
    if len(request.prompt) + request.max_steps > context:  # vLLM would cut the path, and not say so
        raise ValueError(
            f"a prompt of {len(request.prompt)} tokens and {request.max_steps} steps do not fit into the model's "
            f"context of {context}"
        )


def body(request: GenerateRequest, model: str, vocabulary_size: int, first: int = 0) -> dict[str, object]:
    """The JSON document that asks for `request`. `first`: the id that the prompt's id 0 has for this server.

    Everything that a server's own defaults could change is set: temperature 1 over the whole distribution.
    """
    document: dict[str, object] = {
        "model": model,
        "prompt": [first + token for token in request.prompt],
        "n": request.samples,
        "max_tokens": request.max_steps,
        "temperature": 0.0 if request.greedy else 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": spread(request.seed),
        "stop_token_ids": [EOS],
        "skip_special_tokens": False,
        "return_token_ids": True,
    }
    banned = {*NEVER, *request.forbidden}
    if len(banned) <= MAX_BIASED:
        document["logit_bias"] = {str(token): -100.0 for token in sorted(banned)}
    else:
        document["allowed_token_ids"] = [token for token in range(vocabulary_size) if token not in banned]
    if request.watched:
        document["logprobs"] = 0
        document["logprob_token_ids"] = sorted({*NEVER, *request.watched})
        document["return_tokens_as_token_ids"] = True
    return document


def spread(seed: int) -> int:
    """A seed far from its neighbours': vLLM gives sample i the seed `seed + i`, so that without this two requests with
    neighbouring seeds would share all their samples but one."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:7], "big")


def paths(content: bytes, request: GenerateRequest, vocabulary_size: int) -> list[Path]:
    """The answer's paths. Raises `EngineError` for an answer that breaks the engine port's promises in any point."""
    try:
        completion = _Completion.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part != "")
        raise EngineError(f"not a completion: {where or 'the answer'}: {first['msg']}") from None
    choices = sorted(completion.choices, key=lambda choice: choice.index)
    if [choice.index for choice in choices] != list(range(request.samples)):
        raise EngineError(f"{len(choices)} choices where {request.samples} were asked for, or not numbered from 0")
    banned = {*NEVER, *request.forbidden}
    return [_path(choice, request, vocabulary_size, banned) for choice in choices]


def _path(choice: _Choice, request: GenerateRequest, vocabulary_size: int, banned: set[int]) -> Path:
    tokens = choice.token_ids
    if not 1 <= len(tokens) <= request.max_steps:
        raise EngineError(f"a path of {len(tokens)} tokens where 1 to {request.max_steps} were asked for")
    if not all(0 <= token < vocabulary_size for token in tokens):
        raise EngineError(f"a token id outside the vocabulary of {vocabulary_size}")
    if not banned.isdisjoint(tokens):
        raise EngineError("a forbidden token was sampled")
    finished = tokens[-1] == EOS
    if EOS in tokens[:-1] or not (finished or len(tokens) == request.max_steps):
        raise EngineError("a path that goes on after [EOS], or stops without it")
    return Path(tuple(tokens), _watched(choice, request), finished)


def _watched(choice: _Choice, request: GenerateRequest) -> NDArray[np.float64]:
    """Float64 [steps, watched], renormalised over all ids but `[PAD]` and `[BOS]`."""
    if not request.watched:
        return np.zeros((len(choice.token_ids), 0))
    steps = choice.logprobs.top_logprobs if choice.logprobs is not None else []
    if len(steps) != len(choice.token_ids):
        raise EngineError(f"probabilities for {len(steps)} steps of a path of {len(choice.token_ids)}")
    keys = [f"token_id:{token}" for token in (*NEVER, *request.watched)]
    try:
        raw = np.exp(np.array([[step[key] for key in keys] for step in steps]))
    except KeyError:
        raise EngineError("no probability for one of the watched ids") from None
    rest = 1.0 - raw[:, : len(NEVER)].sum(1, keepdims=True)
    if not (rest > 0).all():
        raise EngineError("the model gives all its probability to [PAD] and [BOS]")
    own: NDArray[np.float64] = raw[:, len(NEVER) :] / rest
    own[:, [token in NEVER for token in request.watched]] = 0.0
    if not (own.sum(1) <= 1 + _TOLERANCE).all():
        raise EngineError("probabilities that add up to more than 1")
    return np.minimum(own, 1.0)
