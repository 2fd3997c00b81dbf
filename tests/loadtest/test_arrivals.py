from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from loadtest.arrivals import ArrivalError, Phase, fixed, in_phases, poisson, replay, spans

START = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_fixed_rate_has_equal_gaps() -> None:
    assert fixed(4.0, 2.0).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]


def test_poisson_arrivals_have_exponential_gaps_and_a_poisson_number() -> None:
    times = poisson(50.0, 200.0, np.random.default_rng(1))
    gaps = np.diff(times)
    assert (gaps >= 0).all()
    assert times[0] >= 0
    assert times[-1] < 200
    assert len(times) == pytest.approx(10_000, abs=3 * 100)  # three standard deviations
    assert stats.kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > 0.01
    counts = [len(poisson(20.0, 1.0, np.random.default_rng(seed))) for seed in range(2_000)]
    assert np.mean(counts) == pytest.approx(20, rel=0.02)
    assert np.var(counts) == pytest.approx(20, rel=0.1)


def test_arrivals_depend_on_the_seed_alone() -> None:
    first, again, other = (poisson(9.0, 10.0, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_phases_follow_one_another_each_at_its_own_rate() -> None:
    phases = (Phase("before", 0.5), Phase("spike", 0.25, 4.0), Phase("after", 0.25))
    times = in_phases("fixed", phases, 10.0, 8.0, np.random.default_rng(0))
    assert [(span.name, span.start, span.end) for span in spans(phases, 8.0)] == [
        ("before", 0.0, 4.0),
        ("spike", 4.0, 6.0),
        ("after", 6.0, 8.0),
    ]
    assert [int(((times >= a) & (times < b)).sum()) for a, b in ((0, 4), (4, 6), (6, 8))] == [40, 80, 20]
    assert (np.diff(times) > 0).all()


def test_a_replay_keeps_the_logs_bursts() -> None:
    moments = [0, 10, 11, 12, 60, 100]  # out of order in the file
    stamps = [START + timedelta(seconds=moments[i]) for i in (3, 0, 5, 1, 4, 2)]
    found = replay(stamps, 0.6, 10.0, np.random.default_rng(0))
    assert found.rows.tolist() == [1, 3, 5, 0, 4, 2]
    assert found.compression == pytest.approx(12.0)  # 100 s of the log, six arrivals at 0.6 a second
    assert found.times.tolist() == pytest.approx([moment / 12 for moment in moments])


def test_a_short_log_begins_again_and_a_long_one_is_cut_by_the_seed() -> None:
    stamps = [START + timedelta(seconds=i) for i in range(4)]
    found = replay(stamps, 10.0, 1.0, np.random.default_rng(0))
    assert len(found.rows) == 10
    assert set(np.diff(found.rows).tolist()) == {1, -3}
    assert np.diff(found.times).tolist() == pytest.approx([0.1] * 9)
    long = [START + timedelta(seconds=i) for i in range(1_000)]
    cut = [replay(long, 10.0, 1.0, np.random.default_rng(seed)).rows for seed in (0, 0, 1)]
    assert cut[0].tolist() == cut[1].tolist() == list(range(cut[0][0], cut[0][0] + 10))
    assert cut[0].tolist() != cut[2].tolist()


@pytest.mark.parametrize("stamps", [[START], [START, START, START]])
def test_a_log_without_any_time_between_its_arrivals_cannot_be_replayed(stamps: list[datetime]) -> None:
    with pytest.raises(ArrivalError, match=r"2 arrivals|one moment"):
        replay(stamps, 1.0, 2.0, np.random.default_rng(0))
