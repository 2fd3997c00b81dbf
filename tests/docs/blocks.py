"""The code blocks of the documents, and the commands in those that are for a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
SHELL = ("console", "sh")
"""`console`: lines that begin with `$ ` are typed, the others come back. `sh`: a script."""


@dataclass(frozen=True, slots=True)
class Block:
    """`line`: that of the block's first line of text in the document, from 1. `language`: empty where it has none."""

    document: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed, without the prompt, and the lines that the document says come back."""

    document: str
    line: int
    text: str
    output: str = ""

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[str]:
    """Every document whose blocks are run, relative to the project's root."""
    found = [ROOT / "README.md", ROOT / "loadtest" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [str(path.relative_to(ROOT)) for path in found]


def blocks(document: str, text: str | None = None) -> list[Block]:
    """All code blocks, fenced or indented, in lists and quotes too. `text`: of the document, by default its file's."""
    text = (ROOT / document).read_text() if text is None else text
    found = []
    for token in MarkdownIt("commonmark").parse(text):
        if token.type in ("fence", "code_block") and token.map is not None:
            fenced = token.type == "fence"
            language = token.info.split()[0] if token.info.split() else ""
            found.append(Block(document, token.map[0] + 1 + fenced, language, token.content))
    return found


def commands(block: Block) -> Iterator[Command]:
    """The commands of a block for a shell, in order. Raises `ValueError` where output stands before any command."""
    if block.language == "sh":
        yield Command(block.document, block.line, block.text)
        return
    typed: list[str] = []
    output: list[str] = []
    began = 0
    for number, line in enumerate(block.text.splitlines(), block.line):
        if typed and not _complete("\n".join(typed)):
            typed.append(line)
        elif line.startswith("$ "):
            if typed:
                yield Command(block.document, began, "\n".join(typed), "\n".join(output).strip())
            typed, output, began = [line[2:]], [], number
        elif typed:
            output.append(line)
        elif line.strip():
            raise ValueError(f"{block.place}: a console block begins with a line that begins with `$ `")
    if typed:
        yield Command(block.document, began, "\n".join(typed), "\n".join(output).strip())


def _complete(text: str) -> bool:
    """Whether a shell would not wait for another line."""
    if text.endswith("\\"):
        return False
    try:
        shlex.split(text, comments=True)
    except ValueError:  # an open quotation
        return False
    return True
