"""What models and outcomes are called on the page."""

from __future__ import annotations

from training.evaluation.result import Evaluation
from training.evaluation.rows import EITHER

METHODS = {
    "hetlm": "HeTLM",
    "mixture": "Mixture of predictors",
    "kmeans": "K-means clusters",
    "random": "Random clusters",
    "token": "One model, cluster as first token",
    "single": "Single model, fine-tuned",
    "shared": "Single model, pretrained only",
    "fallback": "Mixture of Markov chains (the bundle's fallback)",
    "markov": "First-order Markov",
    "markov_mixture": "Mixture of Markov chains",
    "popularity": "Most popular pages",
    "repeat": "Repeat the last session",
    "covisit": "Co-visited pages",
    "vmis_knn": "VMIS-kNN",
    "lightgbm": "LightGBM",
    "text": "Prompted text model",
}
OUTCOMES = {"cart": "Cart", "purchase": "Purchase", EITHER: "Cart or purchase"}


def method(result: Evaluation) -> str:
    """For example "Single model, fine-tuned, 4x the size"."""
    name = METHODS.get(result.method, result.method)
    times = result.training.get("times", 1)
    size = f", {times}x the size" if isinstance(times, int) and times > 1 else ""
    return f"{name}{size}"


def outcome(name: str) -> str:
    return OUTCOMES.get(name, name)
