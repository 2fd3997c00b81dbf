"""Answers kept on disk as they come: what was paid for once is not asked again, and an interrupted run goes on."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from training.baselines.text.endpoint import Reply


class Answers:
    """A JSON-lines file of replies by the digest of what was asked. Readable by its owner alone: they are about people.

    Every line is appended in one write, so that several runs may share a file; a line cut short by a crash is skipped.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._replies: dict[str, Reply] = {}
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists():
            for line in path.read_bytes().splitlines():
                try:
                    digest, reply = _LINE.validate_json(line)
                except ValidationError:
                    continue
                self._replies[digest] = reply
        self._whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, digest: str) -> Reply | None:
        return self._replies.get(digest)

    def add(self, digest: str, reply: Reply) -> None:
        self._replies[digest] = reply
        line = _LINE.dump_json((digest, reply)) + b"\n"
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, line if self._whole else b"\n" + line)
        finally:
            os.close(file)
        self._whole = True


_LINE = TypeAdapter(tuple[str, Reply])
