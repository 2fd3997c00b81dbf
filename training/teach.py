"""From what the mixture found to a selector: it is taught every user's responsibilities, and sees only the history."""

from __future__ import annotations

import numpy as np
import torch

from browsing.console import progress
from browsing.encoder import Vectors
from training.hetlm.keeping import System
from training.hetlm.loop import Tuned
from training.mixture.evidence import routed_nats
from training.mixture.loop import Explained
from training.starts import SELECTOR_EPOCHS, Assignment, copy_start


def assignment_of(explained: Explained) -> Assignment:
    return Assignment(explained.train.astype(np.float32), explained.select.astype(np.float32))


def teach(explained: Explained, train: Vectors, select: Vectors, tokens: np.ndarray, seed: int) -> Tuned:
    """A selector on the embeddings [N, d] and [S, d], over the mixture's predictors. A cluster that it gives no
    training user is dropped. `tokens` int64 [S]: lengths of the selection users' next sessions."""
    with progress("the selector learns the clusters", SELECTOR_EPOCHS, "epochs") as advance:
        selector = copy_start(
            train, select, assignment_of(explained), seed=seed, temperature=1.0, smoothing=0.0, advance=advance
        )
    z = torch.from_numpy(train)
    sizes = np.bincount(selector.probabilities(z).argmax(1).numpy(), minlength=selector.clusters)
    used = [k for k, size in enumerate(sizes) if size]
    if len(used) < selector.clusters:
        selector = selector.keep(used)
    own = selector.probabilities(z).argmax(1).numpy()
    versions = [explained.versions[k] for k in used]
    loss = explained.shared_loss
    if len(select):
        held = selector.probabilities(torch.from_numpy(select)).argmax(1).numpy()
        nats = routed_nats(explained.evidence, np.array(used)[held])
        loss = float(nats.sum() / tokens.sum())
    state = {name: tensor.detach().cpu().clone() for name, tensor in selector.state_dict().items()}
    system = System(explained.epoch, state, versions, loss)
    return Tuned(system, selector.eval(), own, explained.shared_loss)
