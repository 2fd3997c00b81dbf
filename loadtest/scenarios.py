"""The scenarios, declared: what comes when, who comes, and what is done to the service meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loadtest.arrivals import Phase
from loadtest.workload import Crowd

WARM_UP = Phase("warm-up", 0.1, counted=False)
P95_LIMIT = 1.25
"""p95 of `POST /predict` with a batch beside it, over p95 without."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """`batch`: work on files beside the online load; `paired`: in every second run of ten. `fault`: what the hooks
    are for; at half time they strike. `leaving`: share of the callers who go away before they have their answer.
    `watched`: whether what the server's processes hold must stay flat."""

    name: str
    short: str
    help: str
    phases: tuple[Phase, ...]
    crowd: Crowd = "returning"
    batch: Literal["none", "beside", "paired"] = "none"
    fault: str | None = None
    hook_needed: bool = False
    leaving: float = 0.0
    watched: bool = False
    rate: float = 10.0
    seconds: float = 60.0

    @property
    def even(self) -> bool:
        """Whether the rate is the same all the time: a replay has its own ups and downs."""
        return all(phase.factor == 1 for phase in self.phases)


_HALVES = (WARM_UP, Phase("before", 0.4), Phase("after", 0.5))
_CYCLE = (Phase("steady", 0.16), Phase("spike", 0.03, 3.0), Phase("after a spike", 0.035))

STEADY = Scenario(
    "steady",
    "The same rate all the time",
    "The same rate all the time; visitors come again and again, so that caches behave as in life.",
    (WARM_UP, Phase("steady", 0.9)),
)

SCENARIOS = (
    STEADY,
    Scenario(
        "spike",
        "Five times the rate for a while",
        "Five times the rate for a fifth of the time, without warning.",
        (WARM_UP, Phase("before", 0.3), Phase("spike", 0.2, 5.0), Phase("after", 0.4)),
    ),
    Scenario(
        "cold-cache",
        "Nobody comes twice",
        "Nobody comes twice: every session has to be embedded.",
        (Phase("cold", 1.0),),
        crowd="new",
    ),
    Scenario(
        "hot-cluster",
        "One engine has all the work",
        "All visitors are of one cluster, so that one engine has all the work. The service is asked first who is.",
        (WARM_UP, Phase("hot", 0.9)),
        crowd="hot",
    ),
    Scenario(
        "batch-beside",
        "p95 with and without a file being scored",
        "A file being scored beside online requests: five pairs of runs with and without, in alternation, at the rate "
        "that uses 30 % of what the service can do, which a short calibration finds. Prints the ratio of p95.",
        (WARM_UP, Phase("measured", 0.9)),
        batch="paired",
        seconds=30.0,
    ),
    Scenario(
        "engine-killed",
        "An engine killed at half time",
        "At half time an engine is killed (--kill-pid or --kill-command): how long until the model answers again.",
        _HALVES,
        fault="engine",
        hook_needed=True,
    ),
    Scenario(
        "redis-killed",
        "Redis killed at half time",
        "At half time Redis is killed (--kill-pid or --kill-command): a cache that is gone may cost time, no answer.",
        _HALVES,
        fault="Redis",
        hook_needed=True,
    ),
    Scenario(
        "mixed",
        "All of it together: a soak",
        "All of it together, for a soak: returning, new and hot visitors, spikes, a file being scored, callers who go "
        "away; with --pid, whether memory, descriptors, threads and connections stay flat.",
        (WARM_UP, *(_CYCLE * 4)),
        crowd="mixed",
        batch="beside",
        fault="whatever the hooks name",
        leaving=0.05,
        watched=True,
        rate=5.0,
        seconds=1_800.0,
    ),
)
