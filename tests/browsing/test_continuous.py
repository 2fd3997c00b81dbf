"""What the continuous core shares, and that nobody can tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from browsing import threads
from browsing.engine import EngineError, GenerateRequest, Path
from browsing.engines import llamas
from browsing.engines.attention import FEWEST_PROMPTS, FEWEST_ROWS, affordable
from browsing.engines.continuous import STEPS, Continuous
from browsing.engines.job import Job
from browsing.engines.llamas import Llamas
from browsing.engines.rollout import Predictor
from browsing.vocabulary import BOS, EOS
from tests import tiny
from tests.browsing.engine_contract import PROMPTS


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Llamas:
    root = tmp_path_factory.mktemp("continuous")
    directories = tiny.predictors(root, tiny.vocabulary(), 2)
    return Llamas([Predictor.load(one, torch.float32).model for one in directories], 512, 512)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each forward pass computes."""
    seen: list[int] = []
    forward = llamas.Llamas.forward

    def counted(self: Llamas, ids: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(len(ids))
        return forward(self, ids, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(llamas.Llamas, "forward", counted)
    return seen


def answers(core: Continuous, *requests: GenerateRequest) -> list[list[Path]]:
    jobs = [Job(request) for request in requests]
    core.submit(jobs)
    while core.busy:
        core.step()
    return [job.future.result() for job in jobs]


def same(one: list[Path], other: list[Path]) -> None:
    assert [path.tokens for path in one] == [path.tokens for path in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.watched, b.watched, rtol=0, atol=1e-5)


def test_paths_that_have_sampled_the_same_are_computed_once(two: Llamas, rows: list[int]) -> None:
    """Sets of paths with one seed and different ids forbidden: a branch for each thing that was sampled."""
    request = GenerateRequest(0, PROMPTS[1], 16, 8, watched=(EOS, 4, 5), seed=3)
    requests = [request, replace(request, forbidden=(4,)), replace(request, forbidden=(5,))]
    requests.append(GenerateRequest(0, PROMPTS[1], 1, 8, greedy=True))
    core = Continuous(two, 512)
    together = answers(core, *requests)
    reading, *steps = rows
    assert reading == len(PROMPTS[1]), "one prompt, read once"
    paths = [path.tokens for set_of in together for path in set_of]
    expected = [len({tokens[:t] for tokens in paths if len(tokens) > t}) for t in range(1, max(map(len, paths)))]
    assert steps == expected
    assert sum(steps) < sum(max(len(tokens) - 1, 0) for tokens in paths) / 2, "a case that shows nothing"
    for request, joint in zip(requests, together, strict=True):
        same(answers(core, request)[0], joint)


def test_who_waits_for_room_is_told_of_once_it_has_it(two: Llamas, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of two rounds, and one behind it; a third gives up in the queue."""
    now = 100.0
    monkeypatch.setattr("browsing.engines.job.time", SimpleNamespace(monotonic=lambda: now))
    told: list[tuple[int, float]] = []
    request = GenerateRequest(0, PROMPTS[1], 8, 3, watched=(EOS,), forbidden=(EOS,), deadline=60.0)
    behind, gone = replace(request, cluster=1, samples=4), replace(request, samples=4, deadline=3.0)
    core = Continuous(two, 4)
    core.submit([Job(one, lambda *waited: told.append(waited)) for one in (request, gone, behind)])
    seen = []
    while core.busy:
        now += 1.0
        core.step()
        seen.append(len(told))
    assert told[0] == (0, 1.0), "in the first step"
    assert [cluster for cluster, _ in told] == [0, 1], "once each, however many parts; not who gave up"
    assert told[1][1] == seen.index(2) + 1 > 3.0


def test_requests_join_between_two_steps(two: Llamas, rows: list[int]) -> None:
    first = GenerateRequest(0, PROMPTS[1], 4, 12, watched=(EOS,), forbidden=(EOS,), seed=1)
    second = GenerateRequest(1, PROMPTS[2], 4, 12, watched=(EOS,), forbidden=(EOS,), seed=2)
    core = Continuous(two, 512)
    jobs = [Job(first)]
    core.submit(jobs)
    for _ in range(5):
        core.step()
    jobs.append(Job(second))
    core.submit(jobs[1:])
    core.step()
    assert rows[-1] > 4, "both are in this step"
    while core.busy:
        core.step()
    alone = Continuous(two, 512)
    for request, job in zip((first, second), jobs, strict=True):
        same(answers(alone, request)[0], job.future.result())


def test_threads_help_only_in_steps_of_many_rows(two: Llamas, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    forward = llamas.Llamas.forward

    def counted(self: Llamas, ids: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append((len(ids), torch.get_num_threads()))
        return forward(self, ids, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(llamas.Llamas, "forward", counted)
    monkeypatch.setattr(threads, "WORTH", 8 * two.shape.multiplications)
    before = torch.get_num_threads()
    request = GenerateRequest(0, PROMPTS[1], 32, 8, seed=3)
    answers(Continuous(two, 512, threads=before + 1), request)
    assert {count for rows, count in seen if rows < 8} == {1}
    assert {count for rows, count in seen if rows >= 8} == {before + 1}
    assert torch.get_num_threads() == before


def test_room_is_made_and_used_again(two: Llamas) -> None:
    """Random arrivals in a core with little room: more paths than fit, more steps than expected, callers who leave."""
    generator = np.random.default_rng(0)
    core = Continuous(two, 24)
    alone = Continuous(two, 512)
    asked: list[Job] = []
    for round_ in range(40):
        prompt = (BOS, *generator.integers(4, 10, int(generator.integers(0, 6))).tolist(), EOS, BOS)
        steps = STEPS + 4 if round_ == 20 else int(generator.integers(1, 12))
        forbidden = tuple(generator.choice(np.arange(4, 10), int(generator.integers(0, 3)), replace=False).tolist())
        request = GenerateRequest(
            int(generator.integers(2)),
            prompt,
            int(generator.integers(1, 40)),
            steps,
            (EOS, 4, 0),
            forbidden,
            seed=round_,
            deadline=600.0,
        )
        asked.append(Job(request))
        core.submit(asked[-1:])
        for _ in range(int(generator.integers(0, 4))):
            core.step()
        if round_ % 7 == 3:
            asked[int(generator.integers(len(asked)))].future.cancel()
    while core.busy:
        core.step()
    kept = [job for job in asked if not job.future.cancelled()]
    assert 30 < len(kept) < 40
    for job in kept:
        same(answers(alone, job.request)[0], job.future.result())
    assert sorted(core._free) == list(range(24))
    assert (core._prompts.count, core._slots, int(core._shared.sum()), core._places) == (0, 0, 0, {})


def test_sets_of_one_prompt_join_together_or_wait(two: Llamas, rows: list[int]) -> None:
    """Where there is no room for all of them, they would be computed one by one."""
    first = GenerateRequest(1, PROMPTS[2], 20, 6, seed=1)
    request = GenerateRequest(0, PROMPTS[1], 8, 6, forbidden=(EOS,), seed=3)
    sets = [request, replace(request, forbidden=(EOS, 4)), replace(request, forbidden=(EOS, 5))]
    core = Continuous(two, 36)
    jobs = [Job(one) for one in (first, *sets)]
    core.submit(jobs)
    core.step()
    assert core._places.keys() == {(1, PROMPTS[2])}, "16 of the 24 paths would have had room"
    while core.busy:
        core.step()
    for job in jobs:
        same(answers(Continuous(two, 512), job.request)[0], job.future.result())


def test_memory_is_bounded_whatever_the_model() -> None:
    small = llamas.Shape("llama", 1_200, 512, 192, 4, 6, 6, 32, 512, 1e-6, 1e4)
    large = llamas.Shape("llama", 1_200, 512, 960, 32, 15, 5, 64, 2_560, 1e-5, 1e5)
    for shape, expected in ((small, (42, 512)), (large, (FEWEST_PROMPTS, FEWEST_ROWS))):
        prompts, paths = affordable(shape, 512, STEPS)
        assert (prompts, paths) == expected
    assert affordable(small, 8, STEPS) == (8, 8)


def test_a_failed_step_fails_whom_it_was_for_and_nobody_after(two: Llamas, monkeypatch: pytest.MonkeyPatch) -> None:
    core = Continuous(two, 512)
    request = GenerateRequest(0, PROMPTS[1], 4, 6, watched=(EOS,), seed=2)
    expected = answers(core, request)[0]

    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("no memory")

    for part in ("forward", "logits"):
        with monkeypatch.context() as patch:
            patch.setattr(llamas.Llamas, part, broken)
            with pytest.raises(EngineError, match="no memory"):
                answers(core, request)
        same(answers(core, request)[0], expected)


def test_models_that_differ_in_shape_are_not_taken(tmp_path: FilePath) -> None:
    words = tiny.vocabulary()
    models = [
        Predictor.load(tiny.predictor(tmp_path / str(hidden), words, hidden=hidden), torch.float32).model
        for hidden in (64, 96)
    ]
    assert not Llamas.take(models)
    with pytest.raises(ValueError, match="one shape"):
        Llamas(models, 8, 8)
    opt = Predictor.load(tiny.predictor(tmp_path / "opt", words, family="opt"), torch.float32).model
    assert not Llamas.take([opt])
