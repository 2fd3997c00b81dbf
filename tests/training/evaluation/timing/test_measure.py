"""Times of several configurations in one run, against a clock that is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from browsing.bundle import SHARED, Bundle
from browsing.forecast import Options
from tests import tiny
from tests.tiny import TinyEncoder
from tests.training.evaluation.site import sample, write_dataset
from training.dataset import Dataset
from training.evaluation.timing import table
from training.evaluation.timing.measure import TimingError, parameters, timing
from training.evaluation.timing.result import Timing

OPTIONS = Options(samples=2, seed=3)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Three clusters, and another shared model than the bundle's of the conftest."""
    root = tmp_path_factory.mktemp("timing") / "three"
    tiny.bundle(root, 3, seed=7)
    return Bundle.load(root)


def scripted(*seconds: float) -> Callable[[], float]:
    """A clock that is read twice per measurement, the k-th of which takes `seconds[k]`."""

    def readings() -> Iterator[float]:
        now = 100.0
        for length in seconds:
            yield now
            now += length
            yield now
            now += 1000.0

    reading = readings()
    return lambda: next(reading)


def measured(
    bundles: list[Bundle], dataset: Dataset, clock: Callable[[], float], users: int = 10, rounds: int = 1
) -> Timing:
    return timing(bundles, dataset, lambda _: TinyEncoder(), users=users, rounds=rounds, options=OPTIONS, clock=clock)


@pytest.fixture(scope="module")
def result(bundle: Bundle, three: Bundle, dataset: Dataset) -> Timing:
    """Two singles and two bundles, two rounds; the second runs backwards."""
    clock = scripted(0.5, 0.7, 2.0, 4.0, 6.0, 8.0, 9.0, 7.0, 6.0, 3.0)
    return measured([bundle, three], dataset, clock, users=10, rounds=2)


def test_rounds_interleave_and_the_second_runs_backwards(result: Timing) -> None:
    assert [(own.name, own.kind) for own in result.configurations] == [
        ("single (bundle)", "single"),
        ("single (three)", "single"),
        ("bundle", "bundle"),
        ("three", "bundle"),
    ]
    assert [own.seconds for own in result.configurations] == [
        pytest.approx((2, 3)),
        pytest.approx((4, 6)),
        pytest.approx((6, 7)),
        pytest.approx((8, 9)),
    ]


def test_ratios_are_within_a_round_and_extrapolation_is_proportional(result: Timing) -> None:
    assert [own.ratios for own in result.configurations] == [
        pytest.approx((1, 1)),
        pytest.approx((2, 2)),
        pytest.approx((3, 7 / 3)),
        pytest.approx((4, 3)),
    ]
    assert result.users == 10
    assert [own.extrapolated_seconds for own in result.configurations] == pytest.approx([2500, 5000, 6500, 8500])


def test_routing_is_timed_apart_and_singles_need_none(result: Timing) -> None:
    assert [own.route_seconds for own in result.configurations] == [None, None, pytest.approx(0.5), pytest.approx(0.7)]


def test_parameters_of_one_and_in_total(result: Timing, three: Bundle) -> None:
    model = AutoModelForCausalLM.from_pretrained(three.predictor(0), local_files_only=True)
    one = sum(p.numel() for p in model.parameters())
    assert [own.parameters for own in result.configurations] == [one] * 4
    assert [own.models for own in result.configurations] == [1, 1, 2, 3]
    assert [own.total_parameters for own in result.configurations] == [one, one, 2 * one, 3 * one]


def test_tied_parameters_count_once(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path)
    assert parameters(tmp_path) == sum(p.numel() for p in model.parameters())


def test_the_document_says_how_it_was_measured(result: Timing, dataset: Dataset) -> None:
    assert (result.dataset, result.split, result.rounds) == (dataset.root.name, "test", 2)
    assert (result.samples, result.sets, result.seed, result.max_steps) == (2, 3, 3, 8)
    assert Timing.model_validate_json(result.model_dump_json()) == result
    # At least one token per path: ten users, three sets of two paths and a greedy one.
    assert all(own.tokens >= 10 * 7 for own in result.configurations)


def test_work_is_the_same_in_every_run(bundle: Bundle, dataset: Dataset, result: Timing) -> None:
    again = measured([bundle], dataset, scripted(1.0, 1.0, 1.0), users=10, rounds=1)
    by_name = {own.name: own.tokens for own in result.configurations}
    assert [own.tokens for own in again.configurations] == [by_name["single (bundle)"], by_name["bundle"]]
    assert [own.name for own in again.configurations] == ["single", "bundle"]


def test_a_shared_model_of_two_bundles_has_one_turn(bundle: Bundle, dataset: Dataset) -> None:
    twice = measured([bundle, bundle], dataset, scripted(*[1.0] * 5), users=3, rounds=1)
    assert [own.kind for own in twice.configurations] == ["single", "bundle", "bundle"]
    assert [own.name for own in twice.configurations] == ["single", str(bundle.root), str(bundle.root)]


def test_real_seconds_are_above_0(bundle: Bundle, dataset: Dataset) -> None:
    real = timing([bundle], dataset, lambda _: TinyEncoder(), options=OPTIONS, users=3, rounds=1, threads=1)
    assert all(second > 0 for own in real.configurations for second in own.seconds)
    assert real.configurations[1].route_seconds is not None
    assert real.configurations[1].route_seconds > 0


def test_what_cannot_be_timed_side_by_side(bundle: Bundle, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TimingError, match="no bundle"):
        measured([], dataset, scripted())
    with pytest.raises(TimingError, match="nobody is in the split 'select'"):
        timing([bundle], dataset, lambda _: TinyEncoder(), split="select", options=OPTIONS)
    tiny.bundle(tmp_path / "short", max_steps=5)
    with pytest.raises(TimingError, match=r"short has another longest next session \(5\) than .* \(8\)"):
        measured([bundle, Bundle.load(tmp_path / "short")], dataset, scripted())
    strange = replace(bundle, manifest=bundle.manifest.model_copy(update={"rule_version": "x"}))
    with pytest.raises(TimingError, match="not the page rules"):
        measured([strange], dataset, scripted())


def test_table_18(result: Timing) -> None:
    grid = table.grid(result, "shop. ")
    assert grid.title == "shop. Inference time"
    assert [section.heading for section in grid.sections] == ["Single model", "Bundle"]
    first, second = (section.lines[0] for section in grid.sections)
    assert second.label == "bundle (hetlm, 2 clusters)"
    by_column = dict(zip(grid.columns, second.cells, strict=True))
    assert (by_column["Seconds"].text, by_column["Seconds"].note) == ("6.50", "[6.00, 7.00]")
    assert by_column["Seconds per 10,000\n(extrapolated)"].text == "6,500.0"
    assert (by_column["Ratio to\nthe first"].text, by_column["Ratio to\nthe first"].note) == ("2.67", "[2.33, 3.00]")
    assert first.cells[grid.columns.index("Ratio to\nthe first")].note == ""
    assert first.cells[-1].text == "–"
    assert "10 next sessions" in grid.note


def test_a_bundle_of_one_cluster(tmp_path: Path) -> None:
    tiny.bundle(tmp_path / "lone", 1)
    users = [sample(f"u{i}", [["/", "/bags"], ["/shoes"]]) for i in range(3)]
    data = write_dataset(tmp_path / "data", users)
    one = measured([Bundle.load(tmp_path / "lone")], data, scripted(1.0, 1.0, 1.0), rounds=1)
    assert one.users == 3
    assert one.configurations[0].bundle_version == one.configurations[1].bundle_version
    assert table.grid(one).sections[1].lines[0].label == "lone (hetlm, 1 cluster)"
    assert (tmp_path / "lone" / SHARED).is_dir()
