"""The options of `hetlm train`, as annotated types: what each means, and the panel that it is shown in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training import settings
from training.presets import PRESETS

METHOD, PREDICTORS, PRETRAINING, TUNING, RUNNING = "Method", "Predictors", "Pretraining", "Fine-tuning", "Running"
_HUB = ", ".join(f"{preset.hub} for {name}" for name, preset in PRESETS.items() if preset.hub)

Dataset = Annotated[Path, typer.Argument(metavar="DATASET", help="The directory that `hetlm ingest` wrote.")]
Out = Annotated[Path, typer.Option(metavar="BUNDLE", help="Where the bundle goes; an older bundle is replaced.")]
Method = Annotated[
    settings.Method,
    typer.Option(
        help="mixture: clusters are what explains users' own sequences best, found by expectation-maximisation; "
        "the selector is taught them. hetlm: selector and predictors learn together, the paper's actor-critic. "
        "kmeans: the start's clusters, fixed. random: as many users, drawn. token: one predictor that is told the "
        "cluster. single: one predictor for everybody, tuned for as many epochs.",
        rich_help_panel=METHOD,
    ),
]
Start = Annotated[
    settings.Start | None,
    typer.Option(
        help="First clusters. kmeans: on the embeddings. markov: a mixture of Markov chains, which finds kinds of "
        "visitors where page names say little. By default markov for mixture and token, else kmeans.",
        rich_help_panel=METHOD,
    ),
]
Losses = Annotated[
    settings.Losses | None,
    typer.Option(
        help="paper: as printed, with summed log-likelihoods. scaled: per token, and a separation term that does "
        "not saturate. By default scaled for the mixture, which always scores per token, else paper.",
        rich_help_panel=METHOD,
    ),
]
Clusters = Annotated[
    int, typer.Option(min=1, help="Clusters to begin with; empty ones are dropped.", rich_help_panel=METHOD)
]
ChooseClusters = Annotated[
    bool,
    typer.Option(
        help="Take the best K up to --clusters: by silhouette (kmeans) or validation likelihood (markov).",
        rich_help_panel=METHOD,
    ),
]
Encoder = Annotated[
    settings.EncoderChoice | None,
    typer.Option(
        help="What the selector sees of a session. sbert: its pages' names. predictor: the pretrained predictor's "
        "hidden states. both. markov: how likely each Markov chain finds it, and how often it goes back. auto: "
        "what tells the mixture's clusters (with other methods: the Markov mixture's) apart best on the selection "
        "users. By default auto for the mixture, sbert, as published, for hetlm and kmeans, else predictor.",
        rich_help_panel=METHOD,
    ),
]
Decay = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Weight of a session relative to the next newer one. By default 1 or 0.8, as held-out users prefer, for "
        "the mixture and with --encoder auto, else 0.8.",
        rich_help_panel=METHOD,
    ),
]
Alpha = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="hetlm: weight of L2 (sure assignments) at the end; it rises from 0 (paper 2, scaled 0.1).",
        rich_help_panel=METHOD,
    ),
]
Beta = Annotated[
    float | None,
    typer.Option(min=0, help="hetlm: weight of L3 (clusters apart; paper 1, scaled 0.1).", rich_help_panel=METHOD),
]
Preset = Annotated[str, typer.Option(help=f"The predictors: {', '.join(PRESETS)}.", rich_help_panel=PREDICTORS)]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        help="Start from this checkpoint of the preset's family, with fresh embeddings for the pages: a directory, or "
        "a name on the model hub. The paper's are those of --warm-start checkpoint.",
        rich_help_panel=PREDICTORS,
    ),
]
Context = Annotated[int | None, typer.Option(min=16, help="Tokens a predictor reads.", rich_help_panel=PREDICTORS)]
MaxSteps = Annotated[
    int | None,
    typer.Option(min=1, help="Pages up to which a next session is followed.", rich_help_panel=PREDICTORS),
]
Times = Annotated[
    int,
    typer.Option(
        min=1,
        help="Widen the predictor to at least so many times its parameters: one large model against K small ones.",
        rich_help_panel=PREDICTORS,
    ),
]
WarmStart = Annotated[
    settings.WarmStart | None,
    typer.Option(
        help="synthetic: learn to copy and to read habits on synthetic browsing first, as long as validation "
        "likes it. checkpoint: begin from --checkpoint, or from the preset's own: " + _HUB + ". none: begin from "
        "nothing. By default synthetic, and checkpoint where --checkpoint names one.",
        rich_help_panel=PRETRAINING,
    ),
]
WarmUsers = Annotated[
    int | None,
    typer.Option(min=1, help="Synthetic visitors per epoch (16,000).", rich_help_panel=PRETRAINING),
]
WarmEpochs = Annotated[int | None, typer.Option(min=0, help="Most synthetic epochs (3).", rich_help_panel=PRETRAINING)]
Epochs = Annotated[
    int | None,
    typer.Option(min=1, help="Most pretraining epochs; it stops early.", rich_help_panel=PRETRAINING),
]
Patience = Annotated[
    int | None,
    typer.Option(min=1, help="Epochs without a better validation loss.", rich_help_panel=PRETRAINING),
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Samples on a device at a time.", rich_help_panel=PRETRAINING)
]
Accumulate = Annotated[
    int | None,
    typer.Option(min=1, help="So many times --batch-size samples make one step.", rich_help_panel=PRETRAINING),
]
LearningRate = Annotated[float | None, typer.Option(min=0, rich_help_panel=PRETRAINING)]
WeightDecay = Annotated[float | None, typer.Option(min=0, rich_help_panel=PRETRAINING)]
Dropout = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=0.99,
        help="Share of every layer's output that is dropped while a predictor trains on users of a fixed cluster.",
        rich_help_panel=PRETRAINING,
    ),
]
TuneEpochs = Annotated[
    int | None,
    typer.Option(
        min=0, help="Epochs of fine-tuning; mixture: rounds of expectation-maximisation.", rich_help_panel=TUNING
    ),
]
TuneBatchSize = Annotated[int | None, typer.Option(min=1, rich_help_panel=TUNING)]
PredictorLearningRate = Annotated[float | None, typer.Option(min=0, rich_help_panel=TUNING)]
PredictorWeightDecay = Annotated[float | None, typer.Option(min=0, rich_help_panel=TUNING)]
SelectorLearningRate = Annotated[float | None, typer.Option(min=0, rich_help_panel=TUNING)]
SelectorWeightDecay = Annotated[float | None, typer.Option(min=0, rich_help_panel=TUNING)]
Critic = Annotated[
    settings.Scored | None,
    typer.Option(
        help="Tokens in the predictors' loss. target: the next session's (the paper's). all: the history's too. By "
        "default all for the mixture, which needs it, else target.",
        rich_help_panel=TUNING,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        min=1,
        help="hetlm, kmeans, token: how unsure the selector begins (1: as sure as it is); by default 2 for hetlm, "
        "else 1.",
        rich_help_panel=TUNING,
    ),
]
Smoothing = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=0.99,
        help="hetlm, kmeans, token: label smoothing of the start; by default 0.1 for hetlm, else 0.",
        rich_help_panel=TUNING,
    ),
]
Hold = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="hetlm: epochs in which the selector waits for the predictors to differ (scaled 1, paper 0).",
        rich_help_panel=TUNING,
    ),
]
Interpolate = Annotated[
    bool | None,
    typer.Option(
        "--interpolate/--no-interpolate",
        help="Move predictors back towards the single one where held-out users prefer it (mixture, and hetlm with "
        "scaled losses).",
        rich_help_panel=TUNING,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Equal seeds, equal weights.", rich_help_panel=RUNNING)]
Runs = Annotated[
    Path | None,
    typer.Option(
        help="Where runs keep their state; by default $HETLM_HOME/runs or ~/.cache/hetlm/runs.",
        rich_help_panel=RUNNING,
    ),
]
LimitBatches = Annotated[
    int | None,
    typer.Option(min=1, help="Stop an epoch after so many steps: a smoke run.", rich_help_panel=RUNNING),
]
Precision = Annotated[
    settings.Precision,
    typer.Option(
        help="fp32, bf16, or fp16 (GPU only). bf16, fp16: forward passes in half precision, weights in fp32.",
        rich_help_panel=RUNNING,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda (or cuda:1).", rich_help_panel=RUNNING)]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all.", rich_help_panel=RUNNING)]
Json = Annotated[
    bool,
    typer.Option("--json", help="End with one line of JSON on stdout, and nothing else there."),
]
