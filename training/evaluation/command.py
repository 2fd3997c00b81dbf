"""`hetlm evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from browsing.console import emit, fail


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="the bundle, a directory", show_default=False)],
    dataset: Annotated[Path, typer.Argument(help="the dataset, a directory", show_default=False)],
    split: Annotated[
        Literal["train", "select", "calibrate", "test"], typer.Option(help="whose next sessions")
    ] = "test",
    model: Annotated[
        Literal["bundle", "markov"], typer.Option(help="the bundle's predictors, or its mixture of Markov chains")
    ] = "bundle",
    users: Annotated[int | None, typer.Option(min=1, help="at most so many users, drawn by the seed")] = None,
    decode: Annotated[
        Literal["consensus", "greedy", "default"],
        typer.Option(help="how paths become one session; default: the bundle's"),
    ] = "default",
    samples: Annotated[int, typer.Option(min=1, max=1024, help="sampled paths per user and set")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="of the paths, and of the choice of users")] = 0,
    out: Annotated[Path | None, typer.Option(help="also write the result here, as JSON")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all cores")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON on stdout instead of tables")] = False,
) -> None:
    """Measure a bundle on users it was not trained on: pages, outcomes, their probabilities and the test loss."""
    if out is not None and not out.parent.is_dir():
        raise fail(f"--out {out}: the directory {out.parent} does not exist")
    if out is not None and out.is_dir():
        raise fail(f"--out {out} is a directory: name a file")
    import torch
    from rich.console import Console
    from transformers.utils import logging

    from browsing.bundle import Bundle, BundleError
    from browsing.encoder import SbertEncoder
    from browsing.engine import EngineError
    from browsing.forecast import Options
    from training.dataset import Dataset, DatasetError
    from training.evaluation import run, tables

    logging.disable_progress_bar()  # the encoder's weights are loaded in a second
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        own, data = Bundle.load(bundle), Dataset.load(dataset)
        result = run.evaluate(
            own,
            data,
            SbertEncoder(),
            split=split,
            model=model,
            users=users,
            options=Options(samples=samples, decode=own.manifest.decode if decode == "default" else decode, seed=seed),
            threads=threads,
        )
    except (BundleError, DatasetError, run.EvaluationError, EngineError) as error:
        raise fail(str(error)) from error
    if out is not None:
        partial = out.with_name(out.name + ".partial")
        partial.write_text(result.model_dump_json(indent=2) + "\n")
        partial.replace(out)
    if not as_json:
        tables.show(result, Console(highlight=False))
    emit(result.model_dump(mode="json"), as_json)
