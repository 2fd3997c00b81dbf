from __future__ import annotations

import json
from typing import Any

import pytest

from loadtest.answers import Answer
from loadtest.check import Verdict
from loadtest.soak.reference import Comparing, difference
from loadtest.workload import Question
from tests.loadtest.fake import VERSION, answer

ASKED: dict[str, Any] = {"user_id": "visitor-0", "sessions": [{"pages": ["/", "/bags"]}]}
QUESTION = Question("visitor-0", b"", 1, frozenset(("/", "/bags")), 20, strict=False)


def read(document: dict[str, Any]) -> Answer:
    return Answer.model_validate_json(json.dumps(document))


def changed(**members: Any) -> Answer:
    return read({**answer(ASKED, "r1"), **members})


RIGHT = answer(ASKED, "r1")


def test_equal_answers_differ_in_nothing() -> None:
    assert difference(changed(), read(RIGHT)) is None
    took = dict.fromkeys(RIGHT["took_ms"], 9.0)
    assert (
        difference(changed(request_id="r2", took_ms=took, embedding={"sessions": 0, "cached": 0}), read(RIGHT)) is None
    )


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ({"cluster": {**RIGHT["cluster"], "id": 1}}, "cluster"),
        ({"next_session": ["/cart"]}, "next_session"),
        ({"unknown_pages": ["/bags"]}, "reading of the history"),
        ({"outcomes": {}}, "set of outcomes"),
        ({"pages": [{**RIGHT["pages"][0], "probability": 0.91}, *RIGHT["pages"][1:]]}, "probability of a page"),
        ({"pages": RIGHT["pages"][1:]}, "list of pages"),
        (
            {"outcomes": {name: {**own, "raw": own["raw"] + 0.01} for name, own in RIGHT["outcomes"].items()}},
            "probability of an outcome",
        ),
    ],
)
def test_what_differs_is_named(members: dict[str, Any], what: str) -> None:
    assert difference(changed(**members), read(RIGHT)) == what


def test_rounding_is_no_difference() -> None:
    near = [{**page, "probability": page["probability"] + 1e-4} for page in RIGHT["pages"]]
    assert difference(changed(pages=near), read(RIGHT)) is None


def test_at_the_end_of_the_list_equals_may_change_places() -> None:
    *others, last = RIGHT["pages"]
    assert difference(changed(pages=[*others, {**last, "page": "/elsewhere"}]), read(RIGHT)) is None


class Case:
    """One checker and the answers that it sees."""

    def __init__(self, **parts: Any) -> None:
        self.checker = Comparing({VERSION}, **parts)

    def sees(self, **members: Any) -> Verdict:
        content = json.dumps({**RIGHT, **members}).encode()
        headers = {"x-request-id": "r1", "content-type": "application/json"}
        return self.checker.check(QUESTION, "r1", 200, headers, content)


def test_the_first_answer_is_the_right_one() -> None:
    case = Case()
    assert [case.sees().kind for _ in range(3)] == ["correct"] * 3
    verdict = case.sees(next_session=["/cart"])
    assert (verdict.kind, verdict.reason) == ("wrong", "another next_session than without faults")
    assert case.checker.compared == 3


def test_the_fallback_has_a_right_answer_of_its_own() -> None:
    case = Case()
    case.sees()
    assert case.sees(fallback="engine_down", next_session=["/cart"]).kind == "correct"
    assert case.sees(fallback="engine_down", next_session=["/sale"]).kind == "wrong"


def test_where_samples_may_differ_the_reading_may_not() -> None:
    case = Case(exact=False)
    case.sees()
    assert case.sees(next_session=["/cart"]).kind == "correct"
    assert case.sees(cluster={**RIGHT["cluster"], "id": 1}).kind == "wrong"


def test_what_is_wrong_anyway_is_not_remembered() -> None:
    case = Case()
    assert case.sees(user_id="visitor-1", next_session=["/cart"]).kind == "wrong"
    assert case.sees().kind == "correct"
    assert case.checker.compared == 0
