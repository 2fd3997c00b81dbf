"""Sections told by evaluations: the controls, the clusters' figures, IoU over users, composites, times."""

from __future__ import annotations

import numpy as np
import polars as pl

from training.evaluation.compare.comparison import Difference
from training.evaluation.compare.composites import composites, metrics
from training.evaluation.metrics.pages import Floats
from training.evaluation.result import Row
from training.report import figures, labels
from training.report.blocks import (
    NONE,
    Block,
    Figure,
    Missing,
    Section,
    Table,
    Words,
    between,
    count,
    interval,
    number,
    percent,
)
from training.report.story import Measured, Story

EVALUATE = "hetlm evaluate BUNDLE DATASET --out RUN.json, then hetlm report BUNDLE RUN.json"
EVALUATE_SINGLE = (
    "hetlm train DATASET --method single --out SINGLE, then hetlm evaluate SINGLE DATASET --out SINGLE.json, "
    "then hetlm report BUNDLE RUN.json SINGLE.json"
)
NOT_MEASURED = Missing("How well this bundle predicts test users.", EVALUATE)
BINS = tuple(place / 10 for place in range(11))
COMPOSITES = {
    "outcomes": "Outcome prediction",
    "pages": "Page generation, mean",
    "variance": "Page generation, variance",
}
PAGES = (
    "IoU: of all pages in the predicted or the actual session, the share in both. IoA and IoP: of the pages in the "
    "actual, and in the predicted session, the share in both. HR: sessions with at least one page right; it compares "
    "where equally many pages are predicted. NDCG@10: whether the likeliest ten pages come true, early ones counting "
    "more. At its length: the IoU of our likeliest pages, as many on average as the other model predicts, minus its. "
    "Intervals are 95%, over users."
)
LOSSES = (
    "Nats per page: how surprised the model is by what really happened, 0 being certainty; it compares over one "
    "vocabulary only. Log loss: the same for the outcome's probability. Lower is better."
)


def controls(story: Story) -> Section:
    title = "Against the controls"
    own = story.own
    if own is None:
        return Section("controls", title, (NOT_MEASURED,))
    every = [own, *story.controls]
    blocks: list[Block] = [
        Table(
            f"Pages of {count(own.result.combined.n)} next sessions: this model and the controls",
            ("model", "IoU", "ours minus its", "at its length", "IoA", "IoP", "HR", "NDCG@10", "pages predicted"),
            tuple(_pages(story, measured) for measured in every),
            marked=(0,),
            note=PAGES,
        ),
        _losses(story, own, every),
    ]
    if not story.controls:
        blocks.append(Missing("Controls.", f"{EVALUATE}; with --model repeat, markov_mixture, vmis_knn, ..."))
    return Section("controls", title, tuple(blocks))


def _pages(story: Story, measured: Measured) -> tuple[str, ...]:
    row = measured.result.combined
    return (
        _name(story, measured),
        between(row.pages.iou, row.intervals.get("pages.iou")),
        difference(measured.differences.get("pages.iou")),
        difference(measured.differences.get("equal_mean.iou")),
        number(row.pages.ioa),
        number(row.pages.iop),
        number(row.pages.hr),
        number(row.ranking.ndcg_10) if row.ranking is not None else NONE,
        number(row.lengths.generated_pages, 1),
    )


def _losses(story: Story, own: Measured, every: list[Measured]) -> Table:
    """Nats per page, and the log loss of every outcome's final probability."""
    outcomes = list(own.result.combined.probabilities)
    head = ["model", "nats per page", "ours minus its"]
    for name in outcomes:
        head += [f"log loss, {labels.outcome(name).lower()}", "ours minus its"]
    rows = []
    for measured in every:
        row = measured.result.combined
        comparable = measured.result.vocabulary_sha256 == own.result.vocabulary_sha256
        loss = row.loss.nats_per_page if row.loss is not None and comparable else None
        cells = [
            _name(story, measured),
            between(loss, row.intervals.get("loss.nats_per_page")),
            difference(measured.differences.get("loss.nats_per_page")),
        ]
        for name in outcomes:
            known = row.probabilities.get(name)
            final = None if known is None else known.calibrated or known.raw
            cells += [
                number(None if final is None else final.log_loss),
                difference(measured.differences.get(f"{name}.log_loss")),
            ]
        rows.append(tuple(cells))
    caption = "Losses of the same sessions: this model and the controls"
    return Table(caption, tuple(head), tuple(rows), marked=(0,), note=LOSSES)


def _name(story: Story, measured: Measured) -> str:
    name = story.name(measured)
    return f"{name} (this bundle)" if measured is story.own else name


def difference(found: Difference | None) -> str:
    return NONE if found is None else f"{found.difference:+.3f}{interval(found.interval)}"


def iou(measured: Measured) -> Floats | None:
    """Mean IoU of every user's next sessions [U], users in the order of their hashes; of the decode that the result
    stands for."""
    name = f"{measured.result.settings.decode}.iou"
    if measured.users is None or name not in measured.users.columns:
        return None
    means = measured.users.group_by("user").agg(pl.col(name).cast(pl.Float64).mean()).sort("user")
    values: Floats = means[name].to_numpy()
    return values


def by_cluster(story: Story) -> Section:
    title = "Cluster by cluster"
    own = story.own
    if own is None or not own.result.clusters:
        return Section("by-cluster", title, (NOT_MEASURED,))
    outcomes = list(own.result.combined.probabilities)
    rows = tuple(_cluster_row(row, outcomes) for row in (*own.result.clusters, own.result.combined))
    head = ["cluster", "sessions", "IoU", "IoA", "IoP", "nats per page"]
    for name in outcomes:
        head += [f"{labels.outcome(name).lower()} happened", f"{labels.outcome(name).lower()} predicted"]
    table = Table(
        "Test users by their cluster",
        tuple(head),
        rows,
        marked=(len(rows) - 1,),
        note="Predicted: the mean probability.",
    )
    return Section("by-cluster", title, (table,))


def _cluster_row(row: Row, outcomes: list[str]) -> tuple[str, ...]:
    cells = [
        row.name if row.cluster is not None else "All",
        count(row.n),
        between(row.pages.iou, row.intervals.get("pages.iou")),
        number(row.pages.ioa),
        number(row.pages.iop),
        NONE if row.loss is None else number(row.loss.nats_per_page),
    ]
    for name in outcomes:
        known = row.probabilities.get(name)
        cells += [NONE] * 2 if known is None else [percent(known.rate), percent((known.calibrated or known.raw).mean)]
    return tuple(cells)


def over_users(story: Story) -> Section:
    """The distribution over users of their mean IoU, against the single model."""
    title = "IoU over users, against the single model"
    own, single = story.own, story.single
    if own is None:
        return Section("users", title, (NOT_MEASURED,))
    mine = iou(own)
    if single is None:
        return Section("users", title, (Missing("A single model to compare with.", EVALUATE_SINGLE),))
    theirs = iou(single)
    if mine is None or theirs is None or not len(mine):
        missing = Missing("The values per user beside the results (RUN.users.parquet).", EVALUATE_SINGLE)
        return Section("users", title, (missing,))
    names = (story.name(own), story.name(single))
    series = [(np.histogram(values, BINS)[0] / len(values)).tolist() for values in (mine, theirs)]
    words = [
        f"IoU is 0 for {percent((mine == 0).mean())} of the users with {names[0]}, and for "
        f"{percent((theirs == 0).mean())} with {names[1]}; it is above one half for {percent((mine > 0.5).mean())} and "
        f"{percent((theirs > 0.5).mean())}."
    ]
    if own.users is not None and len(mine) < len(own.users):
        words.append("A user with several next sessions counts once, with the mean of their IoU.")
    if single.differences:
        gap = mine - theirs
        words.append(
            f"User by user, ours is better for {percent((gap > 1e-12).mean())}, worse for "
            f"{percent((gap < -1e-12).mean())}, and the same for the others."
        )
    if (worst := single.differences.get("worst_decile.nats_per_page")) is not None:
        words.append(
            f"The tenth of the users whom a model foresees worst costs {number(worst.other)} nats per page with ours "
            f"and {number(worst.reference)} with the single model; the difference is {difference(worst)}, "
            f"{worst.verdict}."
        )
    alt = f"Share of the users by IoU, in steps of 0.1, for {names[0]} and {names[1]}"
    svg = figures.shares(alt, BINS, series, "IoU of a user", "share of the users")
    figure = Figure(svg, "How IoU is spread over users", ((0, names[0]), (1, names[1])))
    table = Table(
        "The same in numbers",
        ("IoU", *names),
        tuple(
            (f"{low:.1f} to {high:.1f}", percent(a), percent(b))
            for low, high, a, b in zip(BINS[:-1], BINS[1:], *series, strict=True)
        ),
        folded=True,
    )
    return Section("users", title, (Words((" ".join(words),)), figure, table))


def paper(story: Story) -> Section:
    """Composites (section 5.3 of the paper) and variances (section 5.2.2)."""
    title = "The paper's composites and variances"
    own, single = story.own, story.single
    if own is None:
        return Section("paper", title, (NOT_MEASURED,))
    blocks: list[Block] = []
    if single is None:
        blocks.append(Missing("Composites, which compare with a single model.", EVALUATE_SINGLE))
    else:
        found = composites(metrics(own.result.combined), metrics(single.result.combined))
        rows = [(COMPOSITES[name], own) for name, own in found.groups.items()] + [("Overall", found.overall)]
        blocks.append(
            Table(
                f"Composites: on how many of the paper's metrics {story.name(own)} beats {story.name(single)}",
                ("group", "metrics", "strictly better", "equal", "composite"),
                tuple((n, count(c.number), count(c.wins), count(c.ties), number(c.strict, 2)) for n, c in rows),
                marked=(len(rows) - 1,),
                note="Above 0.5 favours the clusters. On unrounded values; equal ones count for neither.",
            )
        )
    both = [own] if single is None else [own, single]
    blocks.append(
        Table(
            "Variances over users (lower: visitors are served more alike)",
            ("model", "HR", "IoA", "IoG", "IoU"),
            tuple(
                (story.name(m), *(number(v, 4) for v in (w.hr, w.ioa, w.iog, w.iou)))
                for m in both
                for w in [m.result.combined.variance]
            ),
        )
    )
    return Section("paper", title, tuple(blocks))
