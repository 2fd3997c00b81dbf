from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.configuration import table
from service.settings import Settings, variable

ROOT = Path(__file__).parents[2]


def test_the_documentation_is_the_table() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == table(), (
        "run `python -m service.settings > docs/configuration.md`"
    )


def test_the_module_prints_the_table() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "service.settings"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert printed.stdout == table()


def test_every_setting_is_in_the_table_and_described() -> None:
    for name, field in Settings.model_fields.items():
        assert f"| `{variable(name)}` |" in table()
        assert field.description


def test_settings_come_from_the_environment_and_arguments_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HETLM_PORT", "9000")
    monkeypatch.setenv("HETLM_ENGINE", "vllm-server")
    monkeypatch.setenv("HETLM_ENGINE_URLS", "http://a:1, http://b:2,")
    assert Settings().port == 9000
    assert Settings(port=7).port == 7
    assert Settings().engine_urls == ("http://a:1", "http://b:2")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"HETLM_PORT": "70000"}, "less than or equal to 65535"),
        ({"HETLM_ENCODER": "onnx"}, "'torch', 'int8' or 'auto'"),
        ({"HETLM_ENGINE": "onnx"}, "'local', 'vllm', 'vllm-stacked' or 'vllm-server'"),
        ({"HETLM_ENGINE": "vllm-server"}, "HETLM_ENGINE_URLS"),
        ({"HETLM_ENGINE_URLS": "http://a:1"}, "for the engine vllm-server"),
        ({"HETLM_ENGINE": "vllm-server", "HETLM_ENGINE_URLS": "a:1"}, "begins with http"),
        ({"HETLM_REDIS_URL": "redis://zq-secret@a"}, "HETLM_CACHE_SECRET"),
        ({"HETLM_REDIS_URL": "http://zq-secret@a"}, "redis://"),
        ({"HETLM_CACHE_SECRET": "zq-secret"}, "at least 16 characters"),
    ],
)
def test_a_wrong_setting_is_named_and_no_secret_shown(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert words in str(caught.value)
    assert "zq-secret" not in str(caught.value)


def test_secrets_are_not_printed() -> None:
    settings = Settings.model_validate({"redis_url": "redis://:zq-secret@a:1", "cache_secret": "zq-secret-zq-secret"})
    assert "zq-secret" not in repr(settings) + str(settings)
