"""`hetlm evaluate`."""

from __future__ import annotations

from importlib.util import find_spec
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
        str,
        typer.Option(
            help="bundle: its predictors; shared: its pretrained predictor for everybody; fallback: its mixture of "
            "Markov chains; or a baseline, fitted here on the dataset's training users (popularity, repeat, ...)"
        ),
    ] = "bundle",
    users: Annotated[int | None, typer.Option(min=1, help="at most so many next sessions, drawn by the seed")] = None,
    decode: Annotated[
        Literal["consensus", "greedy", "default"],
        typer.Option(help="which decode stands first, both being reported; default: the bundle's"),
    ] = "default",
    samples: Annotated[int, typer.Option(min=1, max=1024, help="sampled paths per user and set")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="of the paths, the choice of users and the resamples")] = 0,
    resamples: Annotated[
        int, typer.Option(min=0, max=100_000, help="resamples of the users behind the 95 % intervals; 0: no intervals")
    ] = 1000,
    validation_users: Annotated[
        int,
        typer.Option(min=0, help="selection users forecast to choose the outcomes' thresholds; 0: no thresholds"),
    ] = 500,
    return_users: Annotated[
        int,
        typer.Option(
            min=0,
            help="users forecast, whether they came back or not, for outcomes within 7 days; 0: whether they came "
            "back is measured alone",
        ),
    ] = 2000,
    by_cluster: Annotated[
        bool,
        typer.Option("--by-cluster", help="rows by the bundle's clusters for the other models too (encodes sessions)"),
    ] = False,
    bert_score: Annotated[
        bool, typer.Option("--bert-score", help="BERTScore on the pinned encoder too: needs the extra bertscore; slow")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="also write the result here, as JSON, and the values per user beside it (*.users.parquet)"),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all cores")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON on stdout instead of tables")] = False,
) -> None:
    """Measure a bundle, or a baseline, on users it was not trained on: pages, outcomes, their probabilities, the loss.

    `hetlm compare` sets results on the same users against each other.
    """
    if out is not None and not out.parent.is_dir():
        raise fail(f"--out {out}: the directory {out.parent} does not exist")
    if out is not None and out.is_dir():
        raise fail(f"--out {out} is a directory: name a file")
    if bert_score and find_spec("bert_score") is None:
        raise fail("--bert-score needs the package bert-score: pip install 'hetlm[bertscore]'")
    import torch
    from rich.console import Console
    from transformers.utils import logging

    from browsing.bundle import Bundle, BundleError
    from browsing.encoders.of_bundle import encoder_of
    from browsing.engine import EngineError
    from browsing.forecast import Options
    from training.dataset import Dataset, DatasetError
    from training.evaluation import run
    from training.evaluation.metrics import text
    from training.evaluation.tables import screen

    logging.disable_progress_bar()  # the encoder's weights are loaded in a second
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        if bert_score:
            text.need_bert_score()
        own, data = Bundle.load(bundle), Dataset.load(dataset)
        plan = run.Plan(
            split=split,
            model=model,
            users=users,
            options=Options(samples=samples, decode=own.manifest.decode if decode == "default" else decode, seed=seed),
            threads=threads,
            resamples=resamples,
            validation=validation_users,
            bert=bert_score,
            returning=return_users,
        )
        encoder = encoder_of(own) if model == "bundle" or by_cluster else None
        result, per_user = run.evaluation(own, data, encoder, plan)
    except (BundleError, DatasetError, run.EvaluationError, EngineError, text.MissingExtraError) as error:
        raise fail(str(error)) from error
    if out is not None:
        result = run.write(result, per_user, out)
    if not as_json:
        screen.show(result, Console(highlight=False))
    emit(result.model_dump(mode="json"), as_json)
