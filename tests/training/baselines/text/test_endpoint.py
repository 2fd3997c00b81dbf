"""The client: what it sends, when it asks again, when it gives up, and what it never says."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from tests.training.baselines.text.fake import URL, Clock, Fake, completion, error
from training.baselines.text.endpoint import LONGEST_WAIT, Chat, Endpoint, EndpointError, RefusedError, Reply

PROMPT = "[BOS] /account/secret-page [EOS]"


def ask(fake: Fake, clock: Clock | None = None, endpoint: Endpoint | None = None, times: int = 1) -> list[Reply]:
    clock = clock or Clock()

    async def run() -> list[Reply]:
        async with Chat(
            endpoint or Endpoint(URL, "small"), transport=fake.transport, sleep=clock.sleep, clock=clock
        ) as chat:
            return list(await asyncio.gather(*(chat.ask(PROMPT) for _ in range(times))))

    return asyncio.run(run())


def test_a_prompt_is_one_chat_completion() -> None:
    fake = Fake(completion("hello"))
    endpoint = Endpoint(URL + "/", "small", key="sk-secret", max_tokens=9, seed=3)
    assert ask(fake, endpoint=endpoint) == [Reply("hello", True, 100, 7)]
    request = fake.requests[0]
    assert str(request.url) == URL + "/chat/completions"
    assert request.headers["authorization"] == "Bearer sk-secret"
    assert json.loads(request.content) == {
        "model": "small",
        "messages": [{"role": "user", "content": PROMPT}],
        "temperature": 0.0,
        "max_tokens": 9,
        "seed": 3,
    }


def test_without_a_key_none_is_sent() -> None:
    fake = Fake()
    ask(fake)
    assert "authorization" not in fake.requests[0].headers


def test_an_empty_answer_and_a_cut_one() -> None:
    assert ask(Fake(completion(None, finish="length", usage=False))) == [Reply("", False, 0, 0)]


@pytest.mark.parametrize(
    "move",
    [
        error(429),
        error(500),
        error(503),
        httpx.Response(200, content=b"<html>garbage"),
        httpx.Response(200, json={"choices": []}),
        httpx.ReadTimeout("slow"),
        httpx.ConnectError("refused"),
    ],
    ids=["429", "500", "503", "garbage", "no choice", "timeout", "refused connection"],
)
def test_what_may_pass_is_tried_again(move: httpx.Response | Exception) -> None:
    fake, clock = Fake(move, move, completion("at last")), Clock()
    assert ask(fake, clock)[0].text == "at last"
    assert clock.slept == [1.0, 2.0]


def test_retry_after_is_honoured_in_seconds_and_as_a_date() -> None:
    clock = Clock()
    ask(Fake(error(429, headers={"retry-after": "17"})), clock)
    assert clock.slept == [17.0]
    until, clock = datetime.now(UTC) + timedelta(seconds=50), Clock()
    ask(Fake(error(503, headers={"retry-after": format_datetime(until, usegmt=True)})), clock)
    assert 45 < clock.slept[0] <= 50
    clock = Clock()
    ask(Fake(error(503, headers={"retry-after": "soon"})), clock)
    assert clock.slept == [1.0]


def test_all_prompts_wait_when_one_is_told_to() -> None:
    clock = Clock()
    fake = Fake(error(429, headers={"retry-after": "30"}))
    ask(fake, clock, Endpoint(URL, "small", concurrency=1), times=3)
    assert len(fake.requests) == 4
    assert clock.slept == [30.0]


def test_an_endless_wait_ends_the_run() -> None:
    with pytest.raises(EndpointError, match=r"left alone for 3,600 s.*run the same command again"):
        ask(Fake(error(429, headers={"retry-after": "3600"})))
    assert LONGEST_WAIT < 3600


def test_after_the_last_try_it_says_why() -> None:
    fake = Fake(*[httpx.ReadTimeout("slow")] * 3)
    with pytest.raises(EndpointError, match=r"no answer within 5 s, 3 times over; the answers so far are kept"):
        ask(fake, endpoint=Endpoint(URL, "small", attempts=3, timeout=5))
    assert len(fake.requests) == 3


@pytest.mark.parametrize(("status", "remedy"), [(401, "key"), (403, "key"), (404, "URL"), (302, "HTTP 302")])
def test_what_will_not_pass_ends_the_run_at_once(status: int, remedy: str) -> None:
    fake = Fake(error(status))
    with pytest.raises(EndpointError, match=remedy) as caught:
        ask(fake)
    assert not isinstance(caught.value, RefusedError)
    assert len(fake.requests) == 1


def test_a_refused_prompt_is_its_own_error() -> None:
    with pytest.raises(RefusedError, match=r"HTTP 400 \(invalid_request_error, context_length_exceeded\)"):
        ask(Fake(error(400, f"too long: {PROMPT}", type="invalid_request_error", code="context_length_exceeded")))


def test_no_error_repeats_the_prompt_or_the_key() -> None:
    for status in (400, 401, 404, 418, 500):
        fake = Fake(*[error(status, f"you sent {PROMPT}", type=PROMPT, code=status)] * 2)
        with pytest.raises(EndpointError) as caught:
            ask(fake, endpoint=Endpoint(URL, "small", key="sk-secret", attempts=2))
        assert "secret" not in str(caught.value)
        assert f"HTTP {status}" in str(caught.value)
    assert "secret" not in repr(Endpoint(URL, "small", key="sk-secret"))


def test_so_many_at_once_and_no_more() -> None:
    running, most = 0, 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return completion("x")

    async def run() -> None:
        endpoint = Endpoint(URL, "small", concurrency=3)
        async with Chat(endpoint, transport=httpx.MockTransport(answer)) as chat:
            await asyncio.gather(*(chat.ask(PROMPT) for _ in range(12)))

    asyncio.run(run())
    assert most == 3


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1/v1", True),
        ("http://127.8.9.1/v1", True),
        ("http://[::1]:80/v1", True),
        ("https://localhost.example/v1", False),
        ("http://10.0.0.5:8000/v1", False),
        ("http://0.0.0.0:8000/v1", False),
        ("https://llm.example/v1", False),
    ],
)
def test_what_stays_on_this_machine(url: str, loopback: bool) -> None:
    assert Endpoint(url, "small").loopback is loopback


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x/v1", "", "https:///v1", "http://me:pass@x/v1", "http://x/v1?key=1"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Endpoint(url, "small")


def test_a_proxy_is_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")

    async def proxies(url: str) -> int:
        async with Chat(Endpoint(url, "small")) as chat:
            return len(chat._client._mounts)

    assert asyncio.run(proxies(URL)) == 0
    assert asyncio.run(proxies("http://llm.example/v1")) > 0


def test_a_digest_tells_apart_all_that_an_answer_depends_on() -> None:
    endpoints = [Endpoint(URL, "a"), Endpoint(URL, "b"), Endpoint(URL, "a", temperature=1), Endpoint(URL, "a", seed=1)]
    endpoints += [Endpoint(URL, "a", max_tokens=9), Endpoint("http://localhost/v1", "a")]
    digests = {own.digest(text) for own in endpoints for text in ("x", "y")}
    assert len(digests) == 2 * len(endpoints)
    assert Endpoint(URL + "/", "a", key="k", timeout=1).digest("x") == Endpoint(URL, "a").digest("x")
