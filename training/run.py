"""A run's directory: its settings, its log, and the state from which an interrupted run goes on.

```
<runs>/<hash of settings and data>/
  settings.json  log.jsonl  markov/  start/  tune/epoch-0002/
<runs>/pretrain-<hash of the settings that pretraining depends on, and data>/
  pretrain/epoch-0003/
<runs>/single-<hash of the settings that the single predictor depends on, and data>/
  tune/epoch-0002/
<runs>/data-<hash of data and encoder>/
  embeddings/
```
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from browsing.whole import write_whole
from training.settings import Settings
from training.training_log import RUN_LOG, read_log

PRETRAINING = {
    "preset",
    "checkpoint",
    "seed",
    "context",
    "max_steps",
    "learning_rate",
    "weight_decay",
    "warmup",
    "epochs",
    "patience",
    "batch_size",
    "accumulate",
    "limit_batches",
    "precision",
    "dropout",
    "times",
    "warm_start",
    "warm_users",
    "warm_epochs",
}
"""Settings that the shared predictor depends on: methods and starts that agree in them share its pretraining."""

SINGLE = {
    "tune_epochs",
    "tune_batch_size",
    "predictor_learning_rate",
    "predictor_weight_decay",
    "critic",
    "losses",
}
"""Settings that the single predictor, fine-tuned on everybody, depends on beside those of its pretraining: methods
that agree in both share it."""

METHOD = {
    "method",
    "start",
    "clusters",
    "choose_clusters",
    "encoder",
    "decay",
    "hold",
    "alpha",
    "beta",
    "interpolate",
    "selector_learning_rate",
    "selector_weight_decay",
    "temperature",
    "smoothing",
    "centroid_rate",
}
"""Settings on which nothing depends that runs share. Every setting is in exactly one of the three sets."""

FORMAT = 5
"""Raised whenever the same settings would no longer leave the same files in a run: what is there is then no start."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What a stage needs to go on after `epoch` finished epochs: tensors by name, and a JSON document."""

    epoch: int
    tensors: dict[str, Tensor]
    document: dict[str, Any]


def default_runs() -> Path:
    """`$HETLM_HOME/runs`, or `~/.cache/hetlm/runs`: never the source tree."""
    home = os.environ.get("HETLM_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "hetlm") / "runs"


def run_name(settings: Settings, data: Mapping[str, str]) -> str:
    """16 hexadecimal digits: equal for equal settings and equal data. `data`: hashes by name."""
    document = {"format": FORMAT, "settings": settings.model_dump(mode="json"), "data": dict(data)}
    return _digest(document)


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


class Run:
    """One run's directory. `shared`: what all runs on the same data have in common; `pretraining` and `single`: what
    those have whose shared, or whose fine-tuned single predictor is the same."""

    def __init__(
        self,
        root: Path,
        settings: Settings,
        shared: Path | None = None,
        pretraining: Path | None = None,
        single: Path | None = None,
    ) -> None:
        self.root = root
        self.shared = shared or root
        self.pretraining = pretraining or root
        self.single = single or root / "single"
        self.settings = settings
        root.mkdir(parents=True, exist_ok=True)
        write_json(root / "settings.json", settings.model_dump(mode="json"))

    @classmethod
    def open(cls, runs: Path, settings: Settings, data: Mapping[str, str]) -> Run:
        def part(name: str, fields: set[str], of: Settings = settings) -> Path:
            own = {"format": FORMAT, "settings": of.model_dump(mode="json", include=fields), "data": dict(data)}
            return runs / f"{name}-{_digest(own)}"

        return cls(
            runs / run_name(settings, data),
            settings,
            runs / f"data-{_digest(dict(data))}",
            part("pretrain", PRETRAINING),
            part("single", PRETRAINING | SINGLE, settings.single()),
        )

    def log(self, record: Mapping[str, object]) -> None:
        """Append one line to `log.jsonl`; the same stage and epoch again (after an interruption) replaces it."""
        lines = [r for r in self.records() if (r["stage"], r["epoch"]) != (record["stage"], record["epoch"])]
        text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in [*lines, record])
        write_whole(self.root / RUN_LOG, text)

    def records(self, stage: str | None = None) -> list[dict[str, Any]]:
        path = self.root / RUN_LOG
        if not path.exists():
            return []
        return [r for r in read_log(path) if stage is None or r["stage"] == stage]

    def save(self, stage: str, state: State) -> None:
        """Keep the stage's state after an epoch, and only this one. An interruption leaves the older one whole."""
        folder = self.root / stage
        partial = folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({n: t.detach().cpu().contiguous() for n, t in state.tensors.items()}, partial / "state.safetensors")
        write_json(partial / "state.json", {"epoch": state.epoch, "document": state.document})
        place = folder / f"epoch-{state.epoch:04d}"
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
        for older in folder.glob("epoch-*"):
            if older != place:
                shutil.rmtree(older)

    def load(self, stage: str) -> State | None:
        """The newest whole state of a stage, or None."""
        places = sorted((self.root / stage).glob("epoch-*"))
        if not places:
            return None
        document = json.loads((places[-1] / "state.json").read_text())
        tensors = load_file(places[-1] / "state.safetensors")
        return State(document["epoch"], tensors, document["document"])


@contextmanager
def locked(*folders: Path) -> Iterator[None]:
    """Hold the folders that several runs share; another training that needs them waits until this one is through."""
    with ExitStack() as held:
        for folder in sorted(set(folders)):
            folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context((folder / "lock").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def adam_tensors(optimizer: torch.optim.Optimizer, model: torch.nn.Module, prefix: str) -> dict[str, Tensor]:
    """The moments and step counts of AdamW, by parameter name."""
    return {
        f"{prefix}{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_adam(
    optimizer: torch.optim.Optimizer, model: torch.nn.Module, prefix: str, tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of `adam_tensors`; a parameter that has no state there starts afresh."""
    for name, parameter in model.named_parameters():
        keys = [k for k in ("step", "exp_avg", "exp_avg_sq") if f"{prefix}{name}/{k}" in tensors]
        if keys:
            fused = bool(optimizer.defaults.get("fused"))  # it alone counts its steps where the weights are
            optimizer.state[parameter] = {
                k: tensors[f"{prefix}{name}/{k}"].clone().to("cpu" if k == "step" and not fused else parameter.device)
                for k in keys
            }


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def write_json(path: Path, document: object) -> None:
    """Write a JSON document in one piece: a reader sees the old file or the new one."""
    write_whole(path, json.dumps(document, indent=2, sort_keys=True) + "\n")
