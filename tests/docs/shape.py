"""Whether a JSON document that is shown has the form of a real one."""

from __future__ import annotations

from typing import Any


def misshapen(shown: Any, real: Any, at: str = "") -> list[str]:
    """Where it has not: members that the real one lacks, and values of another type. It may leave members out; null
    stands for anything, and the items of a list are held against the real one's first."""
    if shown is None or real is None:
        return []
    if isinstance(shown, dict) and isinstance(real, dict):
        unknown = [f"{at}/{name}: there is none" for name in shown.keys() - real.keys()]
        both = sorted(shown.keys() & real.keys())
        return unknown + [wrong for name in both for wrong in misshapen(shown[name], real[name], f"{at}/{name}")]
    if isinstance(shown, list) and isinstance(real, list):
        return [wrong for i, item in enumerate(shown) for wrong in misshapen(item, (real or [None])[0], f"{at}/{i}")]
    number = isinstance(shown, int | float) and isinstance(real, int | float)
    same = type(shown) is type(real) or (number and not isinstance(shown, bool) and not isinstance(real, bool))
    return [] if same else [f"{at}: {type(shown).__name__} instead of {type(real).__name__}"]
