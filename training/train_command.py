"""`hetlm train`: from a dataset to a bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from browsing.console import STDERR, emit, fail
from training.presets import PRESETS
from training.settings import Losses, Method, Scored, Start, settings_of

if TYPE_CHECKING:  # torch takes seconds to import, and `hetlm --help` needs none of it
    import torch

    from browsing.encoder import Encoder
    from training.dataset import Dataset
    from training.run import Run

ENCODER_NAME = "all-MiniLM-L6-v2"
INTERRUPTED = 130

_PANELS = {"m": "Method", "p": "Pretraining", "t": "Fine-tuning", "r": "Running"}


def train(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The directory that `hetlm ingest` wrote.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Where the bundle goes; an older bundle is replaced.")],
    method: Annotated[
        Method,
        typer.Option(
            help="hetlm: selector and predictors learn together. kmeans: the start's clusters, fixed. single: one "
            "predictor, tuned on everybody for as many epochs.",
            rich_help_panel=_PANELS["m"],
        ),
    ] = "hetlm",
    start: Annotated[
        Start,
        typer.Option(
            help="First clusters. kmeans: on the embeddings. markov: a mixture of Markov chains, which finds kinds of "
            "visitors where page names say little.",
            rich_help_panel=_PANELS["m"],
        ),
    ] = "kmeans",
    losses: Annotated[
        Losses,
        typer.Option(
            help="paper: as printed, with summed log-likelihoods. scaled: per token, and a separation term that does "
            "not saturate.",
            rich_help_panel=_PANELS["m"],
        ),
    ] = "paper",
    clusters: Annotated[
        int, typer.Option(min=1, help="Clusters to begin with; empty ones are dropped.", rich_help_panel=_PANELS["m"])
    ] = 6,
    alpha: Annotated[
        float | None,
        typer.Option(
            min=0, help="Weight of L2 (sure assignments) at the end; it rises from 0.", rich_help_panel=_PANELS["m"]
        ),
    ] = None,
    beta: Annotated[
        float | None, typer.Option(min=0, help="Weight of L3 (clusters apart).", rich_help_panel=_PANELS["m"])
    ] = None,
    preset: Annotated[
        str, typer.Option(help=f"The predictors: {', '.join(PRESETS)}.", rich_help_panel=_PANELS["m"])
    ] = "small",
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="Start from this checkpoint of the preset's family (a directory or a name on the hub), with fresh "
            "embeddings for the pages; by default from scratch.",
            rich_help_panel=_PANELS["m"],
        ),
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=16, help="Tokens a predictor reads.", rich_help_panel=_PANELS["m"])
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Pages up to which a next session is followed.", rich_help_panel=_PANELS["m"]),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Most pretraining epochs; it stops early.", rich_help_panel=_PANELS["p"]),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs without a better validation loss.", rich_help_panel=_PANELS["p"]),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, rich_help_panel=_PANELS["p"])] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, rich_help_panel=_PANELS["p"])] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0, rich_help_panel=_PANELS["p"])] = None,
    tune_epochs: Annotated[
        int | None, typer.Option(min=0, help="Epochs of actor-critic fine-tuning.", rich_help_panel=_PANELS["t"])
    ] = None,
    tune_batch_size: Annotated[int | None, typer.Option(min=1, rich_help_panel=_PANELS["t"])] = None,
    predictor_learning_rate: Annotated[float | None, typer.Option(min=0, rich_help_panel=_PANELS["t"])] = None,
    predictor_weight_decay: Annotated[float | None, typer.Option(min=0, rich_help_panel=_PANELS["t"])] = None,
    selector_learning_rate: Annotated[float | None, typer.Option(min=0, rich_help_panel=_PANELS["t"])] = None,
    selector_weight_decay: Annotated[float | None, typer.Option(min=0, rich_help_panel=_PANELS["t"])] = None,
    critic: Annotated[
        Scored | None,
        typer.Option(
            help="Tokens in the critics' loss: the next session's (the paper's), or the history's too.",
            rich_help_panel=_PANELS["t"],
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=1, help="How unsure the selector begins (1: as sure as it is).", rich_help_panel=_PANELS["t"]),
    ] = None,
    smoothing: Annotated[
        float | None,
        typer.Option(min=0, max=0.99, help="Label smoothing of the start.", rich_help_panel=_PANELS["t"]),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds, equal weights.", rich_help_panel=_PANELS["r"])] = 0,
    runs: Annotated[
        Path | None,
        typer.Option(
            help="Where runs keep their state; by default $HETLM_HOME/runs or ~/.cache/hetlm/runs.",
            rich_help_panel=_PANELS["r"],
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda (or cuda:1).", rich_help_panel=_PANELS["r"])] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; by default all.", rich_help_panel=_PANELS["r"])
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="End with one line of JSON on stdout, and nothing else there."),
    ] = False,
) -> None:
    """Train a bundle: one small language model per kind of visitor, and a selector that knows the kinds.

    Sessions are embedded, a first clustering is found, one predictor is pretrained on everybody and copied, and
    selector and predictors are tuned together. What is not given follows the preset. Interrupted with Ctrl-C, the
    same command goes on from the last finished epoch and ends with the same weights.

    Examples:

      hetlm train data/shop --out bundles/shop --preset demo

      hetlm train data/shop --out bundles/markov --start markov --losses scaled --clusters 4

      hetlm train data/shop --out bundles/one --method single
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    from browsing.encoder import SbertEncoder
    from training.bundling import check_place
    from training.dataset import Dataset
    from training.pipeline import run_data
    from training.run import Run, default_runs

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        settings = settings_of(
            preset,
            method=method,
            start=start,
            losses=losses,
            seed=seed,
            clusters=clusters,
            alpha=alpha,
            beta=beta,
            checkpoint=checkpoint,
            context=context,
            max_steps=max_steps,
            epochs=epochs,
            patience=patience,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            tune_epochs=tune_epochs,
            tune_batch_size=tune_batch_size,
            predictor_learning_rate=predictor_learning_rate,
            predictor_weight_decay=predictor_weight_decay,
            selector_learning_rate=selector_learning_rate,
            selector_weight_decay=selector_weight_decay,
            critic=critic,
            temperature=temperature,
            smoothing=smoothing,
        )
        place = device_of(device)
        check_place(out)
        loaded = Dataset.load(dataset)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        raise fail(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}") from error
    except ValueError as error:
        raise fail(str(error)) from error
    disable_progress_bar()  # transformers' own bars: they would stand between ours
    encoder = SbertEncoder()
    run = Run.open(runs or default_runs(), settings, run_data(loaded, encoder))
    STDERR.print(f"run {run.root}")
    try:
        document = _train(loaded, encoder, run, place, out)
    except KeyboardInterrupt as error:
        STDERR.print("\n[bold]interrupted:[/] the same command goes on from the last finished epoch")
        raise typer.Exit(INTERRUPTED) from error
    except ValueError as error:
        raise fail(str(error)) from error
    emit(document, as_json)


def _train(dataset: Dataset, encoder: Encoder, run: Run, device: torch.device, out: Path) -> dict[str, object]:
    from training.bundling import write_bundle
    from training.pipeline import train_bundle_parts
    from training.predictors import parameters

    began = time.perf_counter()
    trained = train_bundle_parts(dataset, encoder, run, device)
    size = parameters(trained.model)
    bundling = time.perf_counter()
    manifest = write_bundle(trained, run, encoder, ENCODER_NAME, out)
    seconds = {**trained.seconds, "bundle": round(time.perf_counter() - bundling, 2)}
    for cluster in manifest.clusters:
        STDERR.print(f"cluster {cluster.id}: {escape(cluster.name)}, {cluster.share:.1%} of the training users")
    for name, value in sorted(manifest.metrics.items()):
        STDERR.print(f"{name}: {value:,.{0 if value.is_integer() else 4}f}")
    STDERR.print(f"[bold]{escape(str(out))}[/], version {manifest.version[:12]}, {time.perf_counter() - began:.0f} s")
    return {
        "bundle": str(out),
        "version": manifest.version,
        "run": str(run.root),
        "method": run.settings.method,
        "clusters": len(manifest.clusters),
        "shares": [c.share for c in manifest.clusters],
        "parameters": size,
        "losses": trained.losses,
        "metrics": manifest.metrics,
        "seconds": seconds,
    }


def device_of(name: str) -> torch.device:
    """Where to train. Raises `ValueError` for an unknown device, or a GPU that is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}: it is auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"unknown device {name!r}: it is auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this torch sees no GPU; use --device cpu")
    return device
