"""The first section: in words, what was predicted and how well."""

from __future__ import annotations

import math

from training.report import labels
from training.report.blocks import Block, Missing, Section, Words, between, count, interval, number, percent, percents
from training.report.chances import kinds
from training.report.measured import EVALUATE
from training.report.returning import returned_words
from training.report.story import Measured, Story

CONDITION = (
    "Every probability is given that the visitor returns: it says what a next session looks like, not whether there "
    "will be one. It covers the first {pages} pages of that session."
)
EQUAL = "Our likeliest pages, as many on average as each of these predicts (IoU)"
VERDICTS = {
    "better": "better than",
    "worse": "worse than",
    "not distinguishable": "not distinguishable on these users from",
}


def summary(story: Story) -> Section:
    manifest, own = story.manifest, story.own
    reached = ", ".join(labels.outcome(name).lower() for name in manifest.outcomes)
    task = "Predicted is a visitor's next session: which pages it holds, in which order"
    task += f", and how likely these outcomes are: {reached}." if reached else "."
    training = manifest.training
    kinds_of = f"{len(manifest.clusters)} kinds of visitors, each with its own small language model of pages"
    kinds_of = "one small language model of pages" if len(manifest.clusters) == 1 else kinds_of
    made = (
        f"The model was trained on {count(training.users)} users, whose page views are from "
        f"{training.window_start[:10]} to {training.window_end[:10]}; it has {kinds_of}."
    )
    condition = CONDITION.format(pages=manifest.limits.max_steps)
    if own is not None and own.result.returns is not None:
        condition += f" Who comes back within {own.result.returns.horizon_days} days is told apart."
    blocks: list[Block] = [Words((f"{task} {made}",)), Words((condition,), strong=True)]
    if own is None:
        blocks += [
            Words(tuple(_selected(story))),
            Missing("How well it predicts test users.", EVALUATE),
        ]
    else:
        blocks.append(Words((_measured(own), *_against(story), *_outcomes(own), *_returns(own))))
    return Section("summary", "In words", tuple(blocks))


def _selected(story: Story) -> list[str]:
    """What the bundle alone knows: figures on the users that chose among its versions."""
    metrics = story.manifest.metrics
    losses = {
        name.removeprefix("validation_loss_"): v for name, v in metrics.items() if name.startswith("validation_loss_")
    }
    words = []
    if "kept" in losses:
        text = f"On the selection users the model loses {number(losses['kept'])} nats per page (lower is better)"
        beside = [
            f"{number(losses[name])} for {what}"
            for name, what in (("shared", "one model for everybody"), ("markov", "a mixture of Markov chains"))
            if name in losses
        ]
        words.append(f"{text}, beside {' and '.join(beside)}." if beside else f"{text}.")
    decode = f"validation_iou_{story.manifest.decode}"
    if decode in metrics:
        words.append(
            f"There, {percent(metrics[decode])} of the pages in the predicted or the actual session are in both (IoU). "
            "These users also chose when training stopped and how sessions are decoded, so the figures flatter a "
            "little."
        )
    return words


def _measured(own: Measured) -> str:
    result, row = own.result, own.result.combined
    users = row.users if row.users is not None else row.n
    text = (
        f"Measured on {count(row.n)} next sessions of {count(users)} users of the {result.settings.split} split: of "
        f"all pages in the predicted or the actual session, {between(row.pages.iou, row.intervals.get('pages.iou'))} "
        f"on average are in both (IoU, from 0 to 1, with its 95% interval); in {percent(row.pages.hr)} of the sessions "
        "at least one page is right."
    )
    if row.loss is not None:
        loss = row.loss.nats_per_page
        text += (
            f" The model hesitates as if among {math.exp(loss):,.1f} equally likely pages at every step "
            f"({between(loss, row.intervals.get('loss.nats_per_page'))} nats per page)."
        )
    return text


def _against(story: Story) -> list[str]:
    """One sentence per figure: which controls the model beats, which beat it, and which cannot be told from it."""
    own = story.own
    known = [c for c in story.controls if c.differences]
    figures = [("pages.iou", "Pages (IoU)"), ("equal_mean.iou", EQUAL), ("loss.nats_per_page", "Loss (nats per page)")]
    if own is not None:
        figures += [
            (f"{n}.log_loss", f"Log loss of {labels.outcome(n).lower()}") for n in own.result.combined.probabilities
        ]
    words = []
    for figure, title in figures:
        told = []
        for verdict, text in VERDICTS.items():
            names = [
                f"{story.name(c)} ({found.difference:+.3f}{interval(found.interval)})"
                for c in known
                if (found := c.differences.get(figure)) is not None and found.verdict == verdict
            ]
            if names:
                told.append(f"{text} {', '.join(names)}")
        if told:
            words.append(f"{title}: {'; '.join(told)}.")
    if words:
        words[0] += " In brackets: ours minus its, on the same users, with the 95% interval."
    words += [f"{story.name(c)} cannot be compared user by user: {c.unpaired}." for c in story.controls if c.unpaired]
    return words


def _outcomes(own: Measured) -> list[str]:
    words = []
    for name, known in own.result.combined.probabilities.items():
        kind, quality = kinds(known)[-1]
        text = (
            f"{labels.outcome(name)}: it happened in {percent(known.rate)} of the next sessions, and the {kind} "
            f"probability is {percent(quality.mean)} on average."
        )
        if quality.auc is not None:
            path = f"probabilities.{name}.{'raw' if known.calibrated is None else 'calibrated'}.auc"
            text += (
                " Of two sessions, one with and one without it, the one with it has the higher probability in "
                f"{percent(quality.auc, 0)} of the pairs{percents(own.result.combined.intervals.get(path))}."
            )
        words.append(text)
    return words


def _returns(own: Measured) -> list[str]:
    known = own.result.returns
    if known is None:
        return []
    return [f"Coming back: {returned_words(known.returned, known.horizon_days)}"]
