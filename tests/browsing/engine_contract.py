"""What every engine must do, in float32: subclass `EngineContract` and give it a `subject` fixture.

    class TestMine(EngineContract, ContextContract):      # in this order: pytest runs the last base's tests first
        @pytest.fixture(scope="class")
        @classmethod
        def subject(cls) -> Iterator[Subject]: ...

The vocabulary should be small (about ten ids), so that frequencies can be compared with probabilities. The test of
`stop` runs last and uses the subject up: further tests of an engine's own belong outside the class.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare

from browsing.engine import Engine, EngineTimeout, GenerateRequest, Path
from browsing.vocabulary import BOS, EOS, NEVER, PAD

Model = Callable[[Sequence[int], Sequence[int]], NDArray[np.float64]]
"""(prompt, tokens) -> float64 [len(tokens), V]: row t is the model's own distribution after the prompt and t tokens."""

TOLERANCE = 1e-3
PROMPTS = ((BOS,), (BOS, 4, 7, EOS, BOS), (BOS, 6, 8, 9, EOS, BOS, 5, EOS, BOS), (BOS, 3, 3, EOS, BOS))
"""Of different lengths, with the unknown page among them; for a vocabulary of at least 10 ids."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A started engine, the event loop that it lives in, and per cluster the model that it must agree with."""

    engine: Engine
    runner: asyncio.Runner
    models: Sequence[Model]
    vocabulary: int

    def ask(self, *requests: GenerateRequest) -> list[list[Path]]:
        """All at once."""

        async def gather() -> list[list[Path]]:
            return list(await asyncio.gather(*(self.engine.generate(request) for request in requests)))

        return self.runner.run(gather())

    def allowed(self, request: GenerateRequest, path: Path) -> NDArray[np.float64]:
        """The model's own probabilities along the path [T, V], renormalised over all ids but `[PAD]` and `[BOS]`."""
        own = self.models[request.cluster](request.prompt, path.tokens).copy()
        own[:, list(NEVER)] = 0.0
        normalised: NDArray[np.float64] = own / own.sum(axis=1, keepdims=True)
        return normalised


def table_model(table: NDArray[np.float64]) -> Model:
    return lambda prompt, tokens: table[[prompt[-1], *tokens[:-1]]]


def forward_model(directory: FilePath) -> Model:
    """One plain `transformers` forward over prompt and tokens: no cache, no batch, no padding."""
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(directory, local_files_only=True, dtype=torch.float32).eval()

    def model(prompt: Sequence[int], tokens: Sequence[int]) -> NDArray[np.float64]:
        ids = [*prompt, *tokens]
        with torch.inference_mode():
            logits = network(input_ids=torch.tensor([ids])).logits[0, len(prompt) - 1 : len(ids) - 1].double()
        probabilities: NDArray[np.float64] = logits.softmax(-1).numpy()
        return probabilities

    return model


class EngineContract:
    def test_every_cluster_is_healthy(self, subject: Subject) -> None:
        healthy = subject.runner.run(subject.engine.healthy())
        assert healthy == dict.fromkeys(range(len(subject.models)), True)
        assert len(subject.models) >= 2

    @pytest.mark.parametrize("greedy", [False, True])
    def test_a_path_is_well_formed(self, subject: Subject, greedy: bool) -> None:
        request = GenerateRequest(0, PROMPTS[1], 1 if greedy else 40, 6, watched=(EOS, 4, 7), greedy=greedy, seed=1)
        (paths,) = subject.ask(request)
        assert len(paths) == request.samples
        for path in paths:
            assert 1 <= len(path.tokens) <= request.max_steps
            assert path.watched.shape == (len(path.tokens), len(request.watched))
            assert path.watched.dtype == np.float64
            assert EOS not in path.tokens[:-1]
            assert path.finished == (path.tokens[-1] == EOS)
            assert path.finished or len(path.tokens) == request.max_steps
        if not greedy:
            assert {path.finished for path in paths} == {True, False}, "a case that shows nothing: choose another seed"

    @pytest.mark.parametrize("prompt", PROMPTS)
    def test_watched_probabilities_are_the_models(self, subject: Subject, prompt: tuple[int, ...]) -> None:
        watched = (9, EOS, 3, 5, 4)
        requests = [
            GenerateRequest(k, prompt, 6, 8, watched, forbidden, seed=k)
            for k in range(len(subject.models))
            for forbidden in ((), (4, 5), (EOS,))
        ]
        for request, paths in zip(requests, subject.ask(*requests), strict=True):
            for path in paths:
                expected = subject.allowed(request, path)[:, list(watched)]
                np.testing.assert_allclose(path.watched, expected, rtol=0, atol=TOLERANCE)

    def test_clusters_differ(self, subject: Subject) -> None:
        request = GenerateRequest(0, PROMPTS[1], 1, 1, watched=(EOS, 4, 5, 6), greedy=True)
        first, second = subject.ask(request, replace(request, cluster=1))
        assert np.abs(first[0].watched - second[0].watched).max() > 10 * TOLERANCE

    @pytest.mark.parametrize("forbidden", [(), (EOS,), (4, 6, 7)])
    def test_greedy_takes_the_likeliest(self, subject: Subject, forbidden: tuple[int, ...]) -> None:
        requests = [
            GenerateRequest(k, prompt, 1, 8, forbidden=forbidden, greedy=True)
            for k in range(len(subject.models))
            for prompt in PROMPTS
        ]
        for request, paths in zip(requests, subject.ask(*requests), strict=True):
            probabilities = subject.allowed(request, paths[0])
            probabilities[:, list(forbidden)] = 0.0
            taken = probabilities[np.arange(len(probabilities)), list(paths[0].tokens)]
            assert (taken >= probabilities.max(axis=1) - TOLERANCE).all()
            assert not set(paths[0].tokens) & set(forbidden)

    def test_pad_bos_and_forbidden_are_never_sampled(self, subject: Subject) -> None:
        forbidden = (EOS, 4, 8)
        request = GenerateRequest(1, PROMPTS[2], 100, 6, watched=(*forbidden, 5), forbidden=forbidden, seed=3)
        (paths,) = subject.ask(request)
        tokens = {token for path in paths for token in path.tokens}
        assert not tokens & {PAD, BOS, *forbidden}
        assert len(tokens) > 2
        # Their own probability is reported all the same, as if nothing were forbidden.
        assert all((path.watched[:, :3] > 0).all() for path in paths)
        assert all(len(path.tokens) == 6 and not path.finished for path in paths)

    def test_only_one_token_left(self, subject: Subject) -> None:
        forbidden = tuple(token for token in range(subject.vocabulary) if token not in (PAD, BOS, 5))
        (paths,) = subject.ask(GenerateRequest(0, PROMPTS[0], 3, 4, forbidden=forbidden))
        assert [path.tokens for path in paths] == [(5, 5, 5, 5)] * 3

    @pytest.mark.parametrize("forbidden", [(), (4, 5)])
    def test_frequencies_match_probabilities(self, subject: Subject, forbidden: tuple[int, ...]) -> None:
        request = GenerateRequest(1, PROMPTS[1], 600, 2, forbidden=forbidden, seed=5)
        (paths,) = subject.ask(request)
        first = [path.tokens[0] for path in paths]
        _agree(subject, request, (), first)
        common = max(set(first) - {EOS}, key=first.count)
        _agree(subject, request, (common,), [path.tokens[1] for path in paths if path.tokens[0] == common])

    def test_seeds(self, subject: Subject) -> None:
        request = GenerateRequest(0, PROMPTS[2], 12, 8, watched=(EOS, 4), seed=11)
        (once,), (again,) = subject.ask(request), subject.ask(request)
        (other,) = subject.ask(replace(request, seed=12))
        _equal(once, again)
        assert len({path.tokens for path in once}) > 1
        assert [path.tokens for path in once] != [path.tokens for path in other]

    def test_answers_do_not_depend_on_the_batch(self, subject: Subject) -> None:
        requests = [
            GenerateRequest(k, prompt, samples, steps, watched, forbidden, greedy, seed=100 + steps)
            for k in range(len(subject.models))
            for prompt in PROMPTS
            for samples, steps, watched, forbidden, greedy in (
                (7, 8, (EOS, 4, 9), (), False),
                (3, 5, (5,), (5,), False),
                (1, 8, (), (), True),
            )
        ]
        together = subject.ask(*requests)
        for request, paths in zip(requests, together, strict=True):
            _equal(paths, subject.ask(request)[0])

    @pytest.mark.parametrize(
        "wrong",
        [
            {"prompt": (BOS, 10_000, EOS, BOS)},
            {"prompt": (BOS, -1, EOS, BOS)},
            {"watched": (4, 10_000)},
            {"watched": (-1,)},
            {"forbidden": (10_000,)},
            {"forbidden": (-1,)},
            {"cluster": 99},
            {"cluster": -1},
        ],
        ids=str,
    )
    def test_ids_out_of_range(self, subject: Subject, wrong: dict[str, int | tuple[int, ...]]) -> None:
        request = replace(GenerateRequest(0, PROMPTS[0], 2, 2), **wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"99|-1|10000"):
            subject.ask(request)
        assert len(subject.ask(GenerateRequest(0, PROMPTS[0], 2, 2))[0]) == 2

    def test_a_passed_deadline_is_a_timeout_of_this_request_alone(self, subject: Subject) -> None:
        request = GenerateRequest(0, PROMPTS[1], 4, 6, watched=(EOS,), seed=2)

        async def ask() -> list[list[Path] | BaseException]:
            late = replace(request, deadline=0.0)
            calls = (subject.engine.generate(r) for r in (request, late, replace(request, cluster=1)))
            return list(await asyncio.gather(*calls, return_exceptions=True))

        first, late, other = subject.runner.run(ask())
        assert isinstance(late, EngineTimeout)
        assert isinstance(first, list)
        assert isinstance(other, list)
        _equal(first, subject.ask(request)[0])

    def test_a_cancelled_request_leaves_the_others_alone(self, subject: Subject) -> None:
        request = GenerateRequest(0, PROMPTS[1], 4, 6, watched=(EOS,), seed=2)

        async def ask() -> list[Path]:
            kept = asyncio.ensure_future(subject.engine.generate(request))
            dropped = asyncio.ensure_future(subject.engine.generate(replace(request, samples=64, seed=3)))
            await asyncio.sleep(0)
            dropped.cancel()
            paths = await kept
            await asyncio.wait([dropped])
            return paths

        paths = subject.runner.run(ask())
        _equal(paths, subject.ask(request)[0])

    def test_stop_is_idempotent(self, subject: Subject) -> None:
        subject.runner.run(subject.engine.stop())
        subject.runner.run(subject.engine.stop())
        assert not any(subject.runner.run(subject.engine.healthy()).values())


class ContextContract:
    """For engines over models with a limited number of positions, of which the subject's models have 64."""

    def test_prompt_and_steps_must_fit(self, subject: Subject) -> None:
        prompt = (BOS, *(4 + i % 6 for i in range(54)), EOS, BOS)
        assert len(prompt) == 57
        request = GenerateRequest(0, prompt, 2, 7, watched=(EOS, 5), seed=1)
        (paths,) = subject.ask(request)
        for path in paths:
            expected = subject.allowed(request, path)[:, [EOS, 5]]
            np.testing.assert_allclose(path.watched, expected, rtol=0, atol=TOLERANCE)
        with pytest.raises(ValueError, match="64"):
            subject.ask(replace(request, max_steps=8))


def _equal(left: Sequence[Path], right: Sequence[Path]) -> None:
    assert [path.tokens for path in left] == [path.tokens for path in right]
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a.watched, b.watched, rtol=0, atol=TOLERANCE)


def _agree(subject: Subject, request: GenerateRequest, before: tuple[int, ...], drawn: Sequence[int]) -> None:
    """Chi-square of the drawn tokens against the model after `before`; rare tokens are pooled into one cell."""
    probabilities = subject.allowed(request, Path((*before, EOS), np.zeros((0, 0)), True))[-1]
    probabilities[list(request.forbidden)] = 0.0
    expected = len(drawn) * probabilities / probabilities.sum()
    observed = np.bincount(drawn, minlength=subject.vocabulary).astype(np.float64)
    assert (observed[expected == 0] == 0).all()
    rare = expected < 5
    cells = [(observed[~rare], expected[~rare])]
    if expected[rare].sum() > 0:
        cells.append((observed[rare].sum(keepdims=True), expected[rare].sum(keepdims=True)))
    seen, due = (np.concatenate(side) for side in zip(*cells, strict=True))
    assert len(seen) > 2
    assert chisquare(seen, due).pvalue > 1e-3
