"""What a query is checked for: a mistake in any part of it is found."""

from __future__ import annotations

import pytest

from tests.deploy.series import checked


def test_a_query_has_the_labels_of_its_series_and_those_that_it_makes() -> None:
    labels = checked(
        'label_replace(sum by (route) (hetlm_requests_total{route="/predict"}), "short", "$1", "route", "")'
    )
    assert {"route", "status", "short"} <= labels


@pytest.mark.parametrize(
    "wrong",
    [
        "hetlm_request_total",
        'hetlm_requests_total{rout="/predict"}',
        'hetlm_requests_total{route="/predcit"}',
        'hetlm_requests_total{status="600"}',
        'hetlm_predictions_total{result=~"ok|no_histroy"}',
        'hetlm_request_seconds_bucket{le="0.4"}',
        'ALERTS{alertname="HetlmLatencyBurns"}',
        'ALERTS{alertstate="fired"}',
        "sum by (cluster) (hetlm_requests_total)",
    ],
)
def test_what_there_is_not_is_refused(wrong: str) -> None:
    with pytest.raises(AssertionError):
        checked(wrong)
