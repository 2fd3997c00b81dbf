"""Whether an answer is right: every one is looked at, not only counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from pydantic import ValidationError

from loadtest.answers import (
    MEDIA_TYPE,
    REFUSALS,
    Answer,
    Cluster,
    Embedding,
    Outcome,
    Page,
    Problem,
    Took,
    Truncated,
)
from loadtest.workload import Question

Kind = Literal["correct", "refused", "wrong", "lost", "unreachable", "dropped", "left"]
"""`correct`: answered, and the answer belongs to the question. `refused`: not now, honestly said. `wrong`: anything
else that came back. `lost`: accepted, and nothing came back. `unreachable`: no connection, so never accepted.
`dropped`: not sent, the bound on outstanding requests being reached. `left`: the caller went away by itself."""
ACCEPTED: tuple[Kind, ...] = ("correct", "refused", "wrong", "lost")
HONEST: tuple[Kind, ...] = ("correct", "refused")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason`: what is wrong, in words that hold nothing of a history. `sessions`, `cached`: looked up in the
    embedding cache, and found there. `steady`: False where an equal question had another answer before."""

    kind: Kind
    reason: str = ""
    fallback: str | None = None
    cluster: int | None = None
    sessions: int = 0
    cached: int = 0
    steady: bool = True


@dataclass
class Checker:
    """`versions`: of the bundles that may answer. `known`: the vocabulary, where it is known."""

    versions: Collection[str]
    known: frozenset[str] | None = None
    _first: dict[tuple[str, str, str | None], int] = field(default_factory=dict)

    def check(
        self, question: Question, request_id: str, status: int, headers: Mapping[str, str], content: bytes
    ) -> Verdict:
        """`request_id`: what was sent as `X-Request-Id`."""
        if headers.get("x-request-id") != request_id:
            return Verdict("wrong", "the header X-Request-Id is not the question's")
        if status == 200:
            return self._answer(question, request_id, headers, content)
        return _refusal(question, request_id, status, headers, content)

    def _answer(self, question: Question, request_id: str, headers: Mapping[str, str], content: bytes) -> Verdict:
        if headers.get("content-type", "").partition(";")[0] != "application/json":
            return Verdict("wrong", "200 without Content-Type: application/json")
        try:
            answer = Answer.model_validate_json(content)
        except ValidationError as error:
            return Verdict("wrong", _where(error))
        reason = wrong(answer, question, request_id, self.versions, self.known)
        return Verdict(
            "wrong" if reason else "correct",
            reason or "",
            answer.fallback,
            answer.cluster.id,
            answer.embedding.sessions,
            answer.embedding.cached,
            steady=self._steady(answer, question),
        )

    def _steady(self, answer: Answer, question: Question) -> bool:
        key = (question.user_id, answer.bundle_version, answer.fallback)
        said = hash((answer.cluster.id, tuple(answer.next_session)))
        return self._first.setdefault(key, said) == said


def wrong(
    answer: Answer, question: Question, request_id: str, versions: Collection[str], known: frozenset[str] | None
) -> str | None:
    """What is wrong with a well-formed answer; None for a right one."""
    pages = [page.page for page in answer.pages]
    chances = [page.probability for page in answer.pages]
    rules: dict[str, bool] = {
        "another visitor's user_id": answer.user_id == question.user_id,
        "another request's request_id": answer.request_id == request_id,
        "a bundle_version that is not served": answer.bundle_version in versions,
        "seen_before is not of this history": all(p.seen_before == (p.page in question.pages) for p in answer.pages),
        "unknown_pages are not of this history": set(answer.unknown_pages) <= question.pages,
        "unknown_pages are not the ones that the bundle lacks": (
            known is None or set(answer.unknown_pages) == question.pages - known
        ),
        "a page is listed twice": len(set(pages)) == len(pages),
        "pages are not in the order of their probabilities": all(a >= b for a, b in pairwise(chances)),
        "more pages than asked for": len(pages) <= question.top_pages,
        "an interval's ends are in the wrong order": all(
            outcome.interval[0] <= outcome.interval[1] for outcome in answer.outcomes.values()
        ),
        "embedding.sessions is not the history's number": answer.embedding.sessions in (0, question.sessions),
        "more sessions cached than there are": answer.embedding.cached <= answer.embedding.sessions,
        "truncated.sessions_dropped exceeds the history": answer.truncated.sessions_dropped <= question.sessions,
        "no_history for a visitor who has one": (answer.fallback == "no_history") == (question.sessions == 0),
        "a fallback, though strict": not (question.strict and answer.fallback),
        "a page that the bundle does not know": known is None or known.issuperset((*pages, *answer.next_session)),
        "another cluster than the visitor's": (
            question.cluster is None or answer.embedding.sessions == 0 or answer.cluster.id == question.cluster
        ),
    }
    return next((reason for reason, holds in rules.items() if not holds), None)


def _refusal(question: Question, request_id: str, status: int, headers: Mapping[str, str], content: bytes) -> Verdict:
    """Honest: a problem document of a kind that means "not now", and when to come again."""
    if headers.get("content-type", "").partition(";")[0] != MEDIA_TYPE:
        return Verdict("wrong", f"{status} without a problem document")
    try:
        problem = Problem.model_validate_json(content)
    except ValidationError as error:
        return Verdict("wrong", f"{status}: {_where(error)}")
    kind = problem.type.rpartition(":")[2]
    wait = headers.get("retry-after", "")
    if problem.status != status or problem.request_id != request_id:
        return Verdict("wrong", f"{status}: a problem document of another request")
    if kind not in REFUSALS.get(status, ()):
        return Verdict("wrong", f"{status} {kind}")
    if not (wait.isascii() and wait.isdigit() and int(wait) >= 1):
        return Verdict("wrong", f"{status} {kind} without a Retry-After of at least 1 second")
    return Verdict("refused", kind)


def _where(error: ValidationError) -> str:
    """Where a document is malformed: members of the contract, no values, nor names that the document made up."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"] if part in _MEMBERS)
    return f"malformed: {place or 'the document'}: {first['type']}"


def reasons(verdicts: Collection[Verdict]) -> dict[str, int]:
    """How often what was wrong, the commonest first."""
    return dict(Counter(v.reason for v in verdicts if v.kind in ("wrong", "lost", "unreachable")).most_common())


_MEMBERS = frozenset(
    name
    for model in (Answer, Cluster, Page, Outcome, Truncated, Embedding, Took, Problem)
    for name in model.model_fields
)
