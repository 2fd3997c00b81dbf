"""Whatever goes wrong at whatever step: the version that is served goes on, and nothing of the other is left."""

from __future__ import annotations

import asyncio
import gc
import json
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from browsing.bundle import Bundle, BundleError
from browsing.encoder import Encoder, Vectors
from browsing.engine import EngineDown, EngineError
from service.engines.supervised import SupervisedEngine
from tests.service.building import same
from tests.service.versions.building import (
    BODIES,
    Factory,
    Fake,
    Known,
    foreign,
    moving,
    settled,
    threads,
    threads_left,
    version_of,
)
from tests.tiny import TinyEncoder

Harm = Callable[[Path, Factory], None]
"""What is done to the folder, and to what is made of it, after v1 has started."""


def _engine(change: Callable[[Fake], object]) -> Harm:
    def harm(_: Path, factory: Factory) -> None:
        def prepare(engine: Fake) -> None:
            change(engine)

        factory.prepare = prepare

    return harm


def _no_manifest(folder: Path, _: Factory) -> None:
    (folder / "v2" / "manifest.json").unlink()


def _broken_manifest(folder: Path, _: Factory) -> None:
    (folder / "v2" / "manifest.json").write_text('{"zq": ')


def _foreign_version(folder: Path, _: Factory) -> None:
    path = folder / "v2" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": "0" * 64}))


def _missing_file(folder: Path, _: Factory) -> None:
    (folder / "v2" / "selector.safetensors").unlink()


def _wrong_hash(folder: Path, _: Factory) -> None:
    path = folder / "v2" / "prior.json"
    path.write_text(path.read_text() + " ")


def _half_a_file(folder: Path, _: Factory) -> None:
    path = folder / "v2" / "predictors" / "cluster-1" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1_000])


def _unlisted_file(folder: Path, _: Factory) -> None:
    (folder / "v2" / "more.json").write_text("{}")


def _foreign_encoder(_: Path, factory: Factory) -> None:
    def encoder(bundle: Bundle) -> Encoder:
        raise BundleError(f"{bundle.root}: trained with another encoder")

    factory.encoder = encoder


def _no_engine(_: Path, factory: Factory) -> None:
    def engine(bundle: Bundle) -> Fake:
        raise EngineError("vLLM is not installed")

    factory.engine = engine


def _deaf_encoder(folder: Path, factory: Factory) -> None:
    class Deaf(TinyEncoder):
        weights_sha256 = "0" * 64

        def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
            raise RuntimeError("zq")

    factory.encoder = lambda _: Deaf()


def _cannot_be_remembered(folder: Path, _: Factory) -> None:
    (folder / "activated.json").unlink()
    (folder / "activated.json").mkdir()


def _slow_encoder(_: Path, factory: Factory) -> None:
    def encoder(_: Bundle) -> Encoder:
        time.sleep(1.5)
        return TinyEncoder()

    factory.encoder = encoder


HARM: dict[str, tuple[Harm, str, str, str]] = {
    "no manifest": (_no_manifest, "find", "has no manifest.json", "broken"),
    "a broken manifest": (_broken_manifest, "find", "manifest.json", "broken"),
    "a foreign version": (_foreign_version, "find", "not the hash of its contents", "broken"),
    "a missing file": (_missing_file, "find", "missing file selector.safetensors", "broken"),
    "a wrong hash": (_wrong_hash, "load", "prior.json has the wrong hash", "broken"),
    "half a file": (_half_a_file, "load", "model.safetensors has the wrong hash", "broken"),
    "an unlisted file": (_unlisted_file, "load", "more.json is not in the manifest", "broken"),
    "no engine": (_no_engine, "fit", "vLLM is not installed", "broken"),
    "an engine that does not start": (
        _engine(lambda engine: engine.errors.update(start=EngineError("no such model"))),
        *("start", "no such model", "idle"),
    ),
    "an engine that fails strangely": (
        _engine(lambda engine: engine.errors.update(start=RuntimeError("zq"))),
        *("start", "RuntimeError", "idle"),
    ),
    "an engine with a silent cluster": (
        _engine(lambda engine: engine.silent.add(2)),
        *("start", "cluster 2 started, and does not answer", "idle"),
    ),
    "an engine that never starts": (
        _engine(lambda engine: engine.hold.update(start=asyncio.Event())),
        *("start", "HETLM_ROLLOUT_SECONDS", "idle"),
    ),
    "an engine that answers nothing": (
        _engine(lambda engine: engine.errors.update(generate=EngineError("no token"))),
        *("warm", "no token", "idle"),
    ),
    "an engine that dies": (
        _engine(lambda engine: engine.errors.update(generate=EngineDown("gone"))),
        *("warm", "", "idle"),
    ),
    "an engine that answers never": (
        _engine(lambda engine: engine.hold.update(generate=asyncio.Event())),
        *("warm", "HETLM_ROLLOUT_SECONDS", "idle"),
    ),
    "a folder that cannot be written": (_cannot_be_remembered, "remember", "activated.json", "idle"),
}


@pytest.mark.parametrize("what", HARM)
def test_a_failure_changes_nothing(folder: Path, known: Known, what: str) -> None:
    """Neither where v2 is to take over, nor where it is to be the canary."""
    harm, step, words, state = HARM[what]

    async def scenario() -> None:
        version = version_of(folder, "v2")
        async with moving(folder, rollout_seconds=1.0) as made:
            await made.predict(BODIES[0])
            tasks, running, factory = await settled(), threads(), made.factory
            harm(folder, factory)
            for ask in (made.activate("v2", 500), made.canary("v2", 0.5, 500)):
                problem = await ask
                assert problem["type"] == "urn:hetlm:problem:rollout-failed"
                assert f"the step {step} failed" in problem["detail"]
                assert words in problem["detail"]
                assert "v1 is served" in problem["detail"]
                assert "zq" not in json.dumps(problem)
                assert factory.running == ["v1"]
                assert [engine.stops for engine in factory.made[1:]] == [1] * len(factory.made[1:])
                for user in range(20):
                    answer = await made.predict({**BODIES[0], "user_id": f"u{user}"})
                    assert {**same(answer), "user_id": None} == known["v1"][0], "nobody is the canary's"
                assert not any(version in labels for labels in await made.metrics())
                assert (await made.states())["v2"] == state
                assert words in await made.reason("v2") or step == "find"
                assert (await made.listing())["under_way"] is None
                assert await settled() == tasks
                assert threads_left(running) == running
            assert [same(await made.predict(body)) for body in BODIES] == known["v1"]
            assert (await made.metrics())["hetlm_rollouts_total", "failed"] == 2
            failed = next(line for line in made.events() if line["event"] == "rollout_failed")
            assert (failed["name"], failed["step"]) == ("v2", step)
            if step not in ("remember", "fit"):
                factory.prepare, factory.encoder = lambda _: None, lambda _: TinyEncoder()
                assert (await made.activate("v3"))["changed"], "the next one may work"

    asyncio.run(scenario())
    assert threads_left() == []


@pytest.mark.parametrize(
    ("harm", "step", "words"),
    [
        (_foreign_encoder, "fit", "trained with another encoder"),
        (_slow_encoder, "fit", "HETLM_ROLLOUT_SECONDS"),
        (_deaf_encoder, "warm", "RuntimeError"),
    ],
)
def test_an_encoder_that_cannot_be_used(folder: Path, known: Known, harm: Harm, step: str, words: str) -> None:
    """That of v2 is not v1's, which is loaded already."""
    foreign(folder / "v2")

    async def scenario() -> None:
        async with moving(folder, rollout_seconds=1.0) as made:
            await made.predict(BODIES[0])
            tasks, running = await settled(), threads()
            harm(folder, made.factory)
            problem = await made.activate("v2", 500)
            assert f"the step {step} failed" in problem["detail"]
            assert words in problem["detail"]
            assert [same(await made.predict(body)) for body in BODIES] == known["v1"]
            assert made.factory.running == ["v1"]
            assert await settled() == tasks
            assert threads_left(running) == running

    asyncio.run(scenario())


def test_the_old_engines_do_not_stop(folder: Path, known: Known) -> None:
    """The new version serves all the same, and the next rollout is possible."""

    async def scenario() -> None:
        async with moving(folder) as made:
            made.factory.of("v1").errors["stop"] = RuntimeError("zq")
            assert (await made.activate("v2"))["changed"]
            assert [same(await made.predict(body)) for body in BODIES] == known["v2"]
            assert "bundle_not_stopped" in [line["event"] for line in made.events()]
            assert await made.bundles_measured() == {"v2"}
            assert (await made.activate("v1"))["changed"]

    asyncio.run(scenario())


def test_a_bundle_that_was_mended_is_taken(folder: Path) -> None:
    async def scenario() -> None:
        path = folder / "v2" / "prior.json"
        whole = path.read_text()
        async with moving(folder) as made:
            path.write_text(whole + " ")
            await made.activate("v2", 500)
            assert (await made.states())["v2"] == "broken"
            path.write_text(whole)
            assert (await made.activate("v2"))["changed"]
            assert await made.states() == {"v1": "idle", "v2": "serving", "v3": "idle"}

    asyncio.run(scenario())


def test_what_is_served_goes_on_without_its_files(folder: Path, known: Known) -> None:
    async def scenario() -> None:
        async with moving(folder) as made:
            for path in sorted((folder / "v1").rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
            (folder / "v1").rmdir()
            assert [same(await made.predict(body)) for body in BODIES] == known["v1"]
            assert (await made.states())["v1"] == "serving"
            assert "gone from the folder" in await made.reason("v1")
            assert (await made.activate("v2"))["changed"]
            assert await made.states() == {"v2": "serving", "v3": "idle"}

    asyncio.run(scenario())


def test_an_engine_that_fails_later_is_seen(folder: Path) -> None:
    async def scenario() -> None:
        async with moving(folder) as made:
            made.factory.of("v1").silent.add(1)
            await made.until(lambda: made.service.health.down == [1])
            assert (await made.states())["v1"] == "serving"
            assert "cluster 1 does not answer" in await made.reason("v1")

    asyncio.run(scenario())


def test_a_supervised_engine_whose_start_is_given_up(folder: Path) -> None:
    """It may hold a thread by then."""

    async def scenario() -> None:
        async with moving(folder, rollout_seconds=0.5) as made:
            own: list[Fake] = []

            def engine(bundle: Bundle) -> SupervisedEngine:
                own.append(Fake(bundle))
                own[0].hold["start"] = asyncio.Event()
                return SupervisedEngine(lambda: own[0])

            made.factory.engine = engine
            assert "the step start failed" in (await made.activate("v2", 500))["detail"]
            assert (own[0].started, own[0].stops) == (False, 1)

    asyncio.run(scenario())


def test_nothing_of_a_failed_bundle_is_kept(folder: Path) -> None:
    async def scenario() -> None:
        async with moving(folder) as made:
            selectors: list[weakref.ref[object]] = []

            def engine(bundle: Bundle) -> Fake:
                selectors.append(weakref.ref(bundle.selector))
                raise ValueError("no such device")

            made.factory.engine = engine
            assert "no such device" in (await made.activate("v2", 500))["detail"]
            assert "no such device" in await made.reason("v2")
            await asyncio.sleep(0)
            gc.collect()
            assert [selector() for selector in selectors] == [None]

    asyncio.run(scenario())
