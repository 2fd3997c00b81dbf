"""Two runs of one scenario, one over the other."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadtest.figures import ratio
from loadtest.result import Ratio, Result

PERCENTILES = ("p50", "p95", "p99", "max")


class ComparisonError(ValueError):
    """Results that cannot be compared; the message names the file."""


class Compared(BaseModel):
    """One figure. None: one of the runs does not have it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    first: float | None
    second: float | None
    ratio: float | None = Field(description="second over first, of the whole runs")
    paired: Ratio | None = Field(description="of the same tenths of both runs, which hold the same arrivals")


class Comparison(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: str
    same_plan: bool = Field(description="the same questions at the same times, so that tenths can be paired")
    bundles: tuple[str, str]
    figures: tuple[Compared, ...]


def read(path: Path) -> Result:
    """Raises `ComparisonError`."""
    try:
        return Result.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ComparisonError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ComparisonError(
            f"{path} is no result of `python -m loadtest` ({where or 'the document'}: {first['msg']})"
        ) from None


def compare(first: Result, second: Result) -> Comparison:
    """Raises `ComparisonError` for different scenarios."""
    if first.scenario != second.scenario:
        raise ComparisonError(f"{first.scenario} and {second.scenario} are different scenarios: compare like with like")
    same = first.plan_sha256 == second.plan_sha256
    figures = [
        _compared(
            f"latency {name}, ms",
            getattr(first.counted.latency_ms, name),
            getattr(second.counted.latency_ms, name),
            _paired(first, second, name) if same else None,
        )
        for name in PERCENTILES
    ]
    for name in ("achieved_rate", "correct_rate", "embedding_hit_ratio"):
        figures.append(_compared(name.replace("_", " "), getattr(first.counted, name), getattr(second.counted, name)))
    figures.append(_compared("generator CPU, share of a core", first.lag.cpu_share, second.lag.cpu_share))
    if first.pairs is not None and second.pairs is not None:
        own, other = first.pairs.p95_ratio.mean, second.pairs.p95_ratio.mean
        figures.append(_compared("p95 with files over without", own, other))
    return Comparison(
        scenario=first.scenario,
        same_plan=same,
        bundles=(first.bundle_version, second.bundle_version),
        figures=tuple(figures),
    )


def _compared(name: str, first: float | None, second: float | None, paired: Ratio | None = None) -> Compared:
    own = second / first if first and second is not None else None
    return Compared(name=name, first=first, second=second, ratio=own, paired=paired)


def _paired(first: Result, second: Result, name: str) -> Ratio | None:
    values = []
    for own, other in zip(first.slices, second.slices, strict=True):
        a, b = getattr(own.latency_ms, name), getattr(other.latency_ms, name)
        if a and b:
            values.append(b / a)
    return ratio(values) if values else None
