"""Sections about outcome probabilities: whether they hold (reliability), and what they are good for (buckets)."""

from __future__ import annotations

from collections.abc import Sequence

from training.evaluation.result import Bin, OutcomeProbability, ProbabilityMetrics
from training.report import figures, labels
from training.report.blocks import Block, Figure, Missing, Section, Table, Words, between, count, number, percent
from training.report.measured import NOT_MEASURED
from training.report.story import Story

UNCALIBRATED = "uncalibrated"
CALIBRATED = "calibrated"


def reliability(story: Story) -> Section:
    title = "Do the probabilities hold?"
    own = story.own
    if own is None:
        return Section("reliability", title, (NOT_MEASURED,))
    row = own.result.combined
    blocks: list[Block] = []
    for name, known in row.probabilities.items():
        panels = [(kind, readings(quality.reliability)) for kind, quality in kinds(known) if quality.reliability]
        if not panels:
            continue
        blocks.append(Words((_level(name, known),)))
        alt = f"Reliability of {labels.outcome(name).lower()}: predicted probability against how often it happened"
        svg = figures.reliability(alt, panels)
        caption = (
            f"{labels.outcome(name)}: each dot is a group of sessions with like probabilities, larger for more "
            "sessions, with the 95% interval of how often it happened. Where dots lie on the dashed line, a "
            "probability means what it says"
        )
        blocks.append(Figure(svg, caption))
        blocks += [bin_table(f"{labels.outcome(name)}, {kind}", quality.reliability) for kind, quality in kinds(known)]
    if row.probabilities:
        blocks.append(_qualities(row.probabilities, row.intervals))
    elif not blocks:
        blocks.append(Missing("Outcomes: the bundle predicts none.", "hetlm ingest --help"))
    return Section("reliability", title, tuple(blocks))


def propensity(story: Story) -> Section:
    """Predicted against actual conversion, by bucket of propensity."""
    title = "Who converts: propensity buckets"
    own = story.own
    if own is None:
        return Section("propensity", title, (NOT_MEASURED,))
    blocks: list[Block] = []
    for name, known in own.result.combined.probabilities.items():
        kind, quality = kinds(known)[-1]
        if not quality.buckets:
            continue
        first = quality.buckets[0]
        lift = f", {first.observed / known.rate:.1f} times the average" if known.rate else ""
        blocks.append(
            Words(
                (
                    f"{labels.outcome(name)}: among the {count(first.n)} sessions with the highest probability it "
                    f"happened in {percent(first.observed)}{lift}; {percent(first.predicted)} was predicted.",
                )
            )
        )
        alt = f"{labels.outcome(name)} by bucket of propensity, the likeliest first: predicted and actual share"
        svg = figures.buckets(alt, readings(quality.buckets), "bucket, the likeliest users first", "share of sessions")
        caption = f"{labels.outcome(name)}: conversion by bucket ({kind} probabilities)"
        blocks.append(Figure(svg, caption, ((0, "happened, with its 95% interval"), (1, "predicted"))))
        blocks += [
            bin_table(f"{labels.outcome(name)}, {kind}, by bucket", quality.buckets) for kind, quality in kinds(known)
        ]
    if not blocks:
        blocks.append(
            Missing("Propensity buckets, which older results lack.", "hetlm evaluate BUNDLE DATASET --out RUN.json")
        )
    return Section("propensity", title, tuple(blocks))


def kinds(known: OutcomeProbability) -> list[tuple[str, ProbabilityMetrics]]:
    """Uncalibrated first, and what is answered last."""
    both = [(UNCALIBRATED, known.raw)]
    return both if known.calibrated is None else [*both, (CALIBRATED, known.calibrated)]


def _level(name: str, known: OutcomeProbability) -> str:
    parts = [f"{labels.outcome(name)} happened in {percent(known.rate)} of the next sessions;"]
    parts += [f"{percent(quality.mean)} was predicted on average ({kind})," for kind, quality in kinds(known)]
    text = " ".join(parts).rstrip(",") + "."
    kind, quality = kinds(known)[-1]
    text += ece_words(f"{kind} ", quality)
    if known.calibrated is None:
        text += " There were too few cases to calibrate with, and the answers say so."
    return text


def ece_words(kind: str, quality: ProbabilityMetrics) -> str:
    """Whether the probabilities hold; nothing where it was not measured. `kind`: a word before them, or nothing."""
    if quality.ece is None or quality.ece_null is None:
        return ""
    verdict = "within" if quality.ece <= quality.ece_null else "above"
    return (
        f" The {kind}probabilities are off by {percent(quality.ece)} on average (ECE), {verdict} the "
        f"{percent(quality.ece_null)} that perfect probabilities would stay below in 95 of 100 such samples."
    )


def readings(bins: Sequence[Bin]) -> list[figures.Reading]:
    return [figures.Reading(b.predicted, b.observed, b.interval[0], b.interval[1], b.n) for b in bins]


def bin_table(caption: str, bins: Sequence[Bin], of: str = "sessions") -> Table:
    """`of`: what is counted."""
    rows = tuple(
        (
            f"{b.lower:.3f} to {b.upper:.3f}",
            count(b.n),
            percent(b.predicted),
            percent(b.observed),
            f"{percent(b.interval[0])} to {percent(b.interval[1])}",
            count(b.happened),
        )
        for b in bins
    )
    head = ("probability", of, "predicted", "happened", "95% interval", "cases")
    return Table(caption, head, rows, folded=True)


def _qualities(known: dict[str, OutcomeProbability], intervals: dict[str, tuple[float, float]]) -> Table:
    rows = []
    for name, own in known.items():
        for kind, quality in kinds(own):
            path = f"probabilities.{name}.{'raw' if kind == UNCALIBRATED else kind}"
            rows.append(
                (
                    f"{labels.outcome(name)}, {kind}",
                    between(quality.log_loss, intervals.get(f"{path}.log_loss")),
                    between(quality.brier, intervals.get(f"{path}.brier")),
                    between(quality.auc, intervals.get(f"{path}.auc")),
                    number(quality.average_precision),
                    number(quality.ece),
                    number(quality.ece_null),
                )
            )
    note = (
        "Log loss and Brier: lower is better. AUC: of two sessions, one with and one without the outcome, how often "
        "the one with it has the higher probability. ECE null: what the ECE of perfect probabilities stays below in "
        "95 of 100 such samples."
    )
    head = ("outcome", "log loss", "Brier", "AUC", "average precision", "ECE", "ECE null")
    return Table("Quality of the probabilities", head, tuple(rows), note=note)
