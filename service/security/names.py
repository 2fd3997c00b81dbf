"""Names that come from outside and end up in the file system: one strict pattern, inside one root."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

MAX_NAME = 128
MAX_DEPTH = 8
_NAME = re.compile(r"[A-Za-z0-9](?:[._-]?[A-Za-z0-9]|[_-]){0,127}")
"""Letters, digits, and dots, dashes and underscores between them: no dot at either end, and no two side by side."""
PATH = f"{_NAME.pattern}(?:/{_NAME.pattern}){{0,{MAX_DEPTH - 1}}}"
"""What `inside` and `open_inside` take, as a pattern; they look at the lengths, too."""


class NameRefused(ValueError):
    """A name that is not taken. The message says why and how names look; it never repeats the name."""


def version(text: str) -> str:
    """`text`, if it can be a bundle's version or the name of its directory. Raises `NameRefused`."""
    if len(text) > MAX_NAME or _NAME.fullmatch(text) is None:
        raise NameRefused(
            f"a version has 1 to {MAX_NAME} letters, digits, dots, dashes and underscores, begins with a letter or a "
            "digit, and has no dot at its end or beside another"
        )
    return text


def inside(root: Path, name: str) -> Path:
    """The path of `name`, which may lie in folders (`2026/visitors.parquet`), below `root`.

    Whatever exists on the way must be a plain directory, and at the end a plain file or directory: no symbolic link,
    pipe or device. The last part need not exist. `root` itself may be a link: the operator chose it. Between this check
    and the opening of a file somebody who can write below `root` can still put a link there; `open_inside` leaves no
    such gap. Raises `NameRefused`, and `OSError` where the system refuses to look.
    """
    parts = _parts(name)
    path = root
    for place, part in enumerate(parts):
        path = path / part
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            if place < len(parts) - 1:
                raise NameRefused("a folder in the name does not exist") from None
            return path
        if place < len(parts) - 1:
            _refuse_unless(stat.S_ISDIR(mode))
        else:
            _refuse_unless(stat.S_ISDIR(mode) or stat.S_ISREG(mode))
    return path


def open_inside(root: Path, name: str) -> BinaryIO:
    """The file `name` below `root`, opened for reading without following a link at any point.

    Raises `NameRefused` for what is no plain file or has a link on its way, `FileNotFoundError`, and other `OSError`s.
    """
    *folders, last = _parts(name)
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = _open_at(directory, folder, os.O_DIRECTORY)
            os.close(directory)
            directory = below
        file = _open_at(directory, last, os.O_NONBLOCK)  # a pipe would keep us waiting for its other end
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise NameRefused(_KINDS)
    return os.fdopen(file, "rb")


_KINDS = "a name must lead through plain directories to a plain file: links, pipes and devices are not followed"


def _open_at(directory: int, name: str, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError as error:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode) or (flags & os.O_DIRECTORY and not stat.S_ISDIR(mode)) or stat.S_ISSOCK(mode):
            raise NameRefused(_KINDS) from None
        raise error


def _parts(name: str) -> list[str]:
    parts = name.split("/") if len(name) <= MAX_DEPTH * (MAX_NAME + 1) else []
    if not 1 <= len(parts) <= MAX_DEPTH or not all(len(part) <= MAX_NAME and _NAME.fullmatch(part) for part in parts):
        raise NameRefused(
            f"a name has at most {MAX_DEPTH} parts between slashes, each of 1 to {MAX_NAME} letters, digits, dots, "
            "dashes and underscores, beginning with a letter or a digit and with no dot at its end or beside another; "
            "it is never absolute"
        )
    return parts


def _refuse_unless(fine: bool) -> None:
    if not fine:
        raise NameRefused(_KINDS)
