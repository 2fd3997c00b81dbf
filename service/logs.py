"""The log: one JSON object per line on stderr, without a history, a page or a user in it.

An exception is logged as its type and the places it came through; its message may quote what was being worked on.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import traceback
from pathlib import Path
from typing import TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

FRAMES = 8


def logger(level: str = "info", stream: TextIO | None = None) -> FilteringBoundLogger:
    """A logger of its own: nothing global is configured."""
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(),
    ]
    bound: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(cast("TextIO", Lossy(stream or sys.stderr))),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    return bound


def described(error: BaseException) -> dict[str, object]:
    """An exception without its message: its type and its innermost frames."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return {
        "error": type(error).__name__,
        "where": [f"{Path(f.filename).parent.name}/{Path(f.filename).name}:{f.lineno} in {f.name}" for f in frames],
    }


class Lossy(io.TextIOBase):
    """Writes to `stream` what it takes. A full disk behind the log costs lines, never an answer."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class Forward(logging.Handler):
    """Gives what libraries say through `logging` (uvicorn's warnings, say) to `log`, without exceptions' messages."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            self._log.log(record.levelno, "library", logger=record.name, **described(error))
        else:
            self._log.log(record.levelno, "library", logger=record.name, message=record.getMessage())
