"""What is to be known before a result's figures are believed, and what it does not hold."""

from __future__ import annotations

from loadtest import pairs
from loadtest.result import Result, Trend

BUSY = 0.8
"""From this share of a core on, the generator itself is the bottleneck."""
SLOW = 0.98


def judged(result: Result, *, watched: bool) -> Result:
    """`watched`: whether the scenario promises that what the server holds stays flat."""
    return result.model_copy(
        update={"flags": tuple(flags(result, watched=watched)), "failures": tuple(failures(result))}
    )


def promise(result: Result) -> str:
    """The sentence that every run ends with."""
    answers = result.answers
    return f"accepted requests answered correctly or refused honestly: {answers.honest:,} of {answers.accepted:,}"


def flags(result: Result, *, watched: bool) -> list[str]:
    """Not failures of the service."""
    found = []
    lag, answers, counted = result.lag, result.answers, result.counted
    if lag.late:
        found.append(
            f"the generator itself was late ({lag.p99_ms:.1f} ms in one of a hundred): the latencies hold its delay "
            "too; give it a machine of its own, or lower --rate"
        )
    if lag.cpu_share > BUSY:
        found.append(f"the generator used {lag.cpu_share:.0%} of a core: it cannot send much more than this")
    if counted.achieved_rate < SLOW * counted.intended_rate:
        found.append(
            f"{counted.achieved_rate:.2f} requests per second were sent where {counted.intended_rate:.2f} were meant"
        )
    if answers.unsteady:
        found.append(f"{answers.unsteady} answers differ from the first one to the equal question")
    if watched and result.trends is None:
        found.append("what the server's processes hold was not watched long enough: give --pid, and a longer --seconds")
    if result.pairs is not None and pairs.undecided(result.pairs):
        found.append("the ratio's interval reaches over the limit: more --pairs or longer --seconds would decide it")
    if result.machine.load_before > result.machine.cores:
        found.append(f"the machine was busy before the run began (load {result.machine.load_before})")
    return found


def failures(result: Result) -> list[str]:
    """Of the service."""
    found = []
    answers = result.answers
    if answers.honest < answers.accepted:
        found.append(f"{answers.accepted - answers.honest} accepted requests were lost or answered wrongly")
    if answers.unreachable and result.fault is None:
        found.append(f"{answers.unreachable} requests found no connection")
    if answers.dropped:
        found.append(f"{answers.dropped} requests were not sent, so many were outstanding")
    if not answers.correct:
        found.append("not one request was answered correctly")
    if result.fault is not None and result.fault.recovered_after is None:
        found.append("after the fault the model did not come back")
    if result.batch is not None and result.batch.wrong:
        found.append(f"{result.batch.wrong} rows of the files are lost, doubled, another visitor's or not scored")
    if result.batch is not None and result.batch.ended:
        found.append(f"the work on files ended early: {result.batch.ended}")
    if result.pairs is not None:
        found += pairs.failures(result.pairs)
    found += [_rising(trend) for trend in result.trends or () if not trend.flat]
    return found


def _rising(trend: Trend) -> str:
    unit = f" {trend.unit}" if trend.unit else ""
    return f"{trend.name} rose by {trend.growth:.1f}{unit} ({trend.slope_per_hour:+.1f} an hour)"
