"""Files that a command writes, and that it overwrites only as long as nobody else has changed them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from browsing.whole import write_whole

_MARK = "# Written by `hetlm deploy"
_HASH = "# sha256 of what follows: "


class ForeignFileError(ValueError):
    """A file that somebody else wrote or changed; the message names it and the remedy."""


def document(command: str, *parts: Mapping[str, Any] | Sequence[Any]) -> str:
    """YAML documents under a heading that says who wrote them, and their hash. The same parts give the same text."""
    text = "---\n".join(
        yaml.dump(part, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=120) for part in parts
    )
    return headed(command, text)


def headed(command: str, text: str) -> str:
    """`text` under that heading, in any format whose comments begin with #."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{_MARK} {command}`, which overwrites it unless somebody else has changed it.\n{_HASH}{digest}\n{text}"


def write(files: Mapping[Path, str]) -> None:
    """Write all of them, or none. Raises `ForeignFileError`, `OSError`."""
    for path in files:
        if path.exists() and not _ours(path.read_bytes()):
            raise ForeignFileError(
                f"{path}: was not written by `hetlm deploy`, or was changed since; move it away, or write elsewhere"
            )
    for path, text in files.items():
        write_whole(path, text)


def _ours(content: bytes) -> bool:
    first, _, rest = content.partition(b"\n")
    second, _, text = rest.partition(b"\n")
    digest = hashlib.sha256(text).hexdigest()
    return first.startswith(_MARK.encode()) and second == f"{_HASH}{digest}".encode()


class _Dumper(yaml.SafeDumper):
    """Lists are indented, and equal parts are written out every time: people read these files."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
