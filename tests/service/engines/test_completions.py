"""What vLLM is asked, and how strictly its answer is read."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from browsing.engine import MAX_WATCHED, EngineError, GenerateRequest
from browsing.vocabulary import BOS, EOS, NEVER, PAD
from service.engines.completions import MAX_BIASED, body, check, paths, spread

REQUEST = GenerateRequest(0, (BOS, 4, EOS, BOS), 2, 3, watched=(4, EOS), forbidden=(5,), seed=9)

RAW = {PAD: 0.1, BOS: 0.1, EOS: 0.2, 4: 0.4}


def _answer() -> dict[str, Any]:
    """Two paths, one of them ended."""
    step = {f"token_id:{token}": float(np.log(p)) for token, p in RAW.items()}
    return {
        "id": "cmpl-1",
        "choices": [
            {
                "index": index,
                "token_ids": tokens,
                "finish_reason": reason,
                "logprobs": {"top_logprobs": [dict(step) for _ in tokens], "tokens": ["x" for _ in tokens]},
            }
            for index, (tokens, reason) in enumerate([([6, EOS], "stop"), ([6, 4, 3], "length")])
        ],
    }


def _read(answer: object) -> list[tuple[tuple[int, ...], bool]]:
    return [(path.tokens, path.finished) for path in paths(json.dumps(answer).encode(), REQUEST, 7)]


def test_an_answer_becomes_paths() -> None:
    assert _read(_answer()) == [((6, EOS), True), ((6, 4, 3), False)]
    for path in paths(json.dumps(_answer()).encode(), REQUEST, 7):
        assert path.watched.dtype == np.float64
        expected = [[0.4 / 0.8, 0.2 / 0.8]] * len(path.tokens)  # over all but [PAD] and [BOS]
        np.testing.assert_allclose(path.watched, expected, atol=1e-12)


def test_choices_may_come_in_any_order() -> None:
    answer = _answer()
    answer["choices"].reverse()
    assert _read(answer) == _read(_answer())


def test_pad_and_bos_may_be_watched_and_are_never() -> None:
    request = GenerateRequest(0, (BOS,), 2, 3, watched=(BOS, 4, PAD), forbidden=(5,))
    for path in paths(json.dumps(_answer()).encode(), request, 7):
        np.testing.assert_allclose(path.watched, [[0.0, 0.5, 0.0]] * len(path.tokens), atol=1e-12)


def test_nothing_watched_needs_no_probabilities() -> None:
    answer = _answer()
    for choice in answer["choices"]:
        choice["logprobs"] = None
    request = GenerateRequest(0, (BOS,), 2, 3, forbidden=(5,))
    assert [p.watched.shape for p in paths(json.dumps(answer).encode(), request, 7)] == [(2, 0), (3, 0)]
    assert "logprobs" not in body(request, "m", 7)


def _set(*place: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(answer: dict[str, Any]) -> None:
        target: Any = answer
        for part in place[:-1]:
            target = target[part]
        target[place[-1]] = value

    return change


STEP = ("choices", 0, "logprobs", "top_logprobs", 0)

GARBAGE = {
    "no choices": (_set("choices", value=None), "choices"),
    "a choice missing": (lambda a: a["choices"].pop(), "1 choices where 2"),
    "a choice twice": (_set("choices", 1, "index", value=0), "numbered"),
    "no tokens": (_set("choices", 0, "token_ids", value=[]), "path of 0 tokens"),
    "token ids left out": (_set("choices", 0, "token_ids", value=None), "choices.0.token_ids"),
    "tokens as text": (_set("choices", 0, "token_ids", value=["6", "2"]), "choices.0.token_ids.0"),
    "too many tokens": (_set("choices", 1, "token_ids", value=[6, 6, 6, 6]), "path of 4 tokens"),
    "an id out of range": (_set("choices", 1, "token_ids", 0, value=7), "vocabulary of 7"),
    "a negative id": (_set("choices", 1, "token_ids", 0, value=-1), "vocabulary of 7"),
    "a forbidden id": (_set("choices", 1, "token_ids", 0, value=5), "forbidden"),
    "[BOS]": (_set("choices", 1, "token_ids", 0, value=BOS), "forbidden"),
    "on after [EOS]": (_set("choices", 1, "token_ids", 1, value=EOS), r"after \[EOS\]"),
    "stopped too early": (_set("choices", 0, "token_ids", value=[6, 4]), "stops without"),
    "aborted": (_set("choices", 0, "finish_reason", value="abort"), "choices.0.finish_reason"),
    "no probabilities": (_set("choices", 0, "logprobs", value=None), "0 steps of a path of 2"),
    "a step missing": (lambda a: a["choices"][0]["logprobs"]["top_logprobs"].pop(), "1 steps of a path of 2"),
    "a null step": (_set(*STEP, value=None), "top_logprobs.0"),
    "a watched id missing": (_set(*STEP, value={"token_id:0": -1.0, "token_id:1": -1.0}), "watched"),
    "[PAD] missing": (lambda a: a["choices"][0]["logprobs"]["top_logprobs"][0].pop("token_id:0"), "watched"),
    "above 1": (_set(*STEP, "token_id:4", value=0.1), "less than or equal"),
    "not a number": (_set(*STEP, "token_id:4", value=float("nan")), "not a completion"),
    "infinite": (_set(*STEP, "token_id:4", value=float("-inf")), "not a completion"),
    "as text": (_set(*STEP, "token_id:4", value="-1.0"), "valid number"),
    "more than 1 in all": (_set(*STEP, "token_id:4", value=-0.01), "more than 1"),
    "all on [BOS]": (_set(*STEP, "token_id:1", value=0.0), r"\[PAD\] and \[BOS\]"),
}


@pytest.mark.parametrize(("change", "message"), GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_an_error(change: Callable[[dict[str, Any]], None], message: str) -> None:
    answer = copy.deepcopy(_answer())
    change(answer)
    with pytest.raises(EngineError, match=message):
        _read(answer)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"<html>", b"\xff\xfe", b'{"choices": 1}'])
def test_what_is_no_completion_is_an_error(content: bytes) -> None:
    with pytest.raises(EngineError, match="not a completion"):
        paths(content, REQUEST, 7)


def test_errors_hold_no_history() -> None:
    answer = {"choices": [{"index": 0, "token_ids": "the whole history", "finish_reason": "the whole history"}]}
    with pytest.raises(EngineError) as caught:
        _read(answer)
    assert "history" not in str(caught.value)


def test_the_body_leaves_nothing_to_the_server() -> None:
    document = body(REQUEST, "cluster-0", 7)
    assert document["prompt"] == [1, 4, 2, 1]
    assert document["temperature"] == document["top_p"] == document["repetition_penalty"] == 1.0
    assert document["top_k"] == document["min_p"] == document["presence_penalty"] == 0
    assert document["stop_token_ids"] == [EOS]
    assert document["logit_bias"] == {"0": -100.0, "1": -100.0, "5": -100.0}
    assert document["logprob_token_ids"] == [0, 1, 2, 4]
    assert body(GenerateRequest(0, (BOS,), 1, greedy=True), "m", 7)["temperature"] == 0.0


def test_the_most_watched_ids_are_within_vllms_limit() -> None:
    from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS

    request = GenerateRequest(0, (BOS,), watched=tuple(range(10, 10 + MAX_WATCHED)))
    ids = body(request, "m", 1_000)["logprob_token_ids"]
    assert isinstance(ids, list)
    assert len(ids) == MAX_LOGPROB_TOKEN_IDS


def test_many_forbidden_ids_are_expressed_by_the_allowed_ones() -> None:
    few = body(GenerateRequest(0, (BOS,), forbidden=tuple(range(4, 4 + MAX_BIASED - 2))), "m", 5_000)
    assert isinstance(few["logit_bias"], dict)
    assert len(few["logit_bias"]) == MAX_BIASED
    assert "allowed_token_ids" not in few
    many = body(GenerateRequest(0, (BOS,), forbidden=tuple(range(4, 4 + MAX_BIASED))), "m", 5_000)
    assert many["allowed_token_ids"] == [EOS, 3, *range(4 + MAX_BIASED, 5_000)]
    assert "logit_bias" not in many


def test_seeds_are_spread() -> None:
    seeds = [spread(seed) for seed in range(-5, 1_000)]
    low = sorted(seed % 2**32 for seed in seeds)  # the bits that seed a CPU generator
    assert min(b - a for a, b in pairwise(low)) > 16
    assert all(0 <= seed < 2**62 for seed in seeds)
    assert spread(7) == spread(7)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (GenerateRequest(0, (BOS, 7)), "token id 7"),
        (GenerateRequest(0, (BOS,), watched=(-1,)), "token id -1"),
        (GenerateRequest(0, (BOS,), forbidden=(99,)), "token id 99"),
        (GenerateRequest(0, (BOS,), forbidden=(2, 3, 4, 5, 6)), "every token is forbidden"),
        (GenerateRequest(0, (BOS,) * 13, max_steps=20), "context of 32"),
    ],
)
def test_what_cannot_be_asked(request_: GenerateRequest, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(request_, 7, 32)


def test_what_just_fits() -> None:
    check(GenerateRequest(0, (BOS,) * 12, max_steps=20, watched=NEVER, forbidden=(3, 4, 5, 6)), 7, 32)
