"""Sections told by the training's log: losses, cluster sizes, K, what clustering bought, the warm start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training.report import figures
from training.report.blocks import NONE, Block, Figure, Missing, Section, Table, Words, count, number, percent
from training.report.story import Story
from training.training_log import Record

RULES = {
    "random": "random clusters of the same sizes",
    "kmeans": "K-means on the embeddings",
    "markov": "mixture of Markov chains",
    "hetlm": "HeTLM's selector",
    "mixture": "mixture of predictors",
    "selector": "the selector, as served",
    "evidence": "likelihood of the history",
    "oracle": "oracle (in hindsight, unattainable)",
    "shared": "one model, pretrained",
    "single": "one model, fine-tuned",
}
NO_LOG = Missing("The training's log, which older bundles lack.", "hetlm train DATASET --out BUNDLE")
TUNING = ("tune", "mixture")
CURVES = {
    "train_loss": "training users",
    "validation_loss": "selection users",
    "kept_loss": "selection users, the best kept per cluster",
    "shared_loss": "selection users, the pretrained model",
    "single": "selection users, one model fine-tuned as long",
}


def losses(story: Story) -> Section:
    blocks: list[Block] = []
    pretrain, tune = story.of_stage("pretrain"), story.of_stage(*TUNING)
    if not pretrain and not tune:
        blocks.append(NO_LOG)
    names = ("train_loss", "validation_loss", "kept_loss", "shared_loss")
    blocks += _curves("Pretraining: one model on everybody", {n: _points(pretrain, n) for n in names[:2]})
    single = _points(story.of_stage("single"), "validation_loss")
    title = "Fine-tuning: one model per cluster" if story.manifest.training.method != "single" else "Fine-tuning"
    blocks += _curves(title, {n: _points(tune, n) for n in names} | {"single": single})
    terms = [
        (name.upper(), points) for name in ("l1", "l2", "l3") if len(points := _points(tune, name)) > 1 and any(points)
    ]
    if terms:
        svg = figures.small(f"The selector's loss terms by epoch: {_ends(terms)}", terms, "epoch")
        note = (
            "L1 how well each visitor's cluster explains them, L2 how undecided it is, L3 how close the clusters are."
        )
        blocks.append(Figure(svg, f"The selector's loss terms per training user. {note}"))
    if tune:
        blocks.append(_epochs(tune))
    return Section("losses", "Losses per epoch", tuple(blocks))


def sizes(story: Story) -> Section:
    """Cluster sizes over time, and the trajectory of K."""
    rows = [r for r in story.of_stage("start", *TUNING) if r.get("sizes")]
    if not rows:
        return Section("sizes", "Clusters over time", (NO_LOG,))
    epochs = [_epoch(r) for r in rows]
    places = [r.get("origins") or list(range(len(r["sizes"]))) for r in rows]
    columns = [
        (epoch, dict(zip(origins, r["sizes"], strict=True)))
        for epoch, origins, r in zip(epochs, places, rows, strict=True)
    ]
    trajectory = [(epoch, len(heights)) for epoch, heights in columns]
    first, last = trajectory[0][1], trajectory[-1][1]
    moved = [int(r["moved"]) for r in rows if r.get("moved") is not None]
    words = [f"Training began with {first} clusters and ended with {last}."]
    if moved:
        words.append(
            f"{count(moved[0])} users changed their cluster in the first epoch, {count(moved[-1])} in the last."
        )
    blocks: list[Block] = [Words((" ".join(words),))]
    if len(columns) > 1:
        named = all(len(own) == len(story.manifest.clusters) for _, own in columns)
        series = sorted({key for _, own in columns for key in own})
        names = [c.name for c in story.manifest.clusters]
        legend = tuple((s, names[s] if named and s < len(names) else f"cluster {s} of the start") for s in series)
        svg = figures.stacks(
            "Training users per cluster, by epoch; the table has the numbers", columns, "epoch", "users"
        )
        blocks.append(Figure(svg, "Training users per cluster by epoch (0: the start)", legend))
        if first != last or len({k for _, k in trajectory}) > 1:
            alt = "The number of clusters by epoch: " + ", ".join(f"{epoch}: {k}" for epoch, k in trajectory)
            blocks.append(Figure(figures.steps(alt, trajectory, "epoch", "K"), "The number of clusters K by epoch"))
    return Section("sizes", "Clusters over time", tuple(blocks))


def bought(story: Story) -> Section:
    """What clustering bought: the same predictors, assigned by different rules."""
    title = "What clustering bought"
    records = [r for r in story.of_stage("rules") if r.get("rules")]
    if not records:
        missing = Missing("Losses by rule of assignment are not in the log.", "hetlm train DATASET --out BUNDLE")
        return Section("bought", title, (missing,))
    rules = {name: float(loss) for name, loss in records[-1]["rules"].items() if loss is not None}
    single = story.manifest.metrics.get("validation_loss_single")
    if single is not None and story.manifest.training.method != "single":
        rules.setdefault("single", single)
    ordered = sorted(rules, key=lambda name: rules[name])
    values = [(rules[name], 1 if name == "selector" else 0) for name in ordered]
    labels = [RULES.get(name, f"rule {place}") for place, name in enumerate(ordered, 1)]
    alt = "Loss by rule: " + ", ".join(f"{RULES.get(name, name)} {rules[name]:.3f}" for name in ordered)
    svg = figures.dots(alt, values, "nats per page on the selection users (lower is better)", labels)
    figure = Figure(svg, "Validation loss by rule of assignment", ((1, "as served"), (0, "other rules")))
    return Section("bought", title, (Words((_rules(rules), *_interpolated(story))), figure))


def _rules(rules: Mapping[str, float]) -> str:
    words = []
    served = rules.get("selector")
    if served is not None and "random" in rules:
        words.append(
            f"Given to visitors at random, the clusters' models lose {number(rules['random'])} nats per page on the "
            f"selection users; given as they are served, {number(served)}."
        )
    if served is not None and "oracle" in rules:
        words.append(
            f"Picking each visitor's best model in hindsight would give {number(rules['oracle'])}: no rule can reach "
            "that, because it looks at the answer."
        )
    alone = min((rules[name] for name in ("shared", "single") if name in rules), default=None)
    if served is not None and alone is not None:
        gain = alone - served
        verdict = f"{number(abs(gain))} nats {'better' if gain > 0 else 'worse'}"
        verdict = "neither better nor worse" if abs(gain) < 5e-4 else verdict
        words.append(f"One model for everybody loses {number(alone)}: with clusters it is {verdict}.")
    return " ".join(words)


def _interpolated(story: Story) -> list[str]:
    """How far every cluster's model was moved back, and what that means."""
    records = story.of_stage("interpolate")
    if not records:
        return []
    record = records[-1]
    kept = [float(x) for x in record["lambdas"]]
    base = {"single": "the single fine-tuned model", "shared": "the pretrained model"}.get(record["base"], "one model")
    if not any(kept):
        return [
            f"On the selection users no cluster's own model did clearly better than {base}, so all of them were "
            "replaced by it: the clusters describe kinds of visitors, but do not change what is predicted."
        ]
    named = ", ".join(f"{percent(x, 0)} for {c.name}" for x, c in zip(kept, story.manifest.clusters, strict=False))
    return [
        f"Each cluster's model was moved towards {base} where the selection users asked for it. Of its own is left: "
        f"{named}."
    ]


def warm(story: Story) -> Section:
    """The warm start's cost and gain."""
    title = "Warm start"
    epochs, choices = story.of_stage("warm"), story.of_stage("warm choice")
    if not epochs:
        missing = Missing(
            "A warm start, its cost and its gain.", "hetlm train DATASET --out BUNDLE --warm-start synthetic"
        )
        return Section("warm", title, (missing,))
    words = [
        "Before it saw the log, the model was trained on synthetic browsing, in which every visitor has pages of their "
        "own: there it learns to copy and to read habits.",
        _cost(epochs, story.of_stage("pretrain")),
    ]
    blocks: list[Block] = []
    if choices:
        choice = choices[-1]
        losses = [float(loss) for loss in choice["losses"]]
        best = int(choice["chosen"])
        gained = number(losses[0] - losses[best])
        words.append(
            f"Gain: after a short probe on the log the selection users' loss is {number(losses[0])} nats per page "
            f"without it and {number(losses[best])} after {best} synthetic epoch{'' if best == 1 else 's'} of "
            f"{count(choice['users'])} visitors, as many as were taken: {gained} gained."
        )
        if choice.get("probe_seconds") is not None:
            words.append(f"The probes took {count(choice['probe_seconds'])} s.")
        points = [(float(place), loss) for place, loss in enumerate(losses)]
        alt = "Loss after the probe by synthetic epochs: " + ", ".join(f"{x:.0f}: {y:.3f}" for x, y in points)
        svg = figures.lines(alt, {"probe": points}, "synthetic epochs", "nats per page")
        blocks.append(Figure(svg, "Loss on the selection users after a short probe, by synthetic epochs before it"))
    return Section("warm", title, (Words((" ".join(words),)), *blocks))


def _cost(warm: Sequence[Record], pretrain: Sequence[Record]) -> str:
    epochs = f"{len(warm)} epoch{'' if len(warm) == 1 else 's'}"
    if not all("seconds" in record for record in (*warm, *pretrain)):
        return (
            f"Cost: {epochs}. How long it took is not in the bundle, whose version times would change, but in the log "
            "of its run: hetlm report --run DIRECTORY shows it."
        )
    seconds = [count(sum(float(record["seconds"]) for record in records)) for records in (warm, pretrain)]
    return f"Cost: {seconds[0]} s for {epochs}; pretraining on the log took {seconds[1]} s."


def _epoch(record: Record) -> int:
    return int(record["epoch"])


def _curves(caption: str, every: Mapping[str, figures.Points]) -> list[Block]:
    series = {CURVES[name]: points for name, points in every.items() if points}
    if not series:
        return []
    alt = f"{caption}, nats per page by epoch: " + "; ".join(
        f"{name} from {points[0][1]:.3f} to {points[-1][1]:.3f}" for name, points in series.items()
    )
    svg = figures.lines(alt, series, "epoch", "nats per page")
    return [Figure(svg, f"{caption}. Loss in nats per page, lower is better", tuple(enumerate(series)))]


def _points(records: Sequence[Record], name: str) -> list[tuple[float, float]]:
    return [(float(r["epoch"]), float(r[name])) for r in records if r.get(name) is not None]


def _ends(terms: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> str:
    return ", ".join(f"{name} from {points[0][1]:.3g} to {points[-1][1]:.3g}" for name, points in terms)


def _epochs(records: Sequence[Record]) -> Table:
    known = ("epoch", "clusters", "moved", "sizes", "l1", "l2", "l3", "train_loss", "validation_loss", "kept_loss")
    names = [n for n in (*known, "seconds") if any(r.get(n) is not None for r in records)]
    rows = tuple(tuple(_cell(r.get(name)) for name in names) for r in records)
    head = tuple({"clusters": "K", "sizes": "users per cluster"}.get(n, n.replace("_", " ")) for n in names)
    return Table("Fine-tuning, epoch by epoch", head, rows, folded=True)


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return NONE if value is None else str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
