"""How many values a JSON document may hold: counted before it is parsed.

A byte limit does not bound what a document becomes: 32 MiB of `[],` are ten million lists, 800 MB, and one wrong page
costs a kilobyte of error. What a request may rightly hold is known, so its number of values is.
"""

from __future__ import annotations

import numpy as np

from service.problems import ProblemError

MAX_VALUES = 30_000
"""Of one visitor. 5,000 events of four members each, or 5,000 sessions with 5,000 pages, are 25,000."""
MAX_BATCH_VALUES = 2_000_000
"""Of one `/predict/batch`: at most about 200 MB, whatever it holds."""

_CHUNK = 1_048_576
_QUOTE, _COMMA, _LIST, _OBJECT = b'",[{'


def bounded(body: bytes, limit: int) -> None:
    """Raises `ProblemError` (413) for more than `limit` opening brackets, opening braces and commas."""
    # Those inside strings are not meant; nearly always there are few enough even with them.
    if body.count(b",") + body.count(b"[") + body.count(b"{") > limit and count(body) > limit:
        raise ProblemError(
            "body-too-large",
            f"At most {limit} values are read here: send fewer or shorter sessions, or fewer items.",
        )


def count(body: bytes) -> int:
    """Opening brackets, opening braces and commas outside strings: at least the number of values, less one."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # what is left of quotes begins or ends a string
    inside = total = 0
    for start in range(0, len(plain), _CHUNK):
        part = np.frombuffer(plain, np.uint8, min(_CHUNK, len(plain) - start), start)
        # uint8 wraps around at 256, which is even: the parity is right.
        in_string = (np.cumsum(part == _QUOTE, dtype=np.uint8) + np.uint8(inside)) & 1
        structure = (part == _COMMA) | (part == _LIST) | (part == _OBJECT)
        total += int(np.count_nonzero(structure & (in_string == 0)))
        inside = int(in_string[-1])
    return total
