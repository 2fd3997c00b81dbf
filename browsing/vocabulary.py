"""The vocabulary: pages <-> token ids, and how sessions become a predictor's prompt.

A session reads `[BOS] page ... page [EOS]`; a history is its sessions one after another, oldest first; the prompt for
the next session is the history and one more `[BOS]`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from browsing.pages import SPECIAL_TOKENS

PAD, BOS, EOS, UNK = range(4)
NEVER = (PAD, BOS)
"""Ids that no session can hold: every engine forbids them always."""
SPECIALS = frozenset((PAD, BOS, EOS, UNK))


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids of a cut history. `sessions_dropped`: the oldest sessions that did not fit."""

    ids: tuple[int, ...]
    sessions_dropped: int


class Vocabulary:
    """An ordered set of pages. Ids 0-3 are the specials; page i has id 4 + i."""

    def __init__(self, pages: Sequence[str]) -> None:
        """Raises `ValueError` for a duplicate, empty or reserved page name, or one with white space."""
        self.tokens: tuple[str, ...] = (*SPECIAL_TOKENS, *pages)
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise ValueError("a page stands twice in the vocabulary, or has a reserved name")
        for page in pages:
            if not page or any(c.isspace() for c in page):
                raise ValueError(f"{page!r} cannot be a page: empty, or with white space")

    def __len__(self) -> int:
        """Number of token ids, specials included: the width of every predictor's output."""
        return len(self.tokens)

    def __contains__(self, page: object) -> bool:
        return page in self._ids and page not in SPECIAL_TOKENS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.tokens == other.tokens

    def __hash__(self) -> int:
        return hash(self.tokens)

    @property
    def pages(self) -> tuple[str, ...]:
        return self.tokens[len(SPECIAL_TOKENS) :]

    def id(self, page: str) -> int:
        """The page's id, `UNK` for an unknown one (and for a page that calls itself a special token)."""
        token = self._ids.get(page, UNK)
        return token if token not in SPECIALS else UNK

    def session(self, pages: Sequence[str]) -> list[int]:
        """`[BOS] pages [EOS]` as ids."""
        return [BOS, *(self.id(p) for p in pages), EOS]

    def prompt(self, history: Sequence[Sequence[str]], max_tokens: int) -> Prompt:
        """The history and the next session's `[BOS]`, in at most `max_tokens` ids.

        What does not fit is dropped from the oldest side, by whole sessions; if even the newest session is too long it
        keeps its newest pages. Raises `ValueError` if `max_tokens` is below 4.
        """
        if max_tokens < 4:
            raise ValueError(f"a prompt needs at least 4 tokens, not {max_tokens}")
        room = max_tokens - 1
        kept: list[list[int]] = []
        for pages in reversed(history):
            ids = self.session(pages)
            if len(ids) > room:
                if not kept:
                    kept.append([BOS, *ids[len(ids) - room + 1 :]])
                break
            kept.append(ids)
            room -= len(ids)
        ids = [token for session in reversed(kept) for token in session]
        return Prompt((*ids, BOS), len(history) - len(kept))

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The pages among the ids, in order; specials are left out."""
        return [self.tokens[i] for i in ids if i not in SPECIALS]

    @cached_property
    def sha256(self) -> str:
        """Identity of the mapping: sha256 over the tokens as JSON."""
        return hashlib.sha256(json.dumps(self.tokens, ensure_ascii=False).encode()).hexdigest()

    def save(self, directory: Path) -> None:
        """Write `tokenizer.json` (WordLevel) and `tokenizer_config.json`, which stock transformers and vLLM load."""
        tokenizer = Tokenizer(WordLevel(dict(self._ids), unk_token="[UNK]"))
        tokenizer.pre_tokenizer = WhitespaceSplit()
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
        tokenizer.save(str(directory / "tokenizer.json"))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "[PAD]",
            "bos_token": "[BOS]",
            "eos_token": "[EOS]",
            "unk_token": "[UNK]",
            "clean_up_tokenization_spaces": False,
        }
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a `tokenizer.json` written by `save`. Raises `ValueError` if it is not such a file."""
        try:
            model = json.loads(path.read_text())["model"]
            mapping: dict[str, int] = model["vocab"]
            if model["type"] != "WordLevel":
                raise ValueError(f"{path}: a {model['type']} tokenizer, not WordLevel")
            tokens = sorted(mapping, key=lambda t: mapping[t])
            if [mapping[t] for t in tokens] != list(range(len(tokens))) or tuple(tokens[:4]) != SPECIAL_TOKENS:
                raise ValueError(f"{path}: the ids are not 0, 1, 2, ... with {' '.join(SPECIAL_TOKENS)} first")
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: not a page tokenizer ({error!r})") from error
        return cls(tokens[4:])
