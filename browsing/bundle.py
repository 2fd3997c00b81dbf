"""The bundle: the directory that training hands to the service, and the checks that it passes before anyone trusts it.

```
manifest.json  pages.json  selector.safetensors  prior.json  calibration.json  reference.json
MODEL_CARD.md  report.html  profiles.json  training-log.json  dataset.json
returns.json             only where the log was long enough to learn who comes back
shared/                  the predictor pretrained on everybody
predictors/cluster-<k>/  one predictor per cluster; each a plain Hugging Face directory
fallback/                the mixture of Markov chains
```
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from browsing.calibration import Calibration
from browsing.encoder import Encoder, EncoderKind
from browsing.hashing import file_sha256
from browsing.markov import MarkovMixture
from browsing.pages import PageRules
from browsing.profiles import NAME_LENGTH, PROFILES, Profiles
from browsing.returns import ReturnModel
from browsing.selector import Selector
from browsing.traffic import Routing, VisitPages
from browsing.vocabulary import Vocabulary

ALLOWED_SUFFIXES = frozenset((".json", ".safetensors", ".parquet", ".md", ".html"))
MANIFEST = "manifest.json"
RETURNS = "returns.json"
SHARED = "shared"
"""The directory of the predictor pretrained on everybody."""
FALLBACK = "fallback"
"""The directory of the Markov mixture."""


class BundleError(ValueError):
    """A bundle that must not be served; the message says which file and why."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClusterInfo(_Document):
    id: int = Field(ge=0)
    name: str = Field(description="readable, at most 40 characters", max_length=NAME_LENGTH)
    share: float = Field(ge=0, le=1, description="share of the training users")
    typical_pages: tuple[str, ...]


class EncoderInfo(_Document):
    kind: EncoderKind = Field(default="sbert", description="what reads a session; see `browsing.encoder`")
    name: str
    weights_sha256: str
    tokenizer_sha256: str
    dimension: int = Field(ge=1)
    decay: float = Field(gt=0, le=1, description="weight of a session relative to the next newer one")

    @classmethod
    def of(cls, encoder: Encoder, decay: float) -> EncoderInfo:
        return cls(
            kind=encoder.kind,
            name=encoder.name,
            weights_sha256=encoder.weights_sha256,
            tokenizer_sha256=encoder.tokenizer_sha256,
            dimension=encoder.dimension,
            decay=decay,
        )


class Limits(_Document):
    context: int = Field(ge=8, description="token positions of a predictor, prompt and next session together")
    max_steps: int = Field(ge=1, description="T: a next session is followed for at most this many pages")

    @property
    def prompt(self) -> int:
        """Longest prompt, in tokens, that leaves room for `max_steps` more."""
        return self.context - self.max_steps


class TrainingInfo(_Document):
    method: str
    seed: int
    users: int
    samples: int
    window_start: str = Field(description="first event's time, ISO 8601")
    window_end: str
    settings: dict[str, Any]


class Manifest(_Document):
    schema_version: Literal[1] = 1
    version: str = Field(default="", description="sha256 identity of the bundle; see `version_of`")
    clusters: tuple[ClusterInfo, ...] = Field(min_length=1)
    encoder: EncoderInfo
    rule_version: str
    vocabulary_sha256: str
    vocabulary_size: int
    outcomes: dict[str, tuple[str, ...]] = Field(description="pages of each outcome that the vocabulary holds")
    limits: Limits
    decode: Literal["consensus", "greedy"] = "consensus"
    training: TrainingInfo
    metrics: dict[str, float]
    files: dict[str, str] = Field(default={}, description="sha256 of every other file, by path")


class PriorPage(_Document):
    page: str
    probability: float = Field(ge=0, le=1)


class Prior(_Document):
    """The share-weighted answer for a visitor without history, from the first sessions of the training users."""

    next_session: tuple[str, ...]
    pages: tuple[PriorPage, ...]
    outcomes: dict[str, Annotated[float, Field(ge=0, le=1)]]
    sessions: int = Field(ge=0, description="how many first sessions it rests on")


class Reference(_Document):
    """Training distributions: what to watch for in each cluster, and what drift is measured against."""

    cluster_shares: tuple[float, ...]
    pages: tuple[dict[str, float], ...] = Field(description="per cluster, its likeliest pages and their share of views")
    outcome_rates: dict[str, float] = Field(description="share of training targets that hold the outcome")
    visits: VisitPages | None = Field(default=None, description="what training's newest visits held")
    routing: Routing | None = Field(default=None, description="how the selector sent training's histories")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle's small parts, loaded. The predictors stay on disk: engines load them from `predictor(k)`.

    `profiles`: None in a bundle that was written before there were any. `returns`: None where the log was too short.
    """

    root: Path
    manifest: Manifest
    rules: PageRules
    vocabulary: Vocabulary
    selector: Selector
    fallback: MarkovMixture
    prior: Prior
    calibration: Calibration
    reference: Reference
    profiles: Profiles | None = None
    returns: ReturnModel | None = None

    @property
    def clusters(self) -> int:
        return len(self.manifest.clusters)

    def predictor(self, cluster: int) -> Path:
        """The Hugging Face directory of one cluster's predictor."""
        return predictor_directory(self.root, cluster)

    def predictors(self) -> list[Path]:
        return [self.predictor(k) for k in range(self.clusters)]

    def outcome_ids(self) -> dict[str, tuple[int, ...]]:
        """Token ids of each outcome's pages."""
        return {name: tuple(self.vocabulary.id(p) for p in pages) for name, pages in self.manifest.outcomes.items()}

    @classmethod
    def load(cls, root: Path, expected_version: str | None = None) -> Bundle:
        """Verify `root` and load it. Raises `BundleError`."""
        manifest = verify(root, expected_version)
        try:
            return cls(
                root=root,
                manifest=manifest,
                rules=PageRules.load(root / "pages.json"),
                vocabulary=Vocabulary.load(predictor_directory(root, 0) / "tokenizer.json"),
                selector=Selector.load(root / "selector.safetensors"),
                fallback=MarkovMixture.load(root / FALLBACK),
                prior=Prior.model_validate_json((root / "prior.json").read_text()),
                calibration=Calibration.model_validate_json((root / "calibration.json").read_text()),
                reference=Reference.model_validate_json((root / "reference.json").read_text()),
                profiles=load_profiles(root),
                returns=_load_returns(root),
            )
        except (OSError, ValueError) as error:
            raise BundleError(f"{root}: {error}") from error


def predictor_directory(root: Path, cluster: int) -> Path:
    return root / "predictors" / f"cluster-{cluster}"


def load_profiles(root: Path) -> Profiles | None:
    """The clusters' profiles; None where the bundle has none. Raises `BundleError` for a broken file."""
    path = root / PROFILES
    if not path.is_file():
        return None
    try:
        return Profiles.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: {error}") from error


def _load_returns(root: Path) -> ReturnModel | None:
    path = root / RETURNS
    return ReturnModel.load(path) if path.is_file() else None


def seal(root: Path, manifest: Manifest) -> Manifest:
    """Hash every file under `root`, write `manifest.json` with the hashes and the version, and verify the result."""
    files = {path: file_sha256(root / path) for path in _walk(root) if path != MANIFEST}
    # Read back from what is written, which names every field.
    manifest = Manifest.model_validate({**manifest.model_dump(), "files": files, "version": ""})
    manifest = manifest.model_copy(update={"version": version_of(manifest)})
    (root / MANIFEST).write_text(json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True) + "\n")
    return verify(root)


def version_of(manifest: Manifest) -> str:
    """sha256 over the sorted (path, sha256) of every file but the manifest, then the manifest without its version."""
    digest = hashlib.sha256()
    for path, sha256 in sorted(manifest.files.items()):
        digest.update(f"{path}\0{sha256}\n".encode())
    # Without what the file does not say: a field that was added later must not change an older bundle's identity.
    document = manifest.model_dump(mode="json", exclude={"version"}, exclude_unset=True)
    digest.update(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def verify(root: Path, expected_version: str | None = None) -> Manifest:
    """Check a bundle without loading its models: hashes, file list, shapes, sizes, and that nothing in it can run.

    Raises `BundleError` at the first thing that is wrong.
    """
    if not (root / MANIFEST).is_file():
        raise BundleError(f"{root} is not a bundle: it has no {MANIFEST}")
    try:
        manifest = Manifest.model_validate_json((root / MANIFEST).read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise BundleError(f"{root / MANIFEST}: {error}") from error
    _check_files(root, manifest)
    if version_of(manifest) != manifest.version:
        raise BundleError(f"{root}: the manifest's version is not the hash of its contents")
    if expected_version is not None and manifest.version != expected_version:
        raise BundleError(f"{root}: version {manifest.version} where {expected_version} is expected")
    _check_contents(root, manifest)
    return manifest


def _check_files(root: Path, manifest: Manifest) -> None:
    for listed in manifest.files:
        path = PurePosixPath(listed)
        if path.is_absolute() or ".." in path.parts:
            raise BundleError(f"{root}: the manifest names a path outside the bundle: {listed}")
    present = set(_walk(root)) - {MANIFEST}
    if missing := sorted(set(manifest.files) - present):
        raise BundleError(f"{root}: missing file {missing[0]}")
    if unlisted := sorted(present - set(manifest.files)):
        raise BundleError(f"{root}: file {unlisted[0]} is not in the manifest")
    for listed, sha256 in manifest.files.items():
        if file_sha256(root / listed) != sha256:
            raise BundleError(f"{root}: {listed} has the wrong hash: it was changed or only half copied")


def _check_contents(root: Path, manifest: Manifest) -> None:
    try:
        rules = PageRules.load(root / "pages.json")
        if rules.version != manifest.rule_version:
            raise BundleError(f"{root}: pages.json is not the page rules that the manifest names")
        for k, cluster in enumerate(manifest.clusters):
            if cluster.id != k:
                raise BundleError(f"{root}: cluster {cluster.id} stands at place {k}")
            _check_predictor(predictor_directory(root, k), manifest)
        _check_predictor(root / SHARED, manifest)
        _check_encoder(root, manifest)
        selector = Selector.load(root / "selector.safetensors")
        _check_small_parts(root, manifest)
    except BundleError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise BundleError(f"{root}: {error}") from error
    if selector.clusters != len(manifest.clusters) or selector.dimension != manifest.encoder.dimension:
        raise BundleError(
            f"{root}: the selector maps {selector.dimension} dimensions to {selector.clusters} clusters; the manifest "
            f"says {manifest.encoder.dimension} and {len(manifest.clusters)}"
        )


def _check_encoder(root: Path, manifest: Manifest) -> None:
    encoder = manifest.encoder
    weights = {"predictor": f"{SHARED}/model.safetensors", "markov": f"{FALLBACK}/markov.safetensors"}.get(encoder.kind)
    if weights is None:
        return  # which SBERT is installed is for `browsing.encoders.of_bundle` to see
    if encoder.weights_sha256 != manifest.files.get(weights):
        raise BundleError(f"{root}: its encoder ({encoder.kind}) is not the one in {weights}")
    if encoder.tokenizer_sha256 != manifest.vocabulary_sha256:
        raise BundleError(f"{root}: its encoder ({encoder.kind}) is not one of the bundle's vocabulary")


def _check_small_parts(root: Path, manifest: Manifest) -> None:
    Prior.model_validate_json((root / "prior.json").read_text())
    Calibration.model_validate_json((root / "calibration.json").read_text())
    _load_returns(root)
    reference = Reference.model_validate_json((root / "reference.json").read_text())
    if not len(reference.pages) == len(reference.cluster_shares) == len(manifest.clusters):
        raise BundleError(f"{root}: reference.json is not about the {len(manifest.clusters)} clusters of the manifest")
    if reference.routing is not None and len(reference.routing.clusters) != len(manifest.clusters):
        raise BundleError(f"{root}: routing in reference.json is not about {len(manifest.clusters)} clusters")
    profiles = load_profiles(root)
    if profiles is not None and [c.id for c in profiles.clusters] != [c.id for c in manifest.clusters]:
        raise BundleError(f"{root}: {PROFILES} is not about the {len(manifest.clusters)} clusters of the manifest")
    fallback = MarkovMixture.load(root / FALLBACK)
    if fallback.vocabulary_size != manifest.vocabulary_size:
        raise BundleError(
            f"{root}: the fallback has {fallback.vocabulary_size} tokens for a vocabulary of {manifest.vocabulary_size}"
        )


def _check_predictor(directory: Path, manifest: Manifest) -> None:
    for document in sorted(directory.glob("*.json")):
        content = json.loads(document.read_text())
        if not isinstance(content, dict) or "auto_map" in content:
            raise BundleError(f"{document}: brings custom code, or is no document; a predictor is a plain model")
    config = json.loads((directory / "config.json").read_text())
    vocabulary = Vocabulary.load(directory / "tokenizer.json")
    if vocabulary.sha256 != manifest.vocabulary_sha256:
        raise BundleError(f"{directory}: its vocabulary is not the bundle's")
    if config.get("vocab_size") != len(vocabulary) or len(vocabulary) != manifest.vocabulary_size:
        raise BundleError(f"{directory}: {config.get('vocab_size')} outputs for a vocabulary of {len(vocabulary)}")
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions < manifest.limits.context:
        raise BundleError(f"{directory}: {positions} positions, fewer than the context of {manifest.limits.context}")
    with safe_open(directory / "model.safetensors", "pt") as tensors:
        rows = {tensors.get_slice(n).get_shape()[0] for n in tensors.keys() if "embed_tokens" in n or "lm_head" in n}  # noqa: SIM118
    if rows != {len(vocabulary)}:
        raise BundleError(f"{directory}: embeddings of {sorted(rows)} rows for a vocabulary of {len(vocabulary)}")


def _walk(root: Path) -> Iterator[str]:
    """Every file's path relative to `root`. Raises `BundleError` for a symlink or a kind of file that has no place."""
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root).as_posix()
        if path.is_symlink():
            raise BundleError(f"{root}: {relative} is a symlink")
        if path.is_dir():
            continue
        if not path.is_file() or path.suffix not in ALLOWED_SUFFIXES:
            raise BundleError(f"{root}: {relative} has no place in a bundle")
        yield relative
