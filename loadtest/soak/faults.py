"""Every fault, one after another, under load on one service: what is accepted is answered rightly or refused honestly.

The service is a process of its own, its engines small servers that misbehave on demand behind the adapter for vLLM, its
cache a real Redis. The model of these engines is a table: what they should say is known, and what they say is compared.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from browsing.bundle import Bundle
from browsing.console import progress
from loadtest import figures
from loadtest.client import connect
from loadtest.faults import bad_after, recovered_after
from loadtest.generator import Fate
from loadtest.soak import injuries, report
from loadtest.soak.crowd import Crowd, questions
from loadtest.soak.damage import DAMAGES, Damage, damaged
from loadtest.soak.injuries import Injury, NoTraceError
from loadtest.soak.redis import RedisServer
from loadtest.soak.reference import Comparing
from loadtest.soak.scrape import risen, samples
from loadtest.soak.serving import Served, begin, start
from loadtest.soak.standin import FakeVllm
from loadtest.stage import machine

VISITORS = 60
STRICT = 0.2
LEAD, TAIL = 1.0, 1.0
"""Seconds of load before a fault and after it."""
BATCH_ROWS = 60
LAME_DUCK = 3.0
SETTINGS = {
    "HETLM_ENGINE_DEADLINE_MS": "2000",
    "HETLM_PROBE_SECONDS": "1",
    "HETLM_REDIS_BACK_OFF_SECONDS": "0.2",
    "HETLM_CACHE_SECRET": "of this trial alone",
    "HETLM_LAME_DUCK_SECONDS": str(LAME_DUCK),
}


@dataclass(slots=True)
class _Trial:
    """A service with its engines and its cache, and who asks it."""

    bundle: Path
    served: Served
    servers: list[FakeVllm]
    redis: RedisServer
    crowd: Crowd
    rate: float
    hold: float


async def run(
    bundle: Path, folder: Path, *, rate: float = 15.0, hold: float = 6.0, only: Sequence[str] = ()
) -> report.Section:
    """`hold`: seconds that each fault lasts. `only`: words of which a fault's name holds one; all by default. Raises
    `StartError`, `RedisMissingError`."""
    load_before, began = report.load(), time.monotonic()
    found: dict[str, JsonValue] = {}
    complaints: list[str] = []
    async with _trial(bundle, folder, rate, hold) as trial:
        broken = await _learn(trial)
        body = b"\n".join(question.body for question in trial.crowd.questions)
        injured = [
            *injuries.engines(broken),
            *injuries.caches(trial.redis),
            injuries.clock(trial.served),
            injuries.disk(trial.served, trial.crowd.client, body),
        ]
        tried: dict[str, Coroutine[None, None, JsonValue]] = {
            **{injury.name: _through(trial, injury, complaints) for injury in injured},
            "clients disconnect": _leaving(trial, complaints),
            **{
                f"a bundle with {name}": _refused(trial, folder / name.replace(" ", "-"), damage, complaints)
                for name, damage in DAMAGES.items()
            },
            "SIGTERM": _ended(trial, complaints),
        }
        with progress("Faults under load", len(tried), "faults") as advance:
            for name, trying in tried.items():
                if only and not any(word in name for word in only):
                    trying.close()
                    continue
                found[name] = await trying
                advance(1)
        answers = figures.answers(trial.crowd.fates)
        compared = trial.crowd.checker.compared
    return report.Section(
        section="faults",
        command=f"python -m loadtest.soak faults --rate {rate:g} --hold {hold:g}",
        figures=(
            report.Figure(
                figure=f"accepted requests answered correctly or refused honestly through {len(found)} faults",
                measured=report.share(answers),
                gate="100 %",
                passed=answers.honest == answers.accepted > 0,
            ),
        ),
        complaints=tuple(complaints),
        answers=answers,
        machine=machine(load_before),
        seconds=round(time.monotonic() - began, 1),
        details={"faults": found, "compared_with_the_answer_without_faults": compared},
    )


@asynccontextmanager
async def _trial(bundle: Path, folder: Path, rate: float, hold: float) -> AsyncIterator[_Trial]:
    loaded = Bundle.load(bundle)
    size, context = len(loaded.vocabulary), loaded.manifest.limits.context
    servers = [FakeVllm(size, k, context=context) for k in range(loaded.clusters)]
    redis = RedisServer()
    served: Served | None = None
    try:
        for server in servers:
            await server.start()
        await redis.start()
        addresses = [word for server in servers for word in ("--engine-url", server.url)]
        served = await start(
            bundle,
            folder / "service.log",
            ["--engine", "vllm-server", *addresses, "--redis-url", redis.url, "--batch-dir", str(folder / "batches")],
            module="loadtest.soak.victim",
            variables=SETTINGS,
        )
        checker = Comparing({loaded.manifest.version}, frozenset(loaded.vocabulary.pages))
        people = questions(bundle, VISITORS, strict=STRICT)
        async with connect(served.url) as client:
            yield _Trial(bundle, served, servers, redis, Crowd(client, people, checker), rate, hold)
    finally:
        if served is not None:
            await served.end()
        redis.remove()
        for server in servers:
            await server.stop()


async def _learn(trial: _Trial) -> FakeVllm:
    """What is right: everybody's answer with all engines, then with none of them. The engine that most visitors have
    is the one to break."""
    verdicts = await trial.crowd.everybody()
    clusters = [verdict.cluster for verdict in verdicts if verdict.cluster is not None]
    for server in trial.servers:
        await server.stop()
    await trial.crowd.everybody()
    for server in trial.servers:
        await server.start()
    if not await trial.crowd.well():
        raise RuntimeError("the service does not recover from engines that were away: nothing more can be tried")
    return trial.servers[max(sorted(set(clusters)), key=clusters.count)]


async def _through(trial: _Trial, injury: Injury, complaints: list[str]) -> JsonValue:
    """One fault in the middle of a load, and the recovery from it."""
    before = await samples(trial.served.metrics_url)
    struck: list[float] = []
    trace = 0.0

    async def companion(origin: float) -> None:
        nonlocal trace
        loop = asyncio.get_running_loop()
        await asyncio.sleep(origin + LEAD - loop.time())
        struck.append(loop.time() - origin)
        try:
            await injury.strike()
            await asyncio.sleep(max(0.0, origin + LEAD + trial.hold - loop.time()))
            trace = risen(before, await samples(trial.served.metrics_url), injury.traces)
        finally:
            await injury.heal()
            struck.append(loop.time() - origin)

    fates: list[Fate] = []
    try:
        fates = await trial.crowd.load(trial.rate, LEAD + trial.hold + TAIL, [companion])
    except NoTraceError as error:
        complaints.append(f"{injury.name}: {error}")
    if injury.traces and not trace:
        complaints.append(f"{injury.name}: it left no trace in {', '.join(injury.traces)}")
    if not await trial.crowd.well():
        complaints.append(f"{injury.name}: the model did not come back")
    return _told(fates, struck, complaints, injury.name)


async def _leaving(trial: _Trial, complaints: list[str]) -> JsonValue:
    """Half of the callers hang up, most of them before they can have an answer."""
    fates = await trial.crowd.load(trial.rate, trial.hold, leaving=0.5, leaves_after=0.02)
    if not figures.answers(fates).left:
        complaints.append("clients disconnect: nobody left")
    return _told(fates, [], complaints, "clients disconnect")


async def _refused(trial: _Trial, root: Path, damage: Damage, complaints: list[str]) -> JsonValue:
    """A second service is to serve a damaged bundle, beside the one under load: it ends at once, with a message."""
    await asyncio.to_thread(damaged, trial.bundle, root, damage)
    log = root.with_name(f"{root.name}.log")

    async def companion(_: float) -> None:
        popen = await asyncio.to_thread(begin, root, log)
        try:
            code = await asyncio.to_thread(popen.wait, 120)
        finally:
            popen.kill()
        said = await asyncio.to_thread(log.read_text, errors="replace")
        if code != 2 or "Traceback" in said or "ready" in said.split():
            complaints.append(f"{root.name}: hetlm serve ended with code {code}, saying {said.strip()[-300:]}")

    work = asyncio.create_task(companion(0.0))
    fates: list[Fate] = []
    while not work.done():
        fates += await trial.crowd.load(trial.rate, 1.0)
    await work
    return _told(fates, [], complaints, root.name)


async def _ended(trial: _Trial, complaints: list[str]) -> JsonValue:
    """The last: callers go on while the service is told to stop; who comes after its end finds nobody."""

    async def companion(origin: float) -> None:
        await asyncio.sleep(origin + LEAD - asyncio.get_running_loop().time())
        trial.served.signal(signal.SIGTERM)

    fates = await trial.crowd.load(trial.rate, LEAD + LAME_DUCK + TAIL, [companion])
    code = await trial.served.ended()  # a second signal would not let it finish
    if code != 0:
        complaints.append(f"SIGTERM: it ended with code {code}")
    if not figures.answers(fates).unreachable:
        complaints.append("SIGTERM: it went on beyond its lame duck's time")
    return _told(fates, [], complaints, "SIGTERM")


def _told(fates: Sequence[Fate], struck: Sequence[float], complaints: list[str], name: str) -> JsonValue:
    answers = figures.answers(fates)
    verdicts = [fate.reply.verdict for fate in fates]
    complaints += [
        f"{name}: {count} times: {reason}"
        for reason, count in answers.reasons.items()
        if any(v.reason == reason and v.kind in ("wrong", "lost") for v in verdicts)
    ]
    told: dict[str, JsonValue] = {
        "accepted": answers.accepted,
        "honest": answers.honest,
        "refused": answers.refused,
        "fallbacks": sum(v.kind == "correct" and v.fallback == "engine_down" for v in verdicts),
        "left": answers.left,
        "unreachable": answers.unreachable,
    }
    if len(struck) == 2:
        told["noticed"] = len(bad_after(fates, struck[0]))
        after = recovered_after(fates, struck[1])
        told["recovered_after_seconds"] = round(after, 3) if after is not None else None
    return told
