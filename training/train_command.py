"""`hetlm train`: from a dataset to a bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from browsing.console import STDERR, emit, fail
from browsing.encoder import EncoderKind
from training.presets import PRESETS
from training.settings import Losses, Method, Precision, Scored, Start, WarmStart, settings_of

if TYPE_CHECKING:  # torch takes seconds to import, and `hetlm --help` needs none of it
    import torch

    from browsing.encoder import Encoder
    from training.dataset import Dataset
    from training.hardware import Hardware
    from training.run import Run

INTERRUPTED = 130

_PANELS = {"m": "Method", "p": "Pretraining", "t": "Fine-tuning", "r": "Running"}


def train(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The directory that `hetlm ingest` wrote.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Where the bundle goes; an older bundle is replaced.")],
    method: Annotated[
        Method,
        typer.Option(
            help="mixture: clusters are what explains users' own sequences best, found by expectation-maximisation; "
            "the selector is taught them. hetlm: selector and predictors learn together, the paper's actor-critic. "
            "kmeans: the start's clusters, fixed. random: as many users, drawn. token: one predictor that is told the "
            "cluster. single: one predictor for everybody, tuned for as many epochs.",
            rich_help_panel=_PANELS["m"],
        ),
    ] = "hetlm",
    start: Annotated[
        Start | None,
        typer.Option(
            help="First clusters. kmeans: on the embeddings. markov: a mixture of Markov chains, which finds kinds of "
            "visitors where page names say little. By default kmeans, and markov for the mixture.",
            rich_help_panel=_PANELS["m"],
        ),
    ] = None,
    losses: Annotated[
        Losses | None,
        typer.Option(
            help="paper: as printed, with summed log-likelihoods. scaled: per token, and a separation term that does "
            "not saturate. By default paper.",
            rich_help_panel=_PANELS["m"],
        ),
    ] = None,
    clusters: Annotated[
        int, typer.Option(min=1, help="Clusters to begin with; empty ones are dropped.", rich_help_panel=_PANELS["m"])
    ] = 6,
    choose_clusters: Annotated[
        bool,
        typer.Option(
            help="Take the best K up to --clusters: by silhouette (kmeans) or validation likelihood (markov).",
            rich_help_panel=_PANELS["m"],
        ),
    ] = False,
    encoder: Annotated[
        EncoderKind | None,
        typer.Option(
            help="What the selector sees of a session. sbert: its pages' names. predictor: the pretrained predictor's "
            "hidden states. both. markov: how likely each Markov chain finds it, and how often it goes back. By "
            "default the mixture takes what tells its clusters apart best, hetlm and kmeans sbert.",
            rich_help_panel=_PANELS["m"],
        ),
    ] = None,
    decay: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Weight of a session relative to the next newer one (0.8, or chosen with the encoder).",
            rich_help_panel=_PANELS["m"],
        ),
    ] = None,
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
    times: Annotated[
        int,
        typer.Option(
            min=1,
            help="Widen the predictor to at least so many times its parameters: one large model against K small ones.",
            rich_help_panel=_PANELS["m"],
        ),
    ] = 1,
    warm_start: Annotated[
        WarmStart | None,
        typer.Option(
            help="synthetic: learn to copy and to read habits on synthetic browsing first, as long as validation "
            "likes it. checkpoint: begin from --checkpoint. none: begin from nothing.",
            rich_help_panel=_PANELS["p"],
        ),
    ] = None,
    warm_users: Annotated[
        int | None,
        typer.Option(min=1, help="Synthetic visitors per epoch (16,000).", rich_help_panel=_PANELS["p"]),
    ] = None,
    warm_epochs: Annotated[
        int | None, typer.Option(min=0, help="Most synthetic epochs (3).", rich_help_panel=_PANELS["p"])
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Most pretraining epochs; it stops early.", rich_help_panel=_PANELS["p"]),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs without a better validation loss.", rich_help_panel=_PANELS["p"]),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples on a device at a time.", rich_help_panel=_PANELS["p"])
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(min=1, help="So many times --batch-size samples make one step.", rich_help_panel=_PANELS["p"]),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, rich_help_panel=_PANELS["p"])] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0, rich_help_panel=_PANELS["p"])] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.99,
            help="Share of every layer's output that is dropped while a predictor trains on users of a fixed cluster.",
            rich_help_panel=_PANELS["p"],
        ),
    ] = None,
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
    hold: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="hetlm: epochs in which the selector waits for the predictors to differ (scaled 1, paper 0).",
            rich_help_panel=_PANELS["t"],
        ),
    ] = None,
    interpolate: Annotated[
        bool | None,
        typer.Option(
            "--interpolate/--no-interpolate",
            help="Move predictors back towards the single one where held-out users prefer it (mixture, and hetlm with "
            "scaled losses).",
            rich_help_panel=_PANELS["t"],
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds, equal weights.", rich_help_panel=_PANELS["r"])] = 0,
    runs: Annotated[
        Path | None,
        typer.Option(
            help="Where runs keep their state; by default $HETLM_HOME/runs or ~/.cache/hetlm/runs.",
            rich_help_panel=_PANELS["r"],
        ),
    ] = None,
    limit_batches: Annotated[
        int | None,
        typer.Option(min=1, help="Stop an epoch after so many steps: a smoke run.", rich_help_panel=_PANELS["r"]),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(
            help="fp32; bf16 or fp16 (GPU only): forward passes in half precision, weights in fp32.",
            rich_help_panel=_PANELS["r"],
        ),
    ] = "fp32",
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

    A mixture of Markov chains is fitted, one predictor is warmed up on synthetic browsing and pretrained on everybody;
    then the method finds the clusters and tunes a copy of the predictor for each, and where held-out users prefer it a
    copy moves back towards the predictor for everybody. What is not given follows the preset. Interrupted with Ctrl-C,
    the same command goes on from the last finished epoch and ends with the same weights.

    Examples:

      hetlm train data/shop --out bundles/shop --preset demo

      hetlm train data/shop --out bundles/mixture --method mixture

      hetlm train data/shop --out bundles/markov --start markov --losses scaled --clusters 4

      hetlm train data/shop --out bundles/one --method single

      accelerate launch -m browsing train data/shop --out bundles/large --preset opt-350m --precision bf16

    Under accelerate launch all of a machine's GPUs pretrain together; the first one does the rest alone.
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    from browsing.encoders.sbert import SbertEncoder
    from training.bundling import check_place
    from training.dataset import Dataset
    from training.hardware import Hardware
    from training.pipeline import assist, run_data
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
            accumulate=accumulate,
            limit_batches=limit_batches,
            precision=precision,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            dropout=dropout,
            tune_epochs=tune_epochs,
            tune_batch_size=tune_batch_size,
            predictor_learning_rate=predictor_learning_rate,
            predictor_weight_decay=predictor_weight_decay,
            selector_learning_rate=selector_learning_rate,
            selector_weight_decay=selector_weight_decay,
            critic=critic,
            temperature=temperature,
            smoothing=smoothing,
            choose_clusters=choose_clusters,
            encoder=encoder,
            decay=decay,
            times=times,
            warm_start=warm_start,
            warm_users=warm_users,
            warm_epochs=warm_epochs,
            hold=hold,
            interpolate=interpolate,
        )
        hardware = Hardware(device_of(device), precision)
        check_place(out)
        loaded = Dataset.load(dataset)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in detail["loc"])
        raise fail(where + detail["msg"].removeprefix("Value error, ")) from error
    except ValueError as error:
        raise fail(str(error)) from error
    disable_progress_bar()  # transformers' own bars: they would stand between ours
    sbert = SbertEncoder()
    run = Run.open(runs or default_runs(), settings, run_data(loaded, sbert))
    if not hardware.main:
        STDERR.quiet = True  # one progress bar is enough
        assist(loaded, run, hardware)
        return
    STDERR.print(f"run {run.root}")
    try:
        document = _train(loaded, sbert, run, hardware, out)
    except KeyboardInterrupt as error:
        STDERR.print("\n[bold]interrupted:[/] the same command goes on from the last finished epoch")
        raise typer.Exit(INTERRUPTED) from error
    except ValueError as error:
        raise fail(str(error)) from error
    emit(document, as_json)


def _train(dataset: Dataset, sbert: Encoder, run: Run, hardware: Hardware, out: Path) -> dict[str, object]:
    from training.bundling import write_bundle
    from training.pipeline import train_bundle_parts
    from training.predictors import parameters

    began = time.perf_counter()
    trained = train_bundle_parts(dataset, sbert, run, hardware.device, hardware=hardware)
    size = parameters(trained.model)
    bundling = time.perf_counter()
    manifest = write_bundle(trained, run, out)
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
