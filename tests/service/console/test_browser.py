"""The console in a real browser, over a live service. `CONSOLE_SCREENSHOTS` names a folder for the screenshots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browsing.bundle import Bundle
from browsing.engine import EngineError, GenerateRequest
from browsing.engine import Path as Sampled
from service.settings import Settings
from tests.service.console.shops import IMAGE, REPORT, SCRIPT
from tests.service.security.keyed import keys

if TYPE_CHECKING:
    from tests.service.console.browser import Browser, Live

pytestmark = pytest.mark.system

ENTER, DOWN, ESCAPE = "\ue007", "\ue015", "\ue00c"
LAST_FIELD = ".visits > li:last-child input[role=combobox]"


def test_from_a_page_name_to_an_answer_and_on_to_the_next_visit(browser: Browser) -> None:
    browser.see("#served", "ready")
    browser.look("empty")
    field = browser.one(LAST_FIELD)
    field.send_keys("clu")
    browser.see("[role=option]", "/bags/clutch")
    browser.look("completion")
    field.send_keys(DOWN)
    chosen = browser.see("[role=option][aria-selected=true]")
    assert field.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    field.send_keys(ENTER)
    assert browser.texts(".visits > li:last-child .chips code")[-1] == "/bags/clutch"
    field.send_keys("/unheard-of" + ENTER)

    browser.predict()
    assert browser.one("#said").text.startswith("If this visitor returns: ")
    for panel in ("predicted journey", "outcomes", "kind of visitor", "page probabilities", "timings"):
        assert browser.see(f"[aria-label='{panel}']")
    assert "if this visitor returns" in browser.one("[aria-label=outcomes]").text
    assert "Returns at all within 7 days" in browser.one("[aria-label=outcomes]").text
    assert len(browser.all(".outcome-row .band")) == 2
    assert "seen before" in browser.one(".bars").text
    assert "1 page is not known to the model" in browser.one(".notes").text
    assert browser.texts(".notes code") == ["/unheard-of"]
    assert browser.texts(".visits code.unknown") == ["/unheard-of"]
    assert not {"/cart", "/purchase"} & set(browser.texts(".bars code")), "they stand among the outcomes"
    journey = browser.texts("[aria-label='predicted journey'] code")
    browser.look("answer")

    visits = len(browser.all(".visits > li"))
    browser.see("#append-predicted").click()
    browser.see(".compared h3", "After one more visit")
    assert len(browser.all(".visits > li")) == visits + 1
    assert browser.texts(".between code") == journey == browser.texts(".visits > li.added .chips code")
    assert browser.texts(".side h4") == ["Before", "After"]
    assert len(browser.all(".changes li")) == 4, "the kind, two outcomes and the journey"
    assert browser.texts(".figures thead th") == ["Before", "After", "Change"]
    browser.look("compared")

    browser.see("#type-visit").click()
    typed = browser.see(".typed input[role=combobox]")
    typed.send_keys("/sale" + ENTER, "/shoes" + ENTER)
    browser.see("#append-typed").click()
    browser.see(".between", "/sale")
    assert browser.texts(".between code") == ["/sale", "/shoes"]
    assert len(browser.all(".visits > li.added")) == 2


def test_a_page_named_like_a_script_is_a_name(browser: Browser) -> None:
    assert SCRIPT in browser.texts("#about code")
    assert "<b>bag</b> comparers" in browser.texts("#about strong")
    browser.one(LAST_FIELD).send_keys("<")
    browser.see("[role=option]", SCRIPT)
    browser.look("markup")
    browser.one(LAST_FIELD).send_keys(DOWN, ENTER)
    browser.one(LAST_FIELD).send_keys(IMAGE + ENTER, "<b>unknown</b>" + ENTER)
    browser.run("document.querySelector('#samples').value = '64'")
    browser.predict()
    assert {SCRIPT, IMAGE} <= set(browser.texts("code.page"))
    assert browser.texts(".notes code") == ["<b>unknown</b>"]
    browser.see("#append-predicted").click()
    browser.see(".compared")
    assert browser.driver.title == "Next session: console"
    assert browser.all("img, main script, main b b") == []
    assert browser.run("return document.scripts.length") == 1


def test_nothing_inline_would_run_even_if_it_got_in(browser: Browser) -> None:
    browser.run(
        "const note = (event) => { document.body.dataset.blocked = event.blockedURI; };"
        "document.addEventListener('securitypolicyviolation', note);"
        "document.querySelector('#said').innerHTML = '<img src=data:, onerror=\"document.title=1\">';"
    )
    browser.see("body[data-blocked=inline]")
    assert browser.driver.title == "Next session: console"
    browser.account()
    assert any("Content Security Policy" in error for error in browser.errors)
    browser.errors.clear()


def test_a_history_is_pasted_edited_and_emptied(browser: Browser) -> None:
    browser.see("#paste summary").click()
    box, take = browser.see("#pasted"), browser.see("#take-pasted")
    for text, words in (
        ("", "nothing to read"),
        ('{"sessions": [', "cannot be read as JSON"),
        ('{"events": []}', "raw events"),
        ("[[]]", "no pages"),
        ("2026-01-01T00:00:00Z /a\n/b", "give all of them one, or none"),
        ("x" * 501, "1 to 500 characters"),
    ):
        box.clear()
        box.send_keys(text)
        take.click()
        browser.see("#paste-said", words)
    box.clear()
    browser.run(
        "document.querySelector('#pasted').value = '2026-10-02T08:00:00Z / /bags → /cart\\n2026-10-01T08:00:00Z /shoes'"
    )
    take.click()
    browser.see(".visits > li:nth-child(2)", "/cart")
    assert browser.texts(".visits > li:first-child code") == ["/shoes"], "the oldest first"
    browser.predict()
    browser.one(".visits > li:first-child .chips button").click()
    assert browser.see("#stale")
    assert not browser.one("#append-predicted").is_enabled()
    while browser.all(".visits > li"):
        browser.one(".visits > li:last-child .visit-head button").click()
    browser.see("#history", "No visits yet")
    browser.one("#predict").click()
    browser.see(".notes", "no earlier visits to go by")
    assert "not calibrated" in browser.one("[aria-label=outcomes]").text
    browser.look("new-visitor")


def test_the_keyboard_is_enough(browser: Browser) -> None:
    field = browser.one(LAST_FIELD)
    field.send_keys("/b")
    browser.see("[role=option]", "/bags")
    field.send_keys(ESCAPE)
    assert field.get_attribute("aria-expanded") == "false"
    field.send_keys("ags", ENTER)
    assert browser.texts(".visits > li:last-child .chips code")[-1] == "/bags"
    assert browser.driver.switch_to.active_element == browser.one(LAST_FIELD), "and the next page can be typed"
    assert browser.one("#said").get_attribute("aria-live") == "polite"
    browser.one("#predict").send_keys(ENTER)
    browser.see("#said", "If this visitor returns")
    nameless = (
        "return [...document.querySelectorAll('button, input, select, textarea')].filter((e) => "
        "!(e.textContent.trim() || e.labels?.length || e.getAttribute('aria-label'))).map((e) => e.outerHTML)"
    )
    assert browser.run(nameless) == []


def test_a_problem_is_told_in_words(browser: Browser) -> None:
    time = "document.querySelector('.visits input[type=datetime-local]')"
    browser.run(f"{time}.value = '1990-01-01T00:00'; {time}.dispatchEvent(new Event('change'))")
    browser.one("#predict").click()
    alert = browser.see("#shown [role=alert]")
    assert "The request is not valid" in alert.text
    assert "visit 1, its time: must lie between the years 1995 and 2200" in alert.text
    assert alert.find_elements("css selector", "button") == [], "asking the same again would not help"
    browser.look("problem")
    browser.account()
    assert all("422" in error for error in browser.errors), "that the browser logs refused requests is its own way"
    browser.errors.clear()


def test_the_report_opens_and_is_styled(browser: Browser, service: Live) -> None:
    link = browser.one("#about a")
    assert link.get_attribute("href") == f"{service.address}/report"
    browser.driver.get(f"{service.address}/report")
    assert browser.see("#words").text == "The report of this bundle"
    assert browser.one("#words").value_of_css_property("color") == "rgba(255, 0, 0, 1)"


def test_with_keys_it_asks_for_one_and_forgets_it(chrome: Browser, shop: Bundle, tmp_path: Path) -> None:
    from tests.service.console.browser import live, until

    path = tmp_path / "keys.json"
    reader, batcher = keys(path, ("reader", ("predict",)), ("batcher", ("batch",)))
    with live(shop, Settings(api_keys_file=path)) as service:
        chrome.open(f"{service.address}/")
        chrome.see("#key-form", "An API key is needed")
        assert chrome.all("#key-form [role=alert]") == [], "nothing was wrong yet"
        chrome.look("key")
        for wrong, words in (("hetlm_wrong", "not valid here"), (batcher, "needs a key with the scope predict")):
            chrome.see("#key").send_keys(wrong + ENTER)
            chrome.see("#key-form [role=alert]", words)
        chrome.see("#key").send_keys(reader + ENTER)
        chrome.see("#predict")
        chrome.predict()
        chrome.one("#about summary").click()
        chrome.see("#about button", "Save the report").click()
        saved = chrome.screenshots / "report.html"
        until(lambda: saved.is_file() and saved.read_text() == REPORT)
        saved.unlink()
        assert chrome.run("return sessionStorage.length + localStorage.length + document.cookie.length") == 0
        assert reader not in chrome.driver.page_source
        chrome.driver.refresh()
        chrome.see("#key-form")
        chrome.account()
        assert all(" 401 " in error or " 403 " in error for error in chrome.errors)
        assert all(reader not in url for url in chrome.urls)


def test_a_service_that_is_gone_and_comes_back(chrome: Browser, shop: Bundle) -> None:
    from tests.service.console.browser import live

    with live(shop) as first:
        chrome.open(f"{first.address}/")
        chrome.see("#predict")
    chrome.one("#predict").click()
    chrome.see("#shown [role=alert]", "The service does not answer")
    chrome.see("#served", "does not answer")
    chrome.look("down")
    with live(shop, port=int(first.address.rpartition(":")[2])):
        chrome.see("#shown [role=alert] button", "Try again").click()
        chrome.see(".bars li")
        chrome.see("#served", "ready")
    chrome.account()
    assert all("net::ERR_" in error for error in chrome.errors)


def test_an_answer_of_the_fallback_model_says_so(
    chrome: Browser, shop: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.service.console.browser import live

    async def broken(request: GenerateRequest) -> list[Sampled]:
        raise EngineError("gone")

    with live(shop) as service:
        monkeypatch.setattr(service.engine, "generate", broken)
        chrome.open(f"{service.address}/")
        chrome.see("#predict")
        chrome.predict()
        assert "No language model answered in time" in chrome.one(".notes").text
        assert "Not calibrated: cart and purchase" in chrome.one(".notes").text
        assert "not calibrated" in chrome.one("[aria-label=outcomes]").text
        chrome.look("fallback")
    chrome.account()
    assert [error for error in chrome.errors if "503" not in error] == []
