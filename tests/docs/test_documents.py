"""Every code block of the README and of the documents is run, as it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.docs import rules
from tests.docs.blocks import SHELL, Command, blocks, commands, documents
from tests.docs.programs import NAMES
from tests.docs.reader import WORDS_MODEL, Reader
from tests.docs.shape import misshapen
from tests.docs.world import MADE, World

WITH_BLOCKS = [document for document in documents() if blocks(document)]


@pytest.mark.parametrize("document", WITH_BLOCKS)
def test_the_blocks_of_a_document_run(document: str, world: World) -> None:
    reader = Reader(world, document, world.folder(document))
    try:
        for block in blocks(document):
            reader.read(block)
    finally:
        reader.close()


def typed() -> list[Command]:
    """All commands of all documents."""
    found = [block for document in documents() for block in blocks(document) if block.language in SHELL]
    return [command for block in found for command in commands(block)]


@pytest.mark.parametrize("table", [rules.APART, rules.THEN, rules.COPIED, rules.UNTIL])
def test_no_rule_is_left_over(table: Sequence[rules.Apart]) -> None:
    unused = [rule for rule in table if not any(rule.is_of(command) for command in typed())]
    assert unused == []


@pytest.mark.parametrize("words", [*rules.QUICK, *rules.PROGRAMS])
def test_every_program_and_every_shortened_command_is_in_a_document(words: str) -> None:
    assert any(words in command.text for command in typed())


@pytest.mark.parametrize("port", rules.PORTS)
def test_every_port_is_in_a_document(port: int) -> None:
    assert any(str(port) in command.text for command in typed())


@pytest.mark.parametrize(("document", "begins"), rules.DRAWINGS)
def test_every_drawing_is_there(document: str, begins: str) -> None:
    assert any(block.language == "text" and block.text.startswith(begins) for block in blocks(document))


def test_what_is_prepared_is_for_documents_that_there_are() -> None:
    assert {WORDS_MODEL, *rules.SERVICE_FIRST, *MADE} <= set(WITH_BLOCKS)


def test_no_other_program_is_replaced() -> None:
    assert NAMES.keys() - {"hetlm", "python", "python3"} == rules.PROGRAMS.keys()


def test_blocks_are_found_wherever_they_stand() -> None:
    text = "# A\n\n```console\n$ one\n```\n\n- a:\n\n  ~~~sql\n  two\n  ~~~\n\n> ```\n> three\n> ```\n\n    make four\n"
    found = blocks("a.md", text)
    assert [(b.line, b.language, b.text.strip()) for b in found] == [
        (4, "console", "$ one"),
        (10, "sql", "two"),
        (14, "", "three"),
        (17, "", "make four"),
    ]


def test_commands_end_where_a_shell_would_run_them() -> None:
    text = "```console\n$ a 'b\n$ c' # it's\n$ d \\\n    e\nout 1\nout 2\n$ f\n```\n"
    [block] = blocks("a.md", text)
    assert list(commands(block)) == [
        Command("a.md", 2, "a 'b\n$ c' # it's"),
        Command("a.md", 4, "d \\\n    e", "out 1\nout 2"),
        Command("a.md", 8, "f"),
    ]


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        ({"a": 1}, []),
        ({"a": 0.5, "b": [{"c": "x"}, {"c": "y"}]}, []),
        ({"a": None}, []),
        ({"e": 1}, ["/e: there is none"]),
        ({"b": [{"c": "x"}, {"d": "y"}]}, ["/b/1/d: there is none"]),
        ({"a": "1"}, ["/a: str instead of int"]),
        ({"a": True}, ["/a: bool instead of int"]),
        ({"b": {}}, ["/b: dict instead of list"]),
    ],
)
def test_an_answer_that_is_shown_has_the_form_of_the_real_one(shown: Any, wrong: list[str]) -> None:
    assert misshapen(shown, {"a": 3, "b": [{"c": "z"}]}) == wrong
