"""What a run comes to, as a JSON document. It holds no history: of the workload, counts and a hash."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from browsing.whole import write_whole
from loadtest.bench.errors import BenchError
from loadtest.bench.spread import Spread
from loadtest.result import Latency, Machine


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Side(_Document):
    """One subject's turn in one round of a comparison."""

    comparison: str
    subject: str
    round: int
    concurrency: int
    requests: int
    seconds: float
    per_second: float
    latency_ms: Latency
    cpu_ms: dict[str, float] = Field(description="per request, by process; the load generator's is not in it")
    generator_cpu_ms: float = Field(description="per request, of the load generator, which shares the cores")
    memory: int = Field(description="resident bytes at its end")
    operations: float | None = Field(default=None, description="of a prediction, on average; see bench.operations")

    @property
    def cpu(self) -> float:
        """Milliseconds per request, over all processes."""
        return sum(self.cpu_ms.values())


class Product(_Document):
    """The machine's own large matrix product, with the engine's threads, in one round of a comparison."""

    comparison: str
    round: int
    per_second: float = Field(description="operations")


class Figure(_Document):
    """One line of the table. `unit` `ratio`: paired, comparable between runs; `ms`, `share` and others belong to this
    one (`GB`: 10^9 bytes). `limit`: None for what is shown beside."""

    key: str
    figure: str
    unit: Literal["ratio", "share", "ms", "GB"]
    better: Literal["higher", "lower"]
    value: Spread | None = Field(description="None where it was not measured")
    limit: float | None

    @property
    def held(self) -> bool | None:
        """By the median; None where there is nothing to hold, or nothing was measured."""
        if self.value is None or self.limit is None:
            return None
        return self.value.median >= self.limit if self.better == "higher" else self.value.median <= self.limit


class BundleShape(_Document):
    clusters: int
    parameters: int = Field(description="of one predictor")
    version: str


class Conditions(_Document):
    """What two runs must have in common for their ratios to be comparable."""

    threads: int
    workload_sha256: str
    source: str
    visitors: int
    prompt_tokens: float = Field(description="of a history, on average")
    samples: int
    top_pages: int
    max_steps: int
    vocabulary: int
    outcomes: tuple[str, ...]
    concurrency: int
    subjects: dict[str, BundleShape] = Field(description="what each subject computes with")


class Measured(_Document):
    """What every run writes, whatever it compares."""

    kind: str
    schema_version: Literal[1] = 1
    command: str
    machine: Machine
    processor: str
    versions: dict[str, str]
    figures: tuple[Figure, ...]
    flags: tuple[str, ...] = Field(description="what to know before the figures are believed")
    seconds: float

    def write(self, path: Path) -> None:
        write_whole(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `BenchError`."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise _unread(path, error) from None


class Report(Measured):
    """Of `peers`."""

    kind: Literal["bench"] = "bench"
    conditions: Conditions
    sides: tuple[Side, ...]
    products: tuple[Product, ...]


Setting = int | float | str | None


class Study(Measured):
    """Of `paths`, `encoder`, `stacked` and `ingest`: one thing against another, without a service's load."""

    kind: Literal["bench-paths", "bench-encoder", "bench-stacked", "bench-ingest"]
    conditions: dict[str, Setting | tuple[Setting, ...]] = Field(
        description="what two runs must have in common for their ratios to be comparable"
    )
    settings: dict[str, Setting] = Field(description="everything else that was chosen: rounds, seeds")
    details: dict[str, Any] = Field(description="what the figures were made of, as each command has it")


_ANY: TypeAdapter[Report | Study] = TypeAdapter(Annotated[Report | Study, Field(discriminator="kind")])


def read(path: Path) -> Report | Study:
    """Whichever of them is there. Raises `BenchError`."""
    try:
        return _ANY.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise _unread(path, error) from None


def _unread(path: Path, error: Exception) -> BenchError:
    return BenchError(f"{path}: no report of a benchmark can be read there ({type(error).__name__})")
