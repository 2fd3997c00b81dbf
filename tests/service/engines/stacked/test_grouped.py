"""Products of rows with their own cluster's matrices, against one product per row."""

from __future__ import annotations

import pytest
import torch

from service.engines.stacked.grouped import Groups, masked, product

CLUSTERS = [[2, 0, 2, 2, 0, 1], [1, 1, 1], [2], [3, 3, 0], []]


@pytest.fixture(params=CLUSTERS, ids=str)
def clusters(request: pytest.FixtureRequest) -> torch.Tensor:
    return torch.tensor(request.param, dtype=torch.int64)


def test_rows_are_sorted_and_found_again(clusters: torch.Tensor) -> None:
    groups = Groups.of(clusters, 4)
    assert groups.owner.tolist() == sorted(clusters.tolist())
    assert clusters[groups.order].tolist() == groups.owner.tolist()
    assert groups.order[groups.place].tolist() == list(range(len(clusters)))
    assert groups.ends.dtype == torch.int32
    assert groups.ends.tolist() == [int((clusters <= k).sum()) for k in range(4)]
    for k in range(4):
        own = groups.order[groups.owner == k].tolist()
        assert own == sorted(own), "those of one cluster stay in their order"


def test_every_row_meets_its_own_matrix_alone(clusters: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(len(clusters), 8, generator=generator)
    weights = torch.randn(4, 5, 8, generator=generator)
    for absent in set(range(4)) - set(clusters.tolist()):
        weights[absent] = torch.nan
    groups = Groups.of(clusters, 4)
    expected = [weights[k] @ row for k, row in zip(clusters.tolist(), rows, strict=True)]
    for compute in (product, masked):
        result = compute(rows[groups.order], weights, groups)[groups.place]
        assert result.shape == (len(clusters), 5)
        for row, known in zip(result, expected, strict=True):
            torch.testing.assert_close(row, known)
