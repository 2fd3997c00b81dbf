"""A bundle with something wrong in it, in every way that is to be noticed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

WEIGHTS = Path("predictors/cluster-1/model.safetensors")

Damage = Callable[[Path], None]


def missing(root: Path) -> None:
    (root / WEIGHTS).unlink()


def flipped(root: Path) -> None:
    """Of a file that the manifest vouches for, one bit."""
    whole = (root / WEIGHTS).read_bytes()
    (root / WEIGHTS).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def halved(root: Path) -> None:
    whole = (root / WEIGHTS).read_bytes()
    (root / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def foreign(root: Path) -> None:
    """Sealed again with another vocabulary in one predictor, so that every hash is right."""
    import contextlib

    from browsing.bundle import BundleError, Manifest, seal
    from browsing.vocabulary import Vocabulary

    directory = (root / WEIGHTS).parent
    words = Vocabulary.load(directory / "tokenizer.json").pages
    Vocabulary(tuple(f"/elsewhere/{i}" for i in range(len(words)))).save(directory)
    with contextlib.suppress(BundleError):  # it looks at what it wrote
        seal(root, Manifest.model_validate_json((root / "manifest.json").read_bytes()))


DAMAGES: dict[str, Damage] = {
    "a missing file": missing,
    "a wrong hash": flipped,
    "half a file": halved,
    "a foreign vocabulary": foreign,
}


def damaged(bundle: Path, to: Path, damage: Damage) -> Path:
    """A copy at `to`, damaged."""
    shutil.copytree(bundle, to)
    damage(to)
    return to
