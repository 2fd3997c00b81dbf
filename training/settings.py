"""Everything that a training run's result depends on, besides the data."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from browsing.encoder import DECAY, EncoderKind
from training.presets import PRESETS, Preset

Method = Literal["hetlm", "mixture", "kmeans", "random", "token", "single"]
Start = Literal["kmeans", "markov"]
Losses = Literal["paper", "scaled"]
Scored = Literal["target", "all"]
WarmStart = Literal["synthetic", "checkpoint", "none"]
Precision = Literal["fp32", "bf16", "fp16"]
EncoderChoice = Literal["auto", "sbert", "predictor", "both", "markov"]
"""`browsing.encoder.EncoderKind`, or the choice among them on the selection users."""

DEFAULT_ALPHA: dict[Losses, float] = {"paper": 2.0, "scaled": 0.1}
DEFAULT_BETA: dict[Losses, float] = {"paper": 1.0, "scaled": 0.1}


class Settings(BaseModel):
    """A run's settings, complete: equal settings on equal data give equal weights (on one machine and thread count)."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    method: Method
    start: Start
    losses: Losses
    preset: str
    checkpoint: str | None = None
    times: int = Field(default=1, ge=1, description="the predictor is widened to at least so many times its parameters")
    warm_start: WarmStart = "synthetic"
    encoder: EncoderKind | None = Field(default=None, description="None: chosen on the selection users")
    decay: float | None = Field(
        default=None, gt=0, le=1, description="weight of a session relative to the next newer one; None: chosen too"
    )
    interpolate: bool = Field(default=True, description="predictors move back towards the single one where it helps")
    choose_clusters: bool = Field(
        default=False, description="K from below: by silhouette (K-means) or validation likelihood (Markov)"
    )
    warm_users: int = Field(default=16_000, ge=1, description="synthetic visitors per epoch of the warm start")
    warm_epochs: int = Field(default=3, ge=0, description="epochs of the synthetic warm start")
    hold: int = Field(default=0, ge=0, description="epochs in which only the critics learn, on the start's clusters")
    seed: int = Field(ge=0)
    clusters: int = Field(ge=1)
    alpha: float = Field(ge=0)
    beta: float = Field(ge=0)
    context: int = Field(ge=16)
    max_steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup: float = Field(ge=0, lt=1, description="share of the pretraining steps over which the learning rate rises")
    epochs: int = Field(ge=1)
    patience: int = Field(ge=1, description="pretraining epochs without a better validation loss before it stops")
    batch_size: int = Field(ge=1, description="pretraining samples on a device at a time")
    accumulate: int = Field(default=1, ge=1, description="so many times batch_size samples make one pretraining step")
    limit_batches: int | None = Field(default=None, ge=1, description="steps per epoch at most: for a smoke run")
    precision: Precision = "fp32"
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of predictors that train on users of a fixed cluster")
    tune_epochs: int = Field(ge=0)
    tune_batch_size: int = Field(ge=1)
    predictor_learning_rate: float = Field(gt=0)
    predictor_weight_decay: float = Field(ge=0)
    selector_learning_rate: float = Field(gt=0)
    selector_weight_decay: float = Field(ge=0)
    critic: Scored = Field(description="tokens that the critic's loss scores: the next session's, or the history's too")
    temperature: float = Field(ge=1, description="the start's logits are divided by it, to keep the selector uncertain")
    smoothing: float = Field(ge=0, lt=1, description="label smoothing when the selector copies the start")
    centroid_rate: float = Field(gt=0, le=1, description="share of a batch's centroid in the stored one")

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if self.max_steps + 4 > self.context:
            raise ValueError(f"max_steps {self.max_steps} leaves no room for a history in a context of {self.context}")
        if (self.warm_start == "checkpoint") != (self.checkpoint is not None):
            raise ValueError("warm_start checkpoint and a checkpoint go together: give both, or neither")
        if self.times > 1 and self.checkpoint is not None:
            raise ValueError(f"times {self.times}: a checkpoint has its own size; leave one of the two out")
        if self.method == "mixture" and self.critic == "target":
            raise ValueError("critic target: the mixture needs predictors of whole histories (critic all)")
        if self.method == "mixture" and self.start != "markov":
            raise ValueError("start kmeans: the mixture starts from the Markov mixture (start markov)")
        if self.method == "token" and self.interpolate:
            raise ValueError("interpolate: method token is one predictor, whose clusters must not move apart")
        return self

    def single(self) -> Settings:
        """The settings of the control: one predictor for everybody, tuned as `--method single` tunes it. The mixture's
        critics score whole histories; what they are compared with, and move back to, does not."""
        if self.method == "single":
            return self.model_copy(update={"clusters": 1})
        control = {"method": "single", "clusters": 1, "critic": "target", "losses": "paper", "interpolate": False}
        return self.model_copy(update=control)

    @property
    def kinds(self) -> int:
        """Predictors to begin with: one for `single`."""
        return 1 if self.method == "single" else self.clusters


def settings_of(
    preset: str,
    *,
    method: Method = "mixture",
    start: Start | None = None,
    losses: Losses | None = None,
    seed: int = 0,
    clusters: int = 6,
    **given: object,
) -> Settings:
    """Complete settings: what is given (and not None) over the method's, over the preset's.

    `encoder` may be `auto` too, and `warm_start` `checkpoint` alone: then it is the one that the paper starts from.
    Raises `ValueError` for an unknown preset, or one without such a checkpoint.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}: it is one of {', '.join(PRESETS)}")
    losses = losses or ("scaled" if method == "mixture" else "paper")
    start = start or ("markov" if method in ("mixture", "token") else "kmeans")
    defaults = _defaults(PRESETS[preset], losses) | _of_method(method, losses)
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen.get("checkpoint"):
        defaults["warm_start"] = "checkpoint"
    elif chosen.get("warm_start") == "checkpoint":
        chosen["checkpoint"] = _public(preset)
    if chosen.get("encoder") == "auto":
        # One predictor has nothing to select: any encoder will do, and the method's own is the cheapest.
        defaults |= {} if method == "single" else {"encoder": None, "decay": None}
        del chosen["encoder"]
    fixed = {"preset": preset, "method": method, "start": start, "losses": losses, "seed": seed, "clusters": clusters}
    return Settings.model_validate(defaults | fixed | chosen)


def _public(preset: str) -> str:
    """The name on the model hub of the checkpoint that the paper starts this preset from."""
    hub = PRESETS[preset].hub
    if hub is None:
        public = ", ".join(name for name, known in PRESETS.items() if known.hub)
        raise ValueError(
            f"warm_start checkpoint: the preset {preset} has no public checkpoint ({public} have); name one of your "
            "own with --checkpoint"
        )
    return hub


def _of_method(method: Method, losses: Losses) -> dict[str, object]:
    if method == "hetlm":
        # With scaled losses a selector that moves before the predictors differ sends everybody to whichever is ahead.
        return {"encoder": "sbert", "decay": DECAY, "hold": int(losses == "scaled"), "interpolate": losses == "scaled"}
    if method == "mixture":
        # A predictor tuned on next sessions alone knows nothing of histories: no evidence.
        return {"critic": "all", "temperature": 1.0, "smoothing": 0.0}
    # Fixed assignments are copied as sharply as possible: nothing is going to move. Where clusters are not found in
    # embeddings, the cheap encoder does.
    encoder = "sbert" if method == "kmeans" else "predictor"
    return {"temperature": 1.0, "smoothing": 0.0, "encoder": encoder, "decay": DECAY, "interpolate": False}


def _defaults(preset: Preset, losses: Losses) -> dict[str, object]:
    return {
        "alpha": DEFAULT_ALPHA[losses],
        "beta": DEFAULT_BETA[losses],
        "context": preset.context,
        "max_steps": 20,
        "learning_rate": preset.learning_rate,
        "weight_decay": preset.weight_decay,
        "warmup": preset.warmup,
        "epochs": preset.epochs,
        "patience": 2,
        "batch_size": preset.batch_size,
        "accumulate": preset.accumulate,
        "dropout": preset.dropout,
        "tune_epochs": preset.tune_epochs,
        "tune_batch_size": preset.tune_batch_size,
        "predictor_learning_rate": preset.tune_learning_rate,
        "predictor_weight_decay": preset.weight_decay,
        "selector_learning_rate": preset.selector_learning_rate,
        "selector_weight_decay": preset.selector_weight_decay,
        "critic": "target",
        "temperature": 2.0,
        "smoothing": 0.1,
        "centroid_rate": 0.1,
    }
