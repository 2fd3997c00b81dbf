"""Everything that a training run's result depends on, besides the data."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.presets import PRESETS, Preset

Method = Literal["hetlm", "kmeans", "single"]
Start = Literal["kmeans", "markov"]
Losses = Literal["paper", "scaled"]
Scored = Literal["target", "all"]

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
    batch_size: int = Field(ge=1)
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
        return self

    @property
    def kinds(self) -> int:
        """Predictors to begin with: one for `single`."""
        return 1 if self.method == "single" else self.clusters


def settings_of(
    preset: str,
    *,
    method: Method = "hetlm",
    start: Start = "kmeans",
    losses: Losses = "paper",
    seed: int = 0,
    clusters: int = 6,
    **given: object,
) -> Settings:
    """Complete settings: what is given (and not None) over the preset's. Raises `ValueError` for an unknown preset."""
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}: it is one of {', '.join(PRESETS)}")
    defaults = _defaults(PRESETS[preset], losses)
    if method != "hetlm":
        # Fixed assignments are copied as sharply as possible: nothing is going to move.
        defaults |= {"temperature": 1.0, "smoothing": 0.0}
    chosen = {name: value for name, value in given.items() if value is not None}
    fixed = {"preset": preset, "method": method, "start": start, "losses": losses, "seed": seed, "clusters": clusters}
    return Settings.model_validate(defaults | fixed | chosen)


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
