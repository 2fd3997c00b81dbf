"""What the sections say, against the documents they are made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from browsing.bundle import verify
from tests.training.report.conftest import Place
from tests.training.report.stories import RECORDS
from training.evaluation.compare.comparison import Difference
from training.evaluation.timing.result import Timing
from training.report import about, chances, learnt, measured, returning, summary
from training.report.blocks import NONE, Figure, Missing, Section, Table, Words
from training.report.story import Story, read_results


@pytest.fixture(scope="module")
def story(place: Place) -> Story:
    manifest = verify(place.bundle)
    results, timings = read_results([place.own, place.shared], manifest)
    return replace(Story.of(place.bundle, manifest), measured=results, timings=timings)


def words(section: Section) -> str:
    return " ".join(text for block in section.blocks if isinstance(block, Words) for text in block.paragraphs)


def tables(section: Section) -> list[Table]:
    return [block for block in section.blocks if isinstance(block, Table)]


def figures(section: Section) -> list[Figure]:
    return [block for block in section.blocks if isinstance(block, Figure)]


def test_the_summary_tells_the_evaluations_figures(story: Story) -> None:
    own = story.own
    assert own is not None
    text = words(summary.summary(story))
    row = own.result.combined
    low, high = row.intervals["pages.iou"]
    assert f"{row.pages.iou:.3f} [{low:.3f}, {high:.3f}]" in text
    assert f"{row.n} next sessions of {row.users} users" in text
    assert row.loss is not None
    assert f"{row.loss.nats_per_page:.3f}" in text
    assert "Single model, pretrained only" in text


@pytest.mark.parametrize(
    ("bounds", "verdict", "said"),
    [
        ((0.01, 0.05), "better", "better than"),
        ((-0.05, -0.01), "worse", "worse than"),
        ((-0.01, 0.01), "not distinguishable", "not distinguishable"),
    ],
)
def test_a_verdict_is_put_in_words(story: Story, bounds: tuple[float, float], verdict: str, said: str) -> None:
    middle = sum(bounds) / 2
    found = Difference.model_validate(
        {
            "reference": 0.2,
            "other": 0.2 + middle,
            "difference": middle,
            "standard_error": 0.01,
            "interval": bounds,
            "better": "higher",
            "verdict": verdict,
        }
    )
    results = [m if m is story.own else replace(m, differences={"pages.iou": found}) for m in story.measured]
    text = words(summary.summary(replace(story, measured=results)))
    assert f"Pages (IoU): {said}" in text
    assert f"Single model, pretrained only ({middle:+.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}])" in text


def test_controls_stand_beside_ours_with_paired_differences(story: Story) -> None:
    pages, losses = tables(measured.controls(story))
    own, shared = story.own, story.controls[0]
    assert own is not None
    assert pages.rows[0][0].endswith("(this bundle)")
    assert pages.rows[0][1].startswith(f"{own.result.combined.pages.iou:.3f}")
    found = shared.differences["pages.iou"]
    expected = own.result.combined.pages.iou - shared.result.combined.pages.iou
    assert found.difference == pytest.approx(expected)
    assert pages.rows[1][2].startswith(f"{found.difference:+.3f} [")
    assert losses.rows[1][2].startswith(f"{shared.differences['loss.nats_per_page'].difference:+.3f} [")


def test_iou_over_users_counts_every_user_once(story: Story) -> None:
    own = story.own
    assert own is not None
    values = measured.iou(own)
    assert values is not None
    section = measured.over_users(story)
    [table] = tables(section)
    assert sum(float(row[1].rstrip("%")) for row in table.rows) == pytest.approx(100, abs=0.6)
    assert table.rows[0][1] == f"{100 * np.mean(values < 0.1):.1f}%"
    assert f"IoU is 0 for {100 * np.mean(values == 0):.1f}% of the users" in words(section)
    assert "foresees worst" in words(section)
    assert "several next sessions" not in words(section)


def test_a_user_with_several_next_sessions_counts_with_their_mean(story: Story) -> None:
    """Three users: 5 sessions of IoU 0; one of 1 and one of 0; one of 0.25. The single model: 0.5, 0.25, 0.25."""
    own, single = story.own, story.single
    assert own is not None
    assert single is not None
    frame = pl.DataFrame({"user": list("aaaaabbc"), "sample": [0, 1, 2, 3, 4, 0, 1, 0]})
    ours, theirs = [0.0] * 5 + [1.0, 0.0, 0.25], [0.5] * 5 + [0.25, 0.25, 0.25]
    several = [
        replace(m, users=frame.with_columns(pl.Series(f"{m.result.settings.decode}.iou", values)))
        for m, values in ((own, ours), (single, theirs))
    ]
    known = replace(story, measured=several)
    assert known.own is several[0]
    values = measured.iou(several[0])
    assert values is not None
    assert values.tolist() == [0.0, 0.5, 0.25]
    section = measured.over_users(known)
    text = words(section)
    assert "IoU is 0 for 33.3% of the users with" in text
    assert "and for 0.0% with" in text
    assert "User by user, ours is better for 33.3%, worse for 33.3%, and the same for the others." in text
    assert "A user with several next sessions counts once" in text
    [table] = tables(section)
    assert [row[1] for row in table.rows] == ["33.3%", "0.0%", "33.3%", "0.0%", "0.0%", "33.3%", *["0.0%"] * 4]
    assert "share of the users" in figures(section)[0].svg


def test_without_the_values_per_user_nothing_is_invented(story: Story) -> None:
    results = [replace(m, users=None, differences={}) for m in story.measured]
    section = measured.over_users(replace(story, measured=results))
    assert all(isinstance(block, Missing) for block in section.blocks)


def test_reliability_and_buckets_show_the_counts(story: Story) -> None:
    own = story.own
    assert own is not None
    known = own.result.combined.probabilities["cart"]
    section = chances.reliability(story)
    raw = next(table for table in tables(section) if table.caption == "Cart, uncalibrated")
    assert [row[1] for row in raw.rows] == [str(b.n) for b in known.raw.reliability]
    assert f"Cart happened in {100 * known.rate:.1f}% of the next sessions" in words(section)
    assert len(figures(section)) == len(own.result.combined.probabilities)
    buckets = chances.propensity(story)
    assert known.calibrated is not None
    first = known.calibrated.buckets[0]
    assert f"among the {first.n} sessions with the highest probability it happened in " in words(buckets)
    table = next(t for t in tables(buckets) if t.caption == "Cart, calibrated, by bucket")
    assert table.rows[0][3] == f"{100 * first.observed:.1f}%"


def test_composites_count_wins_over_the_single_model(story: Story) -> None:
    composites, variances = tables(measured.paper(story))
    overall = composites.rows[-1]
    assert overall[0] == "Overall"
    assert float(overall[4]) == pytest.approx(int(overall[2]) / int(overall[1]), abs=0.005)
    own = story.own
    assert own is not None
    assert variances.rows[0][4] == f"{own.result.combined.variance.iou:.4f}"


def test_losses_have_a_line_per_curve(story: Story) -> None:
    pretraining, tuning, terms = figures(learnt.losses(story))
    assert [name for _, name in pretraining.legend] == ["training users", "selection users"]
    assert len(tuning.legend) == 5
    assert "from 2.667 to 2.000" in pretraining.svg
    assert "L1 from 20 to 10" in terms.svg
    assert "L3" in terms.svg, "that it is 0 all the time is worth seeing"


def test_sizes_follow_clusters_by_where_they_began(story: Story) -> None:
    section = learnt.sizes(story)
    assert "began with 3 clusters and ended with 2" in words(section)
    assert "10 users changed their cluster in the first epoch, 5 in the last" in words(section)
    stacks, trajectory = figures(section)
    assert [place for place, _ in stacks.legend] == [0, 1, 2]
    assert "0: 3, 1: 2, 2: 2" in trajectory.svg


def test_clusters_that_never_changed_have_their_names(story: Story) -> None:
    records = [record for record in RECORDS if record["stage"] == "tune"]
    plain = [{name: value for name, value in record.items() if name != "origins"} for record in records]
    [stacks] = figures(learnt.sizes(replace(story, records=plain)))
    assert stacks.legend == ((0, "kind 0"), (1, "kind 1"))


def test_what_clustering_bought(story: Story) -> None:
    section = learnt.bought(story)
    text = words(section)
    assert "Given to visitors at random, the clusters' models lose 2.125" in text
    assert "given as they are served, 1.750" in text
    assert "in hindsight would give 1.500" in text
    assert "One model for everybody loses 1.900: with clusters it is 0.150 nats better" in text
    assert "50% for kind 0, 100% for kind 1" in text
    assert "random clusters of the same sizes" in figures(section)[0].svg


def test_clusters_that_were_given_up_are_owned_up_to(story: Story) -> None:
    given_up = {"stage": "interpolate", "epoch": 0, "base": "single", "lambdas": [0.0, 0.0]}
    records = [record for record in RECORDS if record["stage"] == "rules"]
    assert "all of them were replaced" in words(learnt.bought(replace(story, records=[*records, given_up])))


def test_the_warm_starts_cost_and_gain(story: Story) -> None:
    text = words(learnt.warm(replace(story, records=RECORDS)))
    assert "Cost: 12 s for 1 epoch; pretraining on the log took 12 s." in text
    assert "The probes took 2 s." in text
    assert "2.500 nats per page without it and 2.250 after 1 synthetic epoch of 500 visitors" in text
    assert "0.250 gained" in text


def test_a_bundle_keeps_no_times_and_says_where_they_are(story: Story) -> None:
    text = words(learnt.warm(story))
    assert "Cost: 1 epoch. How long it took is not in the bundle" in text
    assert "0.250 gained" in text
    assert "probes took" not in text


def test_times_come_from_a_timing(story: Story) -> None:
    configuration = {
        "name": "single",
        "kind": "single",
        "bundle_version": "v",
        "method": "single",
        "models": 1,
        "parameters": 390_000,
        "total_parameters": 390_000,
        "seconds": [2.0, 3.0],
        "ratios": [1.0, 1.0],
        "extrapolated_seconds": 833.3,
        "tokens": 100,
        "route_seconds": None,
    }
    machine = {"cpu": "a cpu", "cores": 2, "memory_gib": 8.0, "python": "3.11", "torch": "2", "threads": 1}
    timing = Timing.model_validate(
        {
            "dataset": "shop",
            "dataset_sha256": "0",
            "split": "test",
            "users": 30,
            "rounds": 2,
            "samples": 16,
            "sets": 3,
            "seed": 0,
            "max_steps": 8,
            "concurrency": 4,
            "machine": machine,
            "configurations": [configuration],
        }
    )
    table = tables(about.timings(replace(story, timings=[timing])))[0]
    assert table.rows == (("single", "1", "0.39 M", "2.50", "1.00", "833", "–"),)
    assert "a cpu" in table.note


def test_the_data_section_has_window_and_filters(place: Place, story: Story) -> None:
    window, _ = tables(about.data(story))
    told = {row[0]: row[1] for row in window.rows}
    assert told["first page view"] == story.manifest.training.window_start
    assert told["rows of the log"] == "100"
    assert told["samples to test"] == "40"


def test_clusters_with_one_model_say_so(story: Story) -> None:
    assert story.profiles is not None
    same = tuple(c.model_copy(update={"journeys": ()}) for c in story.profiles.clusters)
    alike = replace(story, profiles=story.profiles.model_copy(update={"clusters": same}))
    assert "same model" in words(about.clusters(alike))
    assert "same model" not in words(about.clusters(story))


def test_results_of_a_kind_are_told_apart(place: Place, story: Story, tmp_path: Path) -> None:
    own, shared = story.measured
    other = replace(shared, result=shared.result.model_copy(update={"seed": 7}), path=tmp_path / "other.json")
    three = replace(story, measured=[own, shared, other])
    assert three.name(own) == "HeTLM"
    assert three.name(other) == "Single model, pretrained only, seed 7"
    twin = replace(shared, path=tmp_path / "twin.json")
    assert replace(story, measured=[own, shared, twin]).name(twin) == "Single model, pretrained only, seed 0 (twin)"


def test_the_likeliest_pages_are_compared_at_every_controls_length(story: Story) -> None:
    [control] = story.controls
    found = control.differences["equal_mean.iou"]
    length = control.differences["equal_mean.generated"]
    assert length.reference == pytest.approx(control.result.combined.lengths.generated_pages)
    assert length.other == pytest.approx(length.reference)
    pages = tables(measured.controls(story))[0]
    column = pages.head.index("at its length")
    assert [row[column] for row in pages.rows] == [NONE, measured.difference(found)]
    assert "Our likeliest pages, as many on average as each of these predicts (IoU)" in words(summary.summary(story))


def test_who_comes_back_is_told_of_everybody(story: Story) -> None:
    own = story.own
    assert own is not None
    known = own.result.returns
    assert known is not None
    section = returning.returning(story)
    text = words(section)
    assert "Of 40 users with an earlier visit, whether they came back or not, 35.0% came back within 7 days" in text
    assert f"; {100 * known.returned.quality.mean:.1f}% was predicted on average." in text
    assert f"in {100 * (known.returned.quality.auc or 0):.0f}% of the pairs [" in text
    for name in ("Cart", "Purchase"):
        held = known.outcomes[name.lower()]
        assert f"{name} within 7 days is the chance to come back times the chance of a {name.lower()}" in text
        assert f"{100 * held.rate:.1f}% came back within 7 days with a first session that held it" in text
        assert f"({100 * held.any_rate:.1f}% with any session)" in text
    assert len(figures(section)) == 6, "reliability and tenths, of coming back and of either outcome"
    *folded, last = tables(section)
    assert [table.folded for table in folded] == [True] * 6
    assert sum(int(row[1]) for row in folded[0].rows) == 40
    assert [row[0] for row in last.rows] == ["returning within 7 days", "cart within 7 days", "purchase within 7 days"]
    low, high = known.returned.intervals["quality.log_loss"]
    assert last.rows[0][3] == f"{known.returned.quality.log_loss:.3f} [{low:.3f}, {high:.3f}]"
    assert "Coming back: Of 40 users" in words(summary.summary(story))


def test_without_a_model_of_returning_the_report_says_how_to_get_one(story: Story) -> None:
    own = story.own
    assert own is not None
    known = own.result.returns
    assert known is not None
    silent = replace(own, result=own.result.model_copy(update={"returns": None}))
    [block] = returning.returning(replace(story, measured=[silent])).blocks
    assert isinstance(block, Missing)
    assert "older version" in block.what
    assert "Coming back" not in words(summary.summary(replace(story, measured=[silent])))
    alone = known.model_copy(update={"outcomes": {}})
    section = returning.returning(
        replace(story, measured=[replace(own, result=own.result.model_copy(update={"returns": alone}))])
    )
    assert len(figures(section)) == 2
    assert any(isinstance(block, Missing) and "Outcomes within 7 days" in block.what for block in section.blocks)
