"""What one run measures: the workload, the bundles, the subjects, and who is compared with whom."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from browsing.bundle import MANIFEST, Bundle, Manifest, predictor_directory
from browsing.console import progress
from loadtest.bench import bundles, shop, workload
from loadtest.bench.alone import EngineAlone, Worker
from loadtest.bench.answering import OurService, TransformersApp
from loadtest.bench.bundles import Language
from loadtest.bench.direct import DirectVllm
from loadtest.bench.errors import BenchError
from loadtest.bench.peers.vllm import servers
from loadtest.bench.predictors import SIZES, Size
from loadtest.bench.rounds import Comparison, Level
from loadtest.bench.subject import Subject
from loadtest.bench.workload import Workload

Peer = Literal["transformers", "vllm", "vllm-documented"]
Part = Literal["engine", "clusters", "larger", "curve"]
PEERS: tuple[Peer, ...] = get_args(Peer)
VLLM: tuple[Peer, ...] = ("vllm", "vllm-documented")
PARTS: tuple[Part, ...] = get_args(Part)
OURS, SINGLE, ENGINE, FORECAST = "bundle", "single", "engine", "engine and estimates"
MAX_STEPS = 20
CONTEXT = 256


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is asked. `one`: requests of a turn one at a time; `waves`: of a turn at `crowd` under way at once, so
    many times that, and `slow_waves` against peers, who need minutes for them; `most`: the highest concurrency of the
    curve; `product`: seconds of a matrix product."""

    rounds: int = 7
    visitors: int = 192
    one: int = 32
    crowd: int = 64
    waves: int = 4
    slow_waves: int = 2
    most: int = 256
    curves: int = 2
    product: float = 1.0
    users: int = 2_000
    pages: int = 400

    @property
    def levels(self) -> tuple[Level, ...]:
        return Level(1, self.one), self.crowded

    @property
    def against_peers(self) -> tuple[Level, ...]:
        return Level(1, self.one), Level(self.crowd, self.slow_waves * self.crowd)

    @property
    def crowded(self) -> Level:
        return Level(self.crowd, self.waves * self.crowd)

    @property
    def curve(self) -> tuple[Level, ...]:
        """1, 2, 4, ... under way."""
        counts = [2**power for power in range(self.most.bit_length()) if 2**power <= self.most]
        return tuple(Level(count, max(self.one, self.waves * count)) for count in counts)


QUICK = Scale(rounds=2, visitors=8, one=3, crowd=4, waves=2, most=4, curves=1, product=0.05, users=150, pages=20)


@dataclass(frozen=True, slots=True)
class Asked:
    """As the command line has it. `clusters`: the numbers K to compare, ascending."""

    out: Path
    dataset: Path | None
    bundle: Path | None
    size: str
    clusters: tuple[int, ...]
    peers: tuple[Peer, ...]
    parts: tuple[Part, ...]
    threads: int
    cores: tuple[int, ...]
    scale: Scale


@dataclass
class Plan:
    """`ours`: the subject that stands for our service. `bundles`: what each subject computes with."""

    asked: Asked
    workload: Workload
    ours: str
    shared: int
    bundles: dict[str, Path] = field(default_factory=dict)
    subjects: dict[str, Subject] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    worker: Worker | None = None

    def manifest(self, subject: str) -> Manifest:
        return Manifest.model_validate_json((self.bundles[subject] / MANIFEST).read_bytes())


def plan(asked: Asked) -> Plan:
    """Make what is missing, and say what will be done; nothing is started. Raises `BenchError`, `VisitorError`,
    `BundleError`."""
    asked.out.mkdir(parents=True, exist_ok=True)
    size = _size(asked)
    source = asked.dataset
    if source is None and asked.bundle is None:
        source = shop.dataset(asked.out / "shop", users=asked.scale.users, pages=asked.scale.pages)
    if source is not None:
        work = workload.of_dataset(source, asked.scale.visitors)
    elif asked.bundle is not None:
        work = workload.of_walks(asked.bundle, asked.scale.visitors)
    spoken = _language(asked.bundle, source)
    work.write(asked.out / "workload.json")
    shared = 3 if 3 in asked.clusters else asked.clusters[-1]
    made = Plan(asked, work, OURS if asked.bundle is not None else f"K={shared}", shared)
    _compare(made)
    _bundles(made, spoken, size)
    _subjects(made)
    return made


def _size(asked: Asked) -> Size:
    if asked.bundle is None:
        return SIZES[asked.size]
    path = predictor_directory(asked.bundle, 0) / "config.json"
    try:
        return Size.of(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: {error}") from None


def _language(bundle: Path | None, dataset: Path | None) -> Language:
    if bundle is not None:
        loaded = Bundle.load(bundle)
        limits = loaded.manifest.limits
        return Language(loaded.vocabulary, loaded.rules, limits.context, limits.max_steps)
    if dataset is None:
        raise BenchError("neither a bundle nor a dataset to take pages from")
    return bundles.language(dataset, context=CONTEXT, max_steps=MAX_STEPS)


def _compare(made: Plan) -> None:
    asked, scale, ours = made.asked, made.asked.scale, made.ours
    least = f"K={asked.clusters[0]}"
    series = tuple(f"K={count}" for count in asked.clusters)
    if "transformers" in asked.peers:
        made.comparisons.append(Comparison("transformers", (ours, "transformers"), scale.against_peers, scale.rounds))
    for peer in VLLM:
        if peer in asked.peers:
            alike = ours if asked.bundle is not None else least
            made.comparisons.append(Comparison(peer, (alike, peer), scale.against_peers, scale.rounds))
    if "engine" in asked.parts:
        alone = (ours, ENGINE, FORECAST)
        made.comparisons.append(Comparison("engine", alone, (scale.crowded,), scale.rounds, product=True))
    if "clusters" in asked.parts and len(series) > 1:
        made.comparisons.append(Comparison("clusters", series, scale.levels, scale.rounds))
    if "larger" in asked.parts and made.shared > 1:
        pair = (f"K={made.shared}", SINGLE)
        made.comparisons.append(Comparison("larger", pair, (scale.crowded,), scale.rounds))
    if "curve" in asked.parts:
        made.comparisons.append(Comparison("curve", (ours,), scale.curve, scale.curves))


def _bundles(made: Plan, spoken: Language, size: Size) -> None:
    """Those that the comparisons need. vLLM has one predictor, and so one server with all cores: its best; or those of
    the bundle that was named."""
    asked = made.asked
    needed = list(dict.fromkeys(name for comparison in made.comparisons for name in comparison.subjects))
    alike: dict[str, str] = {
        "transformers": made.ours,
        ENGINE: made.ours,
        FORECAST: made.ours,
        **dict.fromkeys(VLLM, made.ours if asked.bundle is not None else f"K={asked.clusters[0]}"),
    }
    written = [name for name in needed if name not in alike and name != OURS]
    if asked.bundle is not None:
        made.bundles[OURS] = asked.bundle.absolute()
    with progress("Writing bundles", len(written), "bundles") as advance:
        for name in written:
            root = (asked.out / "bundles" / name.replace("=", "-")).absolute()
            if name == SINGLE:
                bundles.write(root, spoken, made.workload, 1, size.times(made.shared, len(spoken.vocabulary)))
            else:
                bundles.write(root, spoken, made.workload, int(name.removeprefix("K=")), size)
            made.bundles[name] = root
            advance(1)
    made.bundles |= {name: made.bundles[alike[name]] for name in needed if name in alike}
    if OURS in made.bundles and OURS not in needed:
        del made.bundles[OURS]


def _subjects(made: Plan) -> None:
    asked, work = made.asked, made.workload
    logs = asked.out / "logs"
    logs.mkdir(exist_ok=True)
    for name, bundle in made.bundles.items():
        log = logs / f"{name.replace(' ', '-')}.log"
        if name == "transformers":
            made.subjects[name] = TransformersApp(name, bundle, work, asked.threads, log)
        elif name in VLLM:
            loaded = Bundle.load(bundle)
            its = servers(loaded.predictors(), asked.cores, logs, name, documented=name != "vllm")
            made.subjects[name] = DirectVllm(name, loaded, work, its)
        elif name in (ENGINE, FORECAST):
            path = (asked.out / "workload.json").absolute()
            made.worker = made.worker or Worker(bundle, path, asked.threads, log)
            made.subjects[name] = EngineAlone(name, made.worker, "draw" if name == ENGINE else "forecast")
        else:
            made.subjects[name] = OurService(name, bundle, work, asked.threads, log)


def parameters(bundle: Path) -> int:
    """Of a bundle's first predictor."""
    from math import prod

    from safetensors import safe_open

    with safe_open(predictor_directory(bundle, 0) / "model.safetensors", "pt") as tensors:
        return sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def turns(comparisons: Sequence[Comparison]) -> int:
    return sum(comparison.turns for comparison in comparisons)
