"""Table 17 of HeTLM: the hyperparameters of fine-tuning a large language model with LoRA."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

PAPER_BASES = ("meta-llama/Meta-Llama-3-8B", "mistralai/Mistral-7B-v0.3", "google/gemma-7b", "Qwen/Qwen2.5-7B")
"""The table's base models."""


class LoraSettings(BaseModel):
    """Everything that the adapters depend on besides the data and the base model. The defaults are the table's.

    Fixed by the table and not to be chosen: adapters on every linear layer, a cosine schedule, sample packing, every
    sequence padded to its full length.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    eight_bit: bool = Field(default=True, description="base weights in 8 bits, and AdamW with 8-bit moments")
    sequence_length: int = Field(default=512, ge=64, description="tokens; the oldest sessions that do not fit are cut")
    validation_share: float = Field(default=0.05, gt=0, lt=1, description="of the training users, held out")
    epochs: int = Field(default=10, ge=1)
    accumulation: int = Field(default=4, ge=1, description="micro-batches per step")
    micro_batch: int = Field(default=2, ge=1, description="sequences per micro-batch")
    learning_rate: float = Field(default=2e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=10, ge=0)
    rank: int = Field(default=32, ge=1)
    alpha: int = Field(default=16, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)
    max_steps: int | None = Field(
        default=None, ge=1, description="optimiser steps after which it stops; not the table's"
    )


TABLE_17 = LoraSettings()
