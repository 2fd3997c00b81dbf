"""A tiny bundle, and a tiny dataset of the same site."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from browsing.bundle import Bundle, seal
from browsing.encoder import DECAY, pool
from browsing.selector import Selector
from tests import tiny
from tests.training.evaluation.site import sample, write_dataset
from training.dataset import Dataset, Sample


@pytest.fixture(scope="session")
def people() -> list[Sample]:
    """Twenty visitors, and one whose next session is longer than the context leaves room for."""
    users = [sample(f"u{i}", sessions) for i, sessions in enumerate(tiny.toy_users(tiny.SIX_PAGES, users=20, seed=5))]
    return [*users, sample("long", [["/", "/bags", "/unheard-of"], ["/", "/bags"] * 40])]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory, people: list[Sample]) -> Dataset:
    return write_dataset(tmp_path_factory.mktemp("evaluation") / "dataset", people)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, people: list[Sample]) -> Bundle:
    """Its selector sends half of `people` to either cluster."""
    root = tmp_path_factory.mktemp("evaluation") / "bundle"
    manifest = tiny.bundle(root)
    selector = Selector.load(root / "selector.safetensors")
    z = torch.from_numpy(np.stack([pool(tiny.TinyEncoder().encode(person.history), DECAY) for person in people]))
    with torch.no_grad():
        selector.standardise(z)
        logits = selector(z)
        selector.output.bias[0] -= (logits[:, 0] - logits[:, 1]).median() + 1e-3
    selector.save(root / "selector.safetensors")
    seal(root, manifest)
    return Bundle.load(root)
