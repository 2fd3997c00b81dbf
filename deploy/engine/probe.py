"""Whether a vLLM server answers a real token. Of the standard library alone.

    python probe.py http://127.0.0.1:8000

The key is in the file that VLLM_API_KEY_FILE names. Ends with code 0, or with 1 and the reason on standard error.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

BOS = 1
"""The id of `[BOS]`, which every vocabulary of pages has."""
SECONDS = 8.0


def ask(url: str, key: str | None, document: dict[str, Any] | None = None) -> dict[str, Any]:
    """GET, or POST of a document. Raises `OSError`, `ValueError`."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    body = json.dumps(document).encode() if document is not None else None
    request = urllib.request.Request(url, body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=SECONDS) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def probe(url: str, key: str | None) -> None:
    """Raises `OSError`, `ValueError` if there is no token."""
    try:
        model = ask(f"{url}/v1/models", key)["data"][0]["id"]
        answer = ask(
            f"{url}/v1/completions", key, {"model": model, "prompt": [BOS], "max_tokens": 1, "ignore_eos": True}
        )
        tokens = answer["usage"]["completion_tokens"]
    except (KeyError, IndexError, TypeError):
        raise ValueError("an answer without what was asked for") from None
    if tokens != 1:
        raise ValueError(f"{tokens} tokens instead of one")


def main(url: str) -> int:
    path = os.environ.get("VLLM_API_KEY_FILE")
    try:
        key = None
        if path:
            with open(path, encoding="utf-8") as file:
                key = file.read().strip()
        probe(url.rstrip("/"), key)
    except (OSError, ValueError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
