"""`hetlm prompt`: a general language model, asked in words."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from browsing.console import STDERR, emit, fail

if TYPE_CHECKING:
    from browsing.encoder import Encoder
    from training.baselines.text.baseline import Tally
    from training.baselines.text.endpoint import Endpoint

KEY = "HETLM_PROMPT_KEY"
INTERRUPTED = 130


def prompt(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The directory that `hetlm ingest` wrote.")],
    url: Annotated[
        str, typer.Option(help="The endpoint, up to before /chat/completions: http://localhost:8000/v1, for example.")
    ],
    model: Annotated[str, typer.Option(help="The model's name there.")],
    shots: Annotated[
        int,
        typer.Option(min=0, max=10, help="Examples of similar training users in each prompt; the paper: 0 or 3."),
    ] = 0,
    users: Annotated[int, typer.Option(min=1, help="At most so many users, drawn by the seed.")] = 100,
    split: Annotated[
        Literal["train", "select", "calibrate", "test"], typer.Option(help="Whose next sessions.")
    ] = "test",
    out: Annotated[
        Path | None, typer.Option(help="Also write the result here, as JSON, and per-user values beside it.")
    ] = None,
    send_histories: Annotated[
        bool,
        typer.Option("--send-histories", help="Allow what an endpoint on another machine needs: people's browsing."),
    ] = False,
    key_variable: Annotated[
        str, typer.Option("--key-env", help="The environment variable that holds the endpoint's key, if it needs one.")
    ] = KEY,
    history_pages: Annotated[int, typer.Option(min=1, help="Newest pages of a user's history in a prompt.")] = 200,
    example_pages: Annotated[int, typer.Option(min=1, help="Newest pages of an example's history.")] = 60,
    session_pages: Annotated[int, typer.Option(min=1, help="Pages read from an answer.")] = 20,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.0,
    concurrency: Annotated[int, typer.Option(min=1, help="Prompts in flight at once.")] = 4,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one try may take.")] = 120.0,
    attempts: Annotated[int, typer.Option(min=1, help="Tries per prompt, with growing pauses.")] = 6,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples behind every interval.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of users, and sent with every prompt.")] = 0,
    answers: Annotated[
        Path | None,
        typer.Option(help="Where answers are kept; by default $HETLM_HOME/answers or ~/.cache/hetlm/answers."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout instead of tables.")] = False,
) -> None:
    """Measure a text language model on the prompts of HeTLM (A.4.1), zero-shot or with examples, as `evaluate` would.

    Any OpenAI-compatible endpoint will do. A PROMPT HOLDS A PERSON'S BROWSING HISTORY, with --shots also those of
    similar training users: to an endpoint on another machine none is sent without --send-histories. Answers are kept,
    so that the same command, interrupted or run again, asks only what was not answered yet.

    Examples:

      hetlm prompt data/shop --url http://localhost:8000/v1 --model smollm2 --users 40

      hetlm prompt data/shop --url https://llm.example/v1 --model large --shots 3 --send-histories --out few-shot.json
    """
    if out is not None and (not out.parent.is_dir() or out.is_dir()):
        raise fail(f"--out {out}: name a file in a directory that exists")
    from training.baselines.text.endpoint import Endpoint, EndpointError

    try:
        endpoint = Endpoint(
            url,
            model,
            key=os.environ.get(key_variable) or None,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
            timeout=timeout,
            attempts=attempts,
            concurrency=concurrency,
        )
    except ValueError as error:
        raise fail(f"--url: {error}") from error
    _consent(endpoint, send_histories, shots)
    from rich.console import Console

    from training.baselines.text.baseline import Limits, TextBaseline
    from training.baselines.text.measure import measured
    from training.dataset import Dataset
    from training.evaluation.run import fingerprint, write
    from training.evaluation.tables import screen
    from training.evaluation.validation import choose
    from training.run import default_runs

    place = answers or default_runs().parent / "answers"
    limits = Limits(history_pages, example_pages, session_pages)
    try:
        data = Dataset.load(dataset)
        everybody = data.samples(split)
        if not everybody:
            raise fail(f"{dataset}: nobody is in the split {split!r}")
        folder = place / fingerprint(data.info)[:16]
        baseline = TextBaseline(
            endpoint,
            folder / "answers.jsonl",
            shots=shots,
            encoder=_encoder() if shots else None,
            embeddings=folder / "embeddings",
            limits=limits,
        )
        STDERR.print(f"answers are kept in {escape(str(folder))}", soft_wrap=True)
        result, frame = measured(
            baseline,
            endpoint,
            limits,
            data,
            choose(everybody, users, seed),
            split=split,
            of_users=len(everybody),
            resamples=resamples,
            seed=seed,
        )
    except KeyboardInterrupt as error:
        STDERR.print("\n[bold]interrupted:[/] the same command asks what was not answered yet")
        raise typer.Exit(INTERRUPTED) from error
    except (ValueError, EndpointError) as error:
        raise fail(str(error)) from error
    if out is not None:
        result = write(result, frame, out)
    if baseline.tally is not None:
        _tell(baseline.tally)
    if not as_json:
        screen.show(result, Console(highlight=False))
    emit(result.model_dump(mode="json"), as_json)


def _consent(endpoint: Endpoint, given: bool, shots: int) -> None:
    """Say where histories go; without consent none leaves this machine."""
    if endpoint.loopback:
        return
    whose = "browsing histories of users" + (", and of similar training users as examples," if shots else "")
    if not given:
        raise fail(f"{whose} would leave this machine for {endpoint.host}: pass --send-histories if they may")
    STDERR.print(
        f"[bold yellow]note:[/] {whose} leave this machine for {escape(endpoint.host)}"
        + ("" if endpoint.encrypted else ", UNENCRYPTED: the URL is not https"),
        soft_wrap=True,
    )


def _encoder() -> Callable[[], Encoder]:
    from transformers.utils.logging import disable_progress_bar

    from browsing.encoders.sbert import SbertEncoder

    disable_progress_bar()  # the encoder's weights are loaded in a second
    return SbertEncoder


def _tell(tally: Tally) -> None:
    lines = [
        f"{tally.prompts:,} prompts: {tally.asked:,} asked now, {tally.kept:,} answered before",
        f"{tally.pages:,} pages generated, {tally.invented:,} of them no pages of the site",
        f"{tally.prompt_tokens:,} tokens read and {tally.completion_tokens:,} written, as the endpoint counts",
    ]
    notes = {
        "prompts were refused, and count as empty answers": tally.refused,
        "answers hold no page": tally.empty,
        "answers were cut at --max-tokens": tally.cut,
        "histories were cut at --history-pages": tally.shortened,
    }
    for line in (*lines, *(f"{count:,} {note}" for note, count in notes.items() if count)):
        STDERR.print(line, soft_wrap=True)
