"""The text metrics of HeTLM, section 6.3 (Table 6): sessions compared as sentences.

The paper does not say what it computed them over. Here BLEU reads a session as a sentence whose words are its pages,
and BERTScore reads it the way SBERT does, page names as words. BLEU sees order and repetition, unlike the page metrics.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from browsing.encoders.names import read
from browsing.encoders.sbert import SbertEncoder
from training.evaluation.metrics.bleu import Overlaps
from training.evaluation.metrics.pages import Floats

BERT = ("bert_precision", "bert_recall", "bert_f1")
"""In the order of `bert_score`, and fields of `TextMetrics`."""


@dataclass(frozen=True, slots=True, eq=False)
class TextScores:
    """Of N sessions: what BLEU is made of, and `bert` [N, 3] in the order of `BERT`, where it was asked for."""

    overlaps: Overlaps
    bert: Floats | None

    @classmethod
    def of(
        cls, generated: Sequence[Sequence[str]], actual: Sequence[Sequence[str]], encoder: SbertEncoder | None = None
    ) -> Self:
        """`encoder`: BERTScore's, which is left out without one. Raises what `Overlaps.of` and `bert_score` raise."""
        bert = None if encoder is None else bert_score(generated, actual, encoder)
        return cls(Overlaps.of(generated, actual), bert)

    def columns(self, decode: str) -> dict[str, pl.Series]:
        """For the values per user. A BERTScore is a float32 from the start, and loses nothing."""
        bert = () if self.bert is None else zip(BERT, self.bert.T, strict=True)
        own = {f"{decode}.{name}": pl.Series(np.ascontiguousarray(v), dtype=pl.Float32) for name, v in bert}
        return self.overlaps.columns(decode) | own


class MissingExtraError(ImportError):
    """A package that only an extra of hetlm installs; the message says which."""


def need_bert_score() -> None:
    """To be asked before long work that ends in `bert_score`. Raises `MissingExtraError` without the package."""
    try:
        import bert_score  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("BERTScore needs the package bert-score: pip install 'hetlm[bertscore]'") from error


def bert_score(generated: Sequence[Sequence[str]], actual: Sequence[Sequence[str]], encoder: SbertEncoder) -> Floats:
    """Precision, recall and F1 of BERTScore per session [N, 3], on the last layer of the pinned encoder.

    Every word piece of one session is matched with the most similar one (cosine) of the other. Similarities are not
    rescaled, so that even unrelated sessions are well above 0. A session that reads as nothing scores 0 on all three,
    and so does its counterpart. Raises `MissingExtraError` without the package `bert-score`, and `ValueError` for
    sequences of different lengths, or of none.
    """
    if not actual:
        raise ValueError("there is no session to compare")
    need_bert_score()
    from bert_score import BERTScorer
    from transformers.utils import logging

    logging.disable_progress_bar()
    sentences = [(_read(drawn), _read(truth)) for drawn, truth in zip(generated, actual, strict=True)]
    # The package builds an empty sentence with a tokenizer method that current versions of transformers do not have.
    places = [place for place, (drawn, truth) in enumerate(sentences) if drawn and truth]
    scores = np.zeros((len(sentences), len(BERT)))
    if not places:
        return scores
    layers = int(json.loads((encoder.directory / "config.json").read_text())["num_hidden_layers"])
    scorer = BERTScorer(model_type=str(encoder.directory), num_layers=layers, device="cpu")
    found = scorer.score([sentences[place][0] for place in places], [sentences[place][1] for place in places])
    scores[places] = np.stack([values.double().numpy() for values in found], 1)
    return scores


def _read(pages: Sequence[str]) -> str:
    return read(pages).strip()
