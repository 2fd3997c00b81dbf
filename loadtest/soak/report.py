"""What the trials come to: one document per section, and the table of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from browsing.whole import write_whole
from loadtest.result import Answers, Machine

Name = Literal["faults", "recovery", "kills", "interface", "mixed", "cancellations", "paired"]


class Figure(BaseModel):
    """One line of the table. `passed`: None where too little was measured for a verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    figure: str
    measured: str
    gate: str
    passed: bool | None


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["soak"] = "soak"
    section: Name
    command: str
    figures: tuple[Figure, ...]
    complaints: tuple[str, ...] = Field(description="what did not go as it must, in words")
    answers: Answers | None = Field(description="over everything that was asked")
    machine: Machine
    seconds: float
    details: dict[str, JsonValue]

    @property
    def passed(self) -> bool:
        return not self.complaints and all(figure.passed is not False for figure in self.figures)


def write(section: Section, folder: Path) -> None:
    write_whole(folder / f"{section.section}.json", section.model_dump_json(indent=2) + "\n")


def table(sections: Sequence[Section]) -> str:
    """In Markdown."""
    words = {True: "yes", False: "**no**", None: "not judged"}
    lines = ["| figure | measured | at least | held |", "|---|---|---|---|"]
    for section in sections:
        for figure in section.figures:
            lines.append(f"| {figure.figure} | {figure.measured} | {figure.gate} | {words[figure.passed]} |")
    return "\n".join(lines)


def share(answers: Answers) -> str:
    """Of the accepted requests, those that were answered correctly or refused honestly."""
    if not answers.accepted:
        return "nothing was accepted"
    percent = 100.0 * answers.honest / answers.accepted
    exact = "100 %" if answers.honest == answers.accepted else f"{percent:.3f} %"
    return f"{exact} ({answers.honest:,} of {answers.accepted:,})"


def load() -> float:
    """Of the machine, over the last minute."""
    return os.getloadavg()[0]
