"""The table that grows on screen by one row per epoch."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.table import Table

from browsing.console import STDERR


class EpochTable:
    """Rows are printed as they come, the header once, in columns of fixed widths."""

    def __init__(self, columns: Sequence[tuple[str, int]]) -> None:
        """`columns`: (header, least width)."""
        self._columns = columns
        self._headed = False

    def row(self, *cells: str) -> None:
        if os.environ.get("HETLM_QUIET"):
            return
        table = Table(box=None, show_header=not self._headed, pad_edge=False, header_style="bold")
        for name, width in self._columns:
            table.add_column(name, min_width=max(width, len(name)), justify="right", no_wrap=True)
        table.add_row(*cells)
        width = sum(max(least, len(name)) + 2 for name, least in self._columns)
        STDERR.print(table, width=max(width, STDERR.width), crop=False)
        self._headed = True
