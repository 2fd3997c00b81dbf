"""A small bundle to serve, made as anybody makes one: simulated shop, ingest, training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from browsing.console import progress

USERS, KINDS, PAGES = 400, 2, 30
_STEPS = (
    ("simulate", "--out", "{shop}", "--users", str(USERS), "--kinds", str(KINDS), "--pages", str(PAGES), "--no-truth"),
    ("ingest", "{shop}/events.csv", "--out", "{dataset}", "--min-users", "2", "--overwrite"),
    (
        *("train", "{dataset}", "--out", "{bundle}", "--runs", "{runs}", "--method", "kmeans", "--start", "kmeans"),
        *("--encoder", "markov", "--clusters", str(KINDS), "--warm-start", "none", "--epochs", "2"),
        *("--tune-epochs", "1"),
    ),
)
"""The service is on trial, not the model: two short epochs give it something to say."""


class ShopError(RuntimeError):
    """A step failed; the message ends with what it said."""


def bundle(folder: Path) -> Path:
    """The bundle's directory below `folder`; made only where it is not there yet. Raises `ShopError`."""
    names = {name: str(folder / name) for name in ("shop", "dataset", "bundle", "runs")}
    made = folder / "bundle"
    if (made / "manifest.json").is_file():
        return made
    folder.mkdir(parents=True, exist_ok=True)
    with progress("Making a bundle", len(_STEPS), "steps") as advance:
        for step in _STEPS:
            words = [word.format(**names) for word in step]
            if not (words[0] == "simulate" and Path(names["shop"], "events.csv").is_file()):
                hetlm(*words)
            advance(1)
    return made


def hetlm(*words: str) -> str:
    """What the command writes to stdout. Raises `ShopError`."""
    command = [sys.executable, "-m", "browsing", *words]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise ShopError(f"hetlm {words[0]} ended with code {ended.returncode}: {ended.stderr.strip()[-500:]}")
    return ended.stdout
