"""The form of a text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.parts.native import _text
from turnout.parts.texts.form import COLUMNS, encoded, form_of, forms_of
from turnout.parts.texts.words import READ

ANY = st.characters(codec=None, exclude_categories=())
STRANGE = st.one_of(
    st.text(ANY, max_size=200),
    st.text("abCD 12.?!:;\n\t $%\"'_-+=(éΩß日\ud800\U0001f600\0\x7f\r", max_size=400),
)


def _form(text: str) -> dict[str, float]:
    return dict(zip(COLUMNS, form_of(text), strict=True))


def test_every_column_by_hand() -> None:
    """Counted with a finger on a question with three options."""
    text = "How many tins, (of 12) cost $40?\nA. Ten tins\nB. 4 tins\n\n C. ten 10"
    form = _form(text)
    words = ["How", "many", "tins", "of", "cost", "A", "Ten", "tins", "B", "tins", "C", "ten"]
    sizes = [len(word) for word in words]
    lines = [32, 11, 9, 9]
    by_hand = {
        "characters": 66,
        "words": 12,
        "lines": 4,
        "length of the first line": 32,
        "mean length of a line": 61 / 4,
        "spread of line lengths, in means": float(np.std(lines)) / (61 / 4),
        "mean length of the rest's lines": 29 / 3,
        "spread of the rest's line lengths, in means": float(np.std(lines[1:])) / (29 / 3),
        "longest line of the rest, in means": 11 / (29 / 3),
        "mean length of a word": sum(sizes) / 12,
        "spread of word lengths": float(np.std(sizes)),
        "longest word": 4,
        "upper quartile of word lengths": 4,
        "share of words of nine letters or more": 0,
        "share of words of three letters or fewer": 7 / 12,
        # how many tins of cost a ten b c; capitals are no other words
        "share of words that are new": 9 / 12,
        "share of digits": 7 / 66,
        "share of capitals": 5 / 66,
        "share of signs": 8 / 66,
        "share of characters beyond ASCII": 0,
        "numbers": 4,
        "numbers a word": 4 / 12,
        "longest number": 2,
        "share of signs of arithmetic": 0,
        "share of brackets": 1 / 66,
        "share of dollar signs": 1 / 66,
        "share of per cent signs": 0,
        "share of quotation marks": 0,
        "commas a word": 1 / 12,
        "share of underscores": 0,
        "question marks": 1,
        "share of apostrophes": 0,
        "share of semicolons": 0,
        "share of hyphens": 0,
        "sentences": 5,
        "characters a sentence": 66 / 5,
        "first line ends in a question mark": 1,
        "first line ends in a full stop": 0,
        "first line ends in a colon": 0,
        # {a ten tins}, {b tins}: 1 of 4; {b tins}, {c ten}: 0 of 4
        "words that neighbouring lines of the rest share, mean": 1 / 8,
        "words that neighbouring lines of the rest share, most": 1 / 4,
        "share of the rest's lines with a digit": 2 / 3,
        "share of the rest's lines with a capital after a space": 1 / 3,
        "different words of the last line, a word": 2 / 12,
    }
    assert form == pytest.approx(by_hand)


@pytest.mark.parametrize("text", ["", " ", "\n \n", "\ud800", "日本", "x" * (3 * READ)])
def test_nothing_breaks_it(text: str) -> None:
    """Of empty, blank, broken and endless texts all numbers are finite and none is below zero."""
    form = form_of(text)
    assert len(form) == len(COLUMNS)
    assert np.isfinite(form).all()
    assert min(form) >= 0.0


def test_of_a_long_text_start_and_end_are_read() -> None:
    """What stands between them changes nothing."""
    start, end = "start? " * (READ // 14 + 1), " the end 7" * (READ // 20 + 1)
    one, other = (f"{start}{middle * 40000}{end}" for middle in ("a", "9 B!\n"))
    assert form_of(one) == form_of(other)


def test_characters_beyond_ascii_are_letters_of_one_character() -> None:
    """Two words of a Greek text are two words, its characters are not its bytes."""
    form = _form("Πόσα είναι?")
    assert (form["characters"], form["words"], form["numbers"]) == (11, 2, 0)
    assert form["share of characters beyond ASCII"] == 9 / 11


@given(STRANGE)
@settings(deadline=None, max_examples=100)
def test_shares_are_shares(text: str) -> None:
    """Whatever the text, what is called a share lies between 0 and 1."""
    for name, value in _form(text).items():
        assert np.isfinite(value)
        if "share" in name:
            assert 0.0 <= value <= 1.0


@pytest.mark.usefixtures("kernel")
def test_compiled_code_gives_the_same_bits() -> None:
    """Whatever characters a text has, surrogates too, arrays and compiled code agree to the bit."""

    @settings(deadline=None, max_examples=300)
    @given(STRANGE)
    def agree(text: str) -> None:
        assert forms_of([text])[0].tolist() == [float(np.float32(v)) for v in form_of(text)]

    assert _text.library() is not None
    agree()


@pytest.mark.usefixtures("kernel")
def test_compiled_code_has_room_for_as_many_words_as_there_can_be() -> None:
    """One letter at a time, on as many lines, and one word on one line."""
    for text in ("a " * READ, "b\n" * READ, "c" * READ, "É " * READ, f"{'d ' * READ}\n{'e ' * 9}"):
        assert forms_of([text])[0].tolist() == [float(np.float32(v)) for v in form_of(text)]


def test_what_is_no_text_is_refused() -> None:
    """Numbers are not read as if they were words."""
    with pytest.raises(InputError, match="sequence of strings"):
        forms_of(np.ones((2, 3)))
    assert encoded("a\ud800") == b"a\xed\xa0\x80"
