"""What a run comes to, as a JSON document."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Latency(_Document):
    """Milliseconds from the intended start; each figure is one that occurred (nearest rank). None: never answered."""

    n: int = Field(ge=0)
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


class Answers(_Document):
    """Every arrival is in exactly one of correct, refused, wrong, lost, unreachable, dropped, left."""

    accepted: int = Field(description="correct, refused, wrong and lost: the server took the request")
    honest: int = Field(description="correct and refused")
    correct: int
    refused: int
    wrong: int
    lost: int
    unreachable: int
    dropped: int = Field(description="not sent: the bound on outstanding requests was reached")
    left: int = Field(description="the caller went away, as the scenario has it")
    unsteady: int = Field(description="correct, but unlike an earlier answer to the equal question")
    reasons: dict[str, int] = Field(description="what was wrong, lost or unreachable, the commonest first")


class Group(_Document):
    """The phases of one name, or all that are counted."""

    name: str
    start: float = Field(description="of the first of them, seconds from the run's start")
    end: float = Field(description="of the last")
    requests: int
    intended_rate: float = Field(description="arrivals per second")
    achieved_rate: float = Field(description="sent per second, from the first arrival meant to the last one sent")
    correct_rate: float = Field(description="correct answers per second")
    by_status: dict[str, int]
    by_fallback: dict[str, int] = Field(description="of the correct answers; `none` is the model's own")
    by_cluster: dict[str, int]
    latency_ms: Latency = Field(description="of correct answers")
    latency_with_lost_ms: Latency = Field(description="where a lost, unreachable or dropped one is never answered")
    embedding_hit_ratio: float | None = Field(description="sessions found in the cache; None where none was looked up")


class Slice(_Document):
    """A tenth of the counted time."""

    start: float
    end: float
    latency_ms: Latency


class Lag(_Document):
    """The generator's own delays. `late`: they are large enough to blur the latencies, so that the run is flagged."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    late: bool
    cpu_seconds: float
    cpu_share: float = Field(description="of one core")


class Fault(_Document):
    """What was done to the service, and how it took it."""

    what: str
    at: float = Field(description="seconds from the run's start")
    restored_at: float | None = None
    bad: int = Field(description="requests after it that were not answered by the model")
    recovered_after: float | None = Field(
        description="seconds until the first request after which all were answered by the model; None: never"
    )


class Trend(_Document):
    """A quantity of the server's processes over the run, its warm-up left out."""

    name: Literal["memory", "anonymous", "descriptors", "threads", "connections", "tasks"]
    unit: str
    samples: int
    median: float
    slope_per_hour: float = Field(description="Theil-Sen, over medians of blocks")
    interval: tuple[float, float] = Field(description="95 %, of the slope per hour")
    growth: float = Field(description="slope times the time watched")
    tolerance: float = Field(description="growth that is no matter")
    flat: bool = Field(description="the growth is within the tolerance, or the interval does not exclude zero")


class Batch(_Document):
    """What went on beside the online load."""

    route: Literal["/batches", "/predict/batch"]
    rows: int = Field(description="rows or items scored while it ran")
    rows_per_second: float
    files: int = Field(description="jobs or requests that came to their end")
    wrong: int = Field(description="rows lost, doubled, or another visitor's; items that failed")
    refused: int = Field(default=0, description="times that a file, or its result, was refused for now")
    ended: str | None = Field(default=None, description="why the work ended before the run did; None where it did not")


class Ratio(_Document):
    """Of paired figures. `mean`: geometric; `interval`: 95 %, Student's t over the logarithms."""

    n: int
    mean: float
    interval: tuple[float, float] | None = Field(description="None for a single pair")
    least: float
    most: float


class Pair(_Document):
    """The same arrivals twice."""

    first: Literal["without", "with"]
    without: Group
    beside: Group
    batch: Batch
    p95_ratio: float


class Pairs(_Document):
    capacity: float | None = Field(description="correct answers per second of a saturated service; None: not measured")
    utilisation: float | None = Field(description="the rate over the capacity")
    pairs: tuple[Pair, ...]
    p95_ratio: Ratio
    limit: float


class Machine(_Document):
    cores: int
    load_before: float = Field(description="load average over a minute, of the generator's machine")
    load_after: float


class Result(_Document):
    kind: Literal["load"] = "load"
    schema_version: Literal[1] = 1
    scenario: str
    url: str
    bundle_version: str
    source: str = Field(description="where the visitors come from: `dataset` or `bundle`")
    arrivals: Literal["fixed", "poisson", "replay"]
    compression: float | None = Field(description="of a replay: log seconds per second")
    seed: int
    rate: float
    seconds: float
    plan_sha256: str = Field(description="runs with equal ones can be compared arrival by arrival")
    machine: Machine
    answers: Answers = Field(description="over the whole run, its warm-up too")
    counted: Group
    phases: tuple[Group, ...]
    slices: tuple[Slice, ...]
    lag: Lag
    fault: Fault | None = None
    batch: Batch | None = None
    pairs: Pairs | None = None
    trends: tuple[Trend, ...] | None = None
    flags: tuple[str, ...] = Field(description="what to know before the figures are believed")
    failures: tuple[str, ...] = Field(description="what the scenario promises and did not hold")

    @property
    def passed(self) -> bool:
        return not self.failures
