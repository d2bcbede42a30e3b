"""Text that every Python has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from turnout.core import DataError, InputError
from turnout.lab.corpus import VOCABULARY, standard_library


def _folder(root: Path, files: int) -> Path:
    for number in range(files):
        (root / f"m{number:02d}.py").write_text(f"# {number:02d} é " + "x" * 50)
    return root


def test_the_standard_library_is_there() -> None:
    """Some hundred thousand characters of training text, all of them ids of the vocabulary."""
    corpus = standard_library(characters=3000)
    assert len(corpus.train) > 100_000
    assert len(corpus.test) > 10_000
    assert int(max(corpus.train.max(), corpus.test.max())) < VOCABULARY
    assert "ast.py" in corpus.files


def test_every_tenth_file_is_held_out(tmp_path: Path) -> None:
    """Of twenty files the tenth and the last are the test; other characters than ASCII read "?"."""
    corpus = standard_library(folder=_folder(tmp_path, 20))
    test = bytes(corpus.test).decode()
    assert [line[2:4] for line in test.splitlines()] == ["09", "19"]
    assert test.startswith("# 09 ? xxx")
    assert b"# 09" not in bytes(corpus.train)


def test_files_are_cut(tmp_path: Path) -> None:
    """No more than so many characters of each."""
    corpus = standard_library(characters=4, folder=_folder(tmp_path, 10))
    assert bytes(corpus.test) == b"# 09"


def test_batches_follow_their_generator(tmp_path: Path) -> None:
    """One generator one sequence of windows, each a stretch of the training text."""
    corpus = standard_library(folder=_folder(tmp_path, 20))
    one, two = (
        np.stack(list(corpus.batches(4, 9, 3, rng=np.random.default_rng(5)))) for _ in range(2)
    )
    assert one.shape == (3, 4, 9)
    assert np.array_equal(one, two)
    assert bytes(one[0, 0].astype(np.uint8)) in bytes(corpus.train)


def test_held_out_windows_are_always_the_same(tmp_path: Path) -> None:
    """Evenly spread from the first character on."""
    corpus = standard_library(folder=_folder(tmp_path, 20))
    windows = corpus.held_out(5, 8)
    assert windows.shape == (5, 8)
    assert bytes(windows[0].astype(np.uint8)) == bytes(corpus.test[:8])
    assert np.array_equal(windows, corpus.held_out(5, 8))


def test_counts_are_of_the_training_text(tmp_path: Path) -> None:
    """They sum to its length."""
    corpus = standard_library(folder=_folder(tmp_path, 20))
    counts = corpus.counts()
    assert counts.shape == (VOCABULARY,)
    assert int(counts.sum()) == len(corpus.train)
    assert int(counts[ord("x")]) == 18 * 50


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    """Fewer than ten files cannot be split; no character is no text."""
    with pytest.raises(DataError, match="hold 10 files of source or more; got 9"):
        standard_library(folder=_folder(tmp_path, 9))
    with pytest.raises(InputError, match="characters must be a whole number >= 1"):
        standard_library(characters=0)
