"""`hetlm lora`: adapters for a large language model of words."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.markup import escape

from browsing.console import STDERR, emit, fail, progress
from training.lora.settings import TABLE_17, LoraSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from training.dataset import Dataset
    from training.lora.data import Tokenizer, Tokens

INTERRUPTED = 130


def lora(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The directory that `hetlm ingest` wrote.")],
    base: Annotated[str, typer.Option(help="The model to adapt: a Hugging Face directory, or a name on the hub.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the adapters go; it must not exist yet.")],
    eight_bit: Annotated[
        bool, typer.Option(help="Base weights and AdamW's moments in 8 bits; needs a GPU and bitsandbytes.")
    ] = TABLE_17.eight_bit,
    sequence_length: Annotated[int, typer.Option(min=64, help="Tokens of a sequence.")] = TABLE_17.sequence_length,
    epochs: Annotated[int, typer.Option(min=1)] = TABLE_17.epochs,
    accumulation: Annotated[int, typer.Option(min=1, help="Micro-batches per step.")] = TABLE_17.accumulation,
    micro_batch: Annotated[int, typer.Option(min=1, help="Sequences per micro-batch.")] = TABLE_17.micro_batch,
    learning_rate: Annotated[float, typer.Option(min=1e-9)] = TABLE_17.learning_rate,
    weight_decay: Annotated[float, typer.Option(min=0)] = TABLE_17.weight_decay,
    warmup_steps: Annotated[int, typer.Option(min=0)] = TABLE_17.warmup_steps,
    rank: Annotated[int, typer.Option(min=1, help="LoRA's r.")] = TABLE_17.rank,
    alpha: Annotated[int, typer.Option(min=1, help="LoRA's alpha.")] = TABLE_17.alpha,
    dropout: Annotated[float, typer.Option(min=0, max=0.99)] = TABLE_17.dropout,
    validation_share: Annotated[
        float, typer.Option(min=0.001, max=0.9, help="Share of the training users held out.")
    ] = TABLE_17.validation_share,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many optimiser steps.")] = None,
    users: Annotated[int | None, typer.Option(min=2, help="At most so many training users, drawn by the seed.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    runs: Annotated[
        Path | None,
        typer.Option(help="Where runs keep their state; by default $HETLM_HOME/runs or ~/.cache/hetlm/runs."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda (or cuda:1).")] = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one line of JSON on stdout, and nothing else there.")
    ] = False,
) -> None:
    """Fine-tune a large language model on browsing as text, with LoRA; the defaults are the values of HeTLM's Table 17.

    The prompt is that of `hetlm prompt` without examples; the loss is on the next session alone. Interrupted with
    Ctrl-C, the same command goes on from the last finished epoch. The adapters of the epoch with the lowest validation
    loss are kept. Any server that loads LoRA adapters serves them, and `hetlm prompt` measures them: docs/text-llm.md.

    Examples:

      hetlm lora data/shop --base meta-llama/Meta-Llama-3-8B --out adapters/llama3

      hetlm lora data/shop --base models/SmolLM2-135M-Instruct --out adapters/smol --no-eight-bit --epochs 1
    """
    from transformers.utils.logging import disable_progress_bar

    from training.dataset import Dataset
    from training.hardware import device_named
    from training.lora import base as bases
    from training.run import default_runs

    if out.exists():
        raise fail(f"--out {out}: it exists already; name a directory that does not")
    settings = LoraSettings(
        eight_bit=eight_bit,
        sequence_length=sequence_length,
        validation_share=validation_share,
        epochs=epochs,
        accumulation=accumulation,
        micro_batch=micro_batch,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        seed=seed,
        max_steps=max_steps,
    )
    disable_progress_bar()  # transformers' own bars: they would stand between ours
    try:
        place = device_named(device)
        bases.check_machine(settings, place)
        loaded = Dataset.load(dataset)
        tokenizer = bases.load_tokenizer(base)
        train, held, left_out = _tokens(loaded, tokenizer, settings, users)
        document = _tune(loaded, base, tokenizer, train, held, settings, out, runs or default_runs(), place)
    except KeyboardInterrupt as error:
        STDERR.print("\n[bold]interrupted:[/] the same command goes on from the last finished epoch")
        raise typer.Exit(INTERRUPTED) from error
    except ValueError as error:
        raise fail(str(error)) from error
    emit(document | {"too_long": left_out}, as_json)


def _tokens(
    dataset: Dataset, tokenizer: Tokenizer, settings: LoraSettings, users: int | None
) -> tuple[list[Tokens], list[Tokens], int]:
    """(of the training users, of the validation users, samples that do not fit). All samples of one user are on one
    side."""
    import numpy as np

    from training.lora.data import tokens_of

    samples = dataset.samples("train")
    names = sorted({sample.user_id for sample in samples})
    order = np.random.default_rng(settings.seed).permutation(len(names))[:users].tolist()
    count = max(1, round(settings.validation_share * len(order)))
    held_names, train_names = ({names[i] for i in part} for part in (order[:count], order[count:]))
    chosen = [sample for sample in samples if sample.user_id in held_names or sample.user_id in train_names]
    train: list[Tokens] = []
    held: list[Tokens] = []
    with progress("tokenising", len(chosen), "samples") as advance:
        for sample in chosen:
            tokens = tokens_of(sample, tokenizer, settings.sequence_length)
            if tokens is not None:
                (held if sample.user_id in held_names else train).append(tokens)
            advance(1)
    return train, held, len(chosen) - len(train) - len(held)


def _tune(
    dataset: Dataset,
    base: str,
    tokenizer: Tokenizer,
    train: list[Tokens],
    held: list[Tokens],
    settings: LoraSettings,
    out: Path,
    runs: Path,
    device: torch.device,
) -> dict[str, object]:
    from training.lora.base import load_model, optimizer_of
    from training.lora.tune import Tuning
    from training.predictors import parameters

    began = time.perf_counter()
    material = {
        "base": base,
        "settings": settings.model_dump(mode="json"),
        "data": dataset.info.hashes,
        "tokens": hashlib.sha256(repr([train, held]).encode()).hexdigest(),
    }
    run = runs / f"lora-{hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()[:16]}"
    STDERR.print(f"run {escape(str(run))}", soft_wrap=True)
    model = load_model(base, settings, device)
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    tuning = Tuning(
        model, train, held, settings, padding=padding or 0, state=run / "tune", optimizer=optimizer_of(settings)
    )
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    STDERR.print(
        f"{learnt:,} of {parameters(model):,} parameters learn, in {tuning.total:,} steps; {len(train):,} samples, "
        f"{len(held):,} to validate with"
    )
    tuned = tuning.run()
    document: dict[str, object] = {
        "base": base,
        "dataset": dataset.info.hashes["train.parquet"],
        "settings": settings.model_dump(mode="json"),
        "epoch": tuned.epoch,
        "validation_loss": tuned.loss,
        "losses": [{"train": trained, "validation": loss} for trained, loss in tuned.history],
        "steps": tuned.steps,
        "samples": len(train),
        "validation_samples": len(held),
        "seconds": round(time.perf_counter() - began, 2),
    }
    save_adapters(model, tokenizer, document, out)
    STDERR.print(f"[bold]{escape(str(out))}[/], epoch {tuned.epoch}, {tuned.loss:.4f} nats per token", soft_wrap=True)
    return {"out": str(out), "run": str(run)} | document


def save_adapters(model: nn.Module, tokenizer: Tokenizer, document: dict[str, object], out: Path) -> None:
    """`adapter_config.json`, `adapter_model.safetensors`, the tokenizer with its chat template, `training.json`; in one
    piece: there is either all of it or nothing."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    cast(Any, model).save_pretrained(partial, safe_serialization=True)
    cast(Any, tokenizer).save_pretrained(partial)
    (partial / "training.json").write_text(json.dumps(document, indent=2) + "\n")
    partial.replace(out)
