"""What ends a benchmark: a measurement that would mean nothing."""

from __future__ import annotations


class BenchError(RuntimeError):
    """It cannot be measured, or what was measured was wrong; the message says what and what to do."""
