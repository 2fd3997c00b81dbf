"""Everything that stands between a document's blocks and what the tests run: nothing else is changed.

A block is run as it is printed, by bash, in a scratch folder. What is written here must be needed: a test fails for an
entry that no block needs any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from tests.docs.blocks import Command

PORTS = (8000, 8080, 8191, 9465)
"""Ports that the documents name. Each number is replaced by that of a free port, in the command alone."""

QUICK: Mapping[str, str] = {
    "hetlm simulate": "--users 300",
    "hetlm train": "--preset demo --context 128 --clusters 2 --encoder markov --epochs 1 --limit-batches 8 "
    "--tune-epochs 1 --warm-users 100 --warm-epochs 1",
    "hetlm evaluate": "--users 20 --samples 4 --resamples 20 --validation-users 20 --return-users 0",
    "hetlm timing": "--users 5 --rounds 1 --samples 4",
    "hetlm prompt": "--users 3",
    "hetlm lora": "--users 8 --rank 4",
    "python -m loadtest steady": "--rate 5 --seconds 2 --visitors 10",
}
"""Options that follow the printed ones, and so come before them: the same command on less."""

PROGRAMS: Mapping[str, str] = {
    "make": "`make -n`: make test runs this test, and make demo takes four minutes",
    "docker": "no container engine: its options are ones that we know, and the files that are named are there",
    "kubectl": "no cluster: its options are ones that we know, and the files that are named are there",
    "pip": "changes the environment that the tests run in: packages and extras are ones that we declare",
    "locust": "an optional extra: the file is there, and it or Locust has the options",
}
"""Programs that the tests put something in the place of, and what it does (`programs.py`)."""


@dataclass(frozen=True, slots=True)
class _Of:
    document: str
    begins: str

    def is_of(self, command: Command) -> bool:
        return command.document == self.document and command.text.startswith(self.begins)


@dataclass(frozen=True, slots=True)
class Apart(_Of):
    """A command that is not run. `parsed`: the shell runs it, and hetlm's own command line reads every argument and
    stops there. `read`: bash reads it (`bash -n`)."""

    how: Literal["parsed", "read"]
    why: str


@dataclass(frozen=True, slots=True)
class Then(_Of):
    """What is there once a command that a stand-in took the place of has run: this service."""

    serve: str
    why: str


@dataclass(frozen=True, slots=True)
class Copied(_Of):
    """What a reader copies from a command's output into a variable of later commands."""

    variable: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Until(_Of):
    """A command that a reader repeats until it succeeds and its output holds `holds`."""

    holds: str


BENCH = "tests/loadtest/bench runs small ones; each takes minutes here"
SOAK = "tests/loadtest/soak runs a bounded sample of every trial; each takes minutes here"
REAL = "needs a real log, and 40 minutes"

ONE_RAY = "hetlm score bundle shop/test.parquet --out scored.parquet --seed 7 --ray local"

APART = (
    Apart("docs/batch.md", ONE_RAY, "parsed", "starts a Ray, which tests/service/scoring/test_ray_cluster.py does"),
    Apart("docs/results/globo.md", "hetlm ingest clicks.parquet", "parsed", REAL),
    Apart("docs/results/globo-by-time.md", "hetlm ingest clicks.parquet", "parsed", REAL),
    Apart("docs/results/taobao.md", "for fold in 0 1 2 3 4", "parsed", REAL),
    Apart("docs/results/operations.md", "deploy/system-packages.sh", "read", "installs packages, as root"),
    Apart("docs/results/operations.md", "python -m pytest", "parsed", "run by make test-system"),
    Apart("docs/results/reliability.md", "python -m loadtest.soak", "parsed", SOAK),
    Apart("loadtest/README.md", "python -m loadtest.soak", "parsed", SOAK),
    Apart("docs/results/performance.md", "python -m loadtest.bench", "parsed", BENCH),
    Apart("loadtest/README.md", "python -m loadtest.bench", "parsed", BENCH),
    Apart("loadtest/README.md", "py-spy record", "read", "an optional extra, and a service that has been started"),
    Apart("docs/results/small.md", "hetlm simulate --preset habits --users 1500", "parsed", REAL),
    *(
        Apart("loadtest/README.md", f"python -m loadtest {name}", "parsed", "tests/loadtest runs every scenario")
        for name in ("spike", "cold-cache", "hot-cluster", "batch-beside", "engine-killed", "redis-killed", "mixed")
    ),
    Apart("loadtest/README.md", "python -m loadtest compare", "parsed", "needs the results of two longer runs"),
    Apart("docs/your-log.md", "accelerate launch", "read", "a predictor of 304 million parameters, on GPUs"),
    Apart("docs/text-llm.md", "python3 -m venv llm", "read", "builds llama.cpp for ten minutes, from the network"),
    Apart("docs/text-llm.md", "llm/bin/python -m llama_cpp.server", "read", "what the line before it built"),
    Apart("docs/text-llm.md", "hetlm lora shop --base meta-llama/", "parsed", "a model of 8 billion parameters"),
    Apart("docs/text-llm.md", "vllm serve meta-llama/", "read", "a model of 8 billion parameters"),
)

THEN = (
    Then("README.md", "make demo", "hetlm serve demo --port 8000", "make demo leaves the service running"),
    Then(
        "docs/deploying.md",
        "docker compose --file docker/docker-compose.yml up",
        "HETLM_API_KEYS_FILE=docker/secrets/keys/keys.json hetlm serve bundle",
        "the service in its container; tests/system starts the whole topology",
    ),
)

COPIED = (
    Copied("docs/batch.md", "curl -s localhost:8080/batches -H", "ID", r'"id":"([\w-]+)"'),
    Copied("docs/security.md", "hetlm keys new", "KEY", r"(hetlm_\S+)"),
    Copied("docs/deploying.md", "hetlm deploy secrets", "KEY", r"(hetlm_\S+)"),
)

CANARY = (
    """curl -s localhost:9465/admin/bundles/2026-11/canary -H 'content-type: application/json' -d '{"share": 0.2}'"""
)
UNTIL = (
    Until("docs/batch.md", "curl -s localhost:8080/batches/$ID ", '"state":"done"'),
    Until("docs/bundles.md", CANARY, '"share":0.2'),
)

SERVICE_FIRST: Mapping[str, str] = {"docs/batch.md": "hetlm serve bundle --batch-dir jobs"}
"""Services that a document's text, and no block of it, has told the reader to start."""

DRAWINGS = (("docs/architecture.md", "history ── sessions"),)
"""Blocks of `text`, by their document and how they begin: nothing in them can be run."""


Rule = TypeVar("Rule", bound=_Of)


def of(rules: Iterable[Rule], command: Command) -> Rule | None:
    """The first of the rules that is of this command."""
    return next((rule for rule in rules if rule.is_of(command)), None)
