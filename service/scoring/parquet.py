"""Parquet: a dataset's own columns, or those of the documents of `POST /predict`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from service.problems import ProblemError
from service.scoring.inputs import PARQUET_MAGIC, Limits, beyond
from service.scoring.rows import Row, broken, row_of_dataset, row_of_values, too_large
from service.scoring.threads import Stop

DATASET = ("history", "history_started_at")
DOCUMENT = ("sessions", "events")
BATCH_ROWS = 64
FOOTER_BYTES = 64 * 2**20
_BUFFER = 65_536
_USER_BYTES = 1_024
"""No user's name is longer: 200 characters of at most four bytes each."""
_MOMENT = pa.timestamp("us", "UTC")


class ParquetSource:
    """The footer tells the rows and the sizes; raises `ProblemError`, `OSError`, `Stopped`.

    Text is read as it is stored, each distinct string once: a small file cannot unfold into a large memory. Times
    without a zone are UTC, as everywhere in a dataset.
    """

    def __init__(self, path: Path, limits: Limits, stop: Stop) -> None:
        self._path = path
        self._limits = limits
        self._stop = stop
        self._check_footer()
        try:
            with self._open() as file:
                metadata = file.metadata
                self.count = int(metadata.num_rows)
                self._groups = self._checked(metadata)
                self._columns = _columns(file.schema_arrow)
                self._text = _text(file.schema)
        except ProblemError:
            raise
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            raise _unreadable(error) from None
        if not self.count:
            raise ProblemError("broken-file", "The Parquet file has no row.")
        if sum(self._groups) != self.count or min(self._groups) < 0:
            raise ProblemError("broken-file", "The Parquet file's row groups do not add up to its rows.")

    @property
    def format(self) -> Literal["parquet"]:
        return "parquet"

    def rows(self, start: int = 0) -> Generator[Row]:
        number = 0
        try:
            with self._open(self._text) as file:
                for group, rows in enumerate(self._groups):
                    self._stop.check()
                    if not rows or number + rows <= start:
                        number += rows
                        continue
                    # One group at a time: text as it is stored cannot be joined over two of them.
                    for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=list(self._columns)):
                        self._stop.check()
                        if number + batch.num_rows > start:
                            yield from self._rows(batch, number, max(start - number, 0))
                        number += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(error, number) from None
        if number != self.count:
            raise ProblemError("broken-file", f"The Parquet file ends after {number} of {self.count} rows.")

    def _open(self, text: Sequence[str] = ()) -> pq.ParquetFile:
        return pq.ParquetFile(
            self._path,
            read_dictionary=list(text),
            buffer_size=_BUFFER,
            pre_buffer=False,
            thrift_string_size_limit=100_000_000,
            thrift_container_size_limit=1_000_000,
        )

    def _check_footer(self) -> None:
        """It is read as a whole, and takes several times its size in memory."""
        with self._path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - 8, 0))
            tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] == PARQUET_MAGIC and length > FOOTER_BYTES:
            raise ProblemError(
                "file-too-large",
                f"The Parquet file's footer has more than {FOOTER_BYTES} bytes: write fewer row groups or columns.",
            )

    def _checked(self, metadata: Any) -> list[int]:
        """Rows per group."""
        limits = self._limits
        if self.count > limits.rows:
            raise beyond("The file has", limits.rows, "rows", "HETLM_BATCH_MAX_ROWS")
        total, groups = 0, []
        for i in range(metadata.num_row_groups):
            self._stop.check()
            group = metadata.row_group(i)
            groups.append(int(group.num_rows))
            values = max((group.column(j).num_values for j in range(group.num_columns)), default=0)
            # Repeated values may take nothing in the file and yet four bytes each in memory.
            size = max(int(group.total_byte_size), 4 * int(values))
            if size > limits.row_group_bytes:
                raise beyond(
                    f"Row group {i} of the Parquet file has",
                    limits.row_group_bytes,
                    "bytes when it is decompressed",
                    "HETLM_BATCH_MAX_ROW_GROUP_BYTES",
                )
            total += size
        if total > limits.bytes:
            raise beyond("Decompressed, the file has", limits.bytes, "bytes", "HETLM_BATCH_MAX_BYTES")
        return groups

    def _rows(self, batch: pa.RecordBatch, first: int, skip: int) -> Generator[Row]:
        columns = {name: _in_utc(batch.column(name)) for name in self._columns}
        each = {name: sizes(column) for name, column in columns.items()}
        taken = np.sum(list(each.values()), axis=0)
        users = columns.get("user_id")
        for i in range(skip, batch.num_rows):
            number = first + i
            # By itself, whatever is wrong with the rest of the row.
            user = _user(users, i) if users is not None and each["user_id"][i] <= _USER_BYTES else None
            if taken[i] > self._limits.row_bytes:
                yield too_large(number, self._limits.row_bytes, user)
                continue
            try:
                values = {name: column[i].as_py() for name, column in columns.items()}
            except (ValueError, OverflowError):  # not UTF-8, or a time that no calendar has
                yield broken(number, "", "holds text that is not UTF-8, or a time out of range", user)
                continue
            if values.get("user_id") is not None:  # shops number their users, too
                values["user_id"] = str(values["user_id"])
            if "history" in values:
                yield row_of_dataset(number, values.get("user_id"), values["history"], values["history_started_at"])
            else:
                yield row_of_values(number, values)


def _user(users: pa.Array, place: int) -> str | None:
    try:
        value = users[place].as_py()
    except (ValueError, OverflowError):
        return None
    return str(value) if value is not None else None


def sizes(array: pa.Array) -> NDArray[np.int64]:
    """Bytes of each value once it is unfolded, with all that it holds. int64 [len(array)]."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        own = sizes(array.dictionary)
        indices: NDArray[np.int64] = array.indices.fill_null(0).to_numpy(zero_copy_only=False)
        return own[indices] if len(own) else _each(array, 1)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes(array.values))])
        offsets: NDArray[np.int64] = array.offsets.to_numpy()
        unfolded: NDArray[np.int64] = ends[offsets[1:]] - ends[offsets[:-1]] + 1
        return unfolded
    if pa.types.is_struct(kind):
        together: NDArray[np.int64] = np.sum([_each(array, 1), *map(sizes, array.flatten())], axis=0)
        return together
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        lengths = pc.binary_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        return np.asarray(lengths, np.int64) + 1
    return _each(array, 8)


def _each(array: pa.Array, size: int) -> NDArray[np.int64]:
    return np.full(len(array), size, np.int64)


def _columns(schema: pa.Schema) -> tuple[str, ...]:
    """The columns that are read; all others are left alone. Raises `ProblemError`."""
    names = schema.names
    wanted: tuple[str, ...]
    needed: tuple[str, ...]
    if "history" in names:
        wanted, needed = ("user_id", *DATASET), DATASET
    elif any(name in names for name in DOCUMENT):
        wanted, needed = ("user_id", *DOCUMENT, "options"), ()
    else:
        raise ProblemError(
            "broken-file",
            "The Parquet file has neither the columns of a dataset (history, history_started_at) nor those of "
            "POST /predict (sessions or events).",
        )
    for name in needed:
        if name not in names:
            raise ProblemError("broken-file", f"The Parquet file has no column {name}.")
    found = tuple(name for name in wanted if name in names)
    for name in found:
        if names.count(name) > 1:
            raise ProblemError("broken-file", f"The Parquet file has more than one column {name}.")
        kind = schema.field(name).type
        if not _readable(kind) or (name == "user_id" and (_listed(kind) or pa.types.is_struct(kind))):
            raise ProblemError("broken-file", f"Column {name} of the Parquet file has a type that is not read here.")
        if name in DATASET and not _fits(name, kind):
            shape = "list<list<string>>" if name == "history" else "list<timestamp>"
            raise ProblemError("broken-file", f"Column {name} of the Parquet file must be {shape}.")
    return found


def _readable(kind: pa.DataType) -> bool:
    """Types whose sizes are known before they are unfolded."""
    if _listed(kind):
        return _readable(kind.value_type)
    if pa.types.is_struct(kind):
        return all(_readable(kind.field(i).type) for i in range(kind.num_fields))
    if pa.types.is_dictionary(kind):
        return _stringy(kind.value_type)
    plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_timestamp, pa.types.is_null)
    return _stringy(kind) or any(test(kind) for test in plain)


def _fits(name: str, kind: pa.DataType) -> bool:
    if not _listed(kind):
        return False
    inner = kind.value_type
    if name == "history_started_at":
        return bool(pa.types.is_timestamp(inner))
    if not _listed(inner):
        return False
    leaf = inner.value_type
    return _stringy(leaf.value_type if pa.types.is_dictionary(leaf) else leaf)


def _listed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _stringy(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _text(schema: pq.ParquetSchema) -> tuple[str, ...]:
    columns = (schema.column(i) for i in range(len(schema)))
    return tuple(column.path for column in columns if column.physical_type == "BYTE_ARRAY")


def _in_utc(array: pa.Array) -> pa.Array:
    """The column with every time in microseconds of UTC, which is what a `datetime` can hold."""
    wanted = _with_moments(array.type)
    return array if wanted == array.type else array.cast(wanted, safe=False)


def _with_moments(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return _MOMENT
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_with_moments(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_with_moments(kind.value_type)))
    if pa.types.is_struct(kind):
        fields = (kind.field(i) for i in range(kind.num_fields))
        return pa.struct([own.with_type(_with_moments(own.type)) for own in fields])
    return kind


def _unreadable(error: Exception, after: int | None = None) -> ProblemError:
    """Arrow's own message may quote what it read."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    where = "" if after is None else f" after row {after}"
    return ProblemError("broken-file", f"The Parquet file is damaged or not Parquet{where}: write it again.")
