"""The judge of answers catches every way of being wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from loadtest.check import Checker, Verdict
from loadtest.visitors import Visitor
from loadtest.workload import Options, Question, question
from tests.loadtest.fake import PAGES, VERSION, answer, problem

DAYS = tuple(datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2))
ASKED = question(Visitor((("/", "/bags"), ("/bags/tote",)), DAYS), 3, Options(top_pages=8))
OTHER = question(Visitor((("/shoes",), ("/", "/sale")), DAYS), 4, Options(top_pages=8))
ID = "load-1"
Change = Callable[[dict[str, Any]], object]


def right(asked: Question = ASKED) -> dict[str, Any]:
    return answer(json.loads(asked.body), ID, cluster=1)


def checked(
    document: object, asked: Question = ASKED, *, status: int = 200, checker: Checker | None = None, **headers: str
) -> Verdict:
    checker = checker or Checker({VERSION}, frozenset(PAGES))
    kind = "application/json" if status == 200 else "application/problem+json"
    given = {"content-type": kind, "x-request-id": ID, **{name.replace("_", "-"): v for name, v in headers.items()}}
    return checker.check(asked, ID, status, given, json.dumps(document).encode())


def test_a_right_answer_is_right() -> None:
    assert checked(right()) == Verdict("correct", fallback=None, cluster=1, sessions=ASKED.sessions)


def test_more_members_than_promised_are_no_mistake() -> None:
    assert checked({**right(), "later": 1}).kind == "correct"


def outcome(document: dict[str, Any], **changed: object) -> None:
    document["outcomes"]["cart"].update(changed)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.update(user_id="visitor-7"), "another visitor's user_id"),
        (lambda d: d.update(user_id=None), "another visitor's user_id"),
        (lambda d: d.update(request_id="load-2"), "another request's request_id"),
        (lambda d: d.update(bundle_version="0" * 64), "a bundle_version that is not served"),
        (lambda d: d.pop("next_session"), "malformed: next_session: missing"),
        (lambda d: d.pop("unfinished_paths"), "malformed: unfinished_paths: missing"),
        (lambda d: d["pages"][2].pop("estimator"), "malformed: pages.estimator: missing"),
        (lambda d: d["pages"][0].update(probability=1.01), "malformed: pages.probability: less_than_equal"),
        (lambda d: d["pages"][0].update(probability=math.nan), "malformed: pages.probability: "),
        (lambda d: d["cluster"].update(probability=-0.1), "malformed: cluster.probability: greater_than_equal"),
        (lambda d: outcome(d, raw="0.2"), "malformed: outcomes.raw: float_type"),
        (lambda d: outcome(d, interval=[0.4, 0.3]), "an interval's ends are in the wrong order"),
        (lambda d: outcome(d, interval=[0.4]), "malformed: outcomes.interval: too_short"),
        (lambda d: d["pages"][0].update(seen_before=not d["pages"][0]["seen_before"]), "seen_before is not of this"),
        (lambda d: d["pages"].reverse(), "pages are not in the order of their probabilities"),
        (lambda d: d["pages"].insert(0, dict(d["pages"][0])), "a page is listed twice"),
        (lambda d: d.update(pages=answer({**json.loads(ASKED.body), "options": {}}, ID)["pages"]), "more pages than"),
        (lambda d: d.update(unknown_pages=["/else"]), "unknown_pages are not of this history"),
        (lambda d: d.update(unknown_pages=["/bags"]), "unknown_pages are not the ones that the bundle"),
        (
            lambda d: d["embedding"].update(sessions=ASKED.sessions + 1),
            "embedding.sessions is not the history's number",
        ),
        (lambda d: d["embedding"].update(cached=ASKED.sessions + 1), "more sessions cached than there are"),
        (lambda d: d["truncated"].update(sessions_dropped=99), "truncated.sessions_dropped exceeds the history"),
        (lambda d: d.update(fallback="no_history"), "no_history for a visitor who has one"),
        (lambda d: d.update(fallback="else"), "malformed: fallback: literal_error"),
        (lambda d: d.update(next_session=["/not/a/page"]), "a page that the bundle does not know"),
        (lambda d: d.update(condition="always"), "malformed: condition: literal_error"),
    ],
)
def test_a_wrong_answer_is_caught(change: Change, reason: str) -> None:
    document = right()
    change(document)
    found = checked(document)
    assert found.kind == "wrong"
    assert found.reason.startswith(reason)


def test_another_visitors_answer_is_caught_even_under_this_ones_names() -> None:
    mixed_up = {**right(OTHER), "user_id": ASKED.user_id}
    assert checked(mixed_up) == replace(checked(mixed_up), kind="wrong", reason="seen_before is not of this history")


def test_an_answer_to_another_request_is_caught_by_its_header() -> None:
    assert checked(right(), x_request_id="load-9").reason == "the header X-Request-Id is not the question's"


def test_a_fallback_is_right_but_not_where_strict_was_asked_for() -> None:
    document = {**right(), "fallback": "engine_down"}
    assert checked(document) == replace(checked(right()), fallback="engine_down")
    assert checked(document, replace(ASKED, strict=True)).reason == "a fallback, though strict"


def test_a_visitor_of_a_known_cluster_stays_there_unless_nothing_was_embedded() -> None:
    hot = replace(ASKED, cluster=0)
    assert checked(right(), hot).reason == "another cluster than the visitor's"
    blind = right()
    blind["embedding"]["sessions"] = 0
    assert checked({**blind, "fallback": "engine_down"}, hot).kind == "correct"


def test_equal_questions_are_expected_to_have_equal_answers() -> None:
    checker = Checker({VERSION}, None)
    assert checked(right(), checker=checker).steady
    assert checked(right(), checker=checker).steady
    changed = {**right(), "next_session": ["/help"]}
    assert checked(changed, checker=checker) == replace(checked(right()), steady=False)
    assert checked({**changed, "fallback": "engine_down"}, checker=checker).steady  # the first of the fallback's


def test_an_honest_refusal_says_when_to_come_again() -> None:
    refusal = problem(429, "overloaded", ID)
    assert checked(refusal, status=429, retry_after="2") == Verdict("refused", "overloaded")
    assert checked(problem(503, "engine-down", ID), status=503, retry_after="1").kind == "refused"
    for wait in ("", "0", "-1", "soon", "1.5"):
        assert checked(refusal, status=429, retry_after=wait).reason == (
            "429 overloaded without a Retry-After of at least 1 second"
        )


@pytest.mark.parametrize(
    ("document", "status", "reason"),
    [
        (problem(500, "internal", ID), 500, "500 internal"),
        (problem(422, "invalid-request", ID), 422, "422 invalid-request"),
        (problem(503, "overloaded", ID), 503, "503 overloaded"),
        (problem(429, "overloaded", "load-2"), 429, "429: a problem document of another request"),
        (problem(503, "overloaded", ID), 429, "429: a problem document of another request"),
        ({"detail": "?"}, 429, "429: malformed: type: missing"),
    ],
)
def test_any_other_refusal_is_wrong(document: object, status: int, reason: str) -> None:
    assert checked(document, status=status, retry_after="1") == Verdict("wrong", reason)


def test_what_is_no_document_is_wrong() -> None:
    checker = Checker({VERSION}, None)
    headers = {"content-type": "text/html", "x-request-id": ID}
    assert checker.check(ASKED, ID, 200, headers, b"<h1>").reason == "200 without Content-Type: application/json"
    assert checker.check(ASKED, ID, 502, headers, b"<h1>").reason == "502 without a problem document"
    headers["content-type"] = "application/json; charset=utf-8"
    assert checker.check(ASKED, ID, 200, headers, b"{").reason == "malformed: the document: json_invalid"


def test_no_reason_repeats_what_the_answer_made_up() -> None:
    document = right()
    document["outcomes"]["/secret/page"] = {"probability": 7}
    assert "secret" not in checked(document).reason
