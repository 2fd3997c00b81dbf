"""The section about time: who comes back within the days, and with which outcome."""

from __future__ import annotations

from training.evaluation.result import OutcomeWithin, WithinHorizon
from training.report import figures, labels
from training.report.blocks import (
    Block,
    Figure,
    Missing,
    Section,
    Table,
    Words,
    between,
    count,
    number,
    percent,
    percents,
)
from training.report.chances import bin_table, ece_words, readings
from training.report.measured import NOT_MEASURED
from training.report.story import Story

NOTE = (
    "Log loss and Brier: lower is better; beside them, what saying the same rate to everybody would have. AUC: of two "
    "users, one to whom it happened and one to whom not, how often the former has the higher probability. ECE null: "
    "what the ECE of perfect probabilities stays below in 95 of 100 such samples."
)


def returning(story: Story) -> Section:
    title = "Who comes back, and with what"
    own = story.own
    if own is None:
        return Section("returning", title, (NOT_MEASURED,))
    known = own.result.returns
    if known is None:
        missing = Missing(
            "Whether visitors come back within 7 days: the bundle has no model of it, or the dataset or the result is "
            "of an older version. The log must be long enough: a week, and at least three days before it.",
            "hetlm ingest LOG --out DATASET, hetlm train DATASET --out BUNDLE, then hetlm evaluate BUNDLE DATASET",
        )
        return Section("returning", title, (missing,))
    days = known.horizon_days
    blocks: list[Block] = [
        Words((f"This section is not given that the visitor returns. {returned_words(known.returned, days)}",)),
        *_shown(f"Returning within {days} days", known.returned),
    ]
    for name, held in known.outcomes.items():
        what = f"{labels.outcome(name)} within {days} days"
        blocks += [Words((_outcome_words(name, held, days),)), *_shown(what, held)]
    if not known.outcomes:
        command = "hetlm ingest LOG --out DATASET, then hetlm evaluate BUNDLE DATASET --out RUN.json"
        blocks.append(Missing(f"Outcomes within {days} days of users who may not come back.", command))
    rows = [(f"returning within {days} days", known.returned)]
    rows += [(f"{labels.outcome(name).lower()} within {days} days", held) for name, held in known.outcomes.items()]
    blocks.append(_qualities(rows))
    return Section("returning", title, tuple(blocks))


def returned_words(own: WithinHorizon, days: int) -> str:
    """Who came back, and how well it was foreseen."""
    text = (
        f"Of {count(own.users)} users with an earlier visit, whether they came back or not, {percent(own.rate)} came "
        f"back within {days} days; {percent(own.quality.mean)} was predicted on average."
    )
    if own.quality.auc is not None:
        text += (
            " Of two of them, one who came back and one who did not, the former has the higher probability in "
            f"{percent(own.quality.auc, 0)} of the pairs{percents(own.intervals.get('quality.auc'))}."
        )
    return text + ece_words("", own.quality)


def _outcome_words(name: str, own: OutcomeWithin, days: int) -> str:
    outcome = labels.outcome(name)
    return (
        f"{outcome} within {days} days is the chance to come back times the chance of a {outcome.lower()} in the "
        f"session that then follows. Of {count(own.users)} users, {percent(own.rate)} came back within {days} days "
        f"with a first session that held it ({percent(own.any_rate)} with any session); {percent(own.quality.mean)} "
        f"was predicted on average.{ece_words('', own.quality)}"
    )


def _shown(what: str, own: WithinHorizon) -> list[Block]:
    """Whether the probabilities hold, and what they are good for: both as a drawing and in numbers."""
    quality = own.quality
    alt = f"Reliability of {what.lower()}: predicted probability against how often it happened"
    caption = (
        f"{what}: each dot is a group of users with like probabilities, larger for more users, with the 95% interval "
        "of how often it happened. Where dots lie on the dashed line, a probability means what it says"
    )
    tenths = f"{what} by tenth of the users, the likeliest first: predicted and actual share"
    return [
        Figure(figures.reliability(alt, [("", readings(quality.reliability))]), caption),
        Figure(
            figures.buckets(tenths, readings(quality.buckets), "tenth, the likeliest users first", "share of users"),
            f"{what}, by tenth of the users",
            ((0, "happened, with its 95% interval"), (1, "predicted")),
        ),
        bin_table(f"{what}: groups of like probability", quality.reliability, "users"),
        bin_table(f"{what}: tenths of the users, the likeliest first", quality.buckets, "users"),
    ]


def _qualities(every: list[tuple[str, WithinHorizon]]) -> Table:
    rows = tuple(
        (
            name,
            count(own.users),
            percent(own.rate),
            between(own.quality.log_loss, own.intervals.get("quality.log_loss")),
            number(own.base_log_loss),
            between(own.quality.brier, own.intervals.get("quality.brier")),
            number(own.base_brier),
            between(own.quality.auc, own.intervals.get("quality.auc")),
            number(own.quality.ece),
            number(own.quality.ece_null),
        )
        for name, own in every
    )
    head = ("what", "users", "rate", "log loss", "the rate's", "Brier", "the rate's", "AUC", "ECE", "ECE null")
    return Table("Quality of the probabilities about time", head, rows, note=NOTE)
