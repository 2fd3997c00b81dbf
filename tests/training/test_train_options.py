"""What `hetlm train --help` says of defaults is what the settings are."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from training import train_options as options
from training.settings import Method, settings_of

METHODS: tuple[Method, ...] = get_args(Method)


def said(option: Any) -> str:
    """The help of an annotated option."""
    text = get_args(option)[1].help
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("method", METHODS)
def test_the_defaults_of_every_method_are_as_the_help_says(method: Method) -> None:
    own = settings_of("small", method=method)
    assert "By default scaled for the mixture, which always scores per token, else paper." in said(options.Losses)
    assert own.losses == ("scaled" if method == "mixture" else "paper")
    assert "By default markov for mixture and token, else kmeans." in said(options.Start)
    assert own.start == ("markov" if method in ("mixture", "token") else "kmeans")
    assert "By default auto for the mixture, sbert, as published, for hetlm and kmeans, else predictor." in said(
        options.Encoder
    )
    encoders = {"mixture": None, "hetlm": "sbert", "kmeans": "sbert"}
    assert own.encoder == encoders.get(method, "predictor")
    assert "for the mixture and with --encoder auto, else 0.8." in said(options.Decay)
    assert own.decay == (None if method == "mixture" else 0.8)
    assert "By default all for the mixture, which needs it, else target." in said(options.Critic)
    assert own.critic == ("all" if method == "mixture" else "target")
    assert "by default 2 for hetlm, else 1." in said(options.Temperature)
    assert own.temperature == (2 if method == "hetlm" else 1)
    assert "by default 0.1 for hetlm, else 0." in said(options.Smoothing)
    assert own.smoothing == (0.1 if method == "hetlm" else 0)
    assert "(mixture, and hetlm with scaled losses)" in said(options.Interpolate)
    assert own.interpolate == (method == "mixture")


def test_hetlms_defaults_follow_its_losses() -> None:
    paper, scaled = (settings_of("small", method="hetlm", losses=losses) for losses in ("paper", "scaled"))
    assert "(paper 2, scaled 0.1)" in said(options.Alpha)
    assert (paper.alpha, scaled.alpha) == (2, 0.1)
    assert "paper 1, scaled 0.1)" in said(options.Beta)
    assert (paper.beta, scaled.beta) == (1, 0.1)
    assert "(scaled 1, paper 0)" in said(options.Hold)
    assert (paper.hold, scaled.hold) == (0, 1)
    assert (paper.interpolate, scaled.interpolate) == (False, True)


def test_the_warm_starts_defaults() -> None:
    own = settings_of("small")
    assert "(16,000)" in said(options.WarmUsers)
    assert "(3)" in said(options.WarmEpochs)
    assert (own.warm_start, own.warm_users, own.warm_epochs) == ("synthetic", 16_000, 3)
