"""Every answer beside the one that the same question had when nothing was wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from loadtest.answers import Answer
from loadtest.check import Checker, Verdict
from loadtest.workload import Question

TOLERANCE = 1e-3
"""Of a probability: what the engine contract allows two adapters. Within one engine answers are closer."""


@dataclass
class Comparing(Checker):
    """A checker that also remembers: the first answer of each kind (the model's, and the fallback's) to a question is
    the right one, and every later one must be the same. `exact`: False where the engine's samples depend on what else
    it computes at the time, so that two right answers may differ; then only the cluster and the reading of the history
    are compared. `compared`: how many answers had an earlier one."""

    exact: bool = True
    compared: int = 0
    _right: dict[tuple[str, str, str | None], Answer] = field(default_factory=dict)

    def check(
        self, question: Question, request_id: str, status: int, headers: Mapping[str, str], content: bytes
    ) -> Verdict:
        verdict = super().check(question, request_id, status, headers, content)
        if verdict.kind != "correct":
            return verdict
        answer = Answer.model_validate_json(content)
        key = (question.user_id, answer.bundle_version, answer.fallback)
        right = self._right.setdefault(key, answer)
        if right is answer:
            return verdict
        self.compared += 1
        other = difference(answer, right) if self.exact or answer.fallback else misread(answer, right)
        return replace(verdict, kind="wrong", reason=f"another {other} than without faults") if other else verdict


def difference(answer: Answer, right: Answer) -> str | None:
    """What of `answer` is not as in `right`; None where they say the same. Times, the request's id and what the cache
    held may differ."""
    if read := misread(answer, right):
        return read
    if answer.next_session != right.next_session:
        return "next_session"
    if answer.outcomes.keys() != right.outcomes.keys():
        return "set of outcomes"
    chances = {page.page: page.probability for page in answer.pages}
    rights = {page.page: page.probability for page in right.pages}
    if any(not _near(p, rights[page]) for page, p in chances.items() if page in rights):
        return "probability of a page"
    least = max((min(own.values()) for own in (chances, rights) if own), default=0.0)
    only = [p for page, p in chain(chances.items(), rights.items()) if (page in chances) != (page in rights)]
    if any(p > least + TOLERANCE for p in only):  # at the end of the list equals may change places
        return "list of pages"
    if any(not _near(answer.outcomes[name].raw, outcome.raw) for name, outcome in right.outcomes.items()):
        return "probability of an outcome"
    return None


def misread(answer: Answer, right: Answer) -> str | None:
    """What of the question was understood in another way."""
    if answer.cluster.id != right.cluster.id:
        return "cluster"
    if (answer.unknown_pages, answer.truncated) != (right.unknown_pages, right.truncated):
        return "reading of the history"
    return None


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE
