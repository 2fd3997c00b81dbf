"""The bundle's model card: what it is for, what it was made from, how well it does, and what it cannot do."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from browsing.calibration import OutcomeCalibration
from browsing.profiles import ClusterProfile
from training.report.story import Story


def model_card(story: Story) -> str:
    """`MODEL_CARD.md`. Sections whose documents the bundle lacks say so."""
    return "\n\n".join(part(story).strip() for part in PARTS) + "\n"


def _head(story: Story) -> str:
    outcomes = ", ".join(story.manifest.outcomes) or "none"
    return f"""# Next sessions of the visitors of one site

Predicts, from a visitor's earlier sessions, which pages the next session will hold, in which order, and how likely its
outcomes are ({_cell(outcomes)}).

**Every probability is conditional on the visitor returning**: it says what a next session looks like, not whether there
will be one."""


def _use(story: Story) -> str:
    return """## Intended use
- Choosing content, reminders and campaigns for a site's own returning visitors, one by one or in bulk.
- Describing the kinds of visitors a site has.

Not intended: decisions about a person that matter to that person (credit, prices, employment, insurance); finding out
who a visitor is; another site than the one the log is from; questions of cause and effect, such as what an e-mail would
do."""


def _data(story: Story) -> str:
    manifest, info = story.manifest, story.info
    training = manifest.training
    outcomes = "; ".join(f"{name}: {', '.join(pages)}" for name, pages in manifest.outcomes.items()) or "none"
    lines = [
        f"- Window: {training.window_start} to {training.window_end}",
        f"- {training.users:,} training users, {training.samples:,} samples (a history and its next session)",
        f"- {manifest.vocabulary_size - 4:,} pages, each seen by enough distinct users that none identifies a person",
        f"- Outcomes: {_cell(outcomes)}",
    ]
    if info is None:
        return "## Data\n" + "\n".join(lines)
    counts = info.counts
    splits = ", ".join(f"{n:,} to {split}" for split, n in counts.samples.items())
    lines += [
        f"- Log: {_cell(info.source.format)}, {counts.rows:,} rows, {counts.events:,} page views, {counts.users:,} "
        f"users; {counts.unknown_share:.1%} of the views were of pages that are not in the vocabulary",
        f"- Split by {info.split}: {splits}",
    ]
    filters = "\n".join(f"- {_cell(name)}: {_cell(str(value))}" for name, value in sorted(info.filters.items()))
    return "## Data\n" + "\n".join(lines) + (f"\n\nFilters:\n{filters}" if filters else "")


def _method(story: Story) -> str:
    manifest, training = story.manifest, story.manifest.training
    encoder, limits = manifest.encoder, manifest.limits
    chosen = [f"{name.replace('_', ' ')} `{_cell(str(value))}`" for name, value in _told(training.settings)]
    named = story.profiles.named_by if story.profiles is not None else None
    names = f"by the language model `{_cell(named)}`, from aggregates" if named else "from their pages and behaviours"
    profiles = {p.id: p for p in story.profiles.clusters} if story.profiles is not None else {}
    rows = "\n".join(
        f"| {c.id} | {_cell(c.name)} | {c.share:.1%} | {_cell(', '.join(c.typical_pages))} | "
        f"{_visits(profiles.get(c.id))} |"
        for c in manifest.clusters
    )
    return f"""## Method
Method `{_cell(training.method)}`, seed {training.seed}; {", ".join(chosen) or "settings unknown"}. The encoder embeds
every session, a selector maps the pooled embedding of a history to {len(manifest.clusters)} cluster(s), and each has
its own small language model of pages. It reads up to {limits.prompt} tokens of history and follows a next session for
at most {limits.max_steps} pages. Sessions are decoded `{manifest.decode}`.

Encoder: {_cell(encoder.name)}, {encoder.dimension} dimensions, weights sha256 `{_cell(encoder.weights_sha256)}`; a
session weighs {encoder.decay:g} times the next newer one.

The clusters are named {names}.

| cluster | name | share of training users | typical pages | visits |
|---|---|---|---|---|
{rows}"""


def _metrics(story: Story) -> str:
    rows = "\n".join(f"| {_cell(n)} | {_number(value)} |" for n, value in sorted(story.manifest.metrics.items()))
    return f"""## Metrics on held-out users
Losses are nats per page of the next session, its end counted; IoU is the share of the pages in the predicted or the
actual session that are in both. These users chose when training stopped and which decode is the default, so the figures
flatter a little; `hetlm evaluate` measures on test users, and `hetlm report` shows the result.

| metric | value |
|---|---|
{rows}"""


def _calibration(story: Story) -> str:
    limits = story.manifest.limits
    fitted = story.calibration.outcomes if story.calibration is not None else {}
    rows = "\n".join(f"| {_cell(name)} | {_state(c)} | {c.n:,} | {c.positives:,} |" for name, c in fitted.items())
    returning = any(name.startswith("return_") for name in story.manifest.metrics)
    beside = (
        "The chance that the visitor comes back within some days is a model of its own, given beside them (`within_*`)."
        if returning
        else "Whether the visitor comes back is not predicted: the log did not allow it."
    )
    table = f"\n\n| outcome | state | cases | with the outcome |\n|---|---|---|---|\n{rows}" if rows else ""
    return f"""## What a probability means
Every probability is conditional on the visitor returning, and on the next session's first {limits.max_steps} pages.
Outcome probabilities are calibrated on users that trained nothing, where enough of them had the outcome; otherwise the
answer says `calibrated: false`. Raw and calibrated are both returned. {beside}{table}"""


def _limits(story: Story) -> str:
    return f"""## Limits
- It knows the site as it was in the window above; new pages are unknown to it, and seasons and campaigns outdate it.
- Up to {story.manifest.limits.prompt} tokens of history are read; older sessions are dropped.
- A visitor without history gets everybody's average.
- Clusters describe what visitors of the window had in common. A visitor is put into the likeliest; many fit several.
- It describes behaviour in bulk, and it is more often right about visitors who repeat themselves."""


PARTS = (_head, _use, _data, _method, _metrics, _calibration, _limits)


def _told(settings: dict[str, object]) -> list[tuple[str, object]]:
    names: Sequence[str] = ("start", "losses", "preset", "checkpoint", "times", "warm_start", "encoder", "interpolate")
    return [(name, settings[name]) for name in names if settings.get(name) is not None]


def _visits(profile: ClusterProfile | None) -> str:
    if profile is None:
        return ""
    visits = profile.visits
    return f"{visits.length.mean:.1f} pages, {visits.sessions_per_user:.1f} sessions, {visits.repeated:.0%} repeated"


def _state(own: OutcomeCalibration) -> str:
    return f"calibrated ({own.method})" if own.calibrated else "not calibrated: too few cases"


def _number(value: float) -> str:
    return f"{value:,.{0 if float(value).is_integer() else 4}f}"


def _cell(text: str) -> str:
    """Page names come from a log: nothing in one may break out of a table's cell or become markup."""
    safe = escape(text, quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|" else c for c in " ".join(safe.split()))
