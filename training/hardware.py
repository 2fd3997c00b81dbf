"""Hardware: where training computes, in how many processes and how precisely; all of it through accelerate."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, cast

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import broadcast
from torch import Tensor, nn

from training.settings import Precision

PATIENCE = timedelta(days=2)
"""How long processes wait for one another: the first one may embed a whole log while the others do nothing."""

_MIXED: dict[Precision, str] = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class Hardware:
    """One process's share. Weights stay float32; with `bf16` and `fp16` the forward pass is autocast, and `fp16` scales
    the loss. `rank` counts from 0 among `processes`; only the `main` one writes anything.

    Raises `ValueError` for a precision that the device does not have, and for a numbered device beside several
    processes, which take one GPU each.
    """

    def __init__(self, device: torch.device, precision: Precision = "fp32") -> None:
        if precision == "fp16" and device.type == "cpu":
            raise ValueError("--precision fp16 needs a GPU; on a CPU use fp32 or bf16")
        self.accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=_MIXED[precision],
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
        self.processes = int(self.accelerator.num_processes)
        self.rank = int(self.accelerator.process_index)
        self.device: torch.device = device
        if self.processes > 1:
            self.device = self.accelerator.device
            if device.index is not None and device != self.device:
                raise ValueError(f"--device {device}: {self.processes} processes take one GPU each; use --device cuda")

    @property
    def main(self) -> bool:
        return self.rank == 0

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """The loss scaler of `fp16`."""
        return cast("torch.amp.GradScaler | None", self.accelerator.scaler)

    def autocast(self) -> AbstractContextManager[None]:
        """Around a forward pass."""
        return cast(AbstractContextManager[None], self.accelerator.autocast())

    def backward(self, loss: Tensor) -> None:
        """Gradients are added to those that are there: call it once per part of a batch, then `step`."""
        self.accelerator.backward(loss)

    def step(self, optimizer: torch.optim.Optimizer, model: nn.Module, norm: float, together: bool = False) -> None:
        """Clip the gradients to `norm`, take one step and forget them: K predictors need the room of one's gradients.
        `together`: they are first summed over the processes. With `fp16` an overflow skips the step."""
        if together and self.processes > 1:
            for p in model.parameters():
                p.grad = self.total(torch.zeros_like(p) if p.grad is None else p.grad)
        if self.scaler is None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), norm)
            optimizer.step()
        else:
            self.scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), norm)
            self.scaler.step(optimizer)
            self.scaler.update()
        optimizer.zero_grad()

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, on each of them."""
        return cast(Tensor, self.accelerator.reduce(value, reduction="sum"))

    def agree(self, model: nn.Module) -> None:
        """Wait for all processes; they go on with the main one's weights."""
        self.accelerator.wait_for_everyone()
        for p in model.parameters():
            broadcast(p.data)

    def document(self) -> dict[str, Any]:
        """What an interrupted run needs to go on alike: the loss scale of `fp16`."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def restore(self, document: dict[str, Any]) -> None:
        """The inverse of `document`."""
        if self.scaler is not None and document:
            self.scaler.load_state_dict(document)


def device_named(name: str) -> torch.device:
    """Where to compute: `auto`, `cpu`, `cuda` or `cuda:1`. Raises `ValueError` for an unknown device, or a GPU that is
    not there."""
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


def adamw(
    model: nn.Module, learning_rate: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """AdamW in one pass over the weights: with K optimisers a plain step would be felt."""
    return torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay, betas=betas, fused=True)
