"""Take the README's pictures of a service and a report. Its own are of the bundle of docs/results/simulated.md:

    hetlm report mixture habits-mixture-seed0.json habits-shared-seed0.json habits-lightgbm-seed0.json --out report.html
    hetlm serve mixture &
    python -m tests.docs.pictures http://127.0.0.1:8080 report.html

Needs Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from tests.docs.blocks import ROOT
from tests.service.console.browser import Browser, chromium

PICTURES = ROOT / "docs" / "pictures"
WIDTH, HEIGHT = 1240, 1100
COLOURS = 256
LARGEST = 200_000
"""Bytes of a picture: the README is looked at on the way to something else."""


def take(url: str, report: Path, folder: Path) -> list[Path]:
    """`console.png`: the answer about the first example visitor. `report.png`: from its second section on."""
    folder.mkdir(parents=True, exist_ok=True)
    with chromium(folder) as browser:
        browser.open(f"{url}/")
        browser.see("#predict")
        browser.predict()
        browser.wait_a_turn()
        console = _shoot(browser, folder / "console.png", "0")
        browser.open(report.resolve().as_uri())
        browser.see("main section")
        second = "document.querySelectorAll('main section')[1].getBoundingClientRect().top + scrollY"
        return [console, _shoot(browser, folder / "report.png", second)]


def _shoot(browser: Browser, file: Path, top: str) -> Path:
    """`top`: what is at the picture's upper edge, in JavaScript."""
    browser.size(WIDTH, HEIGHT)
    browser.run("document.documentElement.style.scrollbarWidth = 'none'; document.activeElement.blur()")
    browser.run(f"scrollTo(0, {top})")
    browser.wait_a_turn()
    assert browser.driver.save_screenshot(str(file))
    with Image.open(file) as picture:
        fewer = picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    fewer.save(file, optimize=True)
    return file


if __name__ == "__main__":
    for taken in take(sys.argv[1].rstrip("/"), Path(sys.argv[2]), PICTURES):
        print(f"{taken}: {taken.stat().st_size:,} bytes")
