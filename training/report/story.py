"""What there is to tell of a bundle: its own documents, and the results that were measured with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import polars as pl
from pydantic import ValidationError

from browsing.bundle import Manifest, load_profiles
from browsing.calibration import Calibration
from browsing.profiles import Profiles
from training.dataset import DatasetInfo
from training.evaluation.compare.comparison import Difference
from training.evaluation.compare.paired import ComparisonError, Result, compare
from training.evaluation.metrics.bootstrap import RESAMPLES
from training.evaluation.result import Evaluation
from training.evaluation.timing.result import Timing
from training.evaluation.users import users_path
from training.report import labels
from training.training_log import Record, TrainingLog, of_stage

DATASET = "dataset.json"


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """An evaluation, and the values per user beside it where they are there.

    `differences`: by figure, this bundle's minus this result's, on the same users; `unpaired`: why there are none.
    """

    path: Path
    result: Evaluation
    users: pl.DataFrame | None = None
    differences: Mapping[str, Difference] = field(default_factory=dict)
    unpaired: str = ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `ComparisonError` (a `ValueError`) for a file that is no result, or values that are not its own."""
        if users_path(path).is_file():
            paired = Result.read(path)
            return cls(path, paired.document, paired.frame)
        try:
            return cls(path, Evaluation.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            where = ".".join(map(str, detail["loc"]))
            raise ValueError(f"{path} is no result of this `hetlm evaluate`: {where}: {detail['msg']}") from error

    def compared_with(self, own: Self) -> Self:
        """This result, with its differences to the bundle's `own`."""
        if self.users is None or own.users is None:
            return replace(self, unpaired="its values per user (.users.parquet) are missing")
        pair = [Result(m.path, m.result, m.users) for m in (self, own) if m.users is not None]
        try:
            reference, ours = pair
            seed = own.result.settings.seed
            comparison = compare(reference, [ours], resamples=RESAMPLES, seed=seed, equal_length=True)
        except ComparisonError:
            same = self.result.vocabulary_sha256 == own.result.vocabulary_sha256
            why = "it was measured on other users" if same else "it has another vocabulary"
            return replace(self, unpaired=why)
        return replace(self, differences=comparison.others[0].differences)


@dataclass(frozen=True, slots=True, eq=False)
class Story:
    """`records`: the training's log. `measured`: results, this bundle's own and the controls'. `timings`: documents of
    `hetlm timing`. `info`, `profiles`, `calibration`: None where the bundle was written before it held them."""

    manifest: Manifest
    records: Sequence[Record] = ()
    info: DatasetInfo | None = None
    profiles: Profiles | None = None
    calibration: Calibration | None = None
    measured: Sequence[Measured] = ()
    timings: Sequence[Timing] = ()

    @classmethod
    def of(cls, root: Path, manifest: Manifest) -> Self:
        """Read the small files of a bundle; `manifest` may not be sealed yet. Raises `ValueError` for a broken one."""
        log, info = TrainingLog.load(root), root / DATASET
        return cls(
            manifest,
            () if log is None else log.records,
            DatasetInfo.model_validate_json(info.read_bytes()) if info.is_file() else None,
            load_profiles(root),
            Calibration.load(root / "calibration.json"),
        )

    @property
    def own(self) -> Measured | None:
        """The first result of this bundle's predictors."""
        return next((m for m in self.measured if self.is_own(m.result)), None)

    @property
    def controls(self) -> list[Measured]:
        own = self.own
        return [m for m in self.measured if m is not own]

    @property
    def single(self) -> Measured | None:
        """The single model that the bundle is held against: fine-tuned, or else the pretrained one."""
        for method in ("single", "shared"):
            for measured in self.controls:
                if measured.result.method == method:
                    return measured
        return None

    def name(self, measured: Measured) -> str:
        """What a result's model is called: with its seed where there are several of the kind, and the file's name where
        that is not enough."""
        same = [m for m in self.measured if labels.method(m.result) == labels.method(measured.result)]
        name = labels.method(measured.result)
        if len(same) > 1:
            name += f", seed {measured.result.seed}"
        if sum(m.result.seed == measured.result.seed for m in same) > 1:
            name += f" ({measured.path.name.removesuffix('.json')})"
        return name

    def is_own(self, result: Evaluation) -> bool:
        """Whether it measures this bundle, possibly under other names for its clusters (which change the version)."""
        if result.settings.model != "bundle":
            return False
        manifest = self.manifest
        same_training = bool(result.training) and result.training == manifest.training.settings
        return result.bundle_version == manifest.version or (
            same_training and result.vocabulary_sha256 == manifest.vocabulary_sha256
        )

    def of_stage(self, *stages: str) -> list[Record]:
        """The records of some stages, by epoch."""
        return of_stage(self.records, *stages)


def read_results(paths: Sequence[Path], manifest: Manifest) -> tuple[list[Measured], list[Timing]]:
    """(evaluations, timings) among the documents, the evaluations with their differences to the bundle's own.

    Raises `ValueError` for an unknown document, results about several datasets or splits, or evaluations none of which
    is the bundle's.
    """
    measured, timings = [], []
    for path in paths:
        if "configurations" in _document(path):
            timings.append(_timing(path))
        else:
            measured.append(Measured.read(path))
    if not measured:
        return [], timings
    first = measured[0]
    for other in measured[1:]:
        if _subject(other) != _subject(first):
            raise ValueError(
                f"{other.path} and {first.path} are about different users: {', '.join(_subject(other))}, and "
                f"{', '.join(_subject(first))}; evaluate all on one dataset and split"
            )
    own = Story(manifest, measured=measured).own
    if own is None:
        raise ValueError(
            f"none of the results measures this bundle (version {manifest.version[:12]}): "
            "`hetlm evaluate BUNDLE DATASET --out RUN.json` does"
        )
    return [m if m is own else m.compared_with(own) for m in measured], timings


def _subject(measured: Measured) -> tuple[str, str]:
    result = measured.result
    return f"dataset {result.dataset_sha256[:12]}", f"split {result.settings.split}"


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON document: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path} is neither a result of `hetlm evaluate` nor one of `hetlm timing`")
    return document


def _timing(path: Path) -> Timing:
    try:
        return Timing.model_validate_json(path.read_bytes())
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = ".".join(map(str, detail["loc"]))
        raise ValueError(f"{path} is no result of this `hetlm timing`: {where}: {detail['msg']}") from error
