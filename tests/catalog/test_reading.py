"""Cards are read from the text of a file, which never runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnout.catalog import read_card
from turnout.core import InputError

FULL = (
    'CARD = Card(name="llms.words", system="Words", title="T", authors="A", year=2024, '
    'id="arXiv:2401.00001", routes="prompts to models", kind="score", recipe="Words", '
    'signal=("outcomes",), covers=("eq. " "1",), differs=())'
)


def write(folder: Path, text: str) -> Path:
    path = folder / "words.py"
    path.write_text(text)
    return path


def test_a_card_is_read_without_running_the_file(tmp_path: Path) -> None:
    """The file may do anything, even fail: only its literal counts."""
    path = write(tmp_path, f'"""Doc."""\nimport nowhere\n{FULL}\nraise SystemExit(3)\n')
    card = read_card(path)
    assert card is not None
    assert card.name == "llms.words"
    assert card.covers == ("eq. 1",)
    assert card.level == "llms"


def test_an_annotated_card_is_read_too(tmp_path: Path) -> None:
    """`CARD: Card = Card(...)` is a literal as well."""
    assert read_card(write(tmp_path, FULL.replace("CARD =", "CARD: Card ="))) is not None


@pytest.mark.parametrize("text", ["", "X = 1", "# CARD", "def f():\n    CARD = 3"])
def test_a_file_without_a_card_gives_none(tmp_path: Path, text: str) -> None:
    """Only a statement at the top of the module declares a method."""
    assert read_card(write(tmp_path, text)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CARD = 3", "must be one call Card"),  # no call
        ('CARD = Card("llms.words")', "must be one call Card"),  # positional
        ("CARD = make()", "must be one call Card"),  # another call
        ("N = 'x'\nCARD = Card(name=N)", r"CARD\.name in words\.py must be a constant"),  # a name
        ("CARD = Card(**fields)", r"must be a constant"),  # unpacking
        (FULL.replace("title", "titel"), "titel"),  # a misspelt field
        (FULL.replace(", differs=()", ""), "must say differs"),  # a missing field
        (FULL.replace('"score"', '"magic"'), r"card\.kind must be one of"),  # an unknown kind
        (FULL.replace("llms.words", "words"), r"must read level\.method"),  # no level
    ],
)
def test_a_card_that_is_no_literal_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The refusal names the field and the file."""
    with pytest.raises(InputError, match=message):
        read_card(write(tmp_path, text))
