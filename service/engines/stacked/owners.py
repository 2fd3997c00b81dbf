"""Which cluster a sequence belongs to, remembered beside vLLM's KV cache."""

from __future__ import annotations

import torch
from torch import nn


class Owners(nn.Module):
    """One number per block of the KV cache: of a sequence's first block, the cluster of the sequence.

    Only a sequence's first token tells its cluster: its id is k*V + page. The first block is the sequence's own, or
    shared with sequences that begin with the same ids, so that all of them are of one cluster; it stays the first block
    for as long as the sequence lives, whatever of it is computed when. A sequence that vLLM has put off and computes
    again begins with its first token again.
    """

    of_block: torch.Tensor

    def __init__(self, pages: int, blocks: int) -> None:
        """`pages`: V. `blocks`: of the KV cache, at most."""
        super().__init__()
        self._pages = pages
        self._nobody = blocks  # a place that is written, and never read
        self.register_buffer("of_block", torch.zeros(blocks + 1, dtype=torch.int32), persistent=False)

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, starts: torch.Tensor, table: torch.Tensor
    ) -> torch.Tensor:
        """Int64 [T]: each row's cluster. `ids`, `positions` [T]: of the rows, sequence by sequence. `starts` [R + 1]:
        where the sequences' rows start, and the last one's end. `table` [R, n]: their blocks."""
        of_block = self.of_block
        blocks = table[: len(starts) - 1, 0].long()
        first = starts[:-1].long().clamp(max=len(ids) - 1)
        # A CUDA graph's padding is sequences without rows: what happens to stand in their place is not written down.
        begins = (positions[first] == 0) & (starts[1:] > starts[:-1])
        of_block[torch.where(begins, blocks, self._nobody)] = (ids[first] // self._pages).to(of_block.dtype)
        here = torch.arange(len(ids), dtype=starts.dtype, device=ids.device)
        sequence = torch.searchsorted(starts[1:].contiguous(), here, right=True).clamp(max=len(blocks) - 1)
        return of_block[blocks].long()[sequence]
