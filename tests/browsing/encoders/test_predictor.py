"""The predictor as an encoder, against hidden states computed one session at a time with stock transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, OPTConfig, OPTForCausalLM

from browsing.encoder import rounded
from browsing.encoders import predictor as module
from browsing.encoders.predictor import PredictorEncoder
from browsing.hashing import file_sha256
from browsing.vocabulary import BOS, EOS, UNK
from tests import tiny

WORDS = tiny.vocabulary()
POSITIONS = 24


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.predictor(tmp_path_factory.mktemp("encoder") / "shared", WORDS, positions=POSITIONS)


@pytest.fixture(scope="module")
def encoder(directory: Path) -> PredictorEncoder:
    return PredictorEncoder(directory)


def sessions(count: int, seed: int = 0) -> list[list[str]]:
    generator = np.random.default_rng(seed)
    pages = [*WORDS.pages, "/unheard-of"]
    return [[pages[i] for i in generator.integers(len(pages), size=generator.integers(1, 20))] for _ in range(count)]


@torch.no_grad()
def alone(directory: Path, ids: list[int]) -> np.ndarray:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
    mean = states[1:].mean(0).numpy()
    return np.asarray(mean / np.linalg.norm(mean))


def test_a_vector_is_the_unit_mean_of_the_last_hidden_states(directory: Path, encoder: PredictorEncoder) -> None:
    pages = ["/", "/bags", "/unheard-of", "/cart"]
    expected = alone(directory, [BOS, WORDS.id("/"), WORDS.id("/bags"), UNK, WORDS.id("/cart"), EOS])
    vectors = encoder.encode([pages])
    assert vectors.dtype == np.float32
    assert vectors.shape == (1, encoder.dimension) == (1, 64)
    np.testing.assert_allclose(vectors[0], expected, atol=1e-6)


def test_company_changes_nothing(encoder: PredictorEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    some = sessions(60)
    together = encoder.encode(some)
    monkeypatch.setattr(module, "BATCH_TOKENS", 50)
    for vectors in (
        encoder.encode(some),
        np.concatenate([encoder.encode([pages]) for pages in some]),
        encoder.encode(some[::-1])[::-1],
    ):
        np.testing.assert_allclose(vectors, together, atol=1e-6)
        assert (rounded(vectors) == rounded(together)).mean() > 0.99


def test_order_counts(encoder: PredictorEncoder) -> None:
    forward, backward = encoder.encode([["/", "/bags", "/cart"], ["/cart", "/bags", "/"]])
    assert np.abs(forward - backward).max() > 0.01


def test_a_session_beyond_the_context_keeps_its_newest_pages(directory: Path, encoder: PredictorEncoder) -> None:
    assert encoder.max_tokens == POSITIONS
    pages = ["/bags"] * 30 + ["/", "/cart"] * 11
    ids = [WORDS.id(page) for page in pages]
    np.testing.assert_allclose(
        encoder.encode([pages])[0], alone(directory, [BOS, *ids[-(POSITIONS - 2) :], EOS]), atol=1e-6
    )


def test_a_model_in_memory_is_the_directory_that_it_is_saved_as(directory: Path, encoder: PredictorEncoder) -> None:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).train()
    sha256 = file_sha256(directory / "model.safetensors")
    held = PredictorEncoder.from_model(model, WORDS, sha256)
    np.testing.assert_array_equal(held.encode(sessions(10)), encoder.encode(sessions(10)))
    assert model.training, "left as it was found"
    for name in ("kind", "name", "dimension", "max_tokens", "weights_sha256", "tokenizer_sha256"):
        assert getattr(held, name) == getattr(encoder, name)
    assert encoder.weights_sha256 == sha256
    with pytest.raises(ValueError, match="cannot read a vocabulary of 9"):
        PredictorEncoder.from_model(model, tiny.vocabulary(tiny.SIX_PAGES[:-1]), sha256)


def test_a_model_that_projects_its_states_has_the_projected_width() -> None:
    config = OPTConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        word_embed_proj_dim=16,
        ffn_dim=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        do_layer_norm_before=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    encoder = PredictorEncoder.from_model(OPTForCausalLM(config), WORDS, "0" * 64)
    some = sessions(8)
    vectors = encoder.encode(some)
    assert vectors.shape == (8, encoder.dimension) == (8, 16)
    np.testing.assert_allclose(np.concatenate([encoder.encode([pages]) for pages in some]), vectors, atol=1e-5)


def test_no_session_and_an_empty_one(encoder: PredictorEncoder) -> None:
    assert encoder.encode([]).shape == (0, 64)
    assert np.isfinite(encoder.encode([[], ["/"]])).all()


def test_what_is_no_predictor_is_named(tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError), match="config"):
        PredictorEncoder(tmp_path)
