"""Other people's routers as methods that `turnout.bench.evaluate` can judge.

They run in a process of their own (`_router_child.py`), under the Python that has them: this one,
or that of `.venv-peers` beside the project. A peer is told the same rows and no more; what it
says of a prompt is taken for the quality, and expected costs are those that our own methods use,
so that what is compared is the reading of prompts. One that cannot be had is left out, with the
reason. Its times are its own: processor time inside that process, without the way to it and back.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from _router_child import ADAPTERS  # type: ignore[import-not-found,unused-ignore]
from turnout.bench.results import Evaluation
from turnout.core import InputError, Inputs, Outcomes, Pool, Recipe
from turnout.core._check import Float
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.texts.words import texts_of

__all__ = ["ENVIRONMENT", "PEERS", "FittedPeer", "Peer", "Times", "present", "timed"]

#: Where peers are looked for that are not installed here.
ENVIRONMENT = Path(__file__).resolve().parents[1] / ".venv-peers"

#: All of them, by name, whether they are installed or not.
PEERS = ADAPTERS


def present(environment: Path = ENVIRONMENT) -> tuple[dict[str, Peer], dict[str, str]]:
    """Peers that can be run, by name, and why the others cannot."""
    found: dict[str, Peer] = {}
    absent: dict[str, str] = {}
    theirs = environment / "bin" / "python"
    pythons = [python for python in (Path(sys.executable), theirs) if python.exists()]
    holding = {python: _modules(python) for python in pythons}
    for name, adapter in PEERS.items():
        having = next((python for python in pythons if adapter.module in holding[python]), None)
        if having is None:
            where = f"{environment.name} or here" if theirs.exists() else f"no {environment.name}"
            absent[name] = f"{adapter.package} is not installed ({where})"
        else:
            found[name] = Peer(name, having)
    return found, absent


@functools.cache
def _modules(python: Path) -> frozenset[str]:
    """Which of the peers' modules a Python finds."""
    wanted = sorted({adapter.module for adapter in PEERS.values()})
    code = "import importlib.util as u, sys; print(*[m for m in sys.argv[1:] if u.find_spec(m)])"
    said = subprocess.run(
        [str(python), "-c", code, *wanted], check=False, capture_output=True, text=True
    )
    return frozenset(said.stdout.split())


@dataclass
class Times:
    """What a peer spent, in seconds of processor time.

    Parameters
    ----------
    fits : list of float
        One a fit.
    single, encoding : list of float
        Of each prompt that was asked for alone: in all, and on its vector.
    """

    fits: list[float] = field(default_factory=list)
    single: list[float] = field(default_factory=list)
    encoding: list[float] = field(default_factory=list)

    def median_us(self) -> tuple[float, float]:
        """Microseconds for one prompt, and how many of them are not its vector's; NaN if none."""
        if not self.single:
            return float("nan"), float("nan")
        whole, vector = np.array(self.single), np.array(self.encoding)
        return 1e6 * float(np.median(whole)), 1e6 * float(np.median(whole - vector))


def timed(found: Evaluation, methods: Mapping[str, Recipe]) -> Evaluation:
    """The evaluation with each peer's own times in place of those that were seen from here."""
    rows = []
    for row in found.rows:
        peer = methods.get(row.method)
        if isinstance(peer, Peer) and not row.landmark:
            single = np.array(peer.times.single or [np.nan])
            row = replace(
                row,
                fit_seconds=sum(peer.times.fits),
                decision_us_p50=1e6 * float(np.median(single)),
                decision_us_p99=1e6 * float(np.quantile(single, 0.99)),
                ece=row.ece if PEERS[peer.name].calibrated else float("nan"),
            )
        rows.append(row)
    return replace(found, rows=tuple(rows))


@dataclass(frozen=True)
class Peer:
    """Recipe of a peer.

    Parameters
    ----------
    name : str
    python : Path
        The interpreter that has it.
    times : Times
        Of all that it was asked for so far.
    """

    name: str
    python: Path
    times: Times = field(default_factory=Times, compare=False)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedPeer:
        """Hand it the rows.

        Raises
        ------
        InputError
            It is made for another number of models, or it gave up, with its last words.
        """
        adapter = PEERS.get(self.name)
        if adapter is not None and adapter.models not in (None, outcomes.m):
            rule = f"be given {adapter.models} models"
            raise InputError(self.name, rule, outcomes.m, "Leave it out of this table.")
        folder = tempfile.TemporaryDirectory(prefix="turnout-peer-")
        task = {
            "texts": list(texts_of(outcomes.inputs)),
            "names": list(outcomes.names),
            "quality": [[_plain(cell) for cell in row] for row in outcomes.quality.tolist()],
            "cost": [[_plain(cell) for cell in row] for row in outcomes.cost.tolist()],
            "seed": int(rng.integers(2**31)),
        }
        path = Path(folder.name) / "task.json"
        path.write_text(json.dumps(task), encoding="utf-8")
        room = _room(self.python)
        key = next(_keys)
        try:
            said = room.ask({"fit": self.name, "task": str(path), "key": key})
        except InputError:
            folder.cleanup()
            raise
        self.times.fits.append(float(said["seconds"]))
        return FittedPeer(outcomes.names, fit_costs(outcomes), room, key, folder, self.times)


@dataclass(frozen=True, eq=False)
class FittedPeer:
    """A peer that was fitted; its process forgets it when this is forgotten.

    Parameters
    ----------
    names : tuple of str
    costs : CostModel
    room : Room
        The process that holds it.
    key : int
        Which one it is there.
    folder : tempfile.TemporaryDirectory
        For what is handed over.
    times : Times
    """

    names: tuple[str, ...]
    costs: CostModel
    room: Room
    key: int
    folder: tempfile.TemporaryDirectory[str]
    times: Times

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """What it says of each text (n, m), cut to [0, 1], and the expected cost (n, m)."""
        texts = list(texts_of(inputs))
        path = Path(self.folder.name) / "texts.json"
        path.write_text(json.dumps(texts), encoding="utf-8")
        said = self.room.ask({"score": str(path), "key": self.key})
        if len(texts) == 1:
            self.times.single.append(float(said["seconds"]))
            self.times.encoding.append(float(said["encoding"]))
        quality = np.array(said["scores"], dtype=np.float64)
        shape = (len(texts), len(self.names))
        return np.clip(quality.reshape(shape), 0.0, 1.0), self.costs.predict(inputs)

    def __del__(self) -> None:
        self.room.forgotten.append(self.key)
        self.folder.cleanup()


class Room:
    """The process that peers of one Python share, until this program ends.

    Parameters
    ----------
    python : Path

    Attributes
    ----------
    forgotten : list of int
        Keys of peers that nobody holds any more.
    """

    def __init__(self, python: Path) -> None:
        self.forgotten: list[int] = []  # told with the next question, whoever asks it
        self._folder = tempfile.TemporaryDirectory(prefix="turnout-peers-")
        kept = ENVIRONMENT if ENVIRONMENT.is_dir() else Path(self._folder.name)
        self._log = Path(self._folder.name) / "log"
        with self._log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [
                    str(python),
                    str(Path(__file__).with_name("_router_child.py")),
                    str(kept / "embeddings.sqlite"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )

    def ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What it answers.

        Raises
        ------
        InputError
            The peer gave up, or the whole process stopped; with the last words.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        gone, self.forgotten = self.forgotten, []
        try:
            self._process.stdin.write(json.dumps({**asked, "forget": gone}) + "\n")
            self._process.stdin.flush()
            said: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError):  # no line, or a pipe that is closed
            self.close()
            written = self._log.read_text(encoding="utf-8", errors="replace")
            said = {"error": (written.strip().splitlines() or ["no reason given"])[-1]}
        if "error" in said:
            hint = "See its own documentation."
            raise InputError("peer", "go on running", said["error"], hint)
        return said

    @property
    def ended(self) -> bool:
        """Whether the process has stopped."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not written yet is lost
                    pipe.close()
        self._process.wait(timeout=60)


_keys = itertools.count()
_rooms: dict[Path, Room] = {}


def _room(python: Path) -> Room:
    """The process of this Python, started where there is none."""
    room = _rooms.get(python)
    if room is None or room.ended:
        room = _rooms[python] = Room(python)
        atexit.register(room.close)
    return room


def _plain(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
