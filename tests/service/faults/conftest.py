from __future__ import annotations

import pytest

from browsing.bundle import Bundle
from tests import tiny
from tests.service.faults.traffic import Visitor, visitors


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its random selector happens to send half of the visitors to either cluster."""
    root = tmp_path_factory.mktemp("faults") / "tiny"
    tiny.bundle(root, seed=4)
    return Bundle.load(root)


@pytest.fixture(scope="session")
def people(bundle: Bundle) -> list[Visitor]:
    """Twelve visitors, half of each cluster, whose answers are known."""
    return visitors(bundle, 12)
