"""The guarded router."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import turnout
from turnout.core import Budget, InputError, Outcomes
from turnout.llms.guarded_query import Guard, GuardedQuery, fit_guard
from turnout.parts import store
from turnout.parts.gate import Gate
from turnout.parts.learners.wide import Wide
from turnout.parts.texts.encoder import Ready
from turnout.testing import Case

SMALL = GuardedQuery(width=96, batch=32, epochs=10, rate=3e-3)
CASE = Case(SMALL)

FUNCTION = ("please", "can", "you", "tell", "me", "about", "the", "what", "is", "a", "my", "how")
WORDS = {
    "law": ("court", "tenant", "statute", "clause", "liability", "contract", "judge", "appeal"),
    "finance": ("loan", "bank", "interest", "account", "fee", "card", "transfer", "mortgage"),
    "health": ("fever", "doctor", "dose", "pain", "vaccine", "symptom", "surgery", "heart"),
}
OTHER = ("chess", "opening", "rook", "castle", "pawn", "gambit", "bishop", "endgame")


def _text(rng: np.random.Generator, topic: tuple[str, ...], own: int = 3) -> str:
    words = [*rng.choice(topic, own), *rng.choice(FUNCTION, 5)]
    return " ".join(rng.permutation(words))


def _domains(n: int, seed: int) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    labels = [list(WORDS)[int(j)] for j in rng.integers(0, 3, n)]
    return [_text(rng, WORDS[label]) for label in labels], labels


def _strange(seed: int = 9) -> dict[str, list[str]]:
    """Texts of no domain, in sets."""
    rng = np.random.default_rng(seed)
    letters = list("абвгдежзиклмнопрст")
    return {
        "topic": [_text(rng, OTHER) for _ in range(100)],
        "language": ["".join(rng.choice([*letters, " "], 40)) for _ in range(100)],
        "short": [str(word) for word in rng.choice(FUNCTION, 100)],
        "mixture": [_text(rng, OTHER) + " " + str(rng.choice(WORDS["law"])) for _ in range(100)],
    }


@pytest.fixture(scope="module")
def guard() -> Guard:
    return fit_guard(*_domains(600, 0), SMALL, rng=np.random.default_rng(0))


def _by_hand(accept: float) -> Guard:
    """Two endpoints and a fallback over vectors (2,): the logits are the vectors and 0."""
    return Guard(
        names=("a", "b", "other"),
        fallback=2,
        reader=Ready(2),
        unknown=0.0,
        net=Wide(
            np.eye(2, dtype=np.float32),
            np.zeros(2, dtype=np.float32),
            np.eye(2, 3, dtype=np.float32),
            np.array([0.0, -1.0, 3.0], dtype=np.float32),
        ),
        softmax=False,
        gate=Gate(accept=accept),
    )


def test_scores_by_hand() -> None:
    """(0.6, 0.8) has logits 0.6, -0.2 and 3 for the fallback, which is no endpoint: s = 0.646."""
    chance, score = _by_hand(0.6).confidence(np.array([[0.6, 0.8], [0.0, 0.0]]))
    assert chance[0] == pytest.approx(1 / (1 + np.exp([-0.6, 0.2, -3.0])), abs=1e-6)
    assert score[0] == pytest.approx(1 / (1 + np.exp(-0.6)), abs=1e-6)
    assert np.isnan(score[1])
    inputs = np.array([[0.6, 0.8], [0.0, 0.0]])
    assert _by_hand(0.6).labels(inputs).tolist() == [0, 3]
    assert _by_hand(0.7).labels(inputs).tolist() == [3, 3]


def test_domains_are_told_and_strangers_refused(guard: Guard) -> None:
    """In-domain accuracy is near what the threshold keeps; every strange set is mostly refused."""
    texts, labels = _domains(400, 1)
    truth = [guard.names.index(label) for label in labels]
    assert (guard.labels(texts) == truth).mean() > 0.9
    refused = {name: (guard.labels(some) == 3).mean() for name, some in _strange().items()}
    assert refused["language"] == 1.0
    assert min(refused.values()) > 0.5
    assert np.mean(list(refused.values())) > 0.8


def test_the_promised_share_is_accepted() -> None:
    """The threshold from held-out rows accepts that share of new in-domain rows, to 3 points."""
    texts, _ = _domains(2000, 1)
    for keep in (0.9, 0.99):
        recipe = GuardedQuery(width=96, batch=32, epochs=2, rate=3e-3, keep=keep, held_out=0.5)
        guard = fit_guard(*_domains(3000, 0), recipe, rng=np.random.default_rng(0))
        assert (guard.labels(texts) < 3).mean() == pytest.approx(keep, abs=0.03)


def test_without_a_known_word_nothing_is_accepted(guard: Guard) -> None:
    """Not even where every score would be: the bias alone decides nothing."""
    open_ = Guard(**{**vars(guard), "gate": Gate(accept=0.0)})
    texts = ["", "qwertz uiop", "the loan"]
    assert open_.labels(texts).tolist()[:2] == [3, 3]
    assert open_.labels(texts)[2] < 3
    verdict = open_.judge(texts)[0]
    assert (verdict.label, verdict.score) == ("", 0.0)
    assert verdict.reason == "it holds no known word"


def test_unknown_words_lower_the_score(guard: Guard) -> None:
    """One known word among many unknown ones is worth less than alone."""
    _, score = guard.confidence(["mortgage", "mortgage zug zwang xqz vvv qqq"])
    assert score[1] < score[0] - 0.1


def test_a_verdict_says_why(guard: Guard) -> None:
    """Label, score and threshold agree with the label of the batch."""
    texts = ["the bank loan fee interest", "rook takes pawn"]
    yes, no = guard.judge(texts)
    bar = guard.gate.accept
    assert yes.label == "finance"
    assert yes.reason == f"{yes.score:.2f} is at least {bar:.2f}"
    assert no.label == ""
    assert no.reason == "it holds no known word" or no.reason.endswith(f"below {bar:.2f}")


def test_nothing_strange_reaches_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vocabulary, network and threshold come from the texts given, and from no others."""
    texts, labels = _domains(120, 0)
    read: list[str] = []
    from turnout.llms import guarded_query as module

    real = module.grams_of

    def watch(inputs):
        read.extend(inputs)
        return real(inputs)

    monkeypatch.setattr(module, "grams_of", watch)
    guard = fit_guard(texts, labels, SMALL, rng=np.random.default_rng(0))
    assert set(read) <= set(texts)
    # rows that set the threshold are not those the network was trained on
    assert len(set(read)) == len(set(texts))
    assert guard.reader.d > 0


def test_softmax_is_an_option() -> None:
    """Its outputs compete: they sum to one."""
    recipe = GuardedQuery(width=32, batch=32, epochs=4, activation="softmax")
    guard = fit_guard(*_domains(200, 0), recipe, rng=np.random.default_rng(0))
    chance, _ = guard.confidence(["the loan", "my fever"])
    assert chance.sum(axis=1) == pytest.approx(np.ones(2))


def _table(n: int = 300) -> Outcomes:
    texts, labels = _domains(n, 0)
    names = (*WORDS, "refuse")
    quality = np.array([[float(label == name) for name in names] for label in labels])
    return Outcomes(
        inputs=texts, names=names, quality=quality, cost=np.tile([1.0, 1.0, 1.0, 0.0], (n, 1))
    )


def test_rejected_prompts_go_to_the_fallback() -> None:
    """The named destination gets what belongs to none, though it was never right in the table."""
    table = _table()
    recipe = GuardedQuery(width=96, batch=16, epochs=10, rate=1e-2, fallback="refuse", keep=1.0)
    router = turnout.fit(recipe, table)
    law, finance = (table.inputs[int(table.quality[:, j].argmax())] for j in (0, 1))
    asked = [finance, "", "шахматы", law]
    rng = np.random.default_rng(0)
    routed = router.route(asked, table.pool(), budget=Budget(price=0.01), rng=rng)
    assert routed.index[:, 0].tolist() == [1, 3, 3, 0]


def test_a_fallback_that_is_down_leaves_the_best_guess() -> None:
    """What was predicted of the endpoints still stands."""
    table = _table()
    router = turnout.fit(GuardedQuery(width=32, epochs=2, fallback="refuse"), table)
    pool = table.pool().with_down(["refuse"])
    routed = router.route(["шахматы"], pool, budget=Budget(), rng=np.random.default_rng(0))
    assert routed.index[0, 0] in (0, 1, 2)


def test_without_a_name_the_best_on_average_is_the_fallback() -> None:
    """A table that names none falls back on the destination with the highest mean."""
    quality = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    table = Outcomes(
        inputs=["a b", "b c", "a c"], names=("x", "y"), quality=quality, cost=np.ones((3, 2))
    )
    recipe = GuardedQuery(width=4, epochs=1)
    fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
    assert fitted.guard.fallback == 0
    assert fitted.predict(["zzz"])[0][0, 0] == 1.0


def test_it_is_saved_with_its_threshold(tmp_path: Path) -> None:
    """From another process it says the same to the bit."""
    table = _table(100)
    recipe = GuardedQuery(width=16, epochs=2, fallback="refuse")
    fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
    store.save(tmp_path / "r.turnout", fitted, table.pool())
    again = store.load(tmp_path / "r.turnout").router
    asked = [*table.inputs, "шахматы"]
    assert (again.predict(asked)[0] == fitted.predict(asked)[0]).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fallback": 3}, "guarded_query.fallback must be a name"),
        ({"keep": 0.0}, "guarded_query.keep must be"),
        ({"activation": "relu"}, "guarded_query.activation must be one of sigmoid, softmax"),
        ({"held_out": 0.9}, "guarded_query.held_out must be"),
        ({"width": 0}, "guarded_query.width must be"),
        ({"vocabulary": 0}, "guarded_query.vocabulary must be"),
        ({"dropout": 1.0}, "guarded_query.dropout must be"),
        ({"batch": 0}, "batch must be"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        GuardedQuery(**fields)


def test_what_cannot_be_fitted_is_refused() -> None:
    """A fallback that is no destination, labels that do not match, vectors to a guard of texts."""
    table = _table(40)
    with pytest.raises(InputError, match=r"guarded_query.fallback must be one of law"):
        GuardedQuery(fallback="chess").fit(table, table.pool(), rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="labels must hold one label for each of the 2 texts"):
        fit_guard(["a", "b"], ["x"], rng=np.random.default_rng(0))
    fitted = GuardedQuery(width=4, epochs=1).fit(table, table.pool(), rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="sequence of strings"):
        fitted.predict(np.ones((2, 3)))
