"""Callers who hang up at random moments, over real connections: nobody gets an answer that is another's."""

from __future__ import annotations

import time
from pathlib import Path

from browsing.console import progress
from loadtest import figures
from loadtest.client import connect
from loadtest.soak import report
from loadtest.soak.crowd import Crowd, questions
from loadtest.soak.reference import Comparing
from loadtest.soak.serving import start
from loadtest.stage import machine
from loadtest.visitors import read_bundle

VISITORS = 40
LEAVING = 0.6
PIECE = 10.0
"""Seconds of load after which is counted."""
MOST_PIECES = 400


async def run(bundle: Path, folder: Path, *, cancellations: int = 1_000, rate: float = 25.0) -> report.Section:
    """Until so many callers have left, each after a time drawn about the median time of an answer. Raises
    `StartError`."""
    load_before, began = report.load(), time.monotonic()
    served = await start(bundle, folder / "service.log", ["--log-level", "warning"])
    try:
        known = read_bundle(bundle)
        checker = Comparing({known.version}, frozenset(known.pages))
        async with connect(served.url) as client:
            crowd = Crowd(client, questions(bundle, VISITORS, samples=4), checker)
            await crowd.well()
            asked = time.monotonic()
            await crowd.everybody(width=1)
            typical = (time.monotonic() - asked) / VISITORS
            left = 0
            with progress("Cancellations", cancellations, "callers") as advance:
                for _ in range(MOST_PIECES):
                    fates = await crowd.load(rate, PIECE, leaving=LEAVING, leaves_after=typical)
                    gone = figures.answers(fates).left
                    left += gone
                    advance(gone)
                    if left >= cancellations:
                        break
            recovered = await crowd.well()
    finally:
        code = served.popen.poll()
        await served.end()
    answers = figures.answers(crowd.fates)
    wrong = answers.wrong + answers.lost
    complaints = [f"{count} times: {reason}" for reason, count in answers.reasons.items()]
    complaints += ["afterwards not everybody was answered by the model"] * (not recovered)
    complaints += [f"the service ended with code {code}"] * (code is not None)
    return report.Section(
        section="cancellations",
        command=f"python -m loadtest.soak cancellations --cancellations {cancellations}",
        figures=(
            report.Figure(
                figure=f"answers with another visitor's data under {left:,} random cancellations",
                measured=f"{wrong} (of {answers.correct:,} answers, {checker.compared:,} of them compared whole)",
                gate="0",
                passed=wrong == 0 and left >= cancellations and checker.compared > 0,
            ),
        ),
        complaints=tuple(complaints),
        answers=answers,
        machine=machine(load_before),
        seconds=round(time.monotonic() - began, 1),
        details={"left": left, "left_after_seconds_on_average": round(typical, 4)},
    )
