"""From the documents of many evaluations to the lines of tables: by log, by method, and over seeds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue, ValidationError

from training.evaluation.result import Decode, Evaluation
from training.evaluation.tables.layout import Block
from training.evaluation.tables.sources import Seen, Source
from training.evaluation.timing.result import Timing

SINGLES = ("single", "shared")
"""Methods that are one model for everybody, in the order in which they are taken for the reference."""
TELLING = ("preset", "times", "clusters", "start", "losses", "encoder", "warm_start", "alpha", "beta")
"""Settings that a reader knows a method by; others name it only where these do not tell two apart."""
NOT_NAMED = frozenset(("method", "seed"))
"""Training settings that tell no two methods apart."""


class RunError(ValueError):
    """Documents that make no table; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Run:
    """A document and where it came from. `own`: the training settings that may set it apart from its like."""

    path: Path
    evaluation: Evaluation

    @property
    def own(self) -> dict[str, JsonValue]:
        return {name: value for name, value in self.evaluation.training.items() if name not in NOT_NAMED}


@dataclass(frozen=True, slots=True)
class Group:
    """One line of a table: the runs of one method on one log, a seed (and fold) each."""

    label: str
    runs: tuple[Run, ...]

    @property
    def method(self) -> str:
        return self.runs[0].evaluation.method


@dataclass(frozen=True, slots=True)
class Log:
    """Everything evaluated on one dataset; with folds, on several."""

    name: str
    groups: tuple[Group, ...]

    def reference(self, wanted: str | None) -> Group | None:
        """The group called `wanted`, by label or by method; without a wish the first of `SINGLES` that is here."""
        for name in SINGLES if wanted is None else (wanted,):
            for group in self.groups:
                if name in (group.label, group.method):
                    return group
        return None

    def decodes(self) -> dict[Decode, list[str]]:
        """By the decode that a group was evaluated with, the groups' labels."""
        found: dict[Decode, list[str]] = {}
        for group in self.groups:
            for decode in dict.fromkeys(run.evaluation.settings.decode for run in group.runs):
                found.setdefault(decode, []).append(group.label)
        return found


def read(path: Path) -> Evaluation | Timing:
    """A document of `hetlm evaluate` or `hetlm timing`. Raises `RunError`."""
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: {error}") from error
    kind = Timing if isinstance(content, dict) and content.get("kind") == "timing" else Evaluation
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise RunError(
            f"{path} is no result of this version's `hetlm {'timing' if kind is Timing else 'evaluate'}`: {place}: "
            f"{first['msg']}: run it again"
        ) from error


def logs(runs: Sequence[Run], folds_of: str | None = None) -> list[Log]:
    """By dataset, in the order of the documents; `folds_of`: all of them are folds of one log of this name.

    Raises `RunError` for two documents of the same dataset, method and seed, and for documents of one log that were
    evaluated on different splits, numbers of users or vocabularies.
    """
    by_log: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_log["" if folds_of is not None else run.evaluation.dataset_sha256].append(run)
    names = Counter(own[0].evaluation.dataset for own in by_log.values())
    found = []
    for sha256, own in by_log.items():
        name = own[0].evaluation.dataset
        if names[name] > 1 or not name:
            name = f"{name or 'dataset'} {sha256[:8]}"
        _check(own, same_users=folds_of is None)
        found.append(Log(folds_of or name, tuple(_groups(own))))
    return found


def blocks(log: Log, decode: Decode | None, clusters: bool) -> list[Block]:
    """Methods of one line each together, and a block for every other. `clusters`: with a line per cluster, where there
    are several and one seed alone: clusters of two seeds have nothing to do with each other."""
    made: list[Block] = []
    for group in log.groups:
        combined = source(group, decode).rows
        rows = group.runs[0].evaluation.clusters if clusters and len(group.runs) == 1 else ()
        if len(rows) > 1:
            lines = [Source(f"{row.cluster} {row.name}", (Seen(row, decode),)) for row in rows]
            made.append(Block(group.label, (*lines, Source("Combined", combined, strong=True, ranked=True))))
        elif made and made[-1].heading is None:
            made[-1] = Block(None, (*made[-1].sources, source(group, decode)))
        else:
            made.append(Block(None, (source(group, decode),)))
    return made


def source(group: Group, decode: Decode | None) -> Source:
    """A group's combined row."""
    seen = (Seen(run.evaluation.combined, decode, run.evaluation.returns) for run in group.runs)
    return Source(group.label, tuple(seen), ranked=True)


def _check(runs: Sequence[Run], same_users: bool) -> None:
    first = runs[0]
    marks: list[tuple[str, Callable[[Run], object]]] = [("split", lambda run: run.evaluation.settings.split)]
    if same_users:
        marks.append(("number of users", lambda run: run.evaluation.settings.users))
        marks.append(("vocabulary", lambda run: run.evaluation.vocabulary_sha256[:12]))
    for what, mark in marks:
        for run in runs:
            if mark(run) != mark(first):
                raise RunError(
                    f"{run.path} and {first.path} do not compare: another {what} ({mark(run)}, {mark(first)}): "
                    "evaluate both alike"
                )


def _groups(runs: Sequence[Run]) -> Iterator[Group]:
    """By method and training settings, in the order of the documents, each under a label of its own."""
    by_method: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        by_method[run.evaluation.method][json.dumps(run.own, sort_keys=True)].append(run)
    for method, variants in by_method.items():
        named = _telling([own[0].own for own in variants.values()])
        for own in variants.values():
            seeds: dict[tuple[str, int], Run] = {}
            for run in own:
                same = seeds.setdefault((run.evaluation.dataset_sha256, run.evaluation.seed), run)
                if same is not run:
                    raise RunError(
                        f"{same.path} and {run.path} are both {method} with seed {run.evaluation.seed} on the same "
                        "dataset: name one of them"
                    )
            settings = ", ".join(f"{name}={own[0].own.get(name)}" for name in named)
            yield Group(f"{method} ({settings})" if settings else method, tuple(own))


def _telling(variants: Sequence[dict[str, JsonValue]]) -> list[str]:
    """Few settings by whose values all `variants` differ; none for one variant."""
    names = {name for own in variants for name in own}
    chosen: list[str] = []

    def distinct(telling: list[str]) -> int:
        return len({json.dumps([own.get(name) for name in telling]) for own in variants})

    for name in [*(name for name in TELLING if name in names), *sorted(names.difference(TELLING))]:
        if distinct([*chosen, name]) > distinct(chosen):
            chosen.append(name)
    return chosen
