from __future__ import annotations

import pytest

from loadtest.soak.kills import same

ROW = {"row": 3, "next_session": ["/", "/bags"], "pages": [{"page": "/", "probability": 0.5}], "problem": None}


@pytest.mark.parametrize(
    ("changed", "equal"),
    [
        ({}, True),
        ({"pages": [{"page": "/", "probability": 0.5001}]}, True),
        ({"pages": [{"page": "/", "probability": 0.51}]}, False),
        ({"pages": []}, False),
        ({"next_session": ["/bags", "/"]}, False),
        ({"problem": {"status": 503}}, False),
        ({"more": 1}, False),
    ],
)
def test_rows_are_the_same_to_the_last_bits(changed: dict[str, object], equal: bool) -> None:
    assert same(ROW, {**ROW, **changed}) is equal
