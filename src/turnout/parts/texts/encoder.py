"""Encoders: texts in, vectors of unit length out, so that near means alike.

Three of them, one protocol. `Svd` needs nothing but the texts it is fitted on; `Ready` takes
arrays that are vectors already; `minilm` is a pretrained sentence encoder that comes with an
extra. `Cached` keeps the last vectors of any of them.
"""

from __future__ import annotations

import hashlib
import importlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import InputError, Inputs, _check
from turnout.parts.texts import bags, words

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = [
    "ENCODERS",
    "Cached",
    "Encoder",
    "Ready",
    "Svd",
    "check_name",
    "directions",
    "fit_encoder",
    "project",
    "unit",
]

Single = NDArray[np.float32]

#: What a recipe may ask for. The pretrained one is found by name, so that nothing here imports
#: the tensor library it needs.
ENCODERS = {"svd": "", "minilm": "turnout.nn.minilm:MiniLm"}

#: Words and pairs the light encoder knows: those in most texts.
_WORDS = 20_000
_OVERSAMPLE = 10
_POWERS = 2


@runtime_checkable
class Encoder(Protocol):
    """Turns a batch into vectors; a frozen dataclass that a router file can hold."""

    @property
    def d(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, inputs: Inputs) -> Single:
        """Vectors (n, d) of length one, or zero where an input says nothing known."""
        ...


def unit(vectors: NDArray[np.floating[Any]]) -> Single:
    """Rows scaled to length one; zero rows stay zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0), dtype=np.float32)


def project(features: bags.TextFeatures, inputs: Inputs, matrix: Single) -> Single:
    """Features of texts times a matrix (d, h), giving (n, h).

    Raises
    ------
    InputError
        The inputs are not texts.
    """
    texts = words.texts_of(inputs)
    if len(texts) != 1:
        return np.asarray(features.transform(texts) @ matrix)
    # the way of a request: no sparse matrix is built for one text
    found = features.find(texts[0])
    weights = features.idf.take(found)
    length = np.sqrt(weights @ weights)
    if length > 0:
        weights = weights / length
    return np.asarray((weights @ matrix.take(found, axis=0))[None, :])


@dataclass(frozen=True)
class Ready:
    """Takes arrays (n, d) that are embeddings already; only scales them to length one.

    Parameters
    ----------
    d : int
        Length of a vector.
    """

    d: int

    def encode(self, inputs: Inputs) -> Single:
        """Vectors (n, d).

        Raises
        ------
        InputError
            The inputs are no array (n, d), or not finite.
        """
        if not isinstance(inputs, np.ndarray):
            if len(inputs) == 0:
                return np.empty((0, self.d), dtype=np.float32)
            hint = "This router was fitted on vectors; embed the texts the same way first."
            raise InputError("inputs", f"be an array (n, {self.d})", type(inputs).__name__, hint)
        return unit(_check.floats("inputs", inputs, (None, self.d)))


@dataclass(frozen=True, eq=False)
class Svd:
    """Latent semantic vectors: TF-IDF projected on its strongest directions.

    Parameters
    ----------
    features : TextFeatures
        Weighted words, fitted.
    basis : array (v, d)
        Right singular vectors of the weighted words, strongest first.
    """

    features: bags.TextFeatures
    basis: Single

    @property
    def d(self) -> int:
        """Length of a vector."""
        return int(self.basis.shape[1])

    def encode(self, inputs: Inputs) -> Single:
        """Vectors (n, d).

        Raises
        ------
        InputError
            The inputs are not texts.
        """
        return unit(project(self.features, inputs, self.basis))


@dataclass(frozen=True, eq=False)
class Cached:
    """Another encoder with the vectors of the last texts kept, by hash of the text.

    Safe to share between threads. Arrays pass through.

    Parameters
    ----------
    encoder : Encoder
    size : int
        Vectors kept; >= 1. The least recently used goes first.
    """

    encoder: Encoder
    size: int = 4096
    _kept: OrderedDict[bytes, Single] = field(init=False, repr=False, default_factory=OrderedDict)
    _lock: Any = field(init=False, repr=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        _check.integer("cached.size", self.size, low=1)

    def __reduce__(self) -> tuple[type[Cached], tuple[Encoder, int]]:
        return type(self), (self.encoder, self.size)

    @property
    def d(self) -> int:
        """Length of a vector."""
        return self.encoder.d

    def encode(self, inputs: Inputs) -> Single:
        """Vectors (n, d); only texts not kept are encoded, each once."""
        if isinstance(inputs, np.ndarray) and inputs.ndim != 1:
            return self.encoder.encode(inputs)
        keys = [_key(item, row) for row, item in enumerate(inputs)]
        found: dict[bytes, Single] = {}
        with self._lock:
            for key in keys:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    found[key] = self._kept[key]
        missing = {key: item for key, item in zip(keys, inputs, strict=True) if key not in found}
        if missing:
            vectors = self.encoder.encode(tuple(missing.values()))
            found.update(zip(missing, vectors, strict=True))
            with self._lock:
                for key in missing:
                    self._kept[key] = found[key]
                while len(self._kept) > self.size:
                    self._kept.popitem(last=False)
        if not keys:
            return np.empty((0, self.d), dtype=np.float32)
        return np.stack([found[key] for key in keys])


def fit_encoder(name: str, inputs: Inputs, *, d: int, rng: Generator) -> Encoder:
    """The encoder a recipe asks for, ready to use.

    Parameters
    ----------
    name : str
        "svd": fitted on these inputs. "minilm": pretrained, 384 numbers, needs the extra `text`.
    inputs : texts or array (n, d)
        What the router learns from. An array is taken for embeddings that are ready, whatever
        the name.
    d : int
        Length of a vector, for "svd"; fewer where the texts hold fewer directions.
    rng : Generator

    Raises
    ------
    InputError
        There is no such encoder.
    MissingExtraError
        Its packages are not installed.
    """
    check_name(name)
    if isinstance(inputs, np.ndarray) and inputs.ndim == 2:
        return Ready(int(inputs.shape[1]))
    if name == "svd":
        return _fit_svd(inputs, d, rng)
    module, _, kind = ENCODERS[name].partition(":")
    encoder: Encoder = getattr(importlib.import_module(module), kind)()
    return Cached(encoder)


def _fit_svd(texts: Inputs, d: int, rng: Generator) -> Svd:
    features = bags.learn_features(texts, max_features=_WORDS)
    return Svd(features, directions(features.transform(texts), d, rng))


def directions(table: csr_matrix, d: int, rng: Generator) -> Single:
    """Strongest right singular vectors of a matrix (n, v), at most d of them, (v, d).

    By random projection and power iterations: Halko, Martinsson and Tropp, "Finding Structure
    with Randomness", SIAM Review 53 (2011), arXiv:0909.4061, algorithms 4.4 and 5.1. Time
    O(nonzeros * d). One zero vector where there is none.
    """
    n, v = table.shape
    rank = min(d, n, v)
    if rank == 0:  # no word stands in two texts: every text is the zero vector
        return np.zeros((v, 1), dtype=np.float32)
    width = min(rank + _OVERSAMPLE, n, v)
    span = table @ rng.standard_normal((v, width), dtype=np.float32)
    for _ in range(_POWERS):
        span = table @ (table.T @ np.linalg.qr(span)[0])
    frame = np.linalg.qr(span)[0]
    _, strength, found = np.linalg.svd((table.T @ frame).T, full_matrices=False)
    kept = found[:rank][strength[:rank] > 1e-9 * max(strength[0], 1.0)]
    return np.ascontiguousarray(kept.T, dtype=np.float32)


def check_name(name: str) -> str:
    """The name, if there is such an encoder."""
    if name not in ENCODERS:
        raise InputError("encoder", f"be one of {', '.join(ENCODERS)}", name, "Choose one.")
    return name


def _key(item: Any, row: int) -> bytes:
    if not isinstance(item, str):
        hint = "Convert it to text, or pass an array (n, d)."
        raise InputError(f"inputs[{row}]", "be a string", item, hint)
    return hashlib.blake2b(item.encode("utf-8", "surrogatepass"), digest_size=16).digest()
