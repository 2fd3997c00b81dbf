"""The prompts of HeTLM, A.4.1, word for word, with a user's sessions in the place of INPUT SESSIONS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from browsing.pages import SPECIAL_TOKENS

_, BOS, EOS, UNKNOWN = SPECIAL_TOKENS

GIVEN = "A user's website browsing sequence of pages over multiple sessions is given as Input."
LEGEND = f"{BOS} denotes beginning of session, {EOS} denotes end of session."
ASKED = (
    f"{LEGEND} Based on activity in the given input sessions, predict the next session as a sequence of pages highly "
    "likely to be visited by the user"
)
LEARN = "Learn from similar users browsing sequences given below:"

Session = Sequence[str]


class Pair(NamedTuple):
    """An example: a user's history, oldest session first, and the session that followed."""

    history: Sequence[Session]
    following: Session


def written(session: Session) -> str:
    """A session as text, `[BOS] /bags /bags/tote [EOS]`: no page's name holds a space."""
    return " ".join((BOS, *(page for page in session if page not in SPECIAL_TOKENS or page == UNKNOWN), EOS))


def prompt(history: Sequence[Session], examples: Sequence[Pair] = ()) -> str:
    """The zero-shot prompt, or with `examples` the few-shot one, which only adds to it."""
    lines = [GIVEN, *map(written, history), ASKED]
    if examples:
        lines.append(LEARN)
        for pair in examples:
            lines += [f"Input: {' '.join(map(written, pair.history))}", f"Output: {written(pair.following)}"]
    return "\n".join(lines)


def newest(history: Sequence[Session], pages: int) -> list[Session]:
    """The newest sessions that together hold at most `pages` pages (at least 1); of the newest one, if it alone is
    longer, its last pages."""
    kept: list[Session] = []
    room = pages
    for session in reversed(history):
        if len(session) > room:
            break
        kept.insert(0, session)
        room -= len(session)
    return kept or [session[-pages:] for session in history[-1:]]
