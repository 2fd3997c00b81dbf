"""What clustering bought, side by side: the selection users' loss of several bundles by rule of assignment."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from browsing.bundle import Manifest, verify
from training.dataset import INFO, DatasetInfo
from training.evaluation.tables.grid import NONE, Cell, Grid, Line, Section
from training.training_log import TrainingLog

COLUMNS = {
    "random": "Random",
    "kmeans": "K-means",
    "markov": "Markov\nmixture",
    "selector": "Selector\n(served)",
    "evidence": "Likelihood of\nthe history",
    "oracle": "Oracle",
    "shared": "One model,\npretrained",
    "single": "One model,\nfine-tuned",
}
NOTE = (
    "Every line has predictors of its own. The rules give users to them: at random in the clusters' shares; by K-means "
    "on the embeddings, or by the mixture of Markov chains, each group getting the predictor that explains its "
    "training users best; by the selector that is served (HeTLM's in the line hetlm, the mixture's in mixture); by the "
    "posterior under the predictors given the history; and, which nobody can, by hindsight."
)


@dataclass(frozen=True, slots=True)
class Rules:
    """One bundle's losses by rule, in nats per page. `data`: names what it was trained on; `users`: selection users."""

    manifest: Manifest
    losses: Mapping[str, float]
    data: str
    users: int

    @classmethod
    def read(cls, bundle: Path) -> Self:
        """Raises `ValueError` for what is no bundle, or one whose training did not compare the rules."""
        manifest = verify(bundle)
        log = TrainingLog.load(bundle)
        records = [] if log is None else [r for r in log.records if r["stage"] == "rules" and r.get("rules")]
        if not records:
            raise ValueError(f"{bundle}: losses by rule of assignment are not in it; train it again: hetlm train")
        losses = {name: float(loss) for name, loss in records[-1]["rules"].items() if name in COLUMNS}
        alone = manifest.metrics.get("validation_loss_single")
        if alone is not None:
            losses["single"] = alone
        info = DatasetInfo.model_validate_json((bundle / INFO).read_bytes())
        data = json.dumps([manifest.vocabulary_sha256, info.hashes], sort_keys=True)
        return cls(manifest, losses, data, int(manifest.metrics.get("validation_users", 0)))


def grids(found: Sequence[Rules]) -> list[Grid]:
    """One table per dataset: losses compare on the same users alone."""
    by_data: dict[str, list[Rules]] = {}
    for own in found:
        by_data.setdefault(own.data, []).append(own)
    return [
        _grid(own, f"Dataset {number}. " if len(by_data) > 1 else "") for number, own in enumerate(by_data.values(), 1)
    ]


def _grid(found: Sequence[Rules], prefix: str) -> Grid:
    columns = [name for name in COLUMNS if any(name in own.losses for own in found)]
    best = {name: min(own.losses[name] for own in found if name in own.losses) for name in columns}
    lines = tuple(
        Line(label, tuple(_cell(own.losses.get(name), best[name], len(found) > 1) for name in columns))
        for label, own in zip(_labels(found), found, strict=True)
    )
    return Grid(
        f"{prefix}Validation loss by rule of assignment",
        tuple(COLUMNS[name] for name in columns),
        (Section(None, lines),),
        f"Nats per page of the next session on {found[0].users:,} selection users. {NOTE}",
        first="Predictors of",
    )


def _cell(loss: float | None, best: float, ranked: bool) -> Cell:
    return Cell(NONE) if loss is None else Cell(f"{loss:.3f}", best=ranked and loss == best)


def _labels(found: Sequence[Rules]) -> list[str]:
    """The methods, with their seeds where there are several of one, and their versions where that is not enough."""
    labels = [own.manifest.training.method for own in found]
    for part in (lambda m: f"seed {m.training.seed}", lambda m: m.version[:8]):
        several = Counter(labels)
        labels = [
            f"{label}, {part(own.manifest)}" if several[label] > 1 else label
            for label, own in zip(labels, found, strict=True)
        ]
    return labels
