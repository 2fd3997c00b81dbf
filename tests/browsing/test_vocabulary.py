from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from browsing.vocabulary import BOS, EOS, PAD, SPECIALS, UNK, Vocabulary

PAGES = ("/", "/bags", "/cart")
histories = st.lists(st.lists(st.sampled_from((*PAGES, "/new")), min_size=1, max_size=8), max_size=6)


def test_ids_and_pages() -> None:
    vocabulary = Vocabulary(PAGES)
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    assert len(vocabulary) == 7
    assert vocabulary.session(["/bags", "/gone", "[EOS]"]) == [BOS, 5, UNK, UNK, EOS]
    assert vocabulary.decode([BOS, 5, UNK, 6, EOS]) == ["/bags", "/cart"]
    assert "/bags" in vocabulary
    assert "[PAD]" not in vocabulary


@pytest.mark.parametrize("pages", [("/a", "/a"), ("[PAD]",), ("",), ("a b",)])
def test_names_that_cannot_be_pages(pages: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"vocabulary|cannot be a page"):
        Vocabulary(pages)


def test_a_prompt_keeps_the_newest_sessions() -> None:
    vocabulary = Vocabulary(PAGES)
    history = [["/"], ["/bags", "/cart"], ["/cart"]]
    whole = vocabulary.prompt(history, 100)
    assert whole.ids == (BOS, 4, EOS, BOS, 5, 6, EOS, BOS, 6, EOS, BOS)
    assert whole.sessions_dropped == 0
    assert vocabulary.prompt(history, 9) == type(whole)((BOS, 5, 6, EOS, BOS, 6, EOS, BOS), 1)
    assert vocabulary.prompt(history, 4) == type(whole)((BOS, 6, EOS, BOS), 2)
    assert vocabulary.prompt([["/", "/bags", "/cart"]], 5).ids == (BOS, 5, 6, EOS, BOS)


@given(histories, st.integers(4, 40))
def test_a_prompt_fits_and_is_a_suffix_of_the_history(history: list[list[str]], room: int) -> None:
    vocabulary = Vocabulary(PAGES)
    prompt = vocabulary.prompt(history, room)
    whole = [i for pages in history for i in vocabulary.session(pages)]
    assert len(prompt.ids) <= room
    assert prompt.ids[0] == prompt.ids[-1] == BOS
    pages = [i for i in prompt.ids if i not in (BOS, EOS)]
    assert [i for i in whole if i not in (BOS, EOS)][len(whole) :] == []
    assert pages == [i for i in whole if i not in (BOS, EOS)][-len(pages) :] or not pages
    if len(whole) + 1 <= room:
        assert list(prompt.ids) == [*whole, BOS]
        assert prompt.sessions_dropped == 0


def test_stock_transformers_reads_the_tokenizer(tmp_path: Path) -> None:
    vocabulary = Vocabulary(PAGES)
    vocabulary.save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("[BOS] /bags /gone / [EOS]")["input_ids"] == [BOS, 5, UNK, 4, EOS]
    assert {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id} == SPECIALS
    loaded = Vocabulary.load(tmp_path / "tokenizer.json")
    assert loaded == vocabulary
    assert loaded.sha256 == vocabulary.sha256 != Vocabulary(PAGES[::-1]).sha256


@pytest.mark.parametrize(
    "document",
    [
        "{}",
        "no JSON",
        json.dumps({"model": {"type": "BPE", "vocab": {}}}),
        json.dumps({"model": {"type": "WordLevel", "vocab": {"[PAD]": 0, "/a": 2}}}),
    ],
)
def test_another_tokenizer_is_refused(tmp_path: Path, document: str) -> None:
    (tmp_path / "tokenizer.json").write_text(document)
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        Vocabulary.load(tmp_path / "tokenizer.json")
