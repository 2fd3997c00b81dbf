"""Options that hold several things, separated by commas."""

from __future__ import annotations

from typing import TypeVar

from browsing.console import fail

Name = TypeVar("Name", bound=str)


def counts(flag: str, text: str, such_as: str, least: int = 1) -> tuple[int, ...]:
    """Each once, the smallest first."""
    try:
        found = sorted({int(word) for word in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < least:
        raise fail(f"{flag} {text}: numbers from {least} on, separated by commas, such as {such_as}")
    return tuple(found)


def chosen(flag: str, text: str, known: tuple[Name, ...]) -> tuple[Name, ...]:
    """In the order in which they are known."""
    words = {word.strip() for word in text.split(",")} - {"none", ""}
    if unknown := sorted(words - set(known)):
        raise fail(f"{flag} {unknown[0]}: choose from {', '.join(known)}, none")
    return tuple(name for name in known if name in words)
