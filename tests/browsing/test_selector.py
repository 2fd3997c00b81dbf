from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from browsing.selector import Selector


def test_probabilities_and_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    selector = Selector(5, 3, hidden=7)
    z = torch.randn(11, 5)
    selector.standardise(z)
    torch.testing.assert_close(selector.mean, z.mean(0))
    pi = selector.probabilities(z)
    torch.testing.assert_close(pi.sum(1), torch.ones(11))
    selector.save(tmp_path / "selector.safetensors")
    loaded = Selector.load(tmp_path / "selector.safetensors")
    assert (loaded.dimension, loaded.clusters) == (5, 3)
    torch.testing.assert_close(loaded.probabilities(z), pi, rtol=0, atol=0)


def test_dropping_a_cluster_keeps_the_others_odds() -> None:
    torch.manual_seed(0)
    selector = Selector(4, 3)
    z = torch.randn(6, 4)
    pi, kept = selector.probabilities(z), selector.keep([2, 0]).probabilities(z)
    torch.testing.assert_close(kept[:, 0] / kept[:, 1], pi[:, 2] / pi[:, 0])


def test_another_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "selector.safetensors")
    with pytest.raises(ValueError, match="not a selector"):
        Selector.load(tmp_path / "selector.safetensors")
