"""One bundle, its dataset, and real evaluations of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from browsing.bundle import Bundle
from browsing.forecast import Options
from tests import tiny
from tests.training.evaluation.site import sample, visitor, write_dataset
from tests.training.report.stories import complete
from training.dataset import Dataset
from training.evaluation.run import Plan, evaluation, write


@dataclass(frozen=True, slots=True)
class Place:
    """`own` and `shared`: results of `hetlm evaluate --out`, with the values per user beside them."""

    root: Path
    bundle: Path
    dataset: Dataset
    own: Path
    shared: Path


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("report")
    users = tiny.toy_users(tiny.SIX_PAGES, users=40, seed=5)
    people = [sample(f"u{i}", sessions) for i, sessions in enumerate(users)]
    returns = [visitor(own) if i % 3 else visitor(own[:-1], own[-1]) for i, own in enumerate(users)]
    dataset = write_dataset(root / "dataset", people, returns=returns)
    complete(root / "bundle", dataset)
    bundle = Bundle.load(root / "bundle")
    for model in ("bundle", "shared"):
        plan = Plan(model=model, options=Options(samples=4), threads=1, resamples=60, validation=0)
        encoder = tiny.TinyEncoder() if model == "bundle" else None
        result, per_user = evaluation(bundle, dataset, encoder, plan)
        write(result, per_user, root / f"{model}.json")
    return Place(root, root / "bundle", dataset, root / "bundle.json", root / "shared.json")
