"""The text metrics of HeTLM, section 6.3 (Table 6): sessions compared as sentences.

The paper does not say what it computed them over. Here BLEU reads a session as a sentence whose words are its pages,
and BERTScore reads it the way SBERT does, page names as words. BLEU sees order and repetition, unlike the page metrics.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from browsing.encoders.names import read
from browsing.encoders.sbert import SbertEncoder
from training.evaluation.metrics.pages import NO_PAGES, UNKNOWN

ORDER = 4
"""BLEU counts n-grams of up to four pages."""


class MissingExtraError(ImportError):
    """A package that only an extra of hetlm installs; the message says which."""


def need_bert_score() -> None:
    """To be asked before long work that ends in `bert_score`. Raises `MissingExtraError` without the package."""
    try:
        import bert_score  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("BERTScore needs the package bert-score: pip install 'hetlm[bertscore]'") from error


def bleu(generated: Sequence[Sequence[str]], actual: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU by sacrebleu, from 0 to 100 (the paper prints hundredths), of sessions as sentences of pages.

    A page is one word whatever it is called; nothing is tokenised again. As elsewhere a generated `[UNK]` is dropped
    and an actual one matches nothing. n-grams are counted up to `ORDER` pages, or up to the longest actual session
    where all are shorter: otherwise a site of short visits would score 0 by definition. The truth sets this, so that a
    model cannot lower the bar by generating little. Precisions without a match are smoothed as sacrebleu does by
    default ("exp"). Raises `ValueError` for sequences of different lengths, or of none.
    """
    from sacrebleu.metrics.bleu import BLEU

    if not actual:
        raise ValueError("there is no session to compare")
    # Words for sacrebleu are what white space parts, and a page may hold some; its number does not.
    words: dict[str, str] = {}
    hypotheses, references = [], []
    for drawn, truth in zip(generated, actual, strict=True):
        hypotheses.append(_sentence(drawn, words, frozenset((*NO_PAGES, UNKNOWN))))
        references.append(_sentence(truth, words, NO_PAGES))
    longest = max(len(sentence.split()) for sentence in references)
    metric = BLEU(tokenize="none", max_ngram_order=max(1, min(ORDER, longest)), force=True)
    return float(metric.corpus_score(hypotheses, [references]).score)


def bert_score(
    generated: Sequence[Sequence[str]], actual: Sequence[Sequence[str]], encoder: SbertEncoder
) -> tuple[float, float, float]:
    """Precision, recall and F1 of BERTScore, means over sessions, on the last layer of the pinned encoder.

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
    both = [(drawn, truth) for drawn, truth in sentences if drawn and truth]
    if not both:
        return 0.0, 0.0, 0.0
    layers = int(json.loads((encoder.directory / "config.json").read_text())["num_hidden_layers"])
    scorer = BERTScorer(model_type=str(encoder.directory), num_layers=layers, device="cpu")
    scores = scorer.score([drawn for drawn, _ in both], [truth for _, truth in both])
    precision, recall, f1 = (float(values.double().sum()) / len(actual) for values in scores)
    return precision, recall, f1


def _sentence(pages: Sequence[str], words: dict[str, str], left_out: frozenset[str]) -> str:
    return " ".join(words.setdefault(page, str(len(words))) for page in pages if page not in left_out)


def _read(pages: Sequence[str]) -> str:
    return read(pages).strip()
