"""A live service in a thread, and a real Chromium that keeps account of what it loads and complains about."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from browsing.bundle import Bundle
from browsing.engines.table import TableEngine
from service.app import build
from service.cache.memory import MemoryStore
from service.security.wire import BoundedHttp
from service.settings import Settings
from tests.service.building import tables
from tests.tiny import TinyEncoder

PATIENCE = 120.0
CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # a container's root has none
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--lang=en-US",
)


@dataclass
class Live:
    """A running service: its address, its engine, and a way to end it."""

    address: str
    engine: TableEngine
    server: uvicorn.Server
    thread: threading.Thread

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@contextmanager
def live(bundle: Bundle, settings: Settings | None = None, port: int = 0) -> Iterator[Live]:
    engine = TableEngine(tables(len(bundle.vocabulary), bundle.clusters))
    service = build(settings or Settings(), bundle, engine, TinyEncoder(), MemoryStore(), stream=io.StringIO())
    config = uvicorn.Config(service.app, http=BoundedHttp, ws="none", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as own:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [own]}, daemon=True)
        thread.start()
        made = Live(f"http://127.0.0.1:{own.getsockname()[1]}", engine, server, thread)
        try:
            until(lambda: server.started and service.health.ready)
            yield made
        finally:
            made.stop()


def until(met: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


@dataclass
class Browser:
    """`errors`: what the page's console said of errors; `urls`: every address that was asked for."""

    driver: webdriver.Chrome
    screenshots: Path
    errors: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    def open(self, address: str) -> None:
        self.account()
        self.errors.clear()
        self.urls.clear()
        self.size(1280)
        self.driver.get(address)

    def account(self) -> None:
        """Read what was logged since the last time."""
        self.errors += [str(e["message"]) for e in self._logged("browser") if e["level"] == "SEVERE"]
        for entry in self._logged("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.urls.append(message["params"]["request"]["url"])

    def _logged(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return entries

    def size(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def see(self, selector: str, text: str = "") -> WebElement:
        """Wait for an element that is shown and holds `text`."""

        def found(_: webdriver.Chrome) -> WebElement | None:
            return next((e for e in self.all(selector) if e.is_displayed() and text in e.text), None)

        # An element that is replaced while it is looked at was not the one.
        wait = WebDriverWait(self.driver, PATIENCE, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(lambda driver: found(driver) or False, f"{selector} with {text!r} is not shown")

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def wait_a_turn(self) -> None:
        """Until whatever the page was about to do with what has arrived is done."""
        self.driver.set_script_timeout(PATIENCE)
        self.driver.execute_async_script("setTimeout(() => requestAnimationFrame(arguments[0]), 100)")

    def predict(self) -> None:
        """Ask, and wait for the answer."""
        self.one("#predict").click()
        self.see(".bars li")

    def look(self, name: str) -> None:
        """Screenshots of the whole page, wide and narrow, light and dark; nothing may stick out sideways."""
        for width in (1280, 400):
            for dark in (False, True):
                self.size(width, dark=dark)
                wide = int(self.run("return document.documentElement.scrollWidth"))
                assert wide <= width, f"{name} is too wide"
                self.size(width, int(self.run("return document.documentElement.scrollHeight")), dark=dark)
                file = self.screenshots / f"{name}-{width}-{'dark' if dark else 'light'}.png"
                assert self.driver.save_screenshot(str(file))
        self.size(1280)


@contextmanager
def chromium(screenshots: Path) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(screenshots)})
    driver = webdriver.Chrome(options=options, service=Driver(DRIVER))
    try:
        driver.set_page_load_timeout(PATIENCE)
        yield Browser(driver, screenshots)
    finally:
        driver.quit()
