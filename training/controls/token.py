"""ONE predictor that is told the cluster: every session of a user begins with the cluster's own token.

The control for "K predictors": the same selector, the same information about the user, as many training tokens as the
single predictor, but one set of weights. The cluster's token takes the place of `[BOS]`, which opens the prompt and
every session in it, so that predictor k is the one model whose `[BOS]` has another embedding. K directories that share
all weights but that row are an ordinary bundle: no new token, and served as any other.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from browsing.selector import Selector
from browsing.vocabulary import BOS
from training.batches import Example
from training.hardware import Hardware
from training.hetlm.ensemble import device_of
from training.hetlm.keeping import SHARED, System, Version
from training.hetlm.loop import Tuned, Users, assign, tune
from training.predictors import Weights, load_weights
from training.pretrain import AfterEpoch, per_page
from training.run import Run
from training.scoring import target_nats

Ints = NDArray[np.int64]


def tune_token(
    selector: Selector,
    shared: nn.Module,
    train: Users,
    select: Users,
    run: Run,
    after_epoch: AfterEpoch,
    hardware: Hardware | None = None,
) -> Tuned:
    """Fine-tune one copy of `shared` with a `[BOS]` per cluster; asked and answered as `training.hetlm.loop.tune`.

    Training users have the start's clusters (`train.start`), selection users those that the selector gives them, as at
    serving. Clusters that are no training user's likeliest are dropped. Epochs, optimiser, early stopping and going on
    after an interruption are those of the single predictor: it is the same loop, over one model whose vocabulary has K
    ids more. `shared` lends its architecture, and keeps its weights. Raises `ValueError` without a start, or where the
    settings score whole histories, of which the clusters' tokens would be a part.
    """
    if train.start is None:
        raise ValueError("the cluster as a token needs the start's clusters")
    if run.settings.critic != "target":
        raise ValueError("critic all: the cluster's token would be scored; method token takes critic target")
    device = device_of(shared)
    selector, labels = _used(selector.to(device), torch.from_numpy(train.z).to(device), train.start)
    held = assign(selector, torch.from_numpy(select.z).to(device)).cpu().numpy()
    V = _vocabulary(shared)
    enlarged = enlarge(shared, selector.clusters)
    tuned = tune(
        Selector(1, 1).train(),
        enlarged,
        Users(marked(train.examples, labels, V), _nothing(len(labels)), np.zeros(len(labels), np.int64)),
        Users(marked(select.examples, held, V), _nothing(len(held))),
        run,
        after_epoch,
        hardware,
    )
    best = tuned.system.versions[0]
    versions = _versions(shared, enlarged, best, selector.clusters, select.examples)
    own = np.stack([version.nats for version in versions], 1)[np.arange(len(held)), held]
    tokens = np.array([len(e.ids) - e.target for e in select.examples], np.int64)
    state = {name: tensor.detach().cpu().clone() for name, tensor in selector.state_dict().items()}
    system = System(best.epoch, state, versions, per_page(own, tokens))
    shared_nats = target_nats(shared, [e.pair for e in select.examples])[0]
    selector = selector.cpu().eval()
    return Tuned(system, selector, assign(selector, torch.from_numpy(train.z)).numpy(), per_page(shared_nats, tokens))


def marked(examples: Sequence[Example], clusters: Ints, vocabulary: int) -> list[Example]:
    """Every `[BOS]` becomes the token of the user's cluster, number `vocabulary` + k."""
    return [
        replace(example, ids=tuple(vocabulary + int(k) if token == BOS else token for token in example.ids))
        for example, k in zip(examples, clusters, strict=True)
    ]


def enlarge(shared: nn.Module, clusters: int) -> nn.Module:
    """A copy with `clusters` ids more, which begin as copies of `[BOS]`."""
    model = cast(Any, copy.deepcopy(shared))
    V = _vocabulary(shared)
    model.resize_token_embeddings(V + clusters, mean_resizing=False)
    with torch.no_grad():
        for parameter in _embeddings(model).values():
            parameter[V:] = parameter[BOS].clone()
    return cast(nn.Module, model)


def split(enlarged: nn.Module, weights: Weights, clusters: int) -> list[Weights]:
    """The weights of the K predictors with the vocabulary as it was: alike but for the row of `[BOS]`.

    `weights` are those of `enlarged`. Where inputs and outputs are tied, the row serves as both, as it was trained to.
    """
    names = _embeddings(enlarged)
    V = _vocabulary(enlarged) - clusters
    predictors = []
    for k in range(clusters):
        own = dict(weights)
        for name in names:
            own[name] = weights[name][:V].clone()
            own[name][BOS] = weights[name][V + k]
        predictors.append(own)
    return predictors


def _versions(
    shared: nn.Module, enlarged: nn.Module, best: Version, clusters: int, select: Sequence[Example]
) -> list[Version]:
    model = copy.deepcopy(shared)
    pairs = [example.pair for example in select]
    versions = []
    for k, weights in enumerate(split(enlarged, best.weights, clusters)):
        load_weights(model, weights)
        name = SHARED if best.name == SHARED else f"{k}@{best.epoch}"
        versions.append(Version(name, best.epoch, weights, target_nats(model, pairs)[0]))
    return versions


def _embeddings(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters with a row per id, by name; tied ones once."""
    layers = (cast(Any, model).get_input_embeddings(), cast(Any, model).get_output_embeddings())
    own = {id(parameter) for layer in layers for parameter in layer.parameters()}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in own}


def _vocabulary(model: nn.Module) -> int:
    return int(cast(Any, model).get_input_embeddings().num_embeddings)


def _used(selector: Selector, z: torch.Tensor, start: Ints) -> tuple[Selector, Ints]:
    """The selector without the clusters that are nobody's likeliest, and the users' clusters among the others: the
    start's, or for a user whose cluster was dropped the selector's."""
    used = sorted(set(assign(selector, z).tolist()))
    if len(used) < selector.clusters:
        selector = selector.keep(used).to(z.device)
    places = {k: place for place, k in enumerate(used)}
    own = assign(selector, z).tolist()
    return selector, np.array([places.get(int(k), mine) for k, mine in zip(start, own, strict=True)], np.int64)


def _nothing(users: int) -> NDArray[np.float32]:
    """Embeddings for a selector that has no choice."""
    return np.zeros((users, 1), np.float32)
