"""The prompts are the paper's."""

from __future__ import annotations

import pytest

from training.baselines.text.prompts import Pair, newest, prompt, written

HISTORY = (("/", "/bags"), ("/bags/tote", "[UNK]", "/cart"))
ZERO_SHOT = """\
A user's website browsing sequence of pages over multiple sessions is given as Input.
[BOS] / /bags [EOS]
[BOS] /bags/tote [UNK] /cart [EOS]
[BOS] denotes beginning of session, [EOS] denotes end of session. Based on activity in the given input sessions, \
predict the next session as a sequence of pages highly likely to be visited by the user"""


def test_the_zero_shot_prompt_word_for_word() -> None:
    assert prompt(HISTORY) == ZERO_SHOT


def test_examples_are_only_added() -> None:
    pairs = [Pair((("/shoes",), ("/",)), ("/cart", "/purchase")), Pair((("/bags",),), ("/",))]
    assert prompt(HISTORY, pairs) == ZERO_SHOT + (
        "\nLearn from similar users browsing sequences given below:"
        "\nInput: [BOS] /shoes [EOS] [BOS] / [EOS]\nOutput: [BOS] /cart /purchase [EOS]"
        "\nInput: [BOS] /bags [EOS]\nOutput: [BOS] / [EOS]"
    )


def test_marks_inside_a_session_are_not_written() -> None:
    assert written(("[BOS]", "/bags", "[EOS]", "[PAD]")) == "[BOS] /bags [EOS]"


@pytest.mark.parametrize(
    ("pages", "kept"), [(9, 3), (6, 3), (5, 2), (3, 2), (2, 1)], ids=["room", "exact", "two", "two exact", "one"]
)
def test_the_newest_whole_sessions_are_kept(pages: int, kept: int) -> None:
    history = [("a", "b", "c"), ("d",), ("e", "f")]
    assert newest(history, pages) == history[-kept:]


def test_of_a_single_session_that_is_too_long_the_end_is_kept() -> None:
    assert newest([("a",), ("b", "c", "d")], 2) == [("c", "d")]
