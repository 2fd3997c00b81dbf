"""The presets: a shop's pages, and kinds of visitors that differ in what they look at, or only in order and memory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.simulate.world import Bools, Floats, Ints, World, draw, spread_of, visit

Preset = Literal["tastes", "habits"]
MIN_PAGES, MAX_PAGES, MAX_KINDS = 16, 400, 12
OUTCOME_PAGES = ("/cart", "/purchase")
HUBS = ("/", "/search", "/sale", "/account")
NOUNS = {
    "bags": ("tote", "clutch", "backpack", "satchel", "duffel", "pouch"),
    "shoes": ("sneaker", "loafer", "boot", "sandal", "pump", "slipper"),
    "jackets": ("parka", "blazer", "bomber", "trench", "vest", "anorak"),
    "watches": ("diver", "chrono", "dress", "field", "pilot", "digital"),
    "hats": ("beanie", "fedora", "cap", "beret", "visor", "bucket"),
    "jewelry": ("ring", "necklace", "bracelet", "earring", "brooch", "anklet"),
    "dresses": ("maxi", "wrap", "shirt", "slip", "sheath", "swing"),
    "shirts": ("oxford", "polo", "flannel", "tee", "henley", "tunic"),
    "trousers": ("chino", "jean", "jogger", "cargo", "legging", "culotte"),
    "scarves": ("shawl", "stole", "snood", "bandana", "pashmina", "foulard"),
    "belts": ("braided", "reversible", "plain", "studded", "woven", "western"),
    "sunglasses": ("aviator", "wayfarer", "round", "shield", "cat-eye", "clubmaster"),
}
VARIANTS = ("mini", "classic", "leather", "canvas", "suede", "black", "tan", "red", "navy", "vintage", "sport", "silk")
HUB, CATEGORY, PRODUCT = range(3)

FLOWS = {
    # down: category to its products; up: product to its category; beside: to another product of the category;
    # across: between categories; hub: to and between the pages that belong to none
    "driller": {"down": 9.0, "up": 0.6, "beside": 1.0, "across": 0.4, "hub": 1.0},
    "comparer": {"down": 2.0, "up": 2.0, "beside": 9.0, "across": 0.2, "hub": 0.5},
    "hopper": {"down": 1.0, "up": 1.0, "beside": 0.3, "across": 6.0, "hub": 0.6},
    "searcher": {"down": 0.5, "up": 0.3, "beside": 0.6, "across": 0.8, "hub": 8.0},
}
HABITS = ("driller", "comparer", "hopper", "searcher")
MEMORY = ((0.05, 0.10), (0.28, 0.05), (0.05, 0.30), (0.17, 0.17))
"""Rates of the moves (back, last) of each habit."""
CARTS_PER_SESSION = 0.24
PURCHASE_AFTER_CART = 0.36
GROWTH = 0.8


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The pages that can be viewed. `level`: HUB, CATEGORY or PRODUCT; `category`: its index, -1 for a hub."""

    pages: tuple[str, ...]
    level: Ints
    category: Ints
    popularity: Floats  # [V], sums to one

    @property
    def product(self) -> Bools:
        is_product: Bools = self.level == PRODUCT
        return is_product


def catalogue(pages: int) -> Catalogue:
    """A shop of `pages` pages, the two outcome pages among them. Raises `ValueError` outside the limits."""
    if not MIN_PAGES <= pages <= MAX_PAGES:
        raise ValueError(f"a simulated shop has from {MIN_PAGES} to {MAX_PAGES} pages, not {pages}")
    rest = pages - len(OUTCOME_PAGES) - len(HUBS)
    categories = min(len(NOUNS), max(2, rest // 9))
    products = rest - categories
    names, level, category = list(HUBS), [HUB] * len(HUBS), [-1] * len(HUBS)
    popularity = [0.06, 0.05, 0.04, 0.02]
    for index, (name, nouns) in enumerate(list(NOUNS.items())[:categories]):
        names.append(f"/{name}")
        level.append(CATEGORY)
        category.append(index)
        popularity.append(0.2 / categories)
        size = products // categories + (index < products % categories)
        ranks = (np.arange(size) + 3.0) ** -0.6
        for i in range(size):
            noun, turn = i % len(nouns), i // len(nouns)
            names.append(f"/{name}/{nouns[noun]}-{VARIANTS[(noun + turn) % len(VARIANTS)]}")
        level += [PRODUCT] * size
        category += [index] * size
        popularity += list(0.6 / categories * ranks / ranks.sum())
    shares = np.array(popularity) / np.sum(popularity)
    return Catalogue(tuple(names), np.array(level), np.array(category), shares)


def build(preset: Preset, kinds: int, pages: int, seed: int) -> World:
    """The world of a preset, its matrices drawn with `seed`. Raises `ValueError` for a size outside the limits."""
    if not 1 <= kinds <= MAX_KINDS:
        raise ValueError(f"there are from 1 to {MAX_KINDS} kinds, not {kinds}")
    shop = catalogue(pages)
    generator = np.random.default_rng((seed, 0))
    world = _tastes(shop, kinds, generator) if preset == "tastes" else _habits(shop, kinds, generator)
    return _with_carts(world, generator)


def _flows(shop: Catalogue, down: float, up: float, beside: float, across: float, hub: float) -> Floats:
    """How readily each page leads to each other, before popularity: float64 [V, V]."""
    level, category = shop.level, shop.category
    same = (category[:, None] == category[None, :]) & (category[:, None] >= 0)
    to = np.full((len(level), len(level)), 0.1)
    to[level == CATEGORY] = 0.15
    to[np.ix_(level == HUB, level == CATEGORY)] = 3.0
    to[np.ix_(level == HUB, level == PRODUCT)] = 0.5
    to[:, level == HUB] = hub
    to[np.ix_(level == CATEGORY, level == CATEGORY)] = across
    to[np.ix_(level == PRODUCT, level == PRODUCT)] = 0.3 * across
    to[same & (level[:, None] == CATEGORY) & (level == PRODUCT)] = 3.0 * down
    to[same & (level[:, None] == PRODUCT) & (level == CATEGORY)] = 3.0 * up
    to[same & (level[:, None] == PRODUCT) & (level == PRODUCT)] = 2.0 * beside
    np.fill_diagonal(to, 0.0)
    return to


def _shares(kinds: int) -> Floats:
    weights = np.linspace(1.3, 0.7, kinds)
    shares: Floats = weights / weights.sum()
    return shares


def _tastes(shop: Catalogue, kinds: int, generator: np.random.Generator) -> World:
    """Every kind has its favourite categories, and its own rates; all find their way through the shop alike."""
    V, categories = len(shop.pages), int(shop.category.max()) + 1
    order = generator.permutation(categories)
    flows = _flows(shop, down=3.0, up=1.0, beside=2.5, across=1.0, hub=1.0)
    names: list[str] = []
    start, step = [], []
    for k in range(kinds):
        if kinds <= categories:
            favourites = np.sort(order[k::kinds])
        else:
            favourites = np.sort(generator.permutation(categories)[: max(1, categories // 2)])
        taste = np.where(np.isin(shop.category, favourites), 6.0, 1.0) * np.exp(0.5 * generator.standard_normal(V))
        first = shop.popularity * np.where(shop.level == HUB, 4.0, 1.0) * taste
        rows = flows * shop.popularity * taste
        start.append(first / first.sum())
        step.append(rows / rows.sum(1, keepdims=True))
        category_pages = [p for p, at in zip(shop.pages, shop.level, strict=True) if at == CATEGORY]
        name = " and ".join(category_pages[f].strip("/") for f in favourites)
        twins = sum(other.split(" (")[0] == name for other in names)
        names.append(f"{name} ({twins + 1})" if twins else name)
    hub_end = 1.4 * (shop.level == HUB) + 1.0 * (shop.level != HUB)
    return World(
        pages=shop.pages,
        product=shop.product,
        kinds=tuple(names),
        shares=_shares(kinds),
        start=np.stack(start),
        step=np.stack(step),
        end=generator.uniform(0.15, 0.28, (kinds, 1)) * hub_end,
        back=generator.uniform(0.06, 0.22, kinds),
        last=generator.uniform(0.06, 0.26, kinds),
        cart=0.1 * generator.permutation(np.linspace(0.5, 1.5, kinds)),  # only relative, until `_with_carts`
        growth=np.full(kinds, GROWTH),
        purchase=generator.uniform(0.3, 0.42, kinds),
        leave=np.full(kinds, 0.6),
    )


def _habits(shop: Catalogue, kinds: int, generator: np.random.Generator) -> World:
    """Every kind looks at the same pages equally often, and differs in order and memory.

    All start from the shop's popularity, and it is stationary for every kind's Markov step, because its flows are
    scaled until rows and columns both sum to the popularity (Sinkhorn). A move back repeats a page whose distribution
    is the popularity, one to a last session's view draws from views that have it; ends do not look at the page.
    """
    V = len(shop.pages)
    names, step = [], []
    for k in range(kinds):
        habit = HABITS[k % len(HABITS)]
        names.append(habit if k < len(HABITS) else f"{habit}-{k // len(HABITS) + 1}")
        flows = _flows(shop, **FLOWS[habit]) * np.exp(0.9 * generator.standard_normal((V, V)))
        joint = sinkhorn(flows, shop.popularity)
        step.append(joint / joint.sum(1, keepdims=True))
    back, last = np.array([MEMORY[k % len(MEMORY)] for k in range(kinds)]).T
    return World(
        pages=shop.pages,
        product=shop.product,
        kinds=tuple(names),
        shares=_shares(kinds),
        start=np.tile(shop.popularity, (kinds, 1)),
        step=np.stack(step),
        end=np.full((kinds, V), 0.2),
        back=back,
        last=last,
        cart=np.full(kinds, 0.1),  # only relative, until `_with_carts`
        growth=np.full(kinds, GROWTH),
        purchase=np.full(kinds, PURCHASE_AFTER_CART),
        leave=np.full(kinds, 0.6),
    )


def sinkhorn(flows: Floats, marginal: Floats, rounds: int = 5000) -> Floats:
    """`flows` [V, V] scaled by a factor per row and per column so that both sum to `marginal` [V], to 1e-12.

    Raises `ValueError` where the rounds do not suffice.
    """
    right = np.ones(len(marginal))
    for _ in range(rounds):
        left = marginal / (flows @ right)
        if np.abs(right * (left @ flows) - marginal).max() < 1e-12:
            return left[:, None] * flows * right
        right = marginal / (left @ flows)
    raise ValueError("the flows cannot be scaled to the marginal")


def _with_carts(world: World, generator: np.random.Generator, sessions: int = 5) -> World:
    """The same world with cart rates, until now relative, scaled so that each kind has its carts per session.

    Given the views, the expected number of carts is linear in the rate. The views hardly depend on it (a purchase ends
    many sessions early), so the second round, which simulates with the first one's rates, comes close enough.
    """
    targets = CARTS_PER_SESSION * world.cart / world.cart.mean()
    most = 0.95 / (1.0 + world.growth * world.revisits)
    for visitors in (1000, 4000):
        exposure = np.zeros(len(world.kinds))
        for k in range(len(world.kinds)):
            last = np.full((visitors, world.max_views), -1)
            for _ in range(sessions):
                views = visit(world, generator, np.full(visitors, k), last).views
                exposure[k] += _exposure(world, k, views, last)
                last = views
        world = dataclasses.replace(world, cart=np.minimum(targets * visitors * sessions / exposure, most))
    return world


def _exposure(world: World, kind: int, views: Ints, last_views: Ints) -> float:
    """Sum over all views of product pages of 1 + growth r."""
    near = np.take_along_axis(
        np.pad(spread_of(last_views, len(world.pages)) > 0, ((0, 0), (0, 1))), views, axis=1
    )  # view -1 reads the padding
    again = near.copy()
    again[:, 2:] |= views[:, 2:] == views[:, :-2]
    revisits = np.minimum(np.cumsum(again & (views >= 0), axis=1), world.revisits)
    on_product = np.pad(world.product, (0, 1))[views]
    return float((on_product * (1.0 + world.growth[kind] * revisits)).sum())


def population(world: World, generator: np.random.Generator, users: int) -> Ints:
    """The true kind of each of `users` visitors, int64 [users]."""
    return draw(np.tile(world.shares, (users, 1)), generator.random(users))
