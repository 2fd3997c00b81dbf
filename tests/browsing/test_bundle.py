from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from browsing.bundle import Bundle, BundleError, verify, version_of
from browsing.logistic import Feature
from browsing.returns import ReturnModel, feature_names
from tests import tiny


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundle") / "b"
    tiny.bundle(root)
    return root


@pytest.fixture
def root(sealed: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(sealed, tmp_path / "b"))


def test_a_sealed_bundle_loads(sealed: Path) -> None:
    bundle = Bundle.load(sealed)
    assert bundle.clusters == bundle.selector.clusters == len(bundle.predictors()) == 2
    assert bundle.vocabulary.pages == tiny.SIX_PAGES
    assert bundle.outcome_ids() == {"cart": (4,), "purchase": (5,)}
    assert bundle.manifest.limits.prompt == 56
    assert Bundle.load(sealed, bundle.manifest.version).manifest == bundle.manifest


def test_the_version_is_the_contents(sealed: Path, tmp_path: Path) -> None:
    manifest = verify(sealed)
    assert manifest.version == version_of(manifest)
    again = tiny.bundle(tmp_path / "again")
    assert again.version == manifest.version, "the same contents have the same version"
    assert tiny.bundle(tmp_path / "other", seed=1).version != manifest.version
    with pytest.raises(BundleError, match="is expected"):
        verify(sealed, "0" * 64)


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def reseal(root: Path) -> None:
    """Make the hashes right again, as someone would who wants a bad bundle to pass."""
    import hashlib

    def rehash(document: dict[str, Any]) -> None:
        files = sorted(p for p in root.rglob("*") if p.is_file() and p.name != "manifest.json")
        document["files"] = {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    edit(root / "manifest.json", rehash)
    from browsing.bundle import Manifest

    version = version_of(Manifest.model_validate_json((root / "manifest.json").read_text()))
    edit(root / "manifest.json", lambda d: d.update(version=version))


def flip(root: Path) -> None:
    path = root / "predictors/cluster-1/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def halve(root: Path) -> None:
    path = root / "shared/model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def outside(root: Path) -> None:
    edit(root / "manifest.json", lambda d: d["files"].update({"../outside.json": "0" * 64}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: (r / "prior.json").unlink(), r"missing file prior\.json"),
        (lambda r: (r / "extra.json").write_text("{}"), r"extra\.json is not in the manifest"),
        (lambda r: (r / "run.py").write_text(""), r"run\.py has no place"),
        (lambda r: (r / "model.pkl").write_bytes(b""), r"model\.pkl has no place"),
        (lambda r: (r / "link.json").symlink_to("/etc/hostname"), r"link\.json is a symlink"),
        (lambda r: (r / "manifest.json").unlink(), "is not a bundle"),
        (lambda r: (r / "manifest.json").write_text("{"), "manifest"),
        (lambda r: edit(r / "manifest.json", lambda d: d.update(decode="greedy")), "version is not the hash"),
        (lambda r: edit(r / "manifest.json", lambda d: d.update(surprise=1)), "surprise"),
        (flip, r"cluster-1/model\.safetensors has the wrong hash"),
        (halve, r"shared/model\.safetensors has the wrong hash"),
        (outside, "outside the bundle"),
    ],
)
def test_a_spoiled_bundle_is_refused(root: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(root)
    with pytest.raises(BundleError, match=message):
        Bundle.load(root)


def foreign_vocabulary(root: Path) -> None:
    tiny.vocabulary(tuple(reversed(tiny.SIX_PAGES))).save(root / "predictors/cluster-1")


def smaller_model(root: Path) -> None:
    tiny.predictor(root / "shared", tiny.vocabulary(tiny.SIX_PAGES[:5]))
    tiny.vocabulary().save(root / "shared")


def custom_code(root: Path) -> None:
    edit(root / "shared/config.json", lambda d: d.update(auto_map={"AutoModel": "x.Y"}))


def short_context(root: Path) -> None:
    edit(root / "predictors/cluster-0/config.json", lambda d: d.update(max_position_embeddings=32))


def no_selector(root: Path) -> None:
    save_file({"x": torch.zeros(1)}, root / "selector.safetensors")


def other_rules(root: Path) -> None:
    edit(root / "pages.json", lambda d: d.update(session_gap_minutes=1.0))


def custom_tokenizer(root: Path) -> None:
    edit(root / "shared/tokenizer_config.json", lambda d: d.update(auto_map={"AutoTokenizer": "x.Y"}))


def foreign_fallback(root: Path) -> None:
    tiny.bundle(root.parent / "larger", pages=(*tiny.SIX_PAGES, "/hats"))
    shutil.copytree(root.parent / "larger" / "fallback", root / "fallback", dirs_exist_ok=True)


def other_reference(root: Path) -> None:
    edit(root / "reference.json", lambda d: d.update(pages=d["pages"][:1]))


def other_routing(root: Path) -> None:
    routing = {"users": 9, "clusters": [1.0], "confidence": [0.0] * 10 + [1.0], "mean_confidence": 1.0}
    edit(root / "reference.json", lambda d: d.update(routing=routing))


def impossible_prior(root: Path) -> None:
    edit(root / "prior.json", lambda d: d["outcomes"].update(cart=1.5))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (custom_tokenizer, "custom code"),
        (foreign_fallback, "the fallback has 11 tokens for a vocabulary of 10"),
        (other_reference, r"reference\.json is not about the 2 clusters"),
        (other_routing, r"routing in reference\.json is not about 2 clusters"),
        (impossible_prior, "less than or equal to 1"),
        (foreign_vocabulary, "vocabulary is not the bundle's"),
        (smaller_model, "outputs for a vocabulary"),
        (custom_code, "custom code"),
        (short_context, "fewer than the context"),
        (no_selector, "not a selector"),
        (other_rules, "not the page rules"),
    ],
)
def test_right_hashes_do_not_help_a_wrong_bundle(root: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(root)
    reseal(root)
    with pytest.raises(BundleError, match=message):
        Bundle.load(root)


def test_a_reference_may_lack_what_it_lacked_at_first(root: Path) -> None:
    for name in ("visits", "routing"):
        edit(root / "reference.json", lambda d, name=name: d.pop(name))  # type: ignore[misc]
    reseal(root)
    reference = Bundle.load(root).reference
    assert reference.visits is None is reference.routing
    assert reference.outcome_rates.keys() == {"cart", "purchase"}


def test_a_bundle_may_know_who_comes_back(root: Path) -> None:
    assert Bundle.load(root).returns is None, "nor need it"
    names = feature_names(("cart",))
    model = ReturnModel(
        lookback_days=9.5,
        as_of="2026-01-20T00:00:00+00:00",
        outcomes=("cart",),
        features=tuple(Feature(name=name, low=0.0, high=1.0, mean=0.5, scale=0.5, weight=0.1) for name in names),
        intercept=0.0,
        users=300,
        returned=100,
    )
    model.save(root / "returns.json")
    with pytest.raises(BundleError, match=r"returns\.json is not in the manifest"):
        Bundle.load(root)
    reseal(root)
    assert Bundle.load(root).returns == model
    edit(root / "returns.json", lambda d: d.update(returned=301))
    reseal(root)
    with pytest.raises(BundleError, match="301 of 300"):
        Bundle.load(root)
