"""How the compiled reader of texts comes into a process, and what happens where it cannot."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from turnout.core import Pool
from turnout.llms.linear import FittedLinear
from turnout.parts import native
from turnout.parts.costs import CostModel
from turnout.parts.decide import Decider, compile_decider
from turnout.parts.native import _text
from turnout.parts.texts.bags import TextScorer, learn_features

compiles = pytest.mark.skipif(native.compiler() is None, reason="no compiler")

TEXT = "What is the capital of France?"


def scorer_of() -> TextScorer:
    """Random weights for three destinations."""
    features = learn_features([TEXT, "The capital of France is Paris."], min_df=1)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(features.d, 3)).astype(np.float32)
    return TextScorer(features, weights, rng.normal(size=3))


def decider_of() -> Decider:
    """The decider of a router of the default kind."""
    names = ("small", "middle", "large")
    costs = CostModel(np.array([0.1, 0.5, 1.0]), np.zeros(3), np.zeros(3))
    return compile_decider(FittedLinear(names, scorer_of(), costs, 1.0), Pool(names=names))


@compiles
def test_deciding_never_builds(fresh: Path) -> None:
    """Making a decider and deciding looks into the cache and leaves it as it is."""
    decider = decider_of()
    choice = decider.decide(TEXT, 0.1)
    assert decider.use_kernel() == "it was not built"
    assert not (fresh / "cache").exists()
    assert decider._kernel is None
    assert decider.use_kernel(build=True) == ""
    assert len(list((fresh / "cache" / "native").iterdir())) == 1
    assert decider.decide(TEXT, 0.1) == choice
    assert decider._kernel is not None


def test_what_was_built_is_used(fresh: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decider takes what the cache holds, without a word; where there is none it decides too."""
    without = decider_of()
    choice = without.decide(TEXT, 0.1)
    assert without._kernel is None
    monkeypatch.setenv("TURNOUT_CACHE", str(built))
    decider = decider_of()
    assert decider.decide(TEXT, 0.1) == choice
    assert decider._kernel is not None


def test_no_compiler(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Then the arrays decide, and one line says why."""
    monkeypatch.setenv("PATH", str(fresh))
    monkeypatch.delenv("CXX", raising=False)
    decider = decider_of()
    with caplog.at_level(logging.INFO, "turnout.parts.native"):
        assert decider.use_kernel(build=True) == "there is no C++ compiler"
    assert caplog.messages == ["no C++ compiler for the text kernel"]
    scorer = decider.predictor.scorer  # type: ignore[attr-defined]
    assert scorer.score(TEXT) == scorer.weigh(TEXT, 1.0)[0]
    assert scorer._kernel is None


@pytest.mark.usefixtures("fresh")
def test_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """`TURNOUT_NATIVE=0` is obeyed, and named."""
    monkeypatch.setenv("TURNOUT_NATIVE", "0")
    assert scorer_of().use_kernel(build=True) == "TURNOUT_NATIVE forbids it"
    assert _text.library() is None


@compiles
def test_a_source_that_does_not_compile(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the arrays decide, and nothing half-written is left."""
    (fresh / "text.cpp").write_text("no C++\n", encoding="utf-8")
    monkeypatch.setattr(_text, "_FOLDER", fresh)
    scorer = scorer_of()
    assert scorer.use_kernel(build=True) == "it could not be built"
    assert scorer.use_kernel(build=True) == "it could not be built"
    assert scorer.score(TEXT) == scorer.weigh(TEXT, 1.0)[0]
    assert list((fresh / "cache" / "native").iterdir()) == []


@compiles
def test_a_damaged_file_is_built_again(fresh: Path) -> None:
    """One that cannot be loaded does no harm, and is replaced when somebody asks."""
    folder = fresh / "cache" / "native"
    folder.mkdir(parents=True)
    path = folder / f"text-{_text.source().key('')}.so"
    path.write_bytes(b"no library")
    scorer = scorer_of()
    assert scorer.use_kernel() == "it was not built"
    assert scorer.score(TEXT) == scorer.weigh(TEXT, 1.0)[0]
    assert scorer.use_kernel(build=True) == ""
    assert path.stat().st_size > 1000
    assert scorer.score(TEXT) == scorer.weigh(TEXT, 1.0)[0]
    assert scorer._kernel is not None


PROCESS = """
import sys
from turnout.parts.native import _text
print(repr(_text.load(build=True)))
"""


@compiles
def test_processes_build_at_the_same_time(fresh: Path) -> None:
    """Each has a whole library, and one file is left."""
    command = [sys.executable, "-c", PROCESS]
    many = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [one.communicate()[0].strip() for one in many] == ["''", "''"]
    assert len(list((fresh / "cache" / "native").iterdir())) == 1


@compiles
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_nobody_waits_for_the_compiler(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works in a thread; until it is done arrays decide, from then on its code does."""
    gate, slow = fresh / "gate", fresh / "slow"
    os.mkfifo(gate)
    slow.write_text(f'#!/bin/sh\nread go < {gate}\nexec {native.compiler()} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("CXX", str(slow))
    scorer = scorer_of()
    assert scorer.use_kernel(build=True, seconds=0) == "it is being built"
    (thread,) = (one for one in threading.enumerate() if one.name == "compiler")
    before = scorer.score(TEXT)
    assert scorer._kernel is None
    gate.write_text("go\n")
    thread.join()
    assert scorer.use_kernel() == ""
    assert scorer.score(TEXT) == before
    assert scorer._kernel is not None


def test_a_predictor_without_compiled_code_says_so() -> None:
    """Asking is free, and the answer a reason."""

    class Plain:
        """Says nothing of kernels."""

        names = ("only",)

        def predict(self, inputs: object) -> tuple[np.ndarray, np.ndarray]:
            return np.ones((1, 1)), np.ones((1, 1))

    decider = compile_decider(Plain(), Pool(names=("only",)))  # type: ignore[arg-type]
    assert decider.use_kernel(build=True) == "this kind of predictor has none"


def test_reading_text_loads_no_scipy() -> None:
    """A gateway that only decides has no use for sparse matrices."""
    code = "import sys, turnout.llms.linear; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
