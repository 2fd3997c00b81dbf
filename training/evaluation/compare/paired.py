"""Paired comparisons: two methods on the same users, and how sure their difference is.

Users differ far more than methods do. Both methods' figures are computed on the same resampled users, so that what
users have in common drops out of the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import ValidationError

from browsing.hashing import file_sha256
from training.evaluation.compare.comparison import Compared, Comparison, Difference, Side
from training.evaluation.compare.figures import add_equal_length, add_own_length, better, column, figures_of, ordered
from training.evaluation.metrics.bootstrap import groups_of, interval
from training.evaluation.metrics.figures import SAME_LENGTH
from training.evaluation.metrics.lengths import Likeliest
from training.evaluation.metrics.pages import Floats
from training.evaluation.result import Decode, Evaluation
from training.evaluation.users import KEYS, users_path


class ComparisonError(ValueError):
    """Results that cannot be compared; the message names the file and says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A result document and its per-user values."""

    path: Path
    document: Evaluation
    frame: pl.DataFrame

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read `RUN.json` and `RUN.users.parquet`. Raises `ComparisonError` naming the file."""
        try:
            document = Evaluation.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ComparisonError(f"{path}: {error.strerror}; `hetlm evaluate --out {path}` writes one") from error
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            where = ".".join(map(str, detail["loc"]))
            raise ComparisonError(
                f"{path} is no result of this version of `hetlm evaluate`: {where}: {detail['msg']}"
            ) from error
        users = users_path(path)
        if not users.is_file():
            raise ComparisonError(f"{users}: missing; keep it beside {path.name}, or evaluate again with --out {path}")
        if file_sha256(users) != document.users_sha256:
            raise ComparisonError(f"{users} does not belong to {path.name}: evaluate again with --out {path}")
        return cls(path, document, pl.read_parquet(users, glob=False).sort(KEYS))

    def decode(self, wanted: Decode | None) -> Decode:
        """The decode to compare: the result's own, or the one wanted where the model was decoded in both ways."""
        own = self.document.settings.decode
        return own if wanted is None or own == "own" else wanted

    def pages(self, wanted: Decode | None) -> Floats:
        """The number of distinct pages of every decoded session [N]."""
        return column(self.frame, f"{self.decode(wanted)}.pages")

    def side(self, wanted: Decode | None) -> Side:
        document = self.document
        return Side(
            name=self.path.name.removesuffix(".json"),
            method=document.method,
            seed=document.seed,
            decode=self.decode(wanted),
            bundle_version=document.bundle_version,
        )


def compare(
    reference: Result,
    others: Sequence[Result],
    *,
    resamples: int,
    seed: int,
    decode: Decode | None = None,
    equal_length: bool = False,
) -> Comparison:
    """Differences of every other result to the reference. `equal_length`: also those of the others' likeliest pages, as
    many as the reference's sessions have, to these sessions. Raises `ComparisonError` where they are not about the same
    users."""
    for other in others:
        _check(reference, other)
    groups = groups_of(reference.frame["user"].to_list())
    base = figures_of(reference.frame, reference.decode(decode), groups)
    if equal_length:
        add_own_length(base, reference.frame, reference.decode(decode))
    point, draws = base.point(), base.draws(groups, resamples, seed)
    compared = []
    for other in others:
        figures = figures_of(other.frame, other.decode(decode), groups)
        if equal_length:
            add_equal_length(figures, other.frame, reference.pages(decode))
        own, own_draws = figures.point(), figures.draws(groups, resamples, seed)
        differences = {
            name: _difference(name, point[name], own[name], own_draws[name] - draws[name])
            for name in ordered(point)
            if name in own and np.isfinite(point[name]) and np.isfinite(own[name])
        }
        compared.append(
            Compared(side=other.side(decode), differences={k: v for k, v in differences.items() if v is not None})
        )
    return Comparison(
        dataset=reference.document.dataset,
        dataset_sha256=reference.document.dataset_sha256,
        split=reference.document.settings.split,
        n=len(groups),
        users=int(groups.max()) + 1,
        resamples=resamples,
        seed=seed,
        reference=reference.side(decode),
        others=tuple(compared),
    )


def _check(reference: Result, other: Result) -> None:
    first, second = reference.document, other.document
    both = f"{reference.path} and {other.path}"
    if first.dataset_sha256 != second.dataset_sha256:
        raise ComparisonError(
            f"{both} are about two datasets ({first.dataset} {first.dataset_sha256[:12]}, {second.dataset} "
            f"{second.dataset_sha256[:12]}): evaluate both on one"
        )
    if first.settings.split != second.settings.split:
        raise ComparisonError(
            f"{both} are about two splits ({first.settings.split}, {second.settings.split}): evaluate both on one"
        )
    if first.vocabulary_sha256 != second.vocabulary_sha256:
        raise ComparisonError(
            f"{both} use two vocabularies: a loss in nats, and which pages can match, would not mean the same"
        )
    if not reference.frame.select(KEYS).equals(other.frame.select(KEYS)):
        shared = reference.frame.join(other.frame, on=KEYS, how="semi").height
        raise ComparisonError(
            f"{both} are about different users ({reference.frame.height:,} and {other.frame.height:,} next sessions, "
            f"{shared:,} in both): evaluate both with the same --users and --seed"
        )


def longer_than_ranked(reference: Result, other: Result, decode: Decode | None) -> str:
    """Why the other's likeliest pages cannot be brought to the reference's length; empty where they can."""
    likeliest = Likeliest.read(other.frame)
    if likeliest is None:
        return f"{users_path(other.path)} does not hold which of the likeliest pages came true: evaluate again"
    wanted, most = float(reference.pages(decode).mean()), float(likeliest.lengths[:, -1].mean())
    if wanted > most * (1 + SAME_LENGTH):
        return (
            f"{reference.path} has {wanted:.2f} pages per session, {other.path} ranks {most:.2f} on average: its "
            "likeliest pages are too few to be compared at that length"
        )
    return ""


def _difference(name: str, reference: float, other: float, draws: Floats) -> Difference | None:
    """None where the difference is undefined in too many resamples, such as an AUC with next to no positive."""
    bounds = interval(draws)
    if bounds is None:
        return None
    way = better(name)
    favours = bounds[1] < 0 if way == "lower" else bounds[0] > 0
    against = bounds[0] > 0 if way == "lower" else bounds[1] < 0
    verdict = "better" if favours else "worse" if against else "not distinguishable"
    return Difference(
        reference=reference,
        other=other,
        difference=other - reference,
        standard_error=float(np.nanstd(draws, ddof=1)),
        interval=bounds,
        better=way,
        verdict=None if way == "neither" else verdict,
    )
