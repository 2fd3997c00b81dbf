import dataclasses

import numpy as np
import pytest

from tests.training.simulate.worlds import micro, shop
from training.simulate.shops import build, catalogue, sinkhorn
from training.simulate.world import Floats, World, visit


def frequencies(world: World, users: int, sessions: int) -> Floats:
    """Shares of all pages, cart and purchase last, in the sessions of each kind: float64 [K, V + 2]."""
    generator = np.random.default_rng(0)
    V = len(world.pages)
    counts = np.zeros((len(world.kinds), V + 2))
    for k in range(len(world.kinds)):
        last = np.full((users, world.max_views), -1)
        for _ in range(sessions):
            visits = visit(world, generator, np.full(users, k), last)
            last = visits.views
            counts[k, :V] += np.bincount(last[last >= 0], minlength=V)
            counts[k, V] += (visits.outcomes >= 1).sum()
            counts[k, V + 1] += (visits.outcomes == 2).sum()
    shares: Floats = counts / counts.sum(1, keepdims=True)
    return shares


def test_habits_share_start_and_stationary_frequencies() -> None:
    world = shop("habits")
    assert np.ptp(world.start, axis=0).max() == 0
    for k in range(4):
        assert world.start[k] @ world.step[k] == pytest.approx(world.start[k], rel=1e-8)


def test_habits_look_at_the_same_pages_in_simulated_sessions() -> None:
    """To 1 %: in total variation, and each page to 1 % beyond four standard errors of the count."""
    shares = frequencies(shop("habits"), 10_000, 5)
    common = shares.mean(0)
    views = 10_000 * 5 * 6.5
    assert (0.5 * np.abs(shares - common).sum(1) < 0.01).all()
    assert (np.abs(shares / common - 1) < 0.01 + 4 / np.sqrt(common * views)).all()


def test_habits_differ_in_order_and_memory() -> None:
    world = shop("habits")
    for k in range(4):
        for other in range(k):
            assert 0.5 * np.abs(world.step[k] - world.step[other]).sum(-1).mean() > 0.3
    assert len({*zip(world.back, world.last, strict=True)}) == 4
    assert np.abs(world.step[0] - world.step[0].T).max() > 0.1


def test_tastes_differ_in_what_they_look_at() -> None:
    shares = frequencies(shop("tastes"), 1000, 3)
    for k in range(4):
        for other in range(k):
            assert 0.5 * np.abs(shares[k] - shares[other]).sum() > 0.3


@pytest.mark.parametrize("kinds", [1, 3, 4, 9])
@pytest.mark.parametrize("preset", ["tastes", "habits"])
def test_any_number_of_kinds(preset: str, kinds: int) -> None:
    world = build(preset, kinds, 40, 0)  # type: ignore[arg-type]
    assert len(world.kinds) == len(world.shares) == kinds
    assert len(set(world.kinds)) == kinds
    assert (world.cart > 0.005).all()


@pytest.mark.parametrize("pages", [16, 60, 61, 150, 400])
def test_a_catalogue_has_readable_distinct_pages(pages: int) -> None:
    catalogued = catalogue(pages)
    assert len(set(catalogued.pages)) == len(catalogued.pages) == pages - 2
    assert catalogued.popularity.sum() == pytest.approx(1.0)
    assert catalogued.popularity.shape == catalogued.level.shape == catalogued.category.shape == (pages - 2,)
    for page, product in zip(catalogued.pages, catalogued.product, strict=True):
        assert page.count("/") == (2 if product else 1)
    assert {"/", "/search", "/sale", "/account", "/bags", "/bags/tote-mini"} <= set(catalogued.pages)


@pytest.mark.parametrize(("kinds", "pages"), [(0, 60), (13, 60), (4, 15), (4, 401)])
def test_sizes_outside_the_limits_are_refused(kinds: int, pages: int) -> None:
    with pytest.raises(ValueError, match=f"not {kinds if pages == 60 else pages}"):
        build("tastes", kinds, pages, 0)


def test_sinkhorn_refuses_what_cannot_be_scaled() -> None:
    with pytest.raises(ValueError, match="cannot be scaled"):
        sinkhorn(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0.9, 0.1]), rounds=100)


def test_a_world_refuses_what_is_no_probability() -> None:
    world = micro()
    with pytest.raises(ValueError, match="start: not a distribution"):
        dataclasses.replace(world, start=world.start * 2)
    with pytest.raises(ValueError, match="exceed one"):
        dataclasses.replace(world, back=np.array([0.9, 0.1]))
    with pytest.raises(ValueError, match="follow itself"):
        dataclasses.replace(world, step=np.tile(np.eye(4), (2, 1, 1)))
    with pytest.raises(ValueError, match="max_views"):
        dataclasses.replace(world, min_views=9)
