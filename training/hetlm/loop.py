"""Actor-critic fine-tuning (HeTLM, Algorithm 1), and with a fixed assignment the paper's two baselines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from browsing.console import STDERR, progress
from browsing.encoder import Vectors
from browsing.selector import Selector
from training.batches import Batch, Example, collate, epoch_rows, seed_of
from training.dropout import dropping
from training.hardware import Hardware
from training.hetlm.ensemble import Ensemble, device_of, hard_centroids
from training.hetlm.keeping import SHARED, Keeper, System, Version
from training.hetlm.losses import selector_loss
from training.learning import CLIP, schedule, set_rate
from training.predictors import weights_of
from training.pretrain import AfterEpoch, per_page
from training.run import Run, State
from training.scoring import row_nats, target_nats, token_nats
from training.screen import EpochTable

STAGE = "tune"


@dataclass(frozen=True, slots=True, eq=False)
class Users:
    """One split: examples and their embeddings z, float32 [N, d]; for training users the start's cluster, [N]."""

    examples: Sequence[Example]
    z: Vectors
    start: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """What is served: the best system, the training users' clusters under its selector, and its loss on the selection
    users beside the shared predictor's, in nats per page."""

    system: System
    selector: Selector
    own: NDArray[np.int64]
    shared_loss: float


def tune(
    selector: Selector,
    shared: nn.Module,
    train: Users,
    select: Users,
    run: Run,
    after_epoch: AfterEpoch,
    hardware: Hardware | None = None,
) -> Tuned:
    """Fine-tune the selector and K copies of `shared` together; goes on from the run's last finished epoch.

    With method `hetlm` the critics train on the users that the selector gives them, batch by batch; with the others,
    and in the first `hold` epochs, on those of the start (`train.start`), and the selector stays as it is. Clusters
    that no training user falls into are dropped, at the start and after every epoch. Everything happens in this
    process, on the device of `shared`.
    """
    settings = run.settings
    hardware = hardware or Hardware(device_of(shared), settings.precision)
    device = device_of(shared)
    z, select_z = torch.from_numpy(train.z).to(device), torch.from_numpy(select.z).to(device)
    selector = selector.to(device)
    own = assign(selector, z)
    ensemble = Ensemble(selector, shared, hard_centroids(z, own, selector.clusters), settings)
    own = _drop_empty(ensemble, z, own)
    with hardware.autocast():
        shared_nats, tokens = target_nats(shared, [e.pair for e in select.examples])
    keeper = Keeper(Version(SHARED, 0, weights_of(shared), shared_nats), tokens)
    done = 0
    if state := run.load(STAGE):
        ensemble.restore(state.tensors, state.document["origins"], state.document["reference"])
        hardware.restore(state.document["hardware"])
        keeper.restore(state.tensors, state.document["keeper"])
        own, done = state.tensors["own"].to(device), state.epoch
    # Epochs in which the start's clusters are taken as they are: all, unless the selector learns.
    hold = settings.hold if settings.method == "hetlm" else settings.tune_epochs
    started = _places(_start(train, device), own, ensemble.origins) if hold else own
    table = EpochTable(_COLUMNS)
    lengths = np.array([len(e.ids) for e in train.examples], np.int64)
    for epoch in range(done + 1, settings.tune_epochs + 1):
        began = time.perf_counter()
        torch.manual_seed(seed_of(settings.seed, STAGE, epoch))
        sums = _Sums()
        clusters = ensemble.clusters
        with progress(f"fine-tuning, epoch {epoch}", len(lengths), "samples") as advance:
            batches = list(epoch_rows(lengths, settings.tune_batch_size, seed_of(settings.seed, STAGE, "rows", epoch)))
            batches = batches[: settings.limit_batches]
            for step, rows in enumerate(batches):
                batch = collate(train.examples, rows, device)
                place = ((epoch - 1) * len(batches) + step) / (settings.tune_epochs * len(batches))
                labels = started[batch.rows] if epoch <= hold else None
                for critic in ensemble.critics:
                    set_rate(critic, settings.predictor_learning_rate * schedule(place))
                train_batch(ensemble, batch, z[batch.rows], labels, settings.alpha * place, sums, hardware)
                advance(len(rows))
        before = _named(own, ensemble.origins)
        own = _drop_empty(ensemble, z, assign(ensemble.selector, z))
        moved = int((_named(own, ensemble.origins) != before).sum())
        with hardware.autocast():
            nats = _validate(ensemble, select)
        held = assign(ensemble.selector, select_z).cpu().numpy()
        system = keeper.offer(epoch, ensemble.selector.state_dict(), ensemble.predictors, ensemble.origins, held, nats)
        seconds = time.perf_counter() - began
        record = {
            "stage": STAGE,
            "epoch": epoch,
            "clusters": ensemble.clusters,
            "dropped": clusters - ensemble.clusters,
            "moved": moved,
            "origins": list(ensemble.origins),
            "sizes": torch.bincount(own, minlength=ensemble.clusters).tolist(),
            "alpha": settings.alpha * epoch / settings.tune_epochs if epoch > hold else None,  # None: as for l1
            **sums.means(),
            "validation_loss": _number(per_page(nats[np.arange(len(held)), held], tokens)),
            "kept_loss": _number(system.loss if len(held) else float("nan")),
            "shared_loss": _number(per_page(shared_nats, tokens)),
            "kept": [v.name for v in system.versions],
            "seconds": round(seconds, 3),
        }
        run.log(record)
        document = {
            "origins": ensemble.origins,
            "reference": ensemble.reference,
            "keeper": keeper.document(),
            "hardware": hardware.document(),
        }
        run.save(STAGE, State(epoch, ensemble.tensors() | keeper.tensors() | {"own": own}, document))
        _show(table, record)
        after_epoch(STAGE, epoch)
    return _result(ensemble, keeper, z, per_page(shared_nats, tokens))


def assign(selector: Selector, z: Tensor) -> Tensor:
    """The likeliest cluster of every row of `z` [N, d], int64 [N]."""
    return selector.probabilities(z).argmax(1)


def train_batch(
    ensemble: Ensemble,
    batch: Batch,
    z: Tensor,
    labels: Tensor | None,
    alpha: float,
    sums: _Sums,
    hardware: Hardware,
) -> None:
    """One step of Algorithm 1: the critics on their own rows (equation 2), then the selector on L_O.

    `labels` [B]: fixed clusters; then the selector does not learn, and no row is scored by another's predictor.

    A row costs its own predictor a forward and a backward pass, whose loss L1 takes over, and the K-1 others a forward
    pass: with a backward pass as dear as two forward ones, (K + 2) / 3 times the single model's epoch.
    """
    settings = ensemble.settings
    logits: Tensor = ensemble.selector(z)
    own = logits.detach().argmax(1) if labels is None else labels
    tokens = batch.target.sum(1)
    nats = torch.zeros((len(own), ensemble.clusters), device=z.device)
    for k, (predictor, critic) in enumerate(zip(ensemble.predictors, ensemble.critics, strict=True)):
        mine = own == k
        if labels is None and not bool(mine.all()):
            with hardware.autocast():
                others = row_nats(predictor, batch.ids[~mine], batch.target[~mine])
            nats[~mine, k] = others.to(nats.dtype)
        if bool(mine.any()):
            target = batch.target[mine]
            scored = target if settings.critic == "target" else batch.scored[mine]
            # A selector that learns compares predictors: one of them must not be heard through dropout.
            rate = settings.dropout if labels is not None else 0.0
            with hardware.autocast(), dropping(predictor, rate):
                own_nats = token_nats(predictor, batch.ids[mine], scored)
            # 'paper': l_k summed over a session, averaged over sessions; 'scaled': averaged over tokens.
            per = int(mine.sum()) if settings.losses == "paper" else int(scored.sum())
            hardware.backward(own_nats.sum() / per)
            hardware.step(critic, predictor, CLIP)
            nats[mine, k] = (own_nats.detach() * target).sum(1)
    sums.critic += float(nats.gather(1, own[:, None]).sum())
    sums.tokens += int(tokens.sum())
    if labels is not None:
        return
    loss = selector_loss(
        logits,
        z,
        nats,
        tokens,
        ensemble.centroids,
        losses=settings.losses,
        alpha=alpha,
        beta=settings.beta,
        rate=settings.centroid_rate,
        reference=ensemble.reference,
    )
    hardware.backward(loss.total)
    hardware.step(ensemble.actor, ensemble.selector, CLIP)
    ensemble.centroids = loss.centroids
    sums.add(len(own), float(loss.l1), float(loss.l2), float(loss.l3), float(loss.total.detach()))


@dataclass(slots=True)
class _Sums:
    """An epoch's running sums."""

    rows: int = 0
    l1: float = 0.0
    l2: float = 0.0
    l3: float = 0.0
    total: float = 0.0
    critic: float = 0.0
    tokens: int = 0

    def add(self, rows: int, l1: float, l2: float, l3: float, total: float) -> None:
        self.rows += rows
        self.l1 += rows * l1
        self.l2 += rows * l2
        self.l3 += rows * l3
        self.total += rows * total

    def means(self) -> dict[str, float | None]:
        """Per user; `train_loss` is the critics', in nats per page of the next session. None: no selector learnt."""
        terms = {"l1": self.l1, "l2": self.l2, "l3": self.l3, "selector_loss": self.total}
        means = {name: value / self.rows if self.rows else None for name, value in terms.items()}
        return means | {"train_loss": self.critic / self.tokens}


def _start(train: Users, device: torch.device) -> Tensor:
    if train.start is None:
        raise ValueError("a fixed assignment needs the start's clusters")
    return torch.from_numpy(train.start).to(device)


def _drop_empty(ensemble: Ensemble, z: Tensor, own: Tensor) -> Tensor:
    """Drop the clusters that are no training user's likeliest; the users' clusters among those that remain."""
    sizes = torch.bincount(own, minlength=ensemble.clusters).tolist()
    used = [k for k, size in enumerate(sizes) if size]
    if len(used) == ensemble.clusters:
        return own
    ensemble.keep(used)
    return assign(ensemble.selector, z)


def _places(fixed: Tensor, own: Tensor, origins: Sequence[int]) -> Tensor:
    """Places of the start's clusters among those that remain; a user whose cluster was dropped goes to its own by the
    selector. All are int64, over the same users."""
    places = torch.full((max(int(fixed.max()), *origins) + 1,), -1, device=fixed.device)
    places[list(origins)] = torch.arange(len(origins), device=fixed.device)
    return torch.where(places[fixed] < 0, own, places[fixed])


def _named(own: Tensor, origins: Sequence[int]) -> Tensor:
    return torch.tensor(list(origins), device=own.device)[own]


def _validate(ensemble: Ensemble, select: Users) -> NDArray[np.float64]:
    pairs = [e.pair for e in select.examples]
    with progress("validating", len(pairs) * ensemble.clusters, "samples") as advance:
        columns = [target_nats(predictor, pairs, advance=advance)[0] for predictor in ensemble.predictors]
    return np.stack(columns, 1)


def _result(ensemble: Ensemble, keeper: Keeper, z: Tensor, shared_loss: float) -> Tuned:
    system = keeper.best
    if system is None:  # no epoch at all: the start's selector over copies of the shared predictor
        state = {n: t.detach().cpu().clone() for n, t in ensemble.selector.state_dict().items()}
        system = System(0, state, [keeper.shared] * ensemble.clusters, shared_loss)
    weight = system.selector["hidden.weight"]
    selector = Selector(weight.shape[1], len(system.versions), weight.shape[0])
    selector.load_state_dict(system.selector)
    return Tuned(system, selector.eval(), assign(selector, z.cpu()).numpy(), shared_loss)


def _number(value: float) -> float | None:
    return None if value != value else value  # JSON has no NaN


_COLUMNS = (
    ("epoch", 5),
    ("moved", 6),
    ("sizes", 24),
    ("L1", 8),
    ("L2", 6),
    ("L3", 8),
    ("train", 7),
    ("valid", 7),
    ("kept", 7),
    ("seconds", 7),
)


def _show(table: EpochTable, record: Mapping[str, object]) -> None:
    def cell(name: str, digits: int = 4) -> str:
        value = record[name]
        return f"{value:.{digits}f}" if isinstance(value, float) else "-"

    sizes = record["sizes"]
    table.row(
        str(record["epoch"]),
        str(record["moved"]),
        " ".join(map(str, sizes)) if isinstance(sizes, list) else "",
        cell("l1", 3),
        cell("l2", 3),
        f"{record['l3']:.2e}" if isinstance(record["l3"], float) else "-",
        cell("train_loss"),
        cell("validation_loss"),
        cell("kept_loss"),
        cell("seconds", 1),
    )
    if record["dropped"]:
        STDERR.print(f"{record['dropped']} cluster(s) that no training user fell into were dropped")
