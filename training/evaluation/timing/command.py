"""`hetlm timing`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from browsing.console import emit, fail
from browsing.whole import write_whole


def timing(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="whose visitors are forecast", show_default=False)],
    bundles: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE...", help="what is timed, with the shared model of each", show_default=False),
    ],
    split: Annotated[
        Literal["train", "select", "calibrate", "test"], typer.Option(help="whose next sessions")
    ] = "test",
    users: Annotated[int, typer.Option(min=1, help="next sessions per turn, drawn by the seed")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="turns that every configuration has")] = 3,
    samples: Annotated[int, typer.Option(min=1, max=1024, help="sampled paths per user and set")] = 16,
    concurrency: Annotated[int, typer.Option(min=1, help="users in flight at once")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="of the paths, and of the choice of users")] = 0,
    out: Annotated[Path | None, typer.Option(help="also write the result here, as JSON, for `hetlm tables`")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all cores")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON on stdout instead of the table")] = False,
) -> None:
    """Time how long bundles take to forecast the same visitors, beside the single model that each was tuned from.

    All configurations take turns within one run, on the embedded engine and with the same options. Leave the machine
    alone meanwhile.
    """
    if out is not None and not out.parent.is_dir():
        raise fail(f"--out {out}: the directory {out.parent} does not exist")
    if out is not None and out.is_dir():
        raise fail(f"--out {out} is a directory: name a file")
    from rich.console import Console
    from transformers.utils import logging

    from browsing.bundle import Bundle, BundleError
    from browsing.encoders.of_bundle import encoder_of
    from browsing.engine import EngineError
    from browsing.forecast import Options
    from training.dataset import Dataset, DatasetError
    from training.evaluation.tables import terminal
    from training.evaluation.timing import measure, table

    logging.disable_progress_bar()  # models are loaded anew for every turn
    try:
        data = Dataset.load(dataset)
        own = [Bundle.load(bundle) for bundle in bundles]
        result = measure.timing(
            own,
            data,
            encoder_of,
            split=split,
            users=users,
            rounds=rounds,
            options=Options(samples=samples, seed=seed),
            threads=threads,
            concurrency=concurrency,
        )
    except (BundleError, DatasetError, EngineError, measure.TimingError) as error:
        raise fail(str(error)) from error
    if out is not None:
        write_whole(out, result.model_dump_json(indent=2) + "\n")
    if not as_json:
        terminal.show([table.grid(result)], Console(highlight=False))
    emit(result.model_dump(mode="json"), as_json)
