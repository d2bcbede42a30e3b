"""The compiled reader of texts: the bits of the arrays, for every text and every choice."""

from __future__ import annotations

import copy
import math
import pickle
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError, Inputs, Pool
from turnout.llms.linear import FittedLinear
from turnout.parts import store
from turnout.parts.costs import CostModel
from turnout.parts.decide import Decider
from turnout.parts.native import _text
from turnout.parts.texts.bags import TextFeatures, TextScorer, learn_features
from turnout.parts.texts.words import READ, texts_of

TEXTS = (
    "What is 12 + 30?",
    "what is the capital of France?",
    "The capital of France is Paris.",
    "def f(x): return x + 1",
    "多く の 日本語",
    "日本語 the capital, naïve ÉCOLE straße",
    "what is what is what is",
)
WORDS = (
    "the",
    "THE",
    "capital",
    "Paris",
    "12",
    "?",
    "日本語",
    "naïve",
    "École",
    "x_y",
    "İ",
    "\0",
    "ΟΔΟΣ",
    "–",
)


def scorer_of(
    texts: tuple[str, ...] = TEXTS, m: int = 3, *, seed: int = 0, spread: float = 1.0
) -> TextScorer:
    """Random weights for the words of some texts, of magnitudes up to `spread` and down from it."""
    features = learn_features(texts, min_df=1)
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(features.d, m)) * spread ** rng.uniform(-1, 1, (features.d, m))
    return TextScorer(features, weights.astype(np.float32), rng.normal(size=m))


def both(scorer: TextScorer, text: str) -> tuple[list[float], list[float]]:
    """By compiled code and by arrays."""
    compiled = scorer.score(text)
    assert scorer._kernel is not None
    return compiled, scorer.weigh(text, 1.0)[0]


def fitted_of(m: int = 3) -> FittedLinear:
    """A router of the default kind."""
    names = tuple(f"model {j}" for j in range(m))
    costs = CostModel(np.linspace(0.1, 1, m), np.linspace(0.01, 0.1, m), np.full(m, 0.3))
    return FittedLinear(names, scorer_of(m=m), costs, 1.0)


ANY = st.characters(codec=None, exclude_categories=())
MIXED = st.lists(st.one_of(st.sampled_from(WORDS), st.text(ANY, max_size=4)), max_size=60)
STRANGE = st.one_of(
    st.text(ANY, max_size=200),
    MIXED.map(" ".join),
    MIXED.map("".join),
    st.text("ab1 .ÉĲ日\ud800\U0001f600\0\n", max_size=300),
)


@pytest.mark.usefixtures("kernel")
def test_the_same_bits_for_any_text() -> None:
    """Whatever characters it has, surrogates too, arrays and compiled code agree to the bit."""
    scorers = [scorer_of(m=m, seed=m, spread=1e4) for m in (1, 2, 11)]

    @settings(deadline=None, max_examples=300)
    @given(STRANGE, st.integers(0, 2))
    def agree(text: str, which: int) -> None:
        compiled, arrays = both(scorers[which], text)
        assert compiled == arrays

    agree()


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    "text",
    [
        "",
        " \0\n\t ",
        "zzz unknown words only",
        "capital",
        "CAPITAL\x7fof\x7fFRANCE",
        "\ud800",
        "a" * READ,
        "a" * (READ + 1),
        "İ" * READ,
        "\U0001f600" * (2 * READ),
        "?" * (3 * READ),
        "\ud800" * READ,
        f"the capital {'zz ' * 400_000} of paris",
        "the capital of france is paris. " * 3000,
    ],
    ids=lambda text: f"{text[:12]!r} x {len(text)}",
)
def test_the_same_bits_for_hard_texts(text: str) -> None:
    """Nothing known, one character, and more than is read, of one and of four bytes each."""
    compiled, arrays = both(scorer_of(), text)
    assert compiled == arrays


@pytest.mark.usefixtures("kernel")
def test_the_same_bits_for_any_number_of_words() -> None:
    """Words are looked up some hundred at a time; none is lost or counted twice between."""
    spell = str.maketrans("0123456789", "abcdefghij")
    words = [f"w{i}".translate(spell) for i in range(700)]
    scorer = scorer_of((" ".join(words), *TEXTS))
    for count in (1, 2, 127, 128, 129, 255, 256, 257, 384, 385, 700):
        compiled, arrays = both(scorer, " ".join(words[:count]))
        assert compiled == arrays
        twice, _ = both(scorer, " ".join(words[:count] + words[:count]))
        again = scorer.weigh(" ".join(words[:count] + words[:count]), 1.0)[0]
        assert twice == again


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("m", [0, 1, 2, 7, 300])
def test_the_same_bits_for_any_number_of_destinations(m: int) -> None:
    """None, one, a few, and very many."""
    scorer = scorer_of(m=m, spread=1e6)
    for text in TEXTS:
        compiled, arrays = both(scorer, text)
        assert len(compiled) == m
        assert compiled == arrays


@pytest.mark.usefixtures("kernel")
def test_the_same_bits_without_a_vocabulary() -> None:
    """Where nothing was learnt there are the intercepts."""
    features = learn_features(["a"], min_df=2)
    scorer = TextScorer(features, np.zeros((0, 2), dtype=np.float32), np.array([0.5, -1.0]))
    for text in ("", "a", "a b c"):
        assert both(scorer, text) == ([0.5, -1.0], [0.5, -1.0])


@pytest.mark.usefixtures("kernel")
def test_arrays_in_other_orders_serve() -> None:
    """Weights by column and an intercept of every second number are taken over in order."""
    plain = scorer_of(m=2)
    spaced = np.zeros(4)
    spaced[::2] = plain.intercept
    other = TextScorer(plain.features, np.asfortranarray(plain.weights), spaced[::2])
    for text in TEXTS:
        assert other.score(text) == plain.score(text) == other.weigh(text, 1.0)[0]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 1e3, 1e9, 1e18]))
def test_sums_are_exact(seed: int, spread: float) -> None:
    """However different the weights, the sum over all features is that of exact arithmetic."""
    scorer = scorer_of(seed=seed, spread=spread)
    everything = " . ".join(TEXTS)
    found = scorer.features.find(everything)
    rows = scorer._table[found].astype(np.float64)
    exact = [math.fsum(column) for column in rows.T]
    for order in (slice(None), slice(None, None, -1)):
        assert np.add.accumulate(rows[order])[-1].tolist() == exact
    shrink = 1.0 / math.sqrt(exact.pop())
    assert scorer.weigh(everything, 1.0)[0] == [
        value * shrink + shift for value, shift in zip(exact, scorer.intercept, strict=True)
    ]


def test_rounding_the_table_is_below_what_floats_tell_apart() -> None:
    """No weight moves by more than 2^-36 of the greatest of its destination."""
    scorer = scorer_of(spread=1e9)
    plain = scorer.weights * scorer.features.idf[:, None]
    most = np.abs(plain).max(axis=0)
    assert (np.abs(scorer._table[:, :-1] - plain) <= most * 2.0**-36).all()
    assert (scorer._table[:, -1] > 0).all()


def test_the_length_of_a_text_never_rounds_to_nothing() -> None:
    """A feature that weighs next to nothing beside another still has a length."""
    keys = np.array([1 << 63, 1 << 62], dtype=np.uint64)
    features = TextFeatures(keys, np.array([2e-6, 2e6], dtype=np.float32), 2)
    scorer = TextScorer(features, np.ones((2, 1), dtype=np.float32), np.zeros(1))
    assert (scorer._table[:, -1] > 0).all()


@pytest.mark.usefixtures("kernel")
def test_threads_do_not_meet() -> None:
    """Four threads that take turns as fast as they can get each its own answers."""
    scorer = scorer_of(m=11)
    texts = [" ".join(TEXTS[i:] + TEXTS[:i]) for i in range(len(TEXTS))] + list(TEXTS)
    right = [scorer.weigh(text, 1.0)[0] for text in texts]
    wrong: list[str] = []
    together = threading.Barrier(4)

    def work(offset: int) -> None:
        together.wait()
        for turn in range(300 * len(texts)):
            at = (turn * (offset + 1)) % len(texts)
            if scorer.score(texts[at]) != right[at]:
                wrong.append(texts[at])

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []
    assert scorer._kernel is not None
    assert 1 <= len(scorer._kernel._free) <= 4


@pytest.mark.usefixtures("kernel")
def test_a_call_within_a_call_has_memory_of_its_own() -> None:
    """A scratch that is in use is not handed out again."""
    scorer = scorer_of()
    scorer.score(TEXTS[0])
    assert scorer._kernel is not None
    free = scorer._kernel._free
    (held,) = free
    free.clear()
    assert scorer.score(TEXTS[1]) == scorer.weigh(TEXTS[1], 1.0)[0]
    assert len(free) == 1
    assert free[0] is not held


@dataclass(frozen=True, eq=False)
class ByArrays:
    """A fitted router whose every figure is made by arrays and plain floats."""

    fitted: FittedLinear

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the router."""
        return self.fitted.names

    def predict(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """Quality and cost."""
        quality, cost = [], []
        for text in texts_of(inputs):
            scores = self.fitted.scorer.weigh(text, 1.0)[0]
            quality.append([1 / (1 + math.exp(-z)) if z > -700 else 0.0 for z in scores])
            cost.append(self.fitted.costs.predict_one(len(text)))
        return np.array(quality), np.array(cost)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("names", [None, ["model 4", "model 0", "model 3"], ["model 2"]])
def test_the_same_choices(names: list[str] | None) -> None:
    """Any text, price and part of the pool: the choice and every figure of the slow way."""
    fitted = fitted_of(m=5)
    pool = Pool(names=names or fitted.names)
    quick, slow = Decider(fitted, pool), Decider(ByArrays(fitted), pool)
    down = st.lists(st.booleans(), min_size=pool.m, max_size=pool.m).filter(any)

    @settings(deadline=None, max_examples=200)
    @given(STRANGE, st.sampled_from([0.0, 1e-3, 0.1, 3.0, 1e9, math.inf]), st.none() | down)
    def agree(text: str, price: float, up: list[bool] | None) -> None:
        assert quick.decide(text, price, up) == slow.decide(text, price, up)
        assert quick.figures(text) == slow.figures(text)

    agree()
    assert quick._kernel is not None
    assert slow._kernel is None


@pytest.mark.usefixtures("kernel")
def test_ties_are_settled_as_ever() -> None:
    """Of equals the cheaper is taken, then the earlier; compiled code passes them on."""
    features = learn_features(TEXTS, min_df=1)
    scorer = TextScorer(features, np.ones((features.d, 4), dtype=np.float32), np.zeros(4))
    costs = CostModel(np.array([2.0, 1.0, 1.0, 3.0]), np.zeros(4), np.zeros(4))
    fitted = FittedLinear(("a", "b", "c", "d"), scorer, costs, 1.0)
    decider = Decider(fitted, Pool(names=fitted.names))
    assert [decider.decide(TEXTS[0], price)[0] for price in (0.0, 0.5, math.inf)] == [1, 1, 1]
    assert decider._kernel is not None
    assert decider._kernel.decide(TEXTS[0], 0.0)[0] == -1
    assert decider._kernel.decide(TEXTS[0], 0.5)[0] == -1


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("shift", [-1e6, -701.0, -700.0, -699.0, -40.0, 0.0, 40.0, 1e6])
def test_odds_beyond_reach(shift: float) -> None:
    """Very good and very bad odds give the quality of the slow way."""
    features = learn_features(TEXTS, min_df=1)
    weights = np.random.default_rng(0).normal(size=(features.d, 2)).astype(np.float32)
    scorer = TextScorer(features, weights, np.array([shift, 0.25]))
    fitted = FittedLinear(("a", "b"), scorer, CostModel(*np.ones((3, 2))), 1.0)
    pool = Pool(names=fitted.names)
    for text in ("", *TEXTS):
        quick = Decider(fitted, pool).decide(text, 0.1)
        assert quick == Decider(ByArrays(fitted), pool).decide(text, 0.1)


@pytest.mark.usefixtures("kernel")
def test_compiled_code_is_no_state(tmp_path: Path) -> None:
    """Pickled, copied or saved, a scorer and a decider are what they were before they were used."""
    fitted = fitted_of()
    decider = Decider(fitted, Pool(names=fitted.names))
    right, choice = fitted.scorer.score(TEXTS[1]), decider.decide(TEXTS[1], 0.1)
    store.save(tmp_path / "file", fitted, decider.pool)
    loaded = store.load(tmp_path / "file").router.predictor  # type: ignore[attr-defined]
    for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted), loaded):
        assert again.scorer._kernel is None
        assert again.scorer.score(TEXTS[1]) == right == again.scorer.weigh(TEXTS[1], 1.0)[0]
    for other in (pickle.loads(pickle.dumps(decider)), copy.deepcopy(decider)):
        assert other._kernel is None
        assert other.decide(TEXTS[1], 0.1) == choice


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", np.zeros(255, dtype=np.uint8)),
        ("keys", np.zeros(5, dtype=np.int64)),
        ("table", np.zeros((3, 4), dtype=np.float32).T),
        ("ids", np.zeros(3, dtype=np.int32)),
        ("lines", np.zeros((3, 1))),
    ],
)
def test_arrays_that_the_kernel_would_misread_are_refused(name: str, value: np.ndarray) -> None:
    """Size, type and order, each by name."""
    library = _text.library()
    assert library is not None
    given = {
        "kind": np.zeros(256, dtype=np.uint8),
        "code": np.zeros(256, dtype=np.uint8),
        "power": np.zeros(9, dtype=np.uint64),
        "ids": np.zeros(4, dtype=np.int32),
        "keys": np.zeros(5, dtype=np.uint64),
        "table": np.zeros((4, 3), dtype=np.float32),
        "intercept": np.zeros(2),
        "lines": np.zeros((3, 2)),
    }
    _text.TextKernel(library, str.encode, pair=1, bits=2, **given)
    with pytest.raises(InputError, match=rf"kernel\.{name}"):
        _text.TextKernel(library, str.encode, pair=1, bits=2, **(given | {name: value}))


@pytest.mark.usefixtures("kernel")
def test_lower_case_is_that_of_python() -> None:
    """Of every character there is, alone and beside a capital of ASCII, compiled code knows it."""
    library = _text.library()
    assert library is not None
    plain = _text.plain(library)
    left = [chr(code) for code in range(sys.maxunicode + 1) if plain(_utf8(chr(code)))]
    assert [one for one in left if one.lower() != one and not one.isascii()] == []
    # and it does not give up on what it can know
    assert len(left) > 125_000
    assert plain(_utf8("Naïve – 日本 \U0001f600"))
    assert not plain(_utf8("a naïve \U0001f600 École"))
    assert not plain(_utf8("\U00020000"))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
