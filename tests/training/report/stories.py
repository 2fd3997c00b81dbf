"""A tiny bundle that carries everything a report tells of, and log records as training writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from browsing.bundle import RETURNS, Manifest, seal
from browsing.profiles import (
    PROFILES,
    ClusterProfile,
    Journey,
    OutcomeRate,
    PageProfile,
    Profiles,
    SessionLength,
    Visits,
)
from tests import tiny
from tests.training.evaluation.site import return_model
from training.dataset import Dataset
from training.report.story import DATASET
from training.run import write_json
from training.training_log import TRAINING_LOG, TrainingLog

EVIL = "/<script>alert(1)</script>"

RUN = "0123456789abcdef"
"""The run that made the bundle."""
SIZES = [[30, 20, 10], [35, 25], [40, 20]]
RECORDS: list[dict[str, Any]] = [
    {"stage": "warm", "epoch": 1, "train_loss": 3.0, "seconds": 12.5},
    {
        "stage": "warm choice",
        "epoch": 0,
        "users": 500,
        "losses": [2.5, 2.25],
        "chosen": 1,
        "seconds": 12.5,
        "probe_seconds": 2.0,
    },
    *(
        {"stage": "pretrain", "epoch": e, "train_loss": 3 - e / 2, "validation_loss": 3 - e / 3, "seconds": 4.0}
        for e in (1, 2, 3)
    ),
    {"stage": "single", "epoch": 1, "validation_loss": 1.9, "sizes": [60], "clusters": 1},
    {"stage": "start", "epoch": 0, "start": "markov", "sizes": SIZES[0]},
    *(
        {
            "stage": "tune",
            "epoch": e,
            "clusters": 2,
            "dropped": 2 - e,
            "moved": 10 // e,
            "sizes": SIZES[e],
            "origins": [0, 2],
            "l1": 20.0 / e,
            "l2": 0.5 / e,
            "l3": 0.0,
            "train_loss": 2.0 / e,
            "validation_loss": 1.875,
            "kept_loss": 1.75,
            "shared_loss": 2.0,
            "seconds": 5.0,
        }
        for e in (1, 2)
    ),
    {"stage": "interpolate", "epoch": 0, "base": "single", "lambdas": [0.5, 1.0], "before": 1.75, "after": 1.7},
    {
        "stage": "rules",
        "epoch": 0,
        "rules": {"random": 2.125, "kmeans": 1.9, "selector": 1.75, "oracle": 1.5, "shared": 2.0},
    },
]


def visits(users: int, length: float = 4.0) -> Visits:
    lengths = SessionLength(mean=length, lower_quartile=2, median=3, upper_quartile=6)
    return Visits(users=users, sessions=3 * users, length=lengths, sessions_per_user=3.0, repeated=0.25)


def profiles(named_by: str | None = None) -> Profiles:
    return Profiles(
        named_by=named_by,
        min_users=5,
        everybody=visits(60),
        clusters=tuple(
            ClusterProfile(
                id=k,
                built_name=("bags: short visits", "shoes")[k],
                share=(0.7, 0.3)[k],
                visits=visits((40, 20)[k]),
                typical=(PageProfile(page="/bags", share=0.5, lift=1.25),),
                distinctive=(PageProfile(page=EVIL, share=0.125, lift=2.5),),
                behaviours=("short visits", "starts afresh"),
                outcomes={"cart": OutcomeRate(rate=0.375, everybody=0.25)},
                journeys=(Journey(pages=("/", "/bags", EVIL)[: 2 + k], weight=0.75),),
            )
            for k in (0, 1)
        ),
    )


def complete(root: Path, dataset: Dataset) -> Manifest:
    """A tiny bundle with profiles, log, dataset information and a model of returning; its clusters are called `kind 0`
    and `kind 1`."""
    manifest = tiny.bundle(root)
    write_json(root / PROFILES, profiles().model_dump(mode="json"))
    write_json(root / TRAINING_LOG, TrainingLog.of(RECORDS, RUN).model_dump(mode="json"))
    return_model().save(root / RETURNS)
    write_json(root / DATASET, dataset.info.model_dump(mode="json"))
    settings = {"preset": "demo", "warm_start": "synthetic"}
    training = manifest.training.model_copy(update={"settings": settings})
    metrics = {"validation_loss_kept": 1.75, "validation_loss_single": 1.9, "validation_users": 20.0}
    return seal(root, manifest.model_copy(update={"training": training, "metrics": metrics}))
