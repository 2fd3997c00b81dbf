"""For those who use Locust (the extra `locust`):

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8080 --bundle bundle

Same visitors, same checks. But a user of Locust waits for the last answer before the next request: a closed loop, which
asks a stalled server nothing while it stalls (coordinated omission). Locust's requests per second are good; for
latencies take `python -m loadtest`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from locust import HttpUser, constant_throughput, events, task

from loadtest.answers import Ready
from loadtest.check import HONEST
from loadtest.turns import Turns, people


@events.init_command_line_parser.add_listener
def options(parser: Any) -> None:
    """Locust's own parser, an `argparse` one."""
    parser.add_argument("--bundle", type=Path, default=None, help="the bundle that is served: walks over its pages")
    parser.add_argument("--dataset", type=Path, default=None, help="a dataset, whose test histories are sent instead")
    parser.add_argument("--visitors", type=int, default=1_000, help="different visitors who come again and again")
    parser.add_argument("--visitor-seed", type=int, default=0, help="of the visitors")


class Visitors(HttpUser):
    """One caller of the service, for all visitors; a request a second. HETLM_API_KEY is its key."""

    wait_time = constant_throughput(1)

    def on_start(self) -> None:
        given = self.environment.parsed_options
        if key := os.environ.get("HETLM_API_KEY"):
            self.client.headers["Authorization"] = f"Bearer {key}"
        population, known = people(given.bundle, given.dataset, given.visitors, given.visitor_seed)
        ready = Ready.model_validate_json(self.client.get("/readyz").content)
        self.turns = Turns(population, known, ready.bundle_version)

    @task
    def predict(self) -> None:
        question, headers = self.turns.next()
        with self.client.post("/predict", data=question.body, headers=headers, catch_response=True) as response:
            if not response.status_code:
                response.failure(f"no answer ({type(response.error).__name__})")
                return
            verdict = self.turns.check(question, headers, response.status_code, response.headers, response.content)
            if verdict.kind in HONEST:
                response.request_meta["name"] = (
                    "/predict" if verdict.kind == "correct" else f"/predict {verdict.reason}"
                )
                response.success()
            else:
                response.failure(verdict.reason)
