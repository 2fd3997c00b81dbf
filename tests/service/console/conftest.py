"""A real Chromium on the console of a live service; where the tests run that ask for one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browsing.bundle import Bundle
from tests.service.console.shops import hostile

if TYPE_CHECKING:
    from tests.service.console.browser import Browser, Live


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return hostile(tmp_path_factory.mktemp("shop") / "b")


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    from tests.service.console.browser import chromium

    named = os.environ.get("CONSOLE_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    with chromium(folder.resolve()) as browser:
        yield browser


@pytest.fixture(scope="session")
def service(shop: Bundle) -> Iterator[Live]:
    from tests.service.console.browser import live

    with live(shop) as made:
        yield made


@pytest.fixture
def browser(chrome: Browser, service: Live) -> Iterator[Browser]:
    """On the console's page; in the end it has complained about nothing and asked nobody else."""
    chrome.open(f"{service.address}/")
    chrome.see("#predict")
    yield chrome
    chrome.account()
    assert chrome.errors == []
    assert {url.partition(":")[0] for url in chrome.urls} <= {"http", "data"}
    strangers = [url for url in chrome.urls if not url.startswith((f"{service.address}/", "data:"))]
    assert strangers == []
