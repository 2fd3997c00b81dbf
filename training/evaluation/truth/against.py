"""An evaluation beside the simulator's truth: what the best possible forecaster would have said of the same users."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from sklearn.metrics import adjusted_rand_score

from training.dataset import Dataset
from training.evaluation.compare.paired import ComparisonError, Result
from training.evaluation.metrics.probabilities import surprises
from training.evaluation.run import fingerprint
from training.evaluation.users import pseudonyms


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OutcomeTruth(_Document):
    """Mean |p - true p| over users; log losses in nats, `best` being that of the true probabilities."""

    raw_error: float
    calibrated_error: float | None
    log_loss: float | None
    best_log_loss: float


class Truth(_Document):
    users: int
    clusters: int = Field(description="clusters that any of the users is in")
    kinds: int
    ari: float = Field(description="adjusted Rand index of the clusters against the true kinds")
    best_ari: float = Field(description="that of the likeliest kind given the history, under the true model")
    nats_per_page: float | None
    best_nats_per_page: float
    outcomes: dict[str, OutcomeTruth]


def against_truth(result: Result, dataset: Dataset, path: Path) -> Truth:
    """Compare one result with the `truth.parquet` that `hetlm simulate` wrote for the log of `dataset`.

    Raises `ComparisonError` where they are not about the same users, or the truth lacks the outcomes.
    """
    document = result.document
    if fingerprint(dataset.info) != document.dataset_sha256:
        raise ComparisonError(f"{result.path} is not about {dataset.root}")
    samples = dataset.samples(document.settings.split)
    names, numbers = pseudonyms(samples, document.dataset_sha256)
    users = pl.DataFrame({"user": names, "sample": numbers, "user_id": [s.user_id for s in samples]})
    truth = pl.read_parquet(path, glob=False)
    if "cart_probability" not in truth.columns:
        raise ComparisonError(f"{path} has no outcome probabilities: simulate with --truth")
    joined = result.frame.join(users, on=["user", "sample"]).join(truth, on="user_id")
    if joined.height < result.frame.height:
        raise ComparisonError(f"{path} does not know all users of {result.path}: it belongs to another simulation")
    kind = joined["kind"].to_numpy()
    best = np.array(joined["posterior"].to_list()).argmax(1)
    nats = None
    if "nats" in joined.columns:
        nats = float(joined["nats"].to_numpy().sum() / joined["tokens"].to_numpy().sum())
    return Truth(
        users=joined.height,
        clusters=joined["cluster"].n_unique(),
        kinds=len(np.unique(kind)),
        ari=float(adjusted_rand_score(kind, joined["cluster"].to_numpy())),
        best_ari=float(adjusted_rand_score(kind, best)),
        nats_per_page=nats,
        best_nats_per_page=float(joined["bayes_nll"].to_numpy().sum() / joined["next_pages"].to_numpy().sum()),
        outcomes={name: _outcome(joined, name) for name in ("cart", "purchase") if f"{name}.raw" in joined.columns},
    )


def _outcome(joined: pl.DataFrame, name: str) -> OutcomeTruth:
    true = joined[f"{name}_probability"].to_numpy()
    happened = joined[f"{name}.happened"].to_numpy()
    raw = joined[f"{name}.raw"].to_numpy()
    column = f"{name}.calibrated"
    calibrated = joined[column].to_numpy() if column in joined.columns else None
    return OutcomeTruth(
        raw_error=float(np.abs(raw - true).mean()),
        calibrated_error=None if calibrated is None else float(np.abs(calibrated - true).mean()),
        log_loss=None if calibrated is None else float(surprises(calibrated, happened).mean()),
        best_log_loss=float(surprises(true, happened).mean()),
    )
