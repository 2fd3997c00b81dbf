"""`hetlm train`: from a dataset to a bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from pydantic import ValidationError
from rich.markup import escape

from browsing.console import STDERR, emit, fail
from training import train_options as options
from training.settings import settings_of

if TYPE_CHECKING:  # torch takes seconds to import, and `hetlm --help` needs none of it
    from browsing.encoder import Encoder
    from training.dataset import Dataset
    from training.hardware import Hardware
    from training.run import Run

INTERRUPTED = 130


def train(
    dataset: options.Dataset,
    out: options.Out,
    method: options.Method = "mixture",
    start: options.Start = None,
    losses: options.Losses = None,
    clusters: options.Clusters = 6,
    choose_clusters: options.ChooseClusters = False,
    encoder: options.Encoder = None,
    decay: options.Decay = None,
    alpha: options.Alpha = None,
    beta: options.Beta = None,
    preset: options.Preset = "small",
    checkpoint: options.Checkpoint = None,
    context: options.Context = None,
    max_steps: options.MaxSteps = None,
    times: options.Times = 1,
    warm_start: options.WarmStart = None,
    warm_users: options.WarmUsers = None,
    warm_epochs: options.WarmEpochs = None,
    epochs: options.Epochs = None,
    patience: options.Patience = None,
    batch_size: options.BatchSize = None,
    accumulate: options.Accumulate = None,
    learning_rate: options.LearningRate = None,
    weight_decay: options.WeightDecay = None,
    dropout: options.Dropout = None,
    tune_epochs: options.TuneEpochs = None,
    tune_batch_size: options.TuneBatchSize = None,
    predictor_learning_rate: options.PredictorLearningRate = None,
    predictor_weight_decay: options.PredictorWeightDecay = None,
    selector_learning_rate: options.SelectorLearningRate = None,
    selector_weight_decay: options.SelectorWeightDecay = None,
    critic: options.Critic = None,
    temperature: options.Temperature = None,
    smoothing: options.Smoothing = None,
    hold: options.Hold = None,
    interpolate: options.Interpolate = None,
    seed: options.Seed = 0,
    runs: options.Runs = None,
    limit_batches: options.LimitBatches = None,
    precision: options.Precision = "fp32",
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.Json = False,
) -> None:
    """Train a bundle: one small language model per kind of visitor, and a selector that knows the kinds.

    A mixture of Markov chains is fitted, one predictor is warmed up on synthetic browsing and pretrained on everybody;
    then the method finds the clusters and tunes a copy of the predictor for each, and where held-out users prefer it a
    copy moves back towards the predictor for everybody. What is not given follows the preset. Interrupted with Ctrl-C,
    the same command goes on from the last finished epoch and ends with the same weights.

    Every preset begins from random weights, the full-size ones too, unless --warm-start checkpoint or --checkpoint says
    otherwise.

    Examples:

      hetlm train data/shop --out bundles/shop --preset demo

      hetlm train data/shop --out bundles/paper --method hetlm

      hetlm train data/shop --out bundles/scaled --method hetlm --start markov --losses scaled --clusters 4

      hetlm train data/shop --out bundles/one --method single

      hetlm train data/shop --out bundles/opt --preset opt-350m --warm-start checkpoint

      accelerate launch -m browsing train data/shop --out bundles/large --preset opt-350m --precision bf16

    Under accelerate launch all of a machine's GPUs pretrain together; the first one does the rest alone.
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    from browsing.encoders.sbert import SbertEncoder
    from training.bundling import check_place
    from training.dataset import Dataset
    from training.hardware import Hardware, device_named
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
        hardware = Hardware(device_named(device), precision)
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
