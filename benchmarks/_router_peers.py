"""Other people's routers as methods that `turnout.bench.evaluate` can judge.

Each runs in a process of its own (`_router_child.py`), under the Python that has it: this one, or
that of `.venv-peers` beside the project. It is told the same rows and no more; what it says of a
prompt is taken for the quality, and expected costs are those that our own methods use, so that
what is compared is the reading of prompts. One that cannot be had is left out, with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from _router_child import ADAPTERS  # type: ignore[import-not-found,unused-ignore]
from turnout.core import InputError, Inputs, Outcomes, Pool
from turnout.core._check import Float
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.words import texts_of

__all__ = ["ENVIRONMENT", "PEERS", "FittedPeer", "Peer", "present"]

#: Where peers are looked for that are not installed here.
ENVIRONMENT = Path(__file__).resolve().parents[1] / ".venv-peers"

#: Peer -> the module that shows that it is installed; all of them are on PyPI by these names.
PEERS = {
    "llmrouter-lib": "llmrouter",
    "routellm": "routellm",
    "scikit-learn": "sklearn",
    "semantic-router": "semantic_router",
}


def present(environment: Path = ENVIRONMENT) -> tuple[dict[str, Peer], dict[str, str]]:
    """Peers that can be run, by name, and why the others cannot."""
    found: dict[str, Peer] = {}
    absent: dict[str, str] = {}
    theirs = environment / "bin" / "python"
    for name, module in PEERS.items():
        pythons = [python for python in (Path(sys.executable), theirs) if python.exists()]
        having = next((python for python in pythons if _has(python, module)), None)
        if having is None:
            where = f"{environment.name} or here" if theirs.exists() else f"no {environment.name}"
            absent[name] = f"not installed ({where})"
        elif name not in ADAPTERS:
            absent[name] = "installed, but not yet one of _router_child.py"
        else:
            found[name] = Peer(name, having)
    return found, absent


def _has(python: Path, module: str) -> bool:
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([str(python), "-c", code], check=False).returncode == 0


@dataclass(frozen=True)
class Peer:
    """Recipe of a peer.

    Parameters
    ----------
    name : str
    python : Path
        The interpreter that has it.
    """

    name: str
    python: Path

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedPeer:
        """Start its process and hand it the rows.

        Raises
        ------
        InputError
            It stopped, with its last words.
        """
        folder = tempfile.TemporaryDirectory(prefix="turnout-peer-")
        task = {
            "texts": list(texts_of(outcomes.inputs)),
            "names": list(outcomes.names),
            "quality": [[_plain(cell) for cell in row] for row in outcomes.quality.tolist()],
            "cost": [[_plain(cell) for cell in row] for row in outcomes.cost.tolist()],
        }
        path, log = Path(folder.name) / "task.json", Path(folder.name) / "log"
        path.write_text(json.dumps(task), encoding="utf-8")
        child = Path(__file__).with_name("_router_child.py")
        with log.open("w", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [str(self.python), str(child), self.name, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
            )
        fitted = FittedPeer(outcomes.names, fit_costs(outcomes), process, folder)
        fitted.answer()
        return fitted


@dataclass(frozen=True, eq=False)
class FittedPeer:
    """A peer's process, which ends when this is forgotten.

    Parameters
    ----------
    names : tuple of str
    costs : CostModel
    process : subprocess.Popen
    folder : tempfile.TemporaryDirectory
        For what is handed over.
    """

    names: tuple[str, ...]
    costs: CostModel
    process: subprocess.Popen[str]
    folder: tempfile.TemporaryDirectory[str]
    _count: list[int] = field(init=False, repr=False, default_factory=lambda: [0])

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """What it says of each text (n, m), cut to [0, 1], and the expected cost (n, m)."""
        texts = list(texts_of(inputs))
        self._count[0] += 1
        path = Path(self.folder.name) / f"{self._count[0]}.json"
        path.write_text(json.dumps(texts), encoding="utf-8")
        assert self.process.stdin is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        quality = np.array(json.loads(self.answer()), dtype=np.float64)
        path.unlink()
        shape = (len(texts), len(self.names))
        return np.clip(quality.reshape(shape), 0.0, 1.0), self.costs.predict(inputs)

    def answer(self) -> str:
        """The next line that it says.

        Raises
        ------
        InputError
            It said nothing and stopped.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(timeout=60)
            said = (Path(self.folder.name) / "log").read_text(encoding="utf-8", errors="replace")
            last = (said.strip().splitlines() or ["no reason given"])[-1]
            raise InputError("peer", "go on running", last, "See its own documentation.")
        return line

    def __del__(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait(timeout=60)
        self.folder.cleanup()


def _plain(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
