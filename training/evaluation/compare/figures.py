"""From the values per user to the figures that are paired, and the order in which they are shown.

A file of values per user holds what its evaluation knew how to store: a figure whose columns are missing is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import polars as pl

from training.evaluation.metrics.bleu import Overlaps
from training.evaluation.metrics.figures import Figures
from training.evaluation.metrics.lengths import SCORES, Likeliest
from training.evaluation.metrics.pages import Flags, Floats, Ints
from training.evaluation.metrics.probabilities import squared_errors, surprises
from training.evaluation.metrics.text import BERT
from training.evaluation.result import Decode
from training.evaluation.summary import VARIANCES
from training.evaluation.users import DECIDED, HAPPENED, PREDICTED

WORST = 0.1
"""The share of users that the worst decile is."""
PAGES = ("hr", "ioa", "iop", "iou", "new_p", "val_p")
EQUAL_MEAN, EQUAL_EACH = "equal_mean", "equal_each"
"""The likeliest pages at the reference's mean length, and at its length for every user: `lengths.py`."""
RANKING = ("recall_10", "ndcg_10", "mrr")
VARIANCE, OUTCOMES, DECISIONS = "variance", "outcomes", "decisions"
ORDER = ("pages", EQUAL_MEAN, EQUAL_EACH, VARIANCE, OUTCOMES, DECISIONS, "text", "ranking", "loss", "worst_decile")
"""Groups of figures as they are shown; the probabilities of the outcomes come last. That is how the tables go."""
LOWER = ("log_loss", "brier", "nats_per_page", "user_mean")
"""Last parts of the names of figures of which less is better; and every variance (HeTLM, section 5.2.2)."""
NEITHER = ("generated",)


def better(name: str) -> Literal["higher", "lower", "neither"]:
    """Which way a figure is better, by its name."""
    group, _, last = name.rpartition(".")
    if group == VARIANCE or last in LOWER:
        return "lower"
    return "neither" if last in NEITHER else "higher"


def ordered(names: Iterable[str]) -> list[str]:
    """By group, in the order of `ORDER`; within one, and among the groups that it does not name, as they come."""
    own = list(names)
    groups = list(dict.fromkeys(name.rpartition(".")[0] for name in own))
    first = [group for known in ORDER for group in groups if group.partition(".")[0] == known]
    places = {group: place for place, group in enumerate(dict.fromkeys((*first, *groups)))}
    return sorted(own, key=lambda name: places[name.rpartition(".")[0]])


def column(frame: pl.DataFrame, name: str) -> Floats:
    """The values [N] of a column."""
    return frame[name].cast(pl.Float64).to_numpy()


def figures_of(frame: pl.DataFrame, decode: Decode, groups: Ints) -> Figures:
    """All figures of one method's values per user, N rows; `groups` [N] numbers each row's user."""
    figures = Figures(frame.height)
    _add_pages(figures, frame, decode)
    for name in RANKING:
        figures.ratio(f"ranking.{name}", column(frame, f"ranking.{name}"))
    firsts = np.unique(groups, return_index=True)[1]
    sessions = np.bincount(groups)
    iou = np.bincount(groups, column(frame, f"{decode}.iou")) / sessions
    figures.tail("worst_decile.iou", iou, WORST, highest=False, at=firsts)
    if "nats" in frame.columns:
        nats, tokens = column(frame, "nats"), column(frame, "tokens")
        figures.ratio("loss.nats_per_page", nats, tokens)
        figures.ratio("loss.user_mean", nats / tokens)
        per_page = np.bincount(groups, nats) / np.bincount(groups, tokens)
        figures.tail("worst_decile.nats_per_page", per_page, WORST, highest=True, at=firsts)
    for name, p, happened in _probabilities(frame):
        figures.ratio(f"{name}.log_loss", surprises(p, happened))
        figures.ratio(f"{name}.brier", squared_errors(p, happened))
        if not name.endswith(".raw"):
            figures.order(name, p, happened)
    return figures


def add_own_length(figures: Figures, frame: pl.DataFrame, decode: Decode) -> None:
    """What the likeliest pages are compared with: the sessions as they are."""
    for part in (EQUAL_MEAN, EQUAL_EACH):
        for name in SCORES:
            figures.ratio(f"{part}.{name}", column(frame, f"{decode}.{name}"))
        figures.ratio(f"{part}.generated", column(frame, f"{decode}.pages"))


def add_equal_length(figures: Figures, frame: pl.DataFrame, lengths: Floats) -> None:
    """The likeliest pages of the frame's method, where it holds them; `lengths` [N]: of the reference's sessions."""
    likeliest = Likeliest.read(frame)
    if likeliest is None:
        return
    for name, values in likeliest.scores.items():
        figures.curve(f"{EQUAL_MEAN}.{name}", likeliest.lengths, values, lengths)
    figures.curve(f"{EQUAL_MEAN}.generated", likeliest.lengths, likeliest.lengths.astype(np.float64), lengths)
    scores, pages = likeliest.cut(lengths.astype(np.int64))
    for name, values in scores.items():
        figures.ratio(f"{EQUAL_EACH}.{name}", values)
    figures.ratio(f"{EQUAL_EACH}.generated", pages)


def _add_pages(figures: Figures, frame: pl.DataFrame, decode: Decode) -> None:
    """What the decoded sessions are worth: pages, their variance, outcomes, text; and outcomes at a threshold."""
    for name in PAGES:
        if f"{decode}.{name}" in frame.columns:
            figures.ratio(f"pages.{name}", column(frame, f"{decode}.{name}"))
    figures.ratio("pages.generated", column(frame, f"{decode}.pages"))
    for name, score in VARIANCES.items():
        figures.variance(f"{VARIANCE}.{name}", column(frame, f"{decode}.{score}"))
    for outcome in _ending(frame, HAPPENED):
        happened = _flags(frame, outcome + HAPPENED)
        for group, said in ((OUTCOMES, f"{decode}.{outcome}{PREDICTED}"), (DECISIONS, outcome + DECIDED)):
            if said in frame.columns:
                figures.confusion(f"{group}.{outcome}", _flags(frame, said), happened)
    if (overlaps := Overlaps.read(frame, decode)) is not None:
        figures.bleu("text.bleu", overlaps)
    for name in BERT:
        if f"{decode}.{name}" in frame.columns:
            figures.ratio(f"text.{name}", column(frame, f"{decode}.{name}"))


def _probabilities(frame: pl.DataFrame) -> Iterator[tuple[str, Floats, Flags]]:
    """(name, probabilities, what happened) per outcome: the final ones under its name, the raw ones under `.raw`."""
    for outcome in _ending(frame, ".raw"):
        raw, calibrated = f"{outcome}.raw", f"{outcome}.calibrated"
        happened = _flags(frame, outcome + HAPPENED)
        yield outcome, column(frame, calibrated if calibrated in frame.columns else raw), happened
        yield raw, column(frame, raw), happened


def _ending(frame: pl.DataFrame, suffix: str) -> list[str]:
    return [name.removesuffix(suffix) for name in frame.columns if name.endswith(suffix)]


def _flags(frame: pl.DataFrame, name: str) -> Flags:
    return column(frame, name) > 0
