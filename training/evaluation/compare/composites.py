"""The composites of HeTLM, section 5.3: the share of 20 metrics on which a model beats one single model.

The printed tables are rounded, so that what looks equal there may have been counted. Hence a range, [wins, wins +
ties]: the true composite of two rounded rows lies inside it. On unrounded rows it is mostly a point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from training.evaluation.result import Generation
from training.evaluation.rows import EITHER

_EVENTS = {"cart": "cart", "purchase": "purchase", "either": EITHER}

OUTCOMES = (*(f"{metric}_{event}" for metric in ("accuracy", "recall", "precision") for event in _EVENTS), "f1_either")
"""The ten metrics of Tables 4 and 11, in their order; higher is better. `either`: the paper's Cart/Purchase."""
PAGES = ("hr", "ioa", "iop", "iou", "new_p", "val_p")
"""The six of Tables 2 and 12; higher is better."""
VARIANCES = ("hr_var", "ioa_var", "iog_var", "iou_var")
"""The four of Tables 3 and 13; lower is better."""
GROUPS = {"outcomes": OUTCOMES, "pages": PAGES, "variance": VARIANCES}
CLOSE = 1e-12
"""Two metrics this close are a tie: sums of equal terms, in another order."""


@dataclass(frozen=True, slots=True)
class Composite:
    """Among `number` metrics, `wins` are strictly better and `ties` equal."""

    wins: int
    ties: int
    number: int

    @property
    def strict(self) -> float:
        """Wins over number, in [0, 1]: the composite of section 5.3. Raises `ZeroDivisionError` for no metric."""
        return self.wins / self.number

    @property
    def most(self) -> float:
        """What it would be, had every tie been a win; the composite of unrounded values is in [`strict`, `most`]."""
        return (self.wins + self.ties) / self.number

    def __add__(self, other: Composite) -> Composite:
        return Composite(self.wins + other.wins, self.ties + other.ties, self.number + other.number)


@dataclass(frozen=True, slots=True)
class Composites:
    """`groups`: by the name of a group of `GROUPS`, those with a metric that both rows have. `overall`: all of it."""

    groups: dict[str, Composite]
    overall: Composite


def metrics(row: Generation) -> dict[str, float]:
    """Those of the 20 metrics that an evaluation's row has, by name: on a site without outcomes ten are missing, on
    one with a single outcome those of the other and of either."""
    found = {}
    for name in OUTCOMES:
        metric, event = name.split("_")
        if (outcome := row.outcomes.get(_EVENTS[event])) is not None:
            found[name] = float(getattr(outcome, metric))
    found |= {name: float(getattr(row.pages, name)) for name in PAGES}
    return found | {name: float(getattr(row.variance, name.removesuffix("_var"))) for name in VARIANCES}


def composites(own: Mapping[str, float], single: Mapping[str, float]) -> Composites:
    """Compare a row with a single model's, metric by metric, where both have it.

    Raises `ValueError` where they share none, or one holds a name that is not among the 20.
    """
    known = {name for names in GROUPS.values() for name in names}
    if strange := sorted((own.keys() | single.keys()) - known):
        raise ValueError(f"{strange[0]!r} is not one of the 20 metrics")
    groups = {}
    for group, names in GROUPS.items():
        sign = -1 if group == "variance" else 1
        leads = [sign * (own[name] - single[name]) for name in names if name in own and name in single]
        if leads:
            ties = sum(abs(lead) <= CLOSE for lead in leads)
            groups[group] = Composite(sum(lead > CLOSE for lead in leads), ties, len(leads))
    if not groups:
        raise ValueError("the two rows have no metric in common")
    return Composites(groups, sum(groups.values(), Composite(0, 0, 0)))
