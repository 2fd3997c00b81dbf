"""Per-user values beside a result: what paired comparisons between methods are made of.

A user is named by a keyed hash whose key comes from the dataset, so that two results on one dataset pair up and results
on two datasets do not. It is a pseudonym: whoever has the dataset can find a user in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from training.dataset import Sample
from training.evaluation.metrics.pages import Flags, Floats, Ints
from training.evaluation.metrics.ranking import NAMES
from training.evaluation.rows import Judgement

KEYS = ("user", "sample")
SUFFIX = ".users.parquet"
HAPPENED, PREDICTED, DECIDED = ".happened", ".predicted", ".decided"
"""Ends of the names of an outcome's columns: it happened, the session holds it, its score reaches the threshold."""
DIGEST = 16
"""Bytes of a user's hash."""


def users_path(result: Path) -> Path:
    """Where the per-user values of `RUN.json` stand: `RUN.users.parquet`."""
    return result.with_name(result.name.removesuffix(".json") + SUFFIX)


def pseudonyms(samples: Sequence[Sample], dataset_sha256: str) -> tuple[list[str], list[int]]:
    """Per sample: the user's hash, and the sample's number among the user's own, from 0 by the time it starts at."""
    key = hashlib.blake2b(f"hetlm users {dataset_sha256}".encode(), digest_size=32).digest()
    names = [hashlib.blake2b(s.user_id.encode(), digest_size=DIGEST, key=key).hexdigest() for s in samples]
    numbers = [0] * len(samples)
    counts: dict[str, int] = {}
    for place in sorted(range(len(samples)), key=lambda i: samples[i].next_started_at):
        numbers[place] = counts.get(names[place], 0)
        counts[names[place]] = numbers[place] + 1
    return names, numbers


def per_user(judgement: Judgement, samples: Sequence[Sample], dataset_sha256: str) -> pl.DataFrame:
    """One row per sample: `user`, `sample`, `cluster`; per decode its page metrics and `pages`, the number of distinct
    pages generated, as `consensus.iou`, per outcome whether its session holds it, as `consensus.cart.predicted`, what
    BLEU sums (`bleu.py`) and, where asked for, BERTScores; ranking metrics; which of the likeliest pages came true
    (`lengths.py`); `nats` and `tokens`; per outcome `cart.raw`, `cart.calibrated`, `cart.happened`, and with a
    threshold `cart.decided`: whether the score reaches it. Sorted by user, so that the order tells nothing either."""
    names, numbers = pseudonyms(samples, dataset_sha256)
    columns: dict[str, Sequence[object] | Floats | Flags | Ints | pl.Series] = {
        "user": names,
        "sample": numbers,
        "cluster": judgement.clusters,
    }
    for decode, judged in judgement.judged.items():
        columns |= {f"{decode}.{name}": values for name, values in judged.scores.items()}
        columns[f"{decode}.pages"] = judged.lengths["generated_pages"]
        columns |= {f"{decode}.{outcome}{PREDICTED}": flags for outcome, flags in judged.predicted.items()}
        columns |= {} if judged.text is None else judged.text.columns(decode)
    columns |= {f"ranking.{name}": judgement.ranking[:, column] for column, name in enumerate(NAMES)}
    columns |= judgement.likeliest.columns()
    if judgement.loss is not None:
        columns |= {"nats": judgement.loss.nats, "tokens": judgement.loss.tokens}
    for outcome, happened in judgement.happened.items():
        columns[outcome + HAPPENED] = happened
    columns |= {outcome + DECIDED: flags for outcome, flags in judgement.decided.items()}
    for outcome, raw in judgement.probabilities.raw.items():
        columns[f"{outcome}.raw"] = raw
    for outcome, calibrated in judgement.probabilities.calibrated.items():
        columns[f"{outcome}.calibrated"] = calibrated
    return pl.DataFrame(dict(columns)).sort(KEYS)
