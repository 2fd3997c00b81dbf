"""The embedding z of every user: which encoder and decay, and the vectors."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from browsing.console import STDERR
from browsing.encoder import Encoder, EncoderKind
from browsing.encoders.joined import JoinedEncoder
from browsing.encoders.markov import MarkovEncoder
from browsing.encoders.names import opaque_warning
from browsing.encoders.predictor import PredictorEncoder
from browsing.markov import MarkovMixture
from training.data import Data, Embedded
from training.encoding import DECAYS, choose_encoding
from training.mixture.loop import Explained
from training.run import Run
from training.starts import markov_start
from training.teach import assignment_of


def encoders_of(data: Data, run: Run, sbert: Encoder, device: torch.device) -> dict[EncoderKind, Encoder]:
    """All that may read a session, from what the earlier stages left."""
    hidden = PredictorEncoder(run.pretraining / "shared", device)
    return {
        "markov": MarkovEncoder(run.root / "markov", data.vocabulary),
        "predictor": hidden,
        "sbert": sbert,
        "both": JoinedEncoder(sbert, hidden),
    }


def embedded_users(
    data: Data,
    encoders: Mapping[EncoderKind, Encoder],
    mixture: MarkovMixture,
    explained: Explained | None,
    run: Run,
) -> Embedded:
    """z by the encoder and with the decay that the settings name.

    Where they leave one open, it is the one from which held-out users' clusters can be told best: those that the
    mixture of predictors found, and with the other methods, whose clusters only come out of z, the Markov mixture's.
    """
    settings = run.settings
    if settings.encoder == "sbert" and (warning := opaque_warning(data.vocabulary.pages)):
        STDERR.print(f"[yellow]warning:[/] {warning}")
    kind, decay = settings.encoder, settings.decay
    if kind is None or decay is None:
        train, select = data.train.samples, data.select.samples
        known = markov_start(mixture, train, select, data.vocabulary) if explained is None else assignment_of(explained)
        choice = choose_encoding(
            {k: e for k, e in encoders.items() if kind in (None, k)},
            train,
            select,
            known,
            run.shared / "choice",
            settings.seed,
            DECAYS if decay is None else (decay,),
        )
        kind, decay = choice.kind, choice.decay
        run.log({"stage": "encoder", "epoch": 0, "kind": kind, "decay": decay, "losses": choice.losses})
        if choice.losses:
            STDERR.print(f"encoder: {kind}, decay {decay:g}, tells the clusters of held-out users best")
    return Embedded.of(data, encoders[kind], decay, run.shared / "embeddings")
