from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import LlamaForCausalLM

from browsing.encoder import Encoder, rounded
from browsing.encoders.joined import JoinedEncoder
from browsing.encoders.predictor import PredictorEncoder
from service.cache.record import Keys, pack, unpack
from tests import tiny
from tests.tiny import TinyEncoder

SECRET = b"a secret of a deployment"
VECTOR = rounded(np.array([0.1, -2.5, 3e-4], np.float32))


class OtherWeights(TinyEncoder):
    weights_sha256 = "0" * 64


class OtherTokenizer(TinyEncoder):
    tokenizer_sha256 = "0" * 64


class OtherLength(TinyEncoder):
    max_tokens = 64


def key(*pages: str, secret: bytes = SECRET, encoder: TinyEncoder | None = None, rules: str = "r1") -> bytes:
    return Keys(secret, encoder or TinyEncoder(), rules).key(pages)


def test_equal_sessions_have_equal_keys() -> None:
    assert key("/", "/bags") == key("/", "/bags")
    assert len(key("/")) == 32


def test_a_key_depends_on_all_that_the_vector_depends_on_and_on_the_secret() -> None:
    others = [
        key("/bags", "/"),
        key("/", "/bags", secret=b"a secret of another deployment"),
        key("/", "/bags", encoder=OtherWeights()),
        key("/", "/bags", encoder=OtherTokenizer()),
        key("/", "/bags", encoder=OtherLength()),
        key("/", "/bags", rules="r2"),
    ]
    assert len({key("/", "/bags"), *others}) == 7


def test_predictors_of_two_bundles_share_no_key(tmp_path: Path) -> None:
    words = tiny.vocabulary()
    first, again, other = (
        PredictorEncoder(tiny.predictor(tmp_path / name, words, seed=seed))
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    encoders: list[Encoder] = [
        first,
        other,
        JoinedEncoder(TinyEncoder(), first),
        JoinedEncoder(TinyEncoder(), other),
        TinyEncoder(),
    ]
    assert len({Keys(SECRET, encoder, "r1").key(["/bags"]) for encoder in encoders}) == len(encoders)
    assert Keys(SECRET, again, "r1").key(["/bags"]) == Keys(SECRET, first, "r1").key(["/bags"])
    renamed = PredictorEncoder.from_model(
        LlamaForCausalLM.from_pretrained(tmp_path / "first"),
        tiny.vocabulary((*tiny.SIX_PAGES[:-1], "/hats")),
        first.weights_sha256,
    )
    assert Keys(SECRET, renamed, "r1").key(["/bags"]) != Keys(SECRET, first, "r1").key(["/bags"])


def test_pages_cannot_run_into_each_other() -> None:
    spellings = [("ab", "c"), ("a", "bc"), ("abc",), ("", "abc"), ("abc", ""), ("a", "b", "c"), ("ab\0c",)]
    assert len({key(*pages) for pages in spellings}) == len(spellings)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        Keys(b"short", TinyEncoder(), "r1")


def test_a_record_gives_back_its_vector() -> None:
    found = unpack(key("/"), pack(key("/"), VECTOR), 3)
    assert found is not None
    np.testing.assert_array_equal(found, VECTOR)
    assert found.dtype == np.float32


def test_a_record_under_another_key_is_not_taken() -> None:
    assert unpack(key("/bags"), pack(key("/"), VECTOR), 3) is None


def test_a_record_of_another_dimension_is_not_taken() -> None:
    assert unpack(key("/"), pack(key("/"), VECTOR), 4) is None
    assert unpack(key("/"), b"", 3) is None


def test_no_changed_bit_goes_unnoticed() -> None:
    record = pack(key("/"), VECTOR)
    for place in range(len(record)):
        damaged = bytearray(record)
        damaged[place] ^= 1
        assert unpack(key("/"), bytes(damaged), 3) is None, place
    for length in range(len(record)):
        assert unpack(key("/"), record[:length], 3) is None


def test_what_is_no_number_is_not_taken() -> None:
    assert unpack(key("/"), pack(key("/"), np.array([np.nan, 0, 0], np.float32)), 3) is None
