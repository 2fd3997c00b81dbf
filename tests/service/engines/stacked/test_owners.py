"""Which cluster each row belongs to, through what vLLM's scheduler does with sequences."""

from __future__ import annotations

import pytest
import torch

from service.engines.stacked.owners import Owners

PAGES = 10
Sequence = tuple[list[int], int, int]
"""Ids of this step, the position of the first, and the first block."""


def step(owners: Owners, *sequences: Sequence, padding: int = 0, blocks: tuple[int, ...] = ()) -> list[int]:
    """The clusters of one step's rows. `padding`: rows of no sequence; `blocks`: of sequences without rows."""
    ids = [token for own, _, _ in sequences for token in own] + [5 * PAGES + 1] * padding
    positions = [start + i for own, start, _ in sequences for i in range(len(own))] + [0] * padding
    starts = [0]
    for own, _, _ in sequences:
        starts.append(starts[-1] + len(own))
    starts += [starts[-1]] * len(blocks)
    table = [[block, 99] for _, _, block in sequences] + [[block, 99] for block in blocks]
    found: list[int] = owners(
        torch.tensor(ids, dtype=torch.int32),
        torch.tensor(positions),
        torch.tensor(starts, dtype=torch.int32),
        torch.tensor(table, dtype=torch.int32),
    ).tolist()
    return found


@pytest.fixture
def owners() -> Owners:
    return Owners(PAGES, blocks=16)


def test_a_sequence_stays_its_clusters(owners: Owners) -> None:
    """Its prompt names the cluster; what was sampled is a plain page."""
    assert step(owners, ([21, 24, 22, 21], 0, 3), ([1, 5], 0, 7)) == [2, 2, 2, 2, 0, 0]
    assert step(owners, ([4], 4, 3), ([9], 2, 7), ([31], 0, 5)) == [2, 0, 3]
    assert step(owners, ([6], 1, 5), ([5], 5, 3)) == [3, 2]


def test_a_prompt_in_pieces(owners: Owners) -> None:
    assert step(owners, ([41, 45], 0, 2)) == [4, 4]
    assert step(owners, ([46, 47, 41], 2, 2), ([1], 0, 4)) == [4, 4, 4, 0]


def test_a_shared_beginning(owners: Owners) -> None:
    """Also with one that begins in the same step."""
    assert step(owners, ([31, 32, 33], 0, 6), ([33], 2, 6)) == [3, 3, 3, 3]
    assert step(owners, ([7], 3, 6), ([8], 3, 6), ([31], 2, 6)) == [3, 3, 3]


def test_a_block_that_goes_to_another_cluster(owners: Owners) -> None:
    assert step(owners, ([31, 32], 0, 6)) == [3, 3]
    assert step(owners, ([11, 12], 0, 6)) == [1, 1]
    assert step(owners, ([4], 2, 6)) == [1]


def test_one_that_is_computed_again_with_what_it_had_sampled(owners: Owners) -> None:
    assert step(owners, ([21, 24], 0, 3)) == [2, 2]
    assert step(owners, ([41], 0, 3)) == [4], "its block went to another"
    assert step(owners, ([21, 24, 5, 6], 0, 8), ([4], 1, 3)) == [2, 2, 2, 2, 4]


def test_padding_changes_nothing(owners: Owners) -> None:
    assert step(owners, ([21, 24], 0, 3), ([11], 0, 5)) == [2, 2, 1]
    rows = step(owners, ([4], 2, 3), ([5], 1, 5), padding=2, blocks=(3, 0))
    assert rows[:2] == [2, 1]
    assert len(rows) == 4
    assert step(owners, ([4], 3, 3), ([5], 2, 5)) == [2, 1]
