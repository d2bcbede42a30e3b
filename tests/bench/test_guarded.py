"""The score of guarded routers."""

from __future__ import annotations

import socket
import sys
from types import ModuleType

import numpy as np
import pytest

from turnout.bench import guarded
from turnout.bench.guarded import guarded_score, harmonic
from turnout.core import InputError
from turnout.llms.guarded_query import GuardedQuery, fit_guard


def test_a_score_by_hand() -> None:
    """Two of three right inside; three of four and one of one refused outside."""
    found = guarded_score([0, 1, 2], [0, 1, 3], {"a": [3, 3, 0, 3], "b": [3]}, reject=3)
    assert found.id_accuracy == pytest.approx(2 / 3)
    assert found.sets == (("a", 0.75), ("b", 1.0))
    assert found.ood_accuracy == 0.875
    assert found.gqr == pytest.approx(2 * (2 / 3) * 0.875 / (2 / 3 + 0.875))


def test_sets_count_alike_whatever_their_size() -> None:
    """The mean over sets is not the mean over rows."""
    sets = {"large": np.zeros(1000, dtype=int), "small": [9]}
    assert guarded_score([0], [0], sets, reject=9).ood_accuracy == 0.5


def test_who_never_refuses_scores_zero() -> None:
    """Nor does who refuses everything score; and nothing divides by zero."""
    assert guarded_score([0, 1], [0, 1], {"a": [0, 1]}, reject=2).gqr == 0.0
    assert guarded_score([0, 1], [2, 2], {"a": [2, 2]}, reject=2).gqr == 0.0
    assert guarded_score([0, 1], [1, 0], {"a": [0, 1]}, reject=2).gqr == 0.0
    assert harmonic(0.5, 1.0) == pytest.approx(2 / 3)


def test_the_package_of_the_paper_agrees() -> None:
    """Where it is installed, its figures are ours to the bit."""
    gqr = pytest.importorskip("gqr", reason="the package gqr is not installed")
    rng = np.random.default_rng(0)
    truth, told = rng.integers(0, 3, 500), rng.integers(0, 4, 500)
    assert gqr.evaluate(told.tolist(), truth.tolist())["accuracy"] == (truth == told).mean()
    sets = {name: rng.integers(0, 4, n) for name, n in (("a", 7), ("b", 300))}
    pandas = pytest.importorskip("pandas")
    frame = pandas.concat(
        pandas.DataFrame({"dataset": name, "pred": row, "label": 3}) for name, row in sets.items()
    )
    theirs = gqr.evaluate_by_dataset(frame)["accuracy"]
    found = guarded_score(truth, told, sets, reject=3)
    assert [share for _, share in found.sets] == theirs.tolist()
    assert found.ood_accuracy == theirs.mean()


def test_the_package_scores_the_same_guard_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """From texts to its last figure, given rows of our own in place of its two downloads.

    Neither its import nor its scorer may reach for the network.
    """

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it reached for the network")

    for where, name in ((socket.socket, "connect"), (socket, "getaddrinfo")):
        monkeypatch.setattr(where, name, refuse)
    gqr = pytest.importorskip("gqr", reason="the package gqr is not installed")
    pandas = pytest.importorskip("pandas")
    words = {"law": "court judge clause", "finance": "loan bank fee", "health": "dose pain fever"}
    strange = {
        "chess": ["a rook", "bank loan", "two bishops"],
        "chat": ["hello", "good day"],
    }
    texts = [f"{a} {b}" for each in words.values() for a in each.split() for b in each.split()]
    labels = [name for name in words for _ in range(9)]
    recipe = GuardedQuery(width=32, batch=8, epochs=60, rate=1e-2)
    guard = fit_guard(texts, labels, recipe, rng=np.random.default_rng(0))
    truth = [guard.names.index(label) for label in [*labels[1:], labels[0]]]  # three are wrong
    known = pandas.DataFrame({"text": texts, "label": truth})
    rows = [(text, 3, name) for name, some in strange.items() for text in some]
    others = pandas.DataFrame(rows, columns=["text", "label", "dataset"])
    monkeypatch.setattr(gqr, "load_id_test_dataset", lambda: known)
    monkeypatch.setattr(gqr, "load_ood_test_dataset", lambda: others)
    theirs = gqr.score(lambda text: int(guard.labels([text])[0]))
    sets = {name: guard.labels(some) for name, some in strange.items()}
    ours = guarded_score(truth, guard.labels(texts), sets, reject=3)
    assert ours.id_accuracy == pytest.approx(24 / 27)
    assert ours.ood_accuracy == pytest.approx(5 / 6)
    assert (ours.id_accuracy, ours.ood_accuracy, ours.gqr) == (
        theirs["id_accuracy"],
        theirs["ood_accuracy"],
        theirs["gqr_score"],
    )


def test_the_package_is_asked_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every accuracy is made by its scorer, and the figures stay."""
    calls = []

    def evaluate(predictions, ground_truth):
        calls.append(len(predictions))
        same = [a == b for a, b in zip(predictions, ground_truth, strict=True)]
        return {"accuracy": sum(same) / len(same)}

    sets = {"a": [3, 3, 0, 3], "b": [3]}
    alone = guarded_score([0, 1, 2], [0, 1, 3], sets, reject=3)
    package = ModuleType("gqr")
    package.evaluate = evaluate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gqr", package)
    monkeypatch.setattr(guarded.importlib.util, "find_spec", lambda name: package)
    assert guarded_score([0, 1, 2], [0, 1, 3], sets, reject=3) == alone
    assert calls == [3, 4, 1]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (([0], [0, 1], {"a": [3]}), "predicted must hold 1 labels"),
        (([3], [0], {"a": [3]}), "truth must hold domains only"),
        (([0], [0], {}), "strange must hold at least one set"),
        (([0], [0], {"a": []}), r"strange\['a'\] must be a sequence"),
        (([0.5], [0], {"a": [3]}), "truth must be a sequence of whole numbers"),
    ],
)
def test_what_cannot_be_scored_is_refused(values: tuple, field: str) -> None:
    """The field at fault is named."""
    with pytest.raises(InputError, match=field):
        guarded_score(*values, reject=3)
