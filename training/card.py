"""The bundle's two pages for people: `MODEL_CARD.md`, and `report.html`, which needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from browsing.bundle import Manifest
from training.dataset import DatasetInfo

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 240, 56, 28
COLOURS = ("#0b5fa5", "#b3401f", "#3c7a3c")

CSS = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1c1f23;background:#fff;max-width:60rem;margin:2.5rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}p.note{color:#5a6169;margin:.25rem 0}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .75rem .35rem 0;vertical-align:top}
thead th{border-bottom:1px solid #1c1f23;font-weight:600}tbody td{border-bottom:1px solid #e3e6e9}
.n{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto}svg text{font:11px system-ui;fill:#5a6169}
code{font-size:.9em;overflow-wrap:anywhere}
"""


@dataclass(frozen=True, slots=True)
class Story:
    """What there is to tell: the manifest before it is sealed, the dataset's information, the run's log."""

    manifest: Manifest
    info: DatasetInfo
    records: Sequence[Mapping[str, Any]]


def model_card(story: Story) -> str:
    manifest, training = story.manifest, story.manifest.training
    settings = training.settings
    clusters = "\n".join(
        f"| {c.id} | {_cell(c.name)} | {c.share:.1%} | {_cell(', '.join(c.typical_pages))} |" for c in manifest.clusters
    )
    metrics = "\n".join(f"| {_cell(name)} | {_number(value)} |" for name, value in sorted(manifest.metrics.items()))
    filters = "\n".join(f"- {_cell(name)}: {_cell(str(value))}" for name, value in sorted(story.info.filters.items()))
    outcomes = "; ".join(f"{name}: {', '.join(pages)}" for name, pages in manifest.outcomes.items()) or "none"
    return f"""# Next sessions of the visitors of one site

Predicts which pages a visitor's next session will hold, in which order, and how likely the outcomes are.

## Data
- Log: {_cell(story.info.source.format)}, from {training.window_start} to {training.window_end}
- {training.users:,} training users, {training.samples:,} samples; split by {story.info.split}
- {manifest.vocabulary_size - 4:,} pages, each seen by enough distinct users that none identifies a person; \
{story.info.counts.unknown_share:.1%} of the views were other pages
- Outcomes: {_cell(outcomes)}

Filters:
{filters}

## Method
`{training.method}`, start `{settings["start"]}`, losses `{settings["losses"]}`, preset `{settings["preset"]}`, \
seed {training.seed}. A frozen sentence encoder (`{manifest.encoder.name}`) embeds every session; a selector maps the \
embedding of a history to {len(manifest.clusters)} cluster(s); each has its own small language model of pages.

| cluster | name | share of training users | typical pages |
|---|---|---|---|
{clusters}

## Metrics on held-out users
Losses are nats per page of the next session, its end counted. These users chose when training stopped and which \
decode is the default, so the figures flatter a little; `hetlm evaluate` measures on test users.

| metric | value |
|---|---|
{metrics}

## What a probability means
Every probability is conditional on the visitor returning, and on the next session's first {manifest.limits.max_steps} \
pages: it says what a next session looks like, not whether there will be one. Outcome probabilities are calibrated on \
users that trained nothing, where enough of them had the outcome; otherwise the answer says `calibrated: false`.

## Limits
- It knows the site as it was in the window above; new pages are unknown to it, and seasons and campaigns outdate it.
- Up to {manifest.limits.prompt} tokens of history are read; older sessions are dropped.
- A visitor without history gets everybody's average.
- It describes behaviour in bulk. It is not made for decisions about a person that matter to that person.
"""


def report(story: Story) -> str:
    """A self-contained page: no script, no font, no address."""
    manifest = story.manifest
    rows = "".join(
        f"<tr><td class=n>{c.id}</td><td>{escape(c.name)}</td><td class=n>{c.share:.1%}</td>"
        f"<td>{escape(', '.join(c.typical_pages))}</td></tr>"
        for c in manifest.clusters
    )
    metrics = "".join(
        f"<tr><td>{escape(name)}</td><td class=n>{_number(value)}</td></tr>"
        for name, value in sorted(manifest.metrics.items())
    )
    pretrain = [r for r in story.records if r["stage"] == "pretrain"]
    tune = [r for r in story.records if r["stage"] == "tune"]
    sections = [
        _chart("Pretraining: one predictor on everybody", pretrain, ("train_loss", "validation_loss")),
        _chart("Fine-tuning: one predictor per cluster", tune, ("train_loss", "validation_loss", "kept_loss")),
        _epochs(tune),
    ]
    training = manifest.training
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Training report</title><style>{CSS}</style></head><body>
<h1>Training report</h1>
<p class=note>{escape(training.method)}, {training.users:,} users, {escape(training.window_start)} to
{escape(training.window_end)}</p>
<h2>Clusters</h2>
<table><thead><tr><th class=n>id</th><th>name</th><th class=n>share</th><th>typical pages</th></tr></thead>
<tbody>{rows}</tbody></table>
<h2>Held-out users</h2>
<table><thead><tr><th>metric</th><th class=n>value</th></tr></thead><tbody>{metrics}</tbody></table>
{"".join(sections)}
</body></html>
"""


def _chart(title: str, records: Sequence[Mapping[str, Any]], series: Sequence[str]) -> str:
    """Loss per epoch as lines; nothing where nothing was measured."""
    lines = {name: [(r["epoch"], r[name]) for r in records if r.get(name) is not None] for name in series}
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    low, high = min(y for _, y in points), max(y for _, y in points)
    last, span = max(x for x, _ in points), max(high - low, 1e-9)

    def at(x: float, y: float) -> str:
        across = LEFT + (x - 1) / max(last - 1, 1) * (WIDTH - LEFT - 10)
        return f"{across:.1f},{10 + (high - y) / span * (HEIGHT - BOTTOM - 20):.1f}"

    drawn, keys = [], []
    for place, (name, line) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        drawn.append(f'<polyline fill="none" stroke="{colour}" points="{" ".join(at(x, y) for x, y in line)}"/>')
        drawn += [
            f'<circle r="2.5" fill="{colour}" cx="{c[0]}" cy="{c[1]}"/>' for c in (at(*p).split(",") for p in line)
        ]
        keys.append(f'<tspan fill="{colour}" dx="12">{escape(name.replace("_", " "))}</tspan>')
    base = HEIGHT - BOTTOM
    return f"""<h2>{escape(title)}</h2><p class=note>Loss in nats per token, by epoch</p>
<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">
<path d="M{LEFT} 5V{base}H{WIDTH - 5}" fill="none" stroke="#aab0b6"/>
<text x="{LEFT - 6}" y="14" text-anchor="end">{high:.3f}</text>
<text x="{LEFT - 6}" y="{base - 4}" text-anchor="end">{low:.3f}</text>
<text x="{LEFT}" y="{HEIGHT - 12}">1</text><text x="{WIDTH - 10}" y="{HEIGHT - 12}" text-anchor="end">{last}</text>
{"".join(drawn)}<text x="{LEFT + 20}" y="{HEIGHT - 12}">{"".join(keys)}</text></svg>
"""


def _epochs(records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return ""
    names = ("epoch", "moved", "sizes", "l1", "l2", "l3", "selector_loss", "train_loss", "validation_loss", "kept_loss")
    head = "".join(f"<th class=n>{escape(name.replace('_', ' '))}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td class=n>{_value(r.get(n))}</td>" for n in names) + "</tr>" for r in records)
    return f"<h2>Fine-tuning, epoch by epoch</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _number(value: float) -> str:
    return f"{value:,.{0 if value.is_integer() else 4}f}"


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "–" if value is None else escape(str(value))


def _cell(text: str) -> str:
    """Page names come from a log: nothing in one may break out of a table's cell or become markup."""
    safe = escape(text, quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|" else c for c in safe.replace("\n", " "))
