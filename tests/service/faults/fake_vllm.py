"""The small vLLM that the load test breaks too. Also a program: `python fake_vllm.py PORT NAME SIZE SEED`."""

from __future__ import annotations

import asyncio
import sys

from loadtest.soak.standin import FakeVllm, Fault, main, sample, table

__all__ = ["FakeVllm", "Fault", "sample", "table"]

if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
