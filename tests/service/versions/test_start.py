"""Which version a service starts with, and what it remembers."""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from browsing.bundle import Bundle
from browsing.whole import LEFTOVER_SECONDS
from service.app import ConfigurationError, choose_canary, load
from service.settings import Settings
from service.versions.memory import FILE, Memory, Remembered
from service.versions.registry import Broken, Found, Registry, UnknownVersion
from service.versions.split import chosen
from tests.service.versions.building import (
    BODIES,
    ENDS,
    Factory,
    Fake,
    copied,
    moving,
    resealed,
    version_of,
)


@pytest.fixture
def fresh(template: Path, tmp_path: Path) -> Path:
    """Three versions, of which none was ever activated."""
    folder = copied(template, tmp_path / "fresh")
    (folder / "activated.json").unlink()
    return folder


def started_with(folder: Path, named: str | None = None) -> str:
    return load(Settings(bundles=folder, bundle_version=named)).root.name


def state(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "activated.json").read_text())
    return document


def test_the_one_that_is_named_else_the_last_one_else_the_newest(fresh: Path) -> None:
    assert started_with(fresh) == "v3"
    Memory(fresh).write(Remembered(name="v2", version=version_of(fresh, "v2")), None)
    assert started_with(fresh) == "v2"
    assert started_with(fresh, "v1") == "v1"
    assert started_with(fresh, version_of(fresh, "v1")) == "v1"
    assert started_with(fresh, version_of(fresh, "v1")[:12]) == "v1"


def test_the_newest_is_the_one_whose_log_ends_last_in_whatever_zone(fresh: Path) -> None:
    training = Bundle.load(fresh / "v1").manifest.training
    for end, newest in (("2026-04-01T01:00:00+02:00", "v3"), ("2026-03-31T23:30:00-01:00", "v1"), ("soon", "v3")):
        resealed(fresh / "v1", training.model_copy(update={"window_end": end}))
        assert Registry(fresh).newest().name == newest


def test_a_restart_comes_back_with_what_was_activated(fresh: Path) -> None:
    async def serve_and(activate: str | None, canary: float | None = None) -> str:
        async with moving(fresh) as made:
            await made.until((fresh / "activated.json").exists)
            if activate is not None:
                await made.activate(activate)
            if canary is not None:
                await made.canary("v3", canary)
            return (await made.predict(BODIES[0]))["bundle_version"]  # type: ignore[no-any-return]

    assert asyncio.run(serve_and("v1")) == version_of(fresh, "v1")
    assert state(fresh)["serving"] == {"name": "v1", "version": version_of(fresh, "v1")}
    assert asyncio.run(serve_and(None)) == version_of(fresh, "v1")
    assert asyncio.run(serve_and("v2", 0.25)) == version_of(fresh, "v2")
    assert state(fresh)["canary"] == {"name": "v3", "version": version_of(fresh, "v3"), "share": 0.25}
    assert not list(fresh.glob("*.partial"))

    async def with_its_canary() -> None:
        async with moving(fresh) as made:
            await made.until(lambda: made.service.router.canary is not None)
            assert await made.states() == {"v1": "idle", "v2": "serving", "v3": "canary"}
            for i in range(30):
                its = chosen(f"u{i}", version_of(fresh, "v3"), 0.25)
                answer = await made.predict({**BODIES[0], "user_id": f"u{i}"})
                assert answer["bundle_version"] == version_of(fresh, "v3" if its else "v2")
            await made.canary("v3", 0)
        assert state(fresh)["canary"] is None

    asyncio.run(with_its_canary())


def test_the_first_choice_is_remembered(fresh: Path, tmp_path: Path) -> None:
    """Else a newer folder that is only copied there would be served after the next crash."""

    async def scenario() -> None:
        (fresh / "v3").rename(tmp_path / "v3")
        async with moving(fresh) as made:
            await made.until((fresh / "activated.json").exists)
        (tmp_path / "v3").rename(fresh / "v3")
        assert started_with(fresh) == "v2"

    asyncio.run(scenario())


def test_naming_one_at_the_start_is_no_activation(folder: Path) -> None:
    async def scenario() -> None:
        before = state(folder)
        async with moving(folder, bundle_version="v2", canary="v3=0.5") as made:
            await made.until(lambda: made.service.router.canary is not None)
            assert await made.states() == {"v1": "idle", "v2": "serving", "v3": "canary"}
        assert state(folder) == before

    asyncio.run(scenario())


def test_a_folder_that_cannot_be_written_is_served_from(fresh: Path) -> None:
    async def scenario() -> None:
        def harm(_: Fake) -> None:
            (fresh / "activated.json").mkdir(exist_ok=True)

        async with moving(fresh, factory=Factory(prepare=harm), bundle_version="v1") as made:
            await made.until(lambda: any(line["event"] == "bundle_not_remembered" for line in made.events()))
            assert (await made.predict(BODIES[0]))["bundle_version"] == version_of(fresh, "v1")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "words"),
    [("v9", "HETLM_BUNDLE_VERSION"), ("../v1", "HETLM_BUNDLE_VERSION"), ("0" * 64, "HETLM_BUNDLE_VERSION")],
)
def test_one_that_is_not_there(folder: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        started_with(folder, name)


def test_what_was_activated_and_is_gone(folder: Path, tmp_path: Path) -> None:
    (folder / "v1").rename(folder / "v1-renamed")
    assert started_with(folder) == "v1-renamed", "its version tells it"
    (folder / "v1-renamed").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=r"activated\.json: bundle v1 .*--bundle-version"):
        started_with(folder)
    (folder / "v2").rename(folder / "v1")
    with pytest.raises(ConfigurationError, match="is another"):
        started_with(folder)
    assert started_with(folder, "v3") == "v3"


def test_a_file_that_nobody_wrote(folder: Path) -> None:
    (folder / "activated.json").write_text('{"serving": "zq')
    with pytest.raises(ConfigurationError, match=r"activated\.json: .* remove it") as caught:
        started_with(folder)
    assert "zq" not in str(caught.value)
    assert started_with(folder, "v2") == "v2"


def test_folders_without_any(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        started_with(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="holds no bundle"):
        started_with(tmp_path)
    (tmp_path / "v1").mkdir()
    with pytest.raises(ConfigurationError, match="holds no bundle"):
        started_with(tmp_path)


def test_canaries_at_the_start(folder: Path) -> None:
    first = version_of(folder, "v1")
    assert choose_canary(Settings(bundles=folder), first) is None
    assert choose_canary(Settings(bundles=folder, canary="v2=0.3"), first) == ("v2", 0.3)
    assert choose_canary(Settings(bundles=folder, canary="v1=0.3"), first) is None, "it has taken over"
    with pytest.raises(ConfigurationError, match="HETLM_CANARY"):
        choose_canary(Settings(bundles=folder, canary="v9=0.3"), first)
    assert choose_canary(Settings(bundle=folder / "v1"), first) is None


def test_a_canary_that_cannot_start_takes_nobody_along(folder: Path) -> None:
    async def scenario() -> None:
        path = folder / "v2" / "prior.json"
        path.write_text(path.read_text() + " ")
        async with moving(folder, canary="v2=0.5") as made:
            await made.until(lambda: any(line["event"] == "canary_failed" for line in made.events()))
            for i in range(10):
                answer = await made.predict({**BODIES[0], "user_id": f"u{i}"})
                assert answer["bundle_version"] == version_of(folder, "v1")
            assert (await made.states())["v2"] == "broken"

    asyncio.run(scenario())


def test_what_is_in_the_folder(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "two..dots").mkdir()
    (folder / ".hidden").mkdir()
    (folder / "file").write_text("")
    (folder / "link").symlink_to(folder / "v1")
    (folder / "v2" / "prior.json").unlink()
    entries = {entry.name: entry for entry in Registry(folder).entries()}
    assert list(entries) == sorted({*ENDS, "empty", "two..dots", "link"})
    reasons = {name: entry.reason for name, entry in entries.items() if isinstance(entry, Broken)}
    assert set(reasons) == {"empty", "two..dots", "link", "v2"}
    assert "has no manifest.json" in reasons["empty"]
    assert "letters, digits" in reasons["two..dots"]
    assert "links" in reasons["link"]
    assert "missing file prior.json" in reasons["v2"]
    found = entries["v1"]
    assert isinstance(found, Found)
    assert found.version == version_of(folder, "v1")


def test_a_version_is_found_by_enough_of_its_hash(folder: Path) -> None:
    registry, version = Registry(folder), version_of(folder, "v2")
    for wanted in ("v2", version, version[:12], version[:40]):
        assert registry.find(wanted).name == "v2"
    for wanted in (version[:11], version[:-1] + "z", "0" * 64):
        with pytest.raises(UnknownVersion):
            registry.find(wanted)
    copied(folder, folder / "again", ["v2"])
    (folder / "again" / "v2").rename(folder / "copy")
    assert registry.find(version).version == version, "a copy is the same version"


def test_replicas_that_write_at_the_same_time_leave_one_whole_file(folder: Path) -> None:
    """And what one of them left behind, killed while it wrote, is no version and goes with a later activation."""
    left = folder / f"{FILE}.0123456789abcdef.partial"
    left.write_text('{"serving": ')
    os.utime(left, (left.stat().st_mtime - 2 * LEFTOVER_SECONDS,) * 2)
    assert {entry.name for entry in Registry(folder).entries()} == set(ENDS)
    with pytest.raises(UnknownVersion):
        Registry(folder).find(left.name)
    replicas = [Memory(folder) for _ in range(4)]  # of one process, as two of the same number on two machines

    def activate(replica: Memory, name: str) -> None:
        for _ in range(25):
            replica.write(Remembered(name=name, version="0" * 64), None)
            found = replica.read()
            assert found is not None
            assert found.serving.name in "abcd"

    with ThreadPoolExecutor(len(replicas)) as threads:
        list(threads.map(activate, replicas, "abcd"))
    assert sorted(path.name for path in folder.iterdir()) == [FILE, *ENDS]
