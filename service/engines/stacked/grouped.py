"""Rows of several clusters side by side, each multiplied by its own cluster's weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows sorted by cluster, those of one cluster in their old order.

    `order` int64 [T]: sorted row i is row `order[i]`. `place` int64 [T]: row i is sorted row `place[i]`. `owner`
    int64 [T]: the sorted rows' clusters. `ends` int32 [K]: where each cluster's sorted rows end.
    """

    order: torch.Tensor
    place: torch.Tensor
    owner: torch.Tensor
    ends: torch.Tensor

    @classmethod
    def of(cls, clusters: torch.Tensor, count: int) -> Groups:
        """`clusters` int64 [T], each below `count`. The work is the same whatever they are, and nothing is read back
        from the device, so that a CUDA graph can hold it."""
        owner, order = torch.sort(clusters, stable=True)
        here = torch.arange(len(order), device=order.device)
        numbers = torch.arange(count, device=clusters.device)
        ends = (clusters[:, None] == numbers).sum(0).cumsum(0, dtype=torch.int32)
        return cls(order, torch.empty_like(order).scatter_(0, order, here), owner, ends)


def product(rows: torch.Tensor, weights: torch.Tensor, groups: Groups) -> torch.Tensor:
    """[T, out]: each of the sorted `rows` [T, in] times its cluster's matrix of `weights` [K, out, in]."""
    if has_kernel(rows):
        return F.grouped_mm(rows, weights.transpose(1, 2), offs=groups.ends)
    return masked(rows, weights, groups)


def has_kernel(rows: torch.Tensor) -> bool:
    """Whether `grouped_mm` does it without looking at the groups from the host: on a CPU there is no difference; on a
    GPU in bfloat16 from compute capability 9.0 (H100) on. Elsewhere it would wait for the device, which no CUDA graph
    can hold."""
    if not rows.is_cuda:
        return True
    return rows.dtype == torch.bfloat16 and torch.cuda.get_device_capability(rows.device) >= (9, 0)


def masked(rows: torch.Tensor, weights: torch.Tensor, groups: Groups) -> torch.Tensor:
    """As `product`, at K times the work: every row times every matrix, of which it keeps its own."""
    result = rows @ weights[0].T
    for cluster in range(1, len(weights)):
        own = (groups.owner == cluster)[:, None]
        result = torch.where(own, rows @ weights[cluster].T, result)
    return result
