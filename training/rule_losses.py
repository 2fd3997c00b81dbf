"""What clustering bought, for the run's log: the trained predictors, assigned by one rule after the other."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from browsing.console import progress
from browsing.markov import MarkovMixture
from training.assignment_rules import Labels, losses_by_rule
from training.batches import seed_of
from training.data import Data, Embedded
from training.hetlm.loop import Tuned
from training.mixture.evidence import choose_temper, read, responsibilities
from training.predictors import load_weights
from training.settings import Settings
from training.starts import kmeans_start, token_sessions

TRAIN_USERS = 4_000
"""Training users from whom a rule's groups are matched to predictors."""


def rules_of(
    model: nn.Module, data: Data, embedded: Embedded, tuned: Tuned, mixture: MarkovMixture, settings: Settings
) -> dict[str, float]:
    """Nats per page of the selection users by rule: see `losses_by_rule`; `evidence` is the posterior under the
    predictors given the history. Empty without selection users."""
    versions = tuned.system.versions
    if not data.select.examples:
        return {}
    predictors = []
    for version in versions:
        predictor = copy.deepcopy(model).eval()
        load_weights(predictor, version.weights)
        predictors.append(predictor)
    drawn = np.random.default_rng(seed_of(settings.seed, "rules")).permutation(len(data.train.examples))
    rows = np.sort(drawn[:TRAIN_USERS])
    few, samples = [data.train.examples[i] for i in rows], [data.train.samples[i] for i in rows]
    users = len(predictors) * (len(few) + len(data.select.examples))
    with progress("comparing assignments", users, "samples") as advance:
        seen, held = (read(predictors, e, advance=advance) for e in (few, data.select.examples))
    shares = np.bincount(tuned.own, minlength=len(versions)) / len(tuned.own)
    served = tuned.selector.probabilities(torch.from_numpy(embedded.select)).argmax(1).numpy()
    temper = choose_temper(held, shares)
    by_evidence = [responsibilities(e.history, shares, temper).argmax(1) for e in (seen, held)]
    histories = [token_sessions(s, data.vocabulary, target=False) for s in (samples, data.select.samples)]
    by_markov = [mixture.responsibilities(h).argmax(1) for h in histories]
    rules = {"evidence": Labels(*by_evidence), "markov": Labels(*by_markov)}
    if len(rows) >= len(versions):
        found = kmeans_start(embedded.train[rows], embedded.select, len(versions), seed_of(settings.seed, "kmeans"))
        rules["kmeans"] = Labels(found.train.argmax(1), found.select.argmax(1))
    losses = losses_by_rule(seen.target, held.target, data.select.tokens, served, shares, rules)
    return losses | {"shared": tuned.shared_loss}
