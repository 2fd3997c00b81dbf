"""BERTScore against values worked out by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from browsing.encoders.sbert import SbertEncoder
from training.evaluation.metrics.text import BERT, MissingExtraError, TextScores, bert_score, need_bert_score

LONG = ("/", "/bags", "/bags/tote", "/cart", "/purchase")


@pytest.fixture(scope="module")
def encoder() -> SbertEncoder:
    return SbertEncoder()


def test_bert_score_of_equal_sessions_is_1(encoder: SbertEncoder) -> None:
    assert bert_score([LONG, ("/",)], [LONG, ("/",)], encoder) == pytest.approx(np.ones((2, 3)), abs=1e-5)


def test_bert_score_matches_every_word_piece_greedily(encoder: SbertEncoder) -> None:
    """The same from the encoder's own token embeddings, without the package. Its two marks ([CLS], [SEP]) may be
    matched, as the package has it, but are not counted."""
    generated, actual = ("/bags/tote-mini", "/cart"), ("/bags", "/shoes/red-boot", "/")
    left, right = (_token_vectors(encoder, text) for text in ("bags tote mini, cart", "bags, shoes red boot, home"))
    cosines = left @ right.T
    precision, recall = cosines.max(1)[1:-1].mean(), cosines.max(0)[1:-1].mean()
    expected = (precision, recall, 2 * precision * recall / (precision + recall))
    assert bert_score([generated], [actual], encoder)[0] == pytest.approx(expected, abs=1e-5)


def test_every_session_has_a_bert_score_of_its_own_and_nothing_scores_0(encoder: SbertEncoder) -> None:
    alone = bert_score([("/bags",)], [("/shoes",)], encoder)
    among = bert_score([(), ("/bags",), LONG], [LONG, ("/shoes",), ("[UNK]",)], encoder)
    assert among == pytest.approx(np.concatenate([np.zeros((1, 3)), alone, np.zeros((1, 3))]), abs=1e-6)
    assert bert_score([()], [LONG], encoder).tolist() == [[0, 0, 0]]


def test_bert_scores_are_stored_as_they_are_and_only_where_asked_for(encoder: SbertEncoder) -> None:
    generated, actual = [("/bags",), LONG], [("/shoes",), LONG[1:]]
    scores = TextScores.of(generated, actual, encoder)
    assert scores.bert is not None
    columns = scores.columns("own")
    for place, name in enumerate(BERT):
        assert columns[f"own.{name}"].to_list() == scores.bert[:, place].tolist()
    assert not [name for name in TextScores.of(generated, actual).columns("own") if "bert" in name]


def test_the_missing_extra_is_named(encoder: SbertEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bert_score", None)
    with pytest.raises(MissingExtraError, match=r"hetlm\[bertscore\]"):
        bert_score([LONG], [LONG], encoder)
    with pytest.raises(MissingExtraError, match=r"hetlm\[bertscore\]"):
        need_bert_score()


def test_there_must_be_a_pair_for_every_session(encoder: SbertEncoder) -> None:
    with pytest.raises(ValueError, match="no session"):
        bert_score([], [], encoder)
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
