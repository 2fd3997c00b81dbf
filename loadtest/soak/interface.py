"""Schemathesis over the live OpenAPI documents of both ports, with all of its checks."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
from pydantic import BaseModel, ConfigDict

from browsing.console import progress
from loadtest.soak import report
from loadtest.soak.rules import PAGES
from loadtest.soak.scrape import samples
from loadtest.soak.serving import Served, StartError, start
from loadtest.soak.shop import hetlm
from loadtest.stage import machine
from loadtest.visitors import read_bundle, walks
from loadtest.workload import Options, question

PER_OPERATION = 300
"""Most cases that one round asks of one operation."""
WORKERS = 2
FILE = "histories.ndjson"
"""In the folder whose files can be named; the document's own example is added under its name."""
ALL_SCOPES = ("predict", "batch", "admin")
SETTINGS = {
    "HETLM_BODY_LIMIT_BYTES": str(32 * 2**20),  # above the longest lists, so that these are judged, not their bytes
    "HETLM_BATCH_MAX_UNFINISHED": "10000",
    "HETLM_ENGINE_DEADLINE_MS": "60000",  # a busy machine is no failure of the interface
    "HETLM_RATE_PER_SECOND": "100000",
    "HETLM_RATE_BURST": "1000000",
}


class _Cases(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    generated: int
    unique_failures: int
    errored: int


class _Operations(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    tested: int


class _Report(BaseModel):
    """Of one round, as far as it is read here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schemathesis_version: str
    complete: bool
    exit_code: int
    operations: _Operations
    test_cases: _Cases
    failures: list[dict[str, object]]
    errors: list[object]


class MissingError(RuntimeError):
    """Schemathesis is not installed."""


@dataclass(frozen=True, slots=True)
class _Document:
    """`base`: the address of one port."""

    name: str
    base: str


async def run(bundle: Path, folder: Path, *, cases: int = 10_000, seed: int = 1) -> report.Section:
    """At least `cases` over both documents. Raises `StartError`, `MissingError`, `ShopError`."""
    if find_spec("schemathesis") is None:
        raise MissingError('schemathesis is not installed: pip install "schemathesis==4.32.5"')
    load_before, began = report.load(), time.monotonic()
    inputs, keys = folder / "inputs", folder / "keys.json"
    await asyncio.to_thread(_inputs, bundle, inputs)
    scopes = [word for scope in ALL_SCOPES for word in ("--scope", scope)]
    said = await asyncio.to_thread(hetlm, "keys", "new", "trial", *scopes, "--file", str(keys), "--json")
    secret = str(json.loads(said)["secret"])
    bundles = folder / "bundles"
    await asyncio.to_thread(shutil.copytree, bundle, bundles / "first")
    served = await start(
        None,
        folder / "service.log",
        [
            "--bundles",
            str(bundles),
            "--api-keys-file",
            str(keys),
            "--batch-dir",
            str(folder / "batches"),
            "--log-level",
            "warning",
        ],
        variables={**SETTINGS, "HETLM_BATCH_INPUT_DIR": str(inputs)},
    )
    try:
        rounds = await _rounds(served, bundle, folder, secret, cases, seed)
        failed = await _failed(served)
        code = served.popen.poll()
    finally:
        await served.end()
    total = sum(one.test_cases.generated for one in rounds)
    failures = [failure for one in rounds for failure in one.failures]
    complaints = [f"schemathesis: {_words(failure)}" for failure in failures]
    complaints += [f"schemathesis could not go on: {error}" for one in rounds for error in one.errors]
    complaints += [f"a round ended early, with code {one.exit_code}" for one in rounds if not one.complete]
    complaints += [f"{count:g} answers were 500" for count in (failed,) if count]
    complaints += [f"the service ended with code {code}" for _ in (code,) if code is not None]
    return report.Section(
        section="interface",
        command=f"python -m loadtest.soak interface --cases {cases}",
        figures=(
            report.Figure(
                figure=f"schemathesis over the live OpenAPI documents, {total:,} cases, all checks",
                measured=f"{len(failures)} failures",
                gate="0 failures",
                passed=not failures and total >= cases,
            ),
        ),
        complaints=tuple(complaints),
        answers=None,
        machine=machine(load_before),
        seconds=round(time.monotonic() - began, 1),
        details={
            "cases": total,
            "rounds": len(rounds),
            "operations": [one.operations.tested for one in rounds[:2]],
            "schemathesis": rounds[0].schemathesis_version,
        },
    )


async def _rounds(served: Served, bundle: Path, folder: Path, secret: str, cases: int, seed: int) -> list[_Report]:
    """The first one of each document goes through all phases; further ones, with other seeds, generate."""
    main, admin = _Document("main", served.url), _Document("admin", served.admin_url)
    done: list[_Report] = []
    left = cases
    with progress("Schemathesis", cases, "cases") as advance:
        for number, document in enumerate(_alternating(main, admin)):
            phases = "examples,coverage,fuzzing,stateful" if document is admin or number == 0 else "fuzzing,stateful"
            most = max(10, min(PER_OPERATION, left // 8))
            words = [*("--phases", phases), *("--max-examples", str(most)), *("--seed", str(seed + number))]
            one = await _round(document, words, bundle, folder / f"{document.name}-{number}.json", secret)
            done.append(one)
            left -= one.test_cases.generated
            advance(one.test_cases.generated)
            if served.popen.poll() is not None or (left <= 0 and number > 0):
                return done
    return done


def _alternating(main: _Document, admin: _Document) -> Iterator[_Document]:
    yield main
    yield admin
    while True:
        yield main


async def _round(document: _Document, words: list[str], bundle: Path, to: Path, secret: str) -> _Report:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--no-color", "run", f"{document.base}/openapi.json"),
        *("--header", f"Authorization: Bearer {secret}", "--checks", "all", "--workers", str(WORKERS)),
        # A second, made-up key beside the right one would have nearly every request refused.
        *("--generation-with-security-parameters", "false", "--generation-database", "none"),
        *("--continue-on-failure", "--request-timeout", "120", "--no-shrink"),
        # Of its own generator, which draws times until one is within the years that are taken; no check of the API.
        *("--suppress-health-check", "filter_too_much,too_slow,data_too_large"),
        *("--report", "json", "--report-json-path", str(to), *words),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "loadtest.soak.rules", PAGES: str(bundle / "pages.json")}
    log = to.with_suffix(".log")
    with await asyncio.to_thread(log.open, "wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file, env=environment
        )
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
    if not await asyncio.to_thread(to.is_file):
        raise StartError(f"schemathesis ended with code {process.returncode}: see {log}")
    return _Report.model_validate_json(await asyncio.to_thread(to.read_bytes))


def _inputs(bundle: Path, folder: Path) -> None:
    """Files that a batch can name, the one of the document's example among them."""
    folder.mkdir()
    visitors = walks(read_bundle(bundle).pages, 20, np.random.default_rng(0))
    lines = b"\n".join(question(visitor, number, Options()).body for number, visitor in enumerate(visitors))
    for name in (FILE, "histories.parquet"):  # the contents decide what a file is
        (folder / name).write_bytes(lines)


async def _failed(served: Served) -> float:
    """Answers of 500 that the service counted."""
    try:
        found = await samples(served.metrics_url)
    except httpx.HTTPError:
        return 0.0
    return sum(v for name, v in found.items() if name.startswith("hetlm_requests_total{") and 'status="500"' in name)


def _words(failure: dict[str, object]) -> str:
    return json.dumps(failure)[:600]
