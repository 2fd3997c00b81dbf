"""The entry point of the engine's image: vLLM's server, its key from a file, and an end to one that answers no more. Of
the standard library alone.

    python serve.py ARGUMENTS-OF-VLLM...

The file named by VLLM_API_KEY_FILE holds the key. It reaches vLLM as VLLM_API_KEY: a command line is there for every
user of the machine to read.

A vLLM whose engine has died may go on listening, and a container engine restarts what ends, not what is ill. So this
process asks for a real token now and then, and ends vLLM, and with it the container, when none comes any more.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

MODULE = "vllm.entrypoints.openai.api_server"
PAUSE = 15.0
"""Seconds between two questions."""
PATIENCE = 4
"""Questions in a row without a token, after one that had one."""
GRACE = 15.0
"""Seconds between asking vLLM to end and killing it."""


def environment(given: dict[str, str]) -> dict[str, str]:
    """`given` with the key in it. Raises `SystemExit` where the file cannot be read, or is empty."""
    variables = dict(given)
    path = variables.pop("VLLM_API_KEY_FILE", "")
    if not path:
        return variables
    try:
        with open(path, encoding="utf-8") as file:
            key = file.read().strip()
    except OSError as error:
        raise SystemExit(f"VLLM_API_KEY_FILE: {path}: {error.strerror}") from None
    if not key:
        raise SystemExit(f"VLLM_API_KEY_FILE: {path} is empty")
    return {**variables, "VLLM_API_KEY": key}


def address(arguments: Sequence[str]) -> str:
    """Where vLLM answers, seen from here."""
    given = dict(itertools.pairwise(arguments))
    host = given.get("--host", "127.0.0.1")
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{given.get('--port', '8000')}"


def watch(child: subprocess.Popen[bytes], well: Callable[[], bool], pause: float = PAUSE) -> int:
    """Returns the child's exit code when it has ended, by itself or because it had answered and does not any more."""
    ever, failures = False, 0
    while failures < PATIENCE:
        try:
            return child.wait(pause)
        except subprocess.TimeoutExpired:
            pass
        if well():
            ever, failures = True, 0
        elif ever:
            failures += 1
    print("no token any more: ending vLLM", file=sys.stderr, flush=True)
    child.terminate()
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
    return child.wait() or 1


def answers(url: str) -> bool:
    """What the image's health check says."""
    probe = os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe.py")
    return subprocess.run([sys.executable, probe, url], stderr=subprocess.DEVNULL).returncode == 0


def main(arguments: list[str]) -> int:
    """Returns vLLM's exit code, 1 where it had to be ended."""
    own = environment(dict(os.environ))
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: object) -> None:
        for child in children:
            child.send_signal(number)
        if not children:
            sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    children.append(subprocess.Popen([sys.executable, "-m", MODULE, *arguments], env=own))
    url = address(arguments)
    return abs(watch(children[0], lambda: answers(url)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
