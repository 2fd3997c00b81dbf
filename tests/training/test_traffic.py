"""What a bundle says of training's traffic, against counts done by hand."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from browsing.bundle import Reference
from browsing.selector import Selector
from browsing.traffic import CONFIDENCE_EDGES, confidence_bin
from browsing.vocabulary import Vocabulary
from tests.training.datasets import MONDAY
from training.data import Data, Embedded
from training.dataset import Sample
from training.traffic import HELD_OUT, PAGES, routing_of, visit_pages, with_traffic

WORDS = Vocabulary(["/", "/bags", "/cart"])
Z = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)


def person(user: str, *history: tuple[str, ...]) -> Sample:
    return Sample(user, history, (MONDAY,) * len(history), ("/",), MONDAY)


def people(count: int, page: str = "/") -> list[Sample]:
    return [person(f"{page} {i}", (page,)) for i in range(count)]


def selector() -> Selector:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = Selector(3, 3, hidden=8).eval()
    made.temperature.fill_(0.3)
    return made


def test_the_newest_visit_weighs_one() -> None:
    found = visit_pages(
        [
            person("a", ("/cart", "/cart"), ("/", "/bags", "/bags", "/gone")),
            person("b", ("/",)),
            person("b", ("/",), ("/gone", "/")),
            person("c"),
        ],
        WORDS,
    )
    assert found.pages == {"/": pytest.approx((0.25 + 1 + 0.5) / 3), "/bags": pytest.approx(0.5 / 3)}
    assert found.unknown == pytest.approx((0.25 + 0.5) / 3)
    assert found.unknown_views == pytest.approx(2 / 7)
    assert found.users == 3
    assert sum(found.pages.values()) + found.unknown == pytest.approx(1)


def test_the_likeliest_pages_are_listed() -> None:
    names = [f"/{i:04}" for i in range(PAGES + 5)]
    seen = [person("often", (names[7],)), *(person(name, (name,)) for name in names)]
    found = visit_pages(seen, Vocabulary(names))
    assert len(found.pages) == PAGES
    assert next(iter(found.pages)) == names[7]
    assert names[-1] not in found.pages


def test_without_any_visit() -> None:
    with pytest.raises(ValueError, match="no history holds a visit"):
        visit_pages([person("a")], WORDS)


def test_routing_is_what_the_selector_says() -> None:
    model = selector()
    samples = people(40)
    found = routing_of(samples, Z, model)
    probabilities = model.probabilities(torch.from_numpy(Z)).numpy()
    highest = probabilities.max(1)
    assert found.clusters == pytest.approx([float((probabilities.argmax(1) == k).mean()) for k in range(3)])
    assert found.mean_confidence == pytest.approx(float(highest.mean()))
    for place, share in enumerate(found.confidence):
        assert share == pytest.approx(np.mean([confidence_bin(float(p)) == place for p in highest]))
    assert sum(share > 0 for share in found.confidence) > 3, "or this test shows nothing"
    assert len(found.confidence) == len(CONFIDENCE_EDGES)
    assert found.users == 40


@dataclass
class Parts:
    """As much of a training as the reference looks at."""

    data: Data
    embedded: Embedded

    @classmethod
    def of(cls, held: int) -> Parts:
        groups = {"train": people(10, "/bags"), "select": people(held, "/"), "calibrate": people(held, "/cart")}
        splits = {name: SimpleNamespace(samples=samples) for name, samples in groups.items()}
        data = SimpleNamespace(vocabulary=WORDS, **splits)
        generator = np.random.default_rng(1)
        vectors = {name: generator.normal(size=(len(s), 3)).astype(np.float32) for name, s in groups.items()}
        return cls(cast(Data, data), cast(Embedded, SimpleNamespace(**vectors)))


@pytest.mark.parametrize(("held", "everybody"), [(20, True), (HELD_OUT // 2, False)])
def test_held_out_users_say_how_sure_the_selector_is_where_they_are_enough(held: int, everybody: bool) -> None:
    bare = Reference(cluster_shares=(0.5, 0.3, 0.2), pages=({}, {}, {}), outcome_rates={})
    parts, model = Parts.of(held), selector()
    found = with_traffic(bare, parts.data, parts.embedded, model)
    assert found.cluster_shares == bare.cluster_shares
    assert found.visits is not None
    assert found.routing is not None
    assert found.visits.users == 10 + 2 * held
    assert found.visits.pages["/bags"] == pytest.approx(10 / (10 + 2 * held))
    own = parts.embedded
    asked = np.concatenate([own.train] * everybody + [own.select, own.calibrate])
    assert found.routing.users == len(asked)
    assert found.routing == routing_of(people(len(asked)), asked, model)
