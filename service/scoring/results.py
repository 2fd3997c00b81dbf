"""What a scored file holds: one flat row per row of the input, made to be cut with SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pydantic_core import from_json, to_json

from service.problems import ProblemError
from service.schemas import PredictResponse
from service.scoring.rows import Row

Record = dict[str, object]


@dataclass(frozen=True, slots=True)
class Tally:
    """Rows: `done`, and of these `failed` (they have a problem) and `fallbacks` (no engine answered)."""

    done: int = 0
    failed: int = 0
    fallbacks: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.done + other.done, self.failed + other.failed, self.fallbacks + other.fallbacks)


_OUTCOME = pa.struct(
    [
        ("probability", pa.float64()),
        ("raw", pa.float64()),
        ("calibrated", pa.bool_()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("within_7_days", pa.float64()),
    ]
)
_PAGE = pa.struct([("page", pa.string()), ("probability", pa.float64()), ("seen_before", pa.bool_())])


def schema(outcomes: Sequence[str]) -> pa.Schema:
    """The columns of a result, for a bundle's `outcomes`. All but `row` are null where `problem` is not, which holds
    an RFC 9457 document; `user_id` is there all the same as far as it can be told."""
    return pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            ("user_id", pa.string()),
            ("cluster_id", pa.int32()),
            ("cluster_name", pa.string()),
            ("cluster_probability", pa.float64()),
            ("next_session", pa.list_(pa.string())),
            ("pages", pa.list_(_PAGE)),
            *((f"outcome_{name}", _OUTCOME) for name in sorted(outcomes)),
            ("return_within_7_days", pa.float64()),
            ("sessions_dropped", pa.int32()),
            ("fallback", pa.string()),
            ("bundle_version", pa.string()),
            ("problem", pa.string()),
        ]
    )


def record_of(row: Row, answer: PredictResponse) -> Record:
    return {
        "row": row.number,
        "user_id": answer.user_id,
        "cluster_id": answer.cluster.id,
        "cluster_name": answer.cluster.name,
        "cluster_probability": answer.cluster.probability,
        "next_session": answer.next_session,
        "pages": [page.model_dump(exclude={"estimator"}) for page in answer.pages],
        **{
            f"outcome_{name}": {
                "probability": outcome.probability,
                "raw": outcome.raw,
                "calibrated": outcome.calibrated,
                "low": outcome.interval[0],
                "high": outcome.interval[1],
                "within_7_days": outcome.within_7_days,
            }
            for name, outcome in answer.outcomes.items()
        },
        "return_within_7_days": answer.return_within_7_days,
        "sessions_dropped": answer.truncated.sessions_dropped + row.dropped,
        "fallback": answer.fallback,
        "bundle_version": answer.bundle_version,
    }


def record_of_problem(row: Row, problem: ProblemError, request_id: str) -> Record:
    document = problem.document(request_id).model_dump_json(exclude_none=True)
    return {"row": row.number, "user_id": row.user_id, "problem": document}


def table(records: Sequence[Record], columns: pa.Schema) -> pa.Table:
    """A member that a record lacks is null."""
    return pa.Table.from_pylist(list(records), schema=columns)


def lines(batch: pa.RecordBatch) -> Iterator[bytes]:
    """The rows as NDJSON; a problem is an object there."""
    for record in batch.to_pylist():
        if record["problem"] is not None:
            record["problem"] = from_json(record["problem"])
        yield to_json(record) + b"\n"


def tally_of(record: Record) -> Tally:
    """One row, counted."""
    return Tally(1, int(record.get("problem") is not None), int(record.get("fallback") == "engine_down"))
