"""One row of an input file: what to ask about a visitor, or what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from browsing.newest import newest
from service.problems import FieldError, ProblemError, invalid
from service.schemas import PredictOptions, PredictRequest
from service.security.values import MAX_VALUES, bounded

PATIENT_MS = 60_000
"""A row of a file may take this long where it says nothing: nobody waits for it alone."""
_USER_LENGTH = 200
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+'
_MEMBERS = re.compile(
    rb'"user_id"\s*+:\s*+(?P<user>' + _STRING + rb'"|-?[0-9]++)|' + _STRING + rb'(?:"|\\?\Z)|(?P<bracket>[][{}])',
    re.DOTALL,
)
"""What tells where in a document one is: strings, the last of them perhaps cut off, and brackets."""


@dataclass(frozen=True, slots=True)
class Row:
    """`number`: from 0, in the file's order. `user_id`: as far as it can be told, also of a row that is wrong.
    `dropped`: the oldest sessions, which were left out because one request may not hold so many."""

    number: int
    user_id: str | None
    asked: PredictRequest | ProblemError
    dropped: int = 0


def row_of_json(number: int, document: bytes, dropped: int = 0) -> Row:
    """A row that is the JSON document of `POST /predict`."""
    try:
        bounded(document, MAX_VALUES)
        request = PredictRequest.model_validate_json(document)
    except ProblemError as problem:
        return Row(number, user_in(document), problem)
    except ValidationError as error:
        return Row(number, user_in(document), invalid(error))
    return Row(number, request.user_id, request, dropped)


def row_of_values(number: int, values: Mapping[str, object], dropped: int = 0) -> Row:
    """The same, of Python values. A table has every member in every row: one that is null is not there."""
    try:
        document = to_json(_present(values))
    except (PydanticSerializationError, ValueError):
        user = values.get("user_id")
        return broken(number, "", "holds text that is not UTF-8", user if isinstance(user, str) else None)
    return row_of_json(number, document, dropped)


def row_of_dataset(
    number: int,
    user_id: str | None,
    history: Sequence[Sequence[object] | None] | None,
    started_at: Sequence[datetime | None] | None,
) -> Row:
    """A row in a dataset's own columns. Of a history longer than one request may hold, the newest sessions are read."""
    if history is None or started_at is None:
        return broken(number, "/history" if history is None else "/history_started_at", "is null", user_id)
    if len(history) != len(started_at):
        detail = f"has {len(started_at)} times for {len(history)} sessions"
        return broken(number, "/history_started_at", detail, user_id)
    sessions = [{"started_at": at, "pages": pages} for at, pages in newest(started_at, history)]
    return row_of_values(number, {"user_id": user_id, "sessions": sessions}, len(history) - len(sessions))


def broken(number: int, pointer: str, detail: str, user_id: str | None = None) -> Row:
    """A row that cannot be asked about."""
    at = f"{pointer}: " if pointer else "the row "
    problem = ProblemError("invalid-request", f"{at}{detail}", [FieldError(pointer=pointer, detail=detail)])
    return Row(number, short(user_id), problem)


def too_large(number: int, limit: int, user_id: str | None) -> Row:
    """A row of more than `limit` bytes, of which no more was read than shows that."""
    detail = f"The row has more than {limit} bytes: keep the newest sessions."
    return Row(number, short(user_id), ProblemError("row-too-large", detail))


def asked_with(request: PredictRequest, defaults: PredictOptions) -> PredictRequest:
    """`request` with the file's options where the row has none of its own."""
    own = {name: getattr(request.options, name) for name in request.options.model_fields_set}
    return request.model_copy(update={"options": defaults.model_copy(update=own)})


def defaults_of(options: PredictOptions, now: datetime) -> PredictOptions:
    """The file's options, complete: one moment from which all rows' 7 days run, whenever a row's turn comes."""
    update: dict[str, object] = {}
    if options.as_of is None:
        update["as_of"] = now
    if options.deadline_ms is None:
        update["deadline_ms"] = PATIENT_MS
    return options.model_copy(update=update)


def _present(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _present(member) for name, member in value.items() if member is not None}
    return [_present(member) for member in value] if isinstance(value, list) else value


def user_in(document: bytes) -> str | None:
    """The member `user_id` of a document that is not taken, be it too large to be parsed, cut off, or no JSON further
    on. Takes no memory, and time in proportion to the document's length."""
    depth, user = 0, None
    for found in _MEMBERS.finditer(document):
        bracket = found["bracket"]
        if bracket is not None:
            depth += 1 if bracket in b"[{" else -1
            if depth <= 0 or (depth == 1 and found.start() == 0 and bracket == b"["):
                break  # the document's end, or no object
        elif depth == 1 and found["user"] is not None:
            user = found["user"]
    try:
        return short(str(from_json(user))) if user is not None else None
    except ValueError:
        return None


def short(name: str | None) -> str | None:
    """`name`, if a user's can be so long."""
    return name if name is not None and len(name) <= _USER_LENGTH else None
