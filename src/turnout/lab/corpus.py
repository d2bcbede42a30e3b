"""Text that every Python installation already has: the source of its standard library.

Files are taken in the order of their names, the first characters of each, so that the same Python
gives the same text anywhere. Every tenth file is held out whole: no function seen in training is
seen again in the test.

Examples
--------
>>> corpus = standard_library(characters=2000)
>>> int(corpus.train.max()) < VOCABULARY
True
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import _check
from turnout.core.errors import DataError

__all__ = ["VOCABULARY", "Corpus", "standard_library"]

#: Ids of characters: ASCII; whatever is not ASCII reads as "?".
VOCABULARY = 128

_HELD_OUT = 10


@dataclass(frozen=True, eq=False)
class Corpus:
    """Text as ids, one a character.

    Parameters
    ----------
    train, test : uint8 array (n,)
        Ids below `VOCABULARY`; no file is in both.
    files : tuple of str
        Names of the files read.
    """

    train: NDArray[np.uint8]
    test: NDArray[np.uint8]
    files: tuple[str, ...]

    def batches(self, b: int, s: int, steps: int, *, rng: Generator) -> Iterator[NDArray[np.int64]]:
        """Random windows of the training text, `steps` times (b, s)."""
        starts_below = len(self.train) - s
        window = np.arange(s)
        for _ in range(steps):
            starts = rng.integers(starts_below, size=(b, 1))
            yield self.train[starts + window].astype(np.int64)

    def held_out(self, b: int, s: int) -> NDArray[np.int64]:
        """The same b windows (b, s) of the test text each time, evenly spread."""
        starts = np.linspace(0, len(self.test) - s - 1, b).astype(np.int64)[:, None]
        windows: NDArray[np.int64] = self.test[starts + np.arange(s)].astype(np.int64)
        return windows

    def counts(self) -> NDArray[np.int64]:
        """How often each id occurs in the training text, (vocabulary,)."""
        return np.bincount(self.train, minlength=VOCABULARY).astype(np.int64)


def standard_library(*, characters: int = 12_000, folder: Path | None = None) -> Corpus:
    """The standard library of the running Python.

    Parameters
    ----------
    characters : int
        Most characters taken of a file, >= 1.
    folder : Path, optional
        Another folder of .py files.

    Raises
    ------
    DataError
        There are too few files to hold any out.
    """
    _check.integer("characters", characters, low=1)
    root = Path(sysconfig.get_paths()["stdlib"]) if folder is None else folder
    files = sorted(path for path in root.glob("*.py") if path.is_file())
    if len(files) < _HELD_OUT:
        rule = f"hold {_HELD_OUT} files of source or more"
        raise DataError(str(root), rule, len(files), "Install Python with its library's source.")
    kept: tuple[list[bytes], list[bytes]] = ([], [])
    for place, path in enumerate(files):
        text = path.read_text(encoding="utf-8", errors="replace")[:characters]
        kept[place % _HELD_OUT == _HELD_OUT - 1].append(text.encode("ascii", errors="replace"))
    train, test = (np.frombuffer(b"\n".join(part), dtype=np.uint8) for part in kept)
    return Corpus(train=train, test=test, files=tuple(path.name for path in files))
