"""Running a claim: every seed, mean and spread, the verdict, and what it ran on."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from turnout.catalog import require
from turnout.core import ConfigError, InputError
from turnout.testing.claims import Claim

__all__ = ["run_claim", "verdict", "write_result"]

#: Versions worth knowing when a figure is run again, where the run has used them.
_PACKAGES = ("numpy", "scipy", "scikit-learn", "pandas", "torch")


def run_claim(claim: Claim, *, progress: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Run a claim and return its result; nothing is written.

    Parameters
    ----------
    claim : Claim
        Read by `load_claim`.
    progress : callable, optional
        Told each seed after it has run.

    Returns
    -------
    dict
        `value` and `spread` (mean and sample standard deviation over seeds), `per_seed` (every
        measure of every seed), `also`, `status`, `seconds`, `hardware`, `python`, `packages`,
        `commit`, `date`, `claim_sha256`.

    Raises
    ------
    ConfigError
        What the claim needs is absent, or `run.py` has no `run`, or it does not return the
        measures the claim names as finite numbers.
    MissingExtraError
        It needs an extra that is not installed.
    """
    data = _requirements(claim)
    run = _import_run(claim.folder / "run.py")
    digest = claim.sha256
    per_seed: list[dict[str, float]] = []
    start = time.perf_counter()
    for seed in claim.seeds:
        per_seed.append(_measures(claim, run(seed, data)))
        if progress is not None:
            progress(seed)
    seconds = time.perf_counter() - start
    value, spread = _summary(per_seed, claim.measure)
    also = []
    for further in claim.also:
        mean, deviation = _summary(per_seed, further.measure)
        also.append(
            {
                "measure": further.measure,
                "text": further.text,
                "value": mean,
                "spread": deviation,
                "band": list(further.band),
                "met": _within(mean, further.band),
            }
        )
    return {
        "method": claim.method,
        "measure": claim.measure,
        "value": value,
        "spread": spread,
        "band": list(claim.band),
        "status": verdict(value, claim.band, [bool(item["met"]) for item in also]),
        "also": also,
        "per_seed": [
            {"seed": seed, **row} for seed, row in zip(claim.seeds, per_seed, strict=True)
        ],
        "seconds": round(seconds, 2),
        "within_time": seconds <= claim.budget_seconds,
        "hardware": _hardware(),
        "python": platform.python_version(),
        "packages": _versions(),
        "commit": _commit(claim.folder),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "claim_sha256": digest,
    }


def verdict(value: float, band: tuple[float, float], also: list[bool]) -> str:
    """What a result says of its claim.

    "holds" where every band is met, "partly" where only the main one is, else "fails".

    >>> verdict(0.3, (0.1, 1.0), [True, False])
    'partly'
    """
    if not _within(value, band):
        return "fails"
    return "holds" if all(also) else "partly"


def write_result(claim: Claim, result: dict[str, Any]) -> Path:
    """Write `result.json` beside the claim; infinite ends of bands are written as text."""
    path = claim.folder / "result.json"
    text = json.dumps(_plain(result), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _requirements(claim: Claim) -> Path | None:
    """The data folder, once everything the claim needs is known to be there."""
    for need in claim.needs:
        if need.isupper():
            if not os.environ.get(need):
                hint = f"Set {need}, such as: export {need}=/path/to/tables."
                raise ConfigError(f"environment variable {need}", "be set", "nothing", hint)
        else:
            require(need)
    folder = os.environ.get("TURNOUT_DATA")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise ConfigError("TURNOUT_DATA", "name a folder", folder, "Correct the path.")
    return Path(folder)


def _import_run(path: Path) -> Callable[[int, Path | None], Any]:
    name = f"turnout_claim_{path.parent.parent.name}_{path.parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    run: Any = getattr(module, "run", None)
    if not callable(run):
        hint = "Write def run(seed, data) -> dict[str, float]."
        raise ConfigError(str(path), "define run(seed, data)", run, hint)
    return run  # type: ignore[no-any-return]


def _measures(claim: Claim, measured: Any) -> dict[str, float]:
    where = f"run of {claim.method}"
    if not isinstance(measured, dict):
        raise ConfigError(where, "return a dict of measures", measured, "Return one.")
    for name in (claim.measure, *(further.measure for further in claim.also)):
        if name not in measured:
            raise ConfigError(where, f"return {name!r}", sorted(measured), "Add it to the dict.")
    clean = {}
    for name, value in measured.items():
        number = float(value)
        if not math.isfinite(number):
            raise InputError(f"{where}: {name}", "be finite", number, "Correct the measure.")
        clean[str(name)] = number
    return clean


def _summary(rows: list[dict[str, float]], measure: str) -> tuple[float, float]:
    values = [row[measure] for row in rows]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _within(value: float, band: tuple[float, float]) -> bool:
    return band[0] <= value <= band[1]


def _plain(value: Any) -> Any:
    """JSON without infinities: the open end of a band becomes "inf" or "-inf"."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def _hardware() -> str:
    cpu = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}"


def _versions() -> dict[str, str]:
    loaded = {"scikit-learn": "sklearn"}
    return {
        name: importlib.metadata.version(name)
        for name in _PACKAGES
        if loaded.get(name, name) in sys.modules
    }


def _commit(folder: Path) -> str:
    """Commit the code was at, with "+changes" where the sources differ from it; "" outside git."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        root = git("rev-parse", "--show-toplevel")
        changed = git("status", "--porcelain", "--", f"{root}/src", str(folder / "run.py"))
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
