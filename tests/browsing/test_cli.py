"""The command line itself."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "transformers", "lightgbm", "sklearn", "matplotlib", "ray", "vllm")


def test_no_command_waits_for_what_others_need() -> None:
    code = f"import sys; from browsing.cli import build; build(); print(sorted({set(HEAVY)} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
