"""Router files: another process decides the same, and bad files are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import turnout
from turnout.core import Budget, InputError, Outcomes, Pool, RouterFileError
from turnout.llms.linear import Linear
from turnout.parts import store

TEXTS = tuple(
    f"{verb} {i} {noun}"
    for i in range(10)
    for verb in ("add", "recite")
    for noun in ("numbers", "poèmes", "数字")
)
PRICE = 0.05

_ELSEWHERE = """
import json, sys
import numpy as np
import turnout
saved = turnout.load(sys.argv[1])
texts = json.load(sys.stdin)
routed = saved.router.route(
    texts, saved.pool, budget=turnout.core.Budget(price=float(sys.argv[2])),
    rng=np.random.default_rng(0),
)
quality, cost = saved.router.predict(texts)
json.dump([routed.index.tolist(), quality.tolist(), cost.tolist(), saved.fingerprint], sys.stdout)
"""


@pytest.fixture(scope="module")
def table() -> Outcomes:
    rng = np.random.default_rng(0)
    good = np.array([[0.95, 0.9] if text.startswith("add") else [0.1, 0.9] for text in TEXTS])
    return Outcomes(
        inputs=TEXTS,
        names=("small", "large"),
        quality=(rng.random(good.shape) < good).astype(float),
        cost=np.outer([len(text) for text in TEXTS], [0.1, 1.0]),
    )


@pytest.fixture(scope="module")
def router(table: Outcomes):
    return turnout.fit(Linear(), table)


@pytest.fixture
def saved(tmp_path: Path, table: Outcomes, router) -> Path:
    path = tmp_path / "router.turnout"
    pool = replace(table.pool(), description=("quick", "thorough"))
    store.save(
        path,
        router,
        pool,
        fingerprint=table.fingerprint(),
        method="llms.linear",
        extra={"aiq": 0.5},
    )
    return path


def test_another_process_decides_the_same(saved: Path, table: Outcomes, router) -> None:
    """Loaded elsewhere: the same choices, the same figures to the last bit."""
    run = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, str(saved), str(PRICE)],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        check=True,
    )
    index, quality, cost, fingerprint = json.loads(run.stdout)
    budget = Budget(price=PRICE)
    here = router.route(TEXTS, table.pool(), budget=budget, rng=np.random.default_rng(0))
    assert index == here.index.tolist()
    assert {0, 1} == set(here.index[:, 0].tolist())
    assert quality == router.predict(TEXTS)[0].tolist()
    assert cost == router.predict(TEXTS)[1].tolist()
    assert fingerprint == table.fingerprint()


def test_everything_that_was_said_comes_back(saved: Path, table: Outcomes) -> None:
    """Pool, method, fingerprint and notes are part of the file."""
    loaded = turnout.load(saved)
    assert loaded.pool.names == table.names
    assert loaded.pool.description == ("quick", "thorough")
    assert loaded.method == "llms.linear"
    assert loaded.extra == {"aiq": 0.5}


def test_no_pickle_and_readable_by_others(saved: Path) -> None:
    """It is a safetensors file, and nothing in it is pickled."""
    arrays = load_file(saved)
    assert any(key.endswith("weights") for key in arrays)
    assert not any("._" in key for key in arrays)
    assert b"pickle" not in saved.read_bytes()


def test_saving_over_a_file_replaces_it_whole(saved: Path, table: Outcomes, router) -> None:
    """No second file is left behind."""
    store.save(saved, router, table.pool())
    assert turnout.load(saved).fingerprint == ""
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def _edited(path: Path, change) -> Path:
    """The file with its manifest changed by hand."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        manifest = json.loads(file.metadata()["turnout"])
    change(manifest)
    save_file(load_file(path), path, metadata={"turnout": json.dumps(manifest)})
    return path


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The message says how to make one."""
    with pytest.raises(RouterFileError, match="turnout fit"):
        turnout.load(tmp_path / "none")


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.999])
def test_a_cut_file_is_refused(saved: Path, keep: float) -> None:
    """However little is missing."""
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(RouterFileError, match="damaged"):
        turnout.load(saved)


def test_another_file_is_refused(tmp_path: Path) -> None:
    """A safetensors file of something else, and no safetensors file at all."""
    other = tmp_path / "other"
    save_file({"x": np.zeros(3)}, other)
    with pytest.raises(RouterFileError, match="router file"):
        turnout.load(other)
    other.write_text("hello")
    with pytest.raises(RouterFileError, match="damaged"):
        turnout.load(other)


def test_a_newer_format_is_refused(saved: Path) -> None:
    """The message names both numbers and says to upgrade."""
    _edited(saved, lambda manifest: manifest.update(format=store.FORMAT + 1))
    with pytest.raises(RouterFileError, match=rf"at most {store.FORMAT}; got .*upgrade"):
        turnout.load(saved)


@pytest.mark.parametrize(
    "name",
    ["subprocess:Popen", "os:system", "turnout.core.pool:np", "turnout.parts.store:load"],
)
def test_a_class_that_may_not_be_named_is_refused(saved: Path, name: str) -> None:
    """Only dataclasses of this package are made, whatever a file asks for."""
    _edited(saved, lambda manifest: manifest["router"].update({"class": name}))
    with pytest.raises(RouterFileError, match="router class"):
        turnout.load(saved)


def test_a_missing_array_is_refused(saved: Path) -> None:
    """An array the manifest names must be there."""

    def lose(manifest: dict) -> None:
        manifest["router"]["fields"]["predictor"]["fields"]["scorer"]["fields"]["weights"] = {
            "array": "nowhere"
        }

    with pytest.raises(RouterFileError, match="whole"):
        turnout.load(_edited(saved, lose))


def test_arrays_that_do_not_fit_are_refused(saved: Path) -> None:
    """Values that a constructor refuses are a damaged file."""

    def cut(manifest: dict) -> None:
        manifest["router"]["fields"]["predictor"]["fields"]["names"] = {"tuple": ["small"]}

    with pytest.raises(RouterFileError, match="whole"):
        turnout.load(_edited(saved, cut))


def test_a_router_for_another_pool_is_refused(saved: Path) -> None:
    """Routing to a destination it has never seen names that destination."""
    loaded = turnout.load(saved)
    with pytest.raises(InputError, match="stranger"):
        loaded.router.route(
            ["a"],
            Pool(names=("small", "stranger")),
            budget=Budget(),
            rng=np.random.default_rng(0),
        )


@dataclass(frozen=True, eq=False)
class Foreign:
    """A predictor of another package."""

    names: tuple[str, ...]
    level: float

    def predict(self, inputs):
        shape = (len(inputs), len(self.names))
        return np.full(shape, self.level), np.zeros(shape)


@dataclass(frozen=True, eq=False)
class Unsaveable:
    """A predictor that holds what no file can."""

    names: tuple[str, ...]
    thing: object

    def predict(self, inputs):
        raise NotImplementedError


def test_other_packages_are_loaded_only_when_trusted(tmp_path: Path) -> None:
    """A class from elsewhere needs `trust`."""
    path = tmp_path / "foreign"
    store.save(path, Foreign(("a",), 0.25), Pool(names=("a",)))
    with pytest.raises(RouterFileError, match="trust"):
        turnout.load(path)


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    """The field at fault stands in the message, and no file is left."""
    with pytest.raises(RouterFileError, match=r"router\.thing"):
        store.save(tmp_path / "x", Unsaveable(("a",), object()), Pool(names=("a",)))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The message says to choose another path."""
    with pytest.raises(RouterFileError, match="Choose another path"):
        store.save(tmp_path / "no" / "x", Foreign(("a",), 0.5), Pool(names=("a",)))
