"""Edits while a question is under way, or after its answer: no answer is shown as one to another question."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from browsing.engine import GenerateRequest
from browsing.engine import Path as Sampled

if TYPE_CHECKING:
    from tests.service.console.browser import Browser, Live

pytestmark = pytest.mark.system

ENTER = "\ue007"
LAST_FIELD = ".visits > li:last-child input[role=combobox]"


class Gate:
    """In front of a live service's engine: answers wait while it is closed. `inside`: how many do."""

    def __init__(self, service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.open.set()
        self.inside = 0
        self._generate = service.engine.generate
        monkeypatch.setattr(service.engine, "generate", self.generate)

    async def generate(self, request: GenerateRequest) -> list[Sampled]:
        self.inside += len(request.prompt) > 1  # a visitor's, not a health check
        try:
            if len(request.prompt) > 1:
                await self._opened()
            return await self._generate(request)
        finally:
            self.inside -= len(request.prompt) > 1

    async def _opened(self) -> None:
        while not self.open.is_set():  # noqa: ASYNC110 -- it is opened in another thread
            await asyncio.sleep(0.01)


@pytest.fixture
def gate(service: Live, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(service, monkeypatch)
    yield made
    made.open.set()


def ask_and_wait_at(gate: Gate, browser: Browser) -> None:
    """A question is under way, and its answer is not there."""
    from tests.service.console.browser import until

    gate.open.clear()
    browser.one("#predict").click()
    until(lambda: gate.inside > 0)
    assert browser.see("#answer[aria-busy=true] #said", "Predicting")


def test_an_edit_withdraws_the_question_under_way(browser: Browser, gate: Gate) -> None:
    from tests.service.console.browser import until

    ask_and_wait_at(gate, browser)
    assert not browser.one("#predict").is_enabled()
    browser.one(LAST_FIELD).send_keys("/unheard-of" + ENTER)
    browser.see("#said", "The visits changed before there was an answer")
    assert browser.one("#answer").get_attribute("aria-busy") == "false"
    until(lambda: gate.inside == 0)  # the service has given up what nobody waits for
    browser.look("withdrawn")
    gate.open.set()
    browser.predict()
    assert browser.texts(".notes code") == ["/unheard-of"], "the answer is about the visits as they are"
    browser.errors.clear()


def test_an_answer_that_comes_too_late_is_not_shown(browser: Browser, gate: Gate) -> None:
    """Even where it cannot be stopped any more."""
    from tests.service.console.browser import until

    browser.run(
        "const real = window.fetch; window.arrived = 0;"
        "window.fetch = (path, options) => real(path, path === 'predict' ? { ...options, signal: undefined } : options)"
        ".then(async (answer) => {"
        "  await answer.clone().text(); window.arrived += path === 'predict'; return answer;"
        "});"
    )
    ask_and_wait_at(gate, browser)
    browser.one(LAST_FIELD).send_keys("/unheard-of" + ENTER)
    gate.open.set()
    until(lambda: browser.run("return window.arrived") == 1)
    browser.wait_a_turn()
    assert browser.all(".bars li") == []
    assert "The visits changed before there was an answer" in browser.one("#said").text
    browser.predict()
    assert browser.texts(".notes code") == ["/unheard-of"]
    ask_and_wait_at(gate, browser)
    first = browser.texts(".visits > li:first-child .chips button")
    browser.one(".visits > li:first-child .chips button").click()
    browser.one("#predict").click()  # the second overtakes the first
    gate.open.set()
    until(lambda: browser.run("return window.arrived") == 4)
    browser.wait_a_turn()
    assert browser.all("#answer.older") == []
    assert browser.texts(".visits > li:first-child .chips button") != first or len(first) == 1
    assert browser.one("#said").text.startswith("If this visitor returns: ")


def test_an_answer_about_an_older_history_says_so(browser: Browser, gate: Gate) -> None:
    browser.predict()
    assert browser.all("#answer.older") == []
    browser.one(LAST_FIELD).send_keys("/unheard-of" + ENTER)
    assert "The visits or options have changed" in browser.see("#answer.older #said").text
    assert browser.see("#stale")
    assert browser.one("#example").get_attribute("value") == "", "it is the example no more, and can be chosen again"
    assert not any(button.is_enabled() for button in browser.all("#further button"))
    browser.look("older")
    ask_and_wait_at(gate, browser)
    assert "it is about the visits before the change" in browser.see("#answer.older #said").text
    assert browser.texts(".notes code") == [], "the old answer is still there"
    browser.look("older-asking")
    gate.open.set()
    browser.see("#said", "If this visitor returns")
    assert browser.all("#answer.older") == []
    assert not browser.one("#stale").is_displayed()
    assert browser.texts(".notes code") == ["/unheard-of"]
    assert browser.one("#append-predicted").is_enabled()
    browser.run("const s = document.querySelector('#samples'); s.value = '64'; s.dispatchEvent(new Event('change'))")
    assert browser.see("#answer.older #said", "have changed")
    predict_again(browser)
    gate.open.clear()
    browser.one("#append-predicted").click()
    assert browser.see("#answer.older #said", "it is about the visits before the change"), (
        "the added visit is not in it"
    )
    gate.open.set()
    browser.see(".compared")
    assert browser.all("#answer.older") == []


def predict_again(browser: Browser) -> None:
    browser.one("#predict").click()
    browser.see("#answer:not(.older) #said", "If this visitor returns")


def test_what_is_being_typed_stays_when_an_answer_comes(browser: Browser, gate: Gate) -> None:
    browser.one(LAST_FIELD).send_keys("/unheard-of" + ENTER)
    ask_and_wait_at(gate, browser)
    field = browser.one(LAST_FIELD)
    field.send_keys("/ba")
    gate.open.set()
    browser.see(".bars li")
    assert browser.texts(".visits code.unknown") == ["/unheard-of"]
    assert field.get_attribute("value") == "/ba"
    assert browser.driver.switch_to.active_element == field


def test_another_bundles_answer_is_not_shown_with_this_ones_profile(browser: Browser) -> None:
    browser.run(
        "const real = window.fetch;"
        "window.fetch = async (path, options) => {"
        "  const answer = await real(path, options);"
        "  if (path !== 'predict') return answer;"
        "  return Response.json({ ...await answer.json(), bundle_version: 'f'.repeat(64) });"
        "};"
    )
    browser.predict()
    assert "Another version of the model answered" in browser.one(".notes").text
    assert browser.all("[aria-label='kind of visitor'] dl") == []
    assert browser.see("[aria-label='kind of visitor'] strong").text
