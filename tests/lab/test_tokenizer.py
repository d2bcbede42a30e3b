from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core.errors import InputError
from turnout.lab import tokenizer
from turnout.lab.tasks import problems
from turnout.lab.words import WORDS

texts = st.one_of(
    st.text(),
    st.lists(st.sampled_from([*WORDS, "\0", " ", "é", "漢", "🚉", "\r\n", "7"])).map("".join),
)


@settings(deadline=None, max_examples=200)
@given(texts)
def test_every_text_survives(text: str) -> None:
    """Encoding loses nothing: null bytes, any script, any mixture of words and bytes."""
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= i < tokenizer.VOCABULARY for i in ids)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, tokenizer.VOCABULARY - 1)))
def test_pieces_join_to_the_whole(ids: list[int]) -> None:
    """Streaming any tokens, broken UTF-8 and marks included, writes what decoding writes."""
    assert "".join(tokenizer.pieces(ids)) == tokenizer.decode(ids)


@settings(deadline=None, max_examples=100)
@given(texts)
def test_no_text_can_write_a_mark(text: str) -> None:
    """A request cannot end its own answer or pretend to be padding."""
    assert not {tokenizer.PAD, tokenizer.END, tokenizer.ASK} & set(tokenizer.encode(text))


def test_a_character_is_only_sent_whole() -> None:
    """The first bytes of a long character wait for the rest."""
    assert list(tokenizer.pieces("aé🚉".encode())) == ["a", "é", "🚉"]


def test_words_are_one_token_and_made_up_words_one_a_letter() -> None:
    """Word tokens stand for whole runs of letters only."""
    assert len(tokenizer.encode(" letters")) == 1
    assert len(tokenizer.encode(" lettersx")) == 9
    assert len(tokenizer.encode("theq")) == 4


def test_prompts_are_short() -> None:
    """Few tokens a request is what makes the laboratory fast."""
    sizes = [len(tokenizer.encode(p.prompt)) for p in problems(300, seed=0)]
    assert max(sizes) <= 45
    assert sum(sizes) / len(sizes) <= 20


@pytest.mark.parametrize("text", [7, None, b"bytes", "\ud800"])
def test_what_is_no_text_is_refused(text: object) -> None:
    """Only text that UTF-8 can hold has tokens."""
    with pytest.raises(InputError, match=r"^text must"):
        tokenizer.encode(text)  # type: ignore[arg-type]
