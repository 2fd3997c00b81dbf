"""Cross-validation: the folds of one log, taken together as one evaluation of all its users.

Every user is in the test split of exactly one fold, and was forecast by a model that had not seen her. The folds' users
are therefore set one below the other, and resampled together; an AUC is that of all of them, under the folds' several
models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from training.evaluation.compare.paired import ComparisonError, Result
from training.evaluation.result import Decode
from training.evaluation.users import KEYS

LEAST = 2


def pooled(results: Sequence[Result], name: str, decode: Decode | None = None) -> list[Result]:
    """One result per method, in the order in which the methods first appear: its folds' users together, as results on
    a dataset called `name`. `decode`: the one that will be compared; None: each result's own. Raises `ComparisonError`
    where a method lacks a fold, has one twice, is decoded in two ways, or where there are no folds."""
    methods: dict[str, dict[str, Result]] = {}
    for result in results:
        folds = methods.setdefault(result.document.method, {})
        fold = result.document.dataset_sha256
        if fold in folds:
            raise ComparisonError(
                f"{folds[fold].path} and {result.path} are both of the method {result.document.method} on the fold "
                f"{result.document.dataset}: name one per method and fold"
            )
        folds[fold] = result
    order = list(dict.fromkeys(result.document.dataset_sha256 for result in results))
    if len(order) < LEAST:
        raise ComparisonError(f"--folds-of {name}: all results are on one dataset; leave it out, or name other folds")
    for method, folds in methods.items():
        for fold in order:
            if fold not in folds:
                missing = next(r.document.dataset for r in results if r.document.dataset_sha256 == fold)
                raise ComparisonError(f"--folds-of {name}: the method {method} has no result on the fold {missing}")
        if len({result.decode(decode) for result in folds.values()}) > 1:
            raise ComparisonError(
                f"--folds-of {name}: some folds of the method {method} are decoded by consensus and some greedily; "
                "choose one with --decode"
            )
    return [_together([folds[fold] for fold in order], name) for folds in methods.values()]


def _together(folds: Sequence[Result], name: str) -> Result:
    """The columns that all folds have; a user's pseudonym begins with the number of her fold."""
    first = folds[0]
    shared = [column for column in first.frame.columns if all(column in fold.frame.columns for fold in folds)]
    frames = [
        fold.frame.select(shared).with_columns(pl.concat_str(pl.lit(f"{number}-"), pl.col("user")).alias("user"))
        for number, fold in enumerate(folds)
    ]
    document = first.document.model_copy(
        update={
            "dataset": name,
            "dataset_sha256": _digest(fold.document.dataset_sha256 for fold in folds),
            "vocabulary_sha256": _digest(fold.document.vocabulary_sha256 for fold in folds),
        }
    )
    return Result(Path(f"{name}-{document.method}"), document, pl.concat(frames).sort(KEYS))


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
