"""BLEU and BERTScore against values worked out by hand."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from browsing.encoders.sbert import SbertEncoder
from training.evaluation.metrics.text import MissingExtraError, bert_score, bleu, need_bert_score

LONG = ("/", "/bags", "/bags/tote", "/cart", "/purchase")


def test_an_equal_session_has_bleu_100() -> None:
    assert bleu([LONG, ("/",)], [LONG, ("/",)]) == pytest.approx(100)


def test_bleu_by_hand() -> None:
    """Five pages against four: 4/5, 3/4, 2/3 and 1/2 of the n-grams match, and longer than the truth is no penalty."""
    assert bleu([LONG], [LONG[:4]]) == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert bleu([LONG[:4]], [LONG]) == pytest.approx(100 * math.exp(1 - 5 / 4))


def test_order_and_repetition_count() -> None:
    assert bleu([LONG[::-1]], [LONG]) < 50
    actual = [("/", "/bags", "/", "/cart")]
    assert bleu([("/",) * 4], actual) < bleu([("/", "/bags", "/", "/")], actual)


def test_a_page_is_one_word_whatever_its_name() -> None:
    """Names that hold white space or punctuation, or begin like one another, are neither split nor confused."""
    odd = ("/a b", "/a, c.", "/a b c", "/e\u2003f .", "/A B")
    assert bleu([odd], [odd]) == pytest.approx(100)
    assert bleu([("/a", "/b", "/c", "/d")], [("/a b", "/b c", "/c d", "/d e")]) == 0


def test_short_visits_are_counted_up_to_their_own_length() -> None:
    """Were four-grams asked of sessions of two pages, all would be 0. The truth sets the order, not the generation."""
    assert bleu([("/", "/bags")], [("/", "/bags")]) == pytest.approx(100)
    assert bleu([("/",), ("/bags",)], [("/",), ("/bags",)]) == pytest.approx(100)
    assert bleu([("/",)], [LONG]) == 0


def test_marks_are_no_pages_and_an_unknown_page_matches_nothing() -> None:
    assert bleu([("[BOS]", *LONG, "[UNK]", "[EOS]")], [("[PAD]", *LONG)]) == pytest.approx(100)
    assert bleu([("[UNK]",)], [("[UNK]",)]) == 0


def test_nothing_generated_is_no_bleu() -> None:
    assert bleu([()], [LONG]) == 0
    assert 0 < bleu([(), LONG], [LONG, LONG]) < 100


@pytest.fixture(scope="module")
def encoder() -> SbertEncoder:
    return SbertEncoder()


def test_bert_score_of_equal_sessions_is_1(encoder: SbertEncoder) -> None:
    assert bert_score([LONG, ("/",)], [LONG, ("/",)], encoder) == pytest.approx((1, 1, 1), abs=1e-5)


def test_bert_score_matches_every_word_piece_greedily(encoder: SbertEncoder) -> None:
    """The same from the encoder's own token embeddings, without the package. Its two marks ([CLS], [SEP]) may be
    matched, as the package has it, but are not counted."""
    generated, actual = ("/bags/tote-mini", "/cart"), ("/bags", "/shoes/red-boot", "/")
    left, right = (_token_vectors(encoder, text) for text in ("bags tote mini, cart", "bags, shoes red boot, home"))
    cosines = left @ right.T
    precision, recall = cosines.max(1)[1:-1].mean(), cosines.max(0)[1:-1].mean()
    expected = (precision, recall, 2 * precision * recall / (precision + recall))
    assert bert_score([generated], [actual], encoder) == pytest.approx(expected, abs=1e-5)


def test_bert_score_is_a_mean_over_sessions_and_nothing_scores_0(encoder: SbertEncoder) -> None:
    alone = bert_score([("/bags",)], [("/shoes",)], encoder)
    assert bert_score([("/bags",), (), LONG], [("/shoes",), LONG, ("[UNK]",)], encoder) == pytest.approx(
        tuple(value / 3 for value in alone), abs=1e-6
    )
    assert bert_score([()], [LONG], encoder) == (0, 0, 0)


def test_the_missing_extra_is_named(encoder: SbertEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bert_score", None)
    with pytest.raises(MissingExtraError, match=r"hetlm\[bertscore\]"):
        bert_score([LONG], [LONG], encoder)
    with pytest.raises(MissingExtraError, match=r"hetlm\[bertscore\]"):
        need_bert_score()


def test_there_must_be_a_pair_for_every_session(encoder: SbertEncoder) -> None:
    with pytest.raises(ValueError, match="no session"):
        bleu([], [])
    with pytest.raises(ValueError, match="no session"):
        bert_score([], [], encoder)
    with pytest.raises(ValueError, match="zip"):
        bleu([LONG], [LONG, LONG])
    with pytest.raises(ValueError, match="zip"):
        bert_score([LONG], [LONG, LONG], encoder)


def _token_vectors(encoder: SbertEncoder, text: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Unit vectors [[CLS], word pieces, [SEP]; d] of the last layer."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder.directory, local_files_only=True)
    model = AutoModel.from_pretrained(encoder.directory, local_files_only=True).eval()
    with torch.no_grad():
        hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].double().numpy()
    unit: np.ndarray[tuple[int, int], np.dtype[np.float64]] = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
    return unit
