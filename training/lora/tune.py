"""The fine-tuning: only the adapters learn, on the next session's tokens; an interrupted run goes on from its last
finished epoch."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from browsing.console import progress
from training.lora.data import IGNORED, Packs, Tokens, collate, pack
from training.lora.settings import LoraSettings
from training.screen import EpochTable

Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """`weights`: the adapters of the best epoch, by parameter name. `loss`: there, nats per token of the validation
    users' next sessions. `history`: per epoch (training loss, validation loss)."""

    weights: Weights
    epoch: int
    loss: float
    steps: int
    history: tuple[tuple[float, float], ...]


class Tuning:
    """One fine-tuning of `model`, whose trainable parameters are the adapters."""

    def __init__(
        self,
        model: nn.Module,
        train: Sequence[Tokens],
        held: Sequence[Tokens],
        settings: LoraSettings,
        *,
        padding: int,
        state: Path,
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    ) -> None:
        """`held`: the validation users. `padding`: the id to pad with. `state`: the directory to go on from.

        Raises `ValueError` where there is nobody to train on or to validate with.
        """
        if not train or not held:
            raise ValueError(
                f"{len(train)} users to train on and {len(held)} to validate with, whose sessions fit into "
                f"{settings.sequence_length} tokens: at least one of each is needed"
            )
        self._model, self._train, self._held, self._settings = model, train, held, settings
        self._padding, self._state = padding, state
        self._device = next(model.parameters()).device
        self._adapters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        lengths = [len(own.ids) for own in train]
        self._plan = [
            pack(lengths, settings.sequence_length, (settings.seed, epoch)) for epoch in range(settings.epochs)
        ]
        steps = [math.ceil(len(packs) / (settings.micro_batch * settings.accumulation)) for packs in self._plan]
        self.total = min(sum(steps), settings.max_steps or sum(steps))
        self._optimizer = optimizer(list(self._adapters.values()))

    def run(self) -> Tuned:
        """Train to the end; the adapters are left as they were in the epoch of the lowest validation loss."""
        tuned = self._load() or Tuned(self._weights(), 0, math.inf, 0, ())
        table = EpochTable((("epoch", 5), ("train", 8), ("validation", 10), ("seconds", 8), ("", 5)))
        for epoch in range(len(tuned.history) + 1, self._settings.epochs + 1):
            if tuned.steps >= self.total:
                break
            began = time.perf_counter()
            trained, steps = self._epoch(epoch, tuned.steps)
            loss = self._validate()
            better = loss < tuned.loss
            tuned = Tuned(
                self._weights() if better else tuned.weights,
                epoch if better else tuned.epoch,
                min(loss, tuned.loss),
                steps,
                (*tuned.history, (trained, loss)),
            )
            self._save(tuned)
            cells = (str(epoch), f"{trained:.4f}", f"{loss:.4f}", f"{time.perf_counter() - began:.1f}")
            table.row(*cells, "best" if better else "")
        with torch.no_grad():
            for name, parameter in self._adapters.items():
                parameter.copy_(tuned.weights[name])
        return tuned

    def _epoch(self, epoch: int, steps: int) -> tuple[float, int]:
        """(nats per scored token, steps done so far)."""
        settings = self._settings
        torch.manual_seed(settings.seed * 1000 + epoch)  # dropout
        self._model.train()
        packs = self._plan[epoch - 1]
        summed, counted = 0.0, 0
        group_size = settings.micro_batch * settings.accumulation
        with progress(f"fine-tuning, epoch {epoch}", len(packs), "sequences") as advance:
            for start in range(0, len(packs), group_size):
                if steps >= self.total:
                    break
                group = packs[start : start + group_size]
                # Over the whole step, not per micro-batch: every token counts alike however they fall into batches.
                tokens = sum(len(self._train[i].ids) - self._train[i].scored for members in group for i in members)
                for batch in self._batches(self._train, group):
                    nats = self._nats(batch)
                    torch.autograd.backward(nats / tokens)
                    summed += float(nats.detach())
                for parameters in self._optimizer.param_groups:
                    parameters["lr"] = settings.learning_rate * factor(steps, settings.warmup_steps, self.total)
                self._optimizer.step()
                self._optimizer.zero_grad()
                steps, counted = steps + 1, counted + tokens
                advance(len(group))
        return summed / counted, steps

    @torch.no_grad()
    def _validate(self) -> float:
        self._model.eval()
        packs = pack([len(own.ids) for own in self._held], self._settings.sequence_length, (self._settings.seed,))
        summed = sum(float(self._nats(batch)) for batch in self._batches(self._held, packs))
        return summed / sum(len(own.ids) - own.scored for own in self._held)

    def _batches(self, tokens: Sequence[Tokens], packs: Sequence[Sequence[int]]) -> Iterator[Packs]:
        settings = self._settings
        for start in range(0, len(packs), settings.micro_batch):
            rows = [[tokens[i] for i in members] for members in packs[start : start + settings.micro_batch]]
            yield collate(rows, settings.sequence_length, self._padding, self._device)

    def _nats(self, batch: Packs) -> Tensor:
        on_gpu = self._device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16) if on_gpu else nullcontext():
            logits: Tensor = self._model(input_ids=batch.ids, position_ids=batch.positions, use_cache=False).logits
        # The first token of a packed sample is never scored, so no sample is predicted from the one before it.
        return F.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def _weights(self) -> Weights:
        return {name: p.detach().cpu().clone() for name, p in self._adapters.items()}

    def _save(self, tuned: Tuned) -> None:
        tensors = {f"now/{name}": p.detach().cpu().contiguous() for name, p in self._adapters.items()}
        tensors |= {f"best/{name}": w for name, w in tuned.weights.items()}
        numbers: dict[str, Any] = {}
        for name, parameter in self._adapters.items():
            for key, value in self._optimizer.state[parameter].items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{name}/{key}"] = value.detach().cpu().clone()
                else:
                    numbers[f"{name}/{key}"] = value
        partial = self._state.with_name(self._state.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(tensors, partial / "state.safetensors")
        document = {
            "epoch": tuned.epoch,
            "loss": tuned.loss,
            "steps": tuned.steps,
            "history": tuned.history,
            "optimizer": numbers,
        }
        (partial / "state.json").write_text(json.dumps(document))
        shutil.rmtree(self._state, ignore_errors=True)
        os.replace(partial, self._state)

    def _load(self) -> Tuned | None:
        if not (self._state / "state.json").is_file():
            return None
        document = json.loads((self._state / "state.json").read_text())
        tensors = load_file(self._state / "state.safetensors")
        with torch.no_grad():
            for name, parameter in self._adapters.items():
                parameter.copy_(tensors[f"now/{name}"])
                own = f"optimizer/{name}/"
                moments = {key.removeprefix(own): value for key, value in tensors.items() if key.startswith(own)}
                counts = {
                    key.removeprefix(f"{name}/"): value
                    for key, value in document["optimizer"].items()
                    if key.startswith(f"{name}/")
                }
                self._optimizer.state[parameter] = {
                    # PyTorch's own AdamW counts its steps in a tensor that stays on the CPU.
                    **{key: value if key == "step" else value.to(parameter.device) for key, value in moments.items()},
                    **counts,
                }
        return Tuned(
            weights={name: tensors[f"best/{name}"] for name in self._adapters},
            epoch=document["epoch"],
            loss=document["loss"],
            steps=document["steps"],
            history=tuple((trained, held) for trained, held in document["history"]),
        )


def factor(step: int, warmup: int, total: int) -> float:
    """The learning rate's factor at a step, from 0: linear up over `warmup` steps, then half a cosine down to 0."""
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
