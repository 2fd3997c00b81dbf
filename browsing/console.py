"""What every command shows: progress with rate and time left, errors with a remedy, one line of JSON at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

STDERR = Console(stderr=True, highlight=False)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text("")
        digits = 0 if speed >= 10 else 1
        return Text(f"{speed:,.{digits}f} {self._unit}/s", style="progress.data.speed")


@contextmanager
def progress(description: str, total: float | None, unit: str = "rows") -> Iterator[Callable[[float], None]]:
    """A bar on stderr; yields `advance(n)`. Where stderr is no terminal, one line when it is done."""
    amounts = (DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(), _Rate(unit))
    columns = [TextColumn("{task.description:<26}"), BarColumn(bar_width=30), *amounts, TimeRemainingColumn()]
    with Progress(*columns, console=STDERR, disable=bool(os.environ.get("HETLM_QUIET"))) as bar:
        task = bar.add_task(description, total=total)
        yield lambda n: bar.advance(task, n)


def emit(document: dict[str, Any], as_json: bool) -> None:
    """With `--json`, the command's one line on stdout."""
    if as_json:
        typer.echo(json.dumps(document, sort_keys=True, default=str))


def fail(message: str) -> typer.Exit:
    """Print `message` as an error; the caller raises the result: exit code 2, a mistake that the message names."""
    STDERR.print(Text.assemble(("error:", "bold red"), " ", message), soft_wrap=True)
    return typer.Exit(2)
