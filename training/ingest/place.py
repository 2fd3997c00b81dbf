"""Where a dataset goes: a new directory beside it, moved into place once it is whole."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browsing.hashing import file_sha256
from training.dataset import INFO, RETURNS, SPLITS, Dataset, DatasetError, DatasetInfo
from training.ingest.readers import LogError


def occupied(out: Path) -> bool:
    """Whether there is something at `out` that must not be lost. Raises `LogError` if it is no directory."""
    if out.is_dir():
        return any(out.iterdir())
    if out.exists():
        raise LogError(f"{out}: a file is in the way; choose another --out")
    return False


def known(out: Path) -> DatasetInfo | None:
    """What is at `out`, if it is a whole dataset."""
    try:
        dataset = Dataset.load(out)
        large = [*(f"{split}.parquet" for split in SPLITS), *({RETURNS} & dataset.info.hashes.keys())]
        whole = all(file_sha256(out / name) == dataset.info.hashes[name] for name in large)
    except (DatasetError, KeyError):
        return None
    return dataset.info if whole else None


def refusal(out: Path, known: DatasetInfo | None) -> str:
    """Why `out`, which holds `known` or something else, is not written over."""
    if known is not None:
        return f"{out}: holds a dataset of other files or settings; --overwrite replaces it, or choose another --out"
    if (out / INFO).is_file():
        return f"{out}: holds a damaged dataset; --overwrite replaces it, or choose another --out"
    return f"{out}: not empty, and not a dataset; choose another --out"


@contextmanager
def beside(out: Path) -> Iterator[tuple[Path, Path]]:
    """A new directory next to `out` and one for work in it; gone afterwards, whatever happens."""
    parent = out.absolute().parent
    prefix = f".{out.name}.partial-"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{prefix}*"):
            # A killed run could not clear up after itself.
            number = re.fullmatch(rf"{re.escape(prefix)}(\d+)", left.name)
            if number and not _alive(int(number[1])):
                shutil.rmtree(left, ignore_errors=True)
        fresh = parent / f"{prefix}{os.getpid()}"
        fresh.mkdir()
    except OSError as error:
        raise LogError(f"{out}: cannot be written: {error.strerror}") from error
    work = fresh / "work"
    try:
        work.mkdir()
        yield fresh, work
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def put(fresh: Path, out: Path) -> None:
    """Move `fresh` to where `out` is; what was there stays until it can be replaced at once."""
    if not out.exists():
        fresh.rename(out)
        return
    old = fresh.with_name(f"{fresh.name}.old")
    out.rename(old)
    try:
        fresh.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old)
