"""Claims: what a paper says, our small version of it, and the band written before the run.

::

    claims/<level>/<method>/
        claim.toml     the claim in our words, the measure, its direction and its band
        run.py         def run(seed: int, data: Path | None) -> dict[str, float]
        result.json    written by `turnout claims run <level>.<method>`, committed

A result belongs to the very `claim.toml` it was measured against, by its hash: once the band is
edited the claim counts as untested until it is run again.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from turnout.core import ConfigError

__all__ = ["DIRECTIONS", "Also", "Claim", "claims_in", "load_claim", "read_result", "select"]

#: Which way the measure speaks for the claim; the band bounds it on both sides either way.
DIRECTIONS = ("higher", "lower", "within")

_SAME = {"above": "higher", "below": "lower"}


@dataclass(frozen=True, kw_only=True)
class Also:
    """A further measure of a claim.

    Parameters
    ----------
    measure : str
        Key of what `run` returns.
    band : tuple of float
        Low and high end, both included; may be infinite.
    text : str
        What meeting it means.
    """

    measure: str
    band: tuple[float, float]
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim, as written in its `claim.toml`.

    Parameters
    ----------
    method : str
        `level.method`, which is also where the folder is.
    paper : str
        Title, year and identifier.
    claim : str
        The paper's claim in our words, with its table or section.
    small : str
        Our small version: task, size, comparison.
    data : str
        Where the data comes from.
    seeds : tuple of int
        One run a seed.
    measure : str
        Key of what `run` returns that decides the claim.
    direction : str
        One of `DIRECTIONS`; "above" and "below" are read as "higher" and "lower".
    band : tuple of float
        Low and high end of the measure's mean, both included; may be infinite.
    budget_seconds : float
        How long all seeds together may take; a longer run is said to be over budget.
    written : date
        When the band was written: before the run.
    needs : tuple of str
        Environment variables ("TURNOUT_DATA") and extras ("torch") without which it cannot run.
    also : tuple of Also
        Further measures; the claim holds only in part where one of them is missed.
    folder : Path
        Where it was read from.
    """

    method: str
    paper: str
    claim: str
    small: str
    data: str
    seeds: tuple[int, ...]
    measure: str
    direction: str
    band: tuple[float, float]
    budget_seconds: float
    written: date
    needs: tuple[str, ...] = ()
    also: tuple[Also, ...] = ()
    folder: Path = Path()

    @property
    def sha256(self) -> str:
        """Hash of the file as it stands."""
        return hashlib.sha256((self.folder / "claim.toml").read_bytes()).hexdigest()


def load_claim(folder: Path) -> Claim:
    """Read and check one `claim.toml`.

    Raises
    ------
    ConfigError
        The file is missing, is no TOML, lacks a key, has an unknown one (the nearest known key is
        suggested), has a value of the wrong kind, or names another method than its folder.
    """
    path = folder / "claim.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(str(path), "exist", "no file", "Write it before the run.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), "be TOML", str(error), "Correct the syntax.") from None
    _expect_keys(table, Claim, str(path), without=("folder",))
    texts = ("method", "paper", "claim", "small", "data", "measure", "direction")
    values: dict[str, Any] = {key: _text(table, key, path) for key in texts}
    values["direction"] = _SAME.get(values["direction"], values["direction"])
    name = f"{folder.parent.name}.{folder.name}"
    if values["method"] != name:
        raise _wrong(path, "method", f"be {name!r}, as its folder says", values["method"])
    if values["direction"] not in DIRECTIONS:
        rule = f"be one of {', '.join(DIRECTIONS)}"
        raise _wrong(path, "direction", rule, values["direction"])
    if not (folder / "run.py").is_file():
        raise ConfigError(str(folder), "hold run.py", "no file", "Write run(seed, data) in it.")
    return Claim(
        **values,
        seeds=_seeds(table["seeds"], path),
        band=_band(table["band"], "band", path),
        budget_seconds=_positive(table["budget_seconds"], "budget_seconds", path),
        written=_date(table["written"], path),
        needs=_texts(table.get("needs", []), "needs", path),
        also=tuple(_also(item, path) for item in _list(table.get("also", []), "also", path)),
        folder=folder,
    )


def claims_in(root: Path) -> tuple[Claim, ...]:
    """Every claim below a folder of claims, sorted by name.

    Raises
    ------
    ConfigError
        One of them breaks a rule.
    """
    found = [load_claim(path.parent) for path in root.glob("*/*/claim.toml")]
    return tuple(sorted(found, key=lambda claim: claim.method))


def select(root: Path, pattern: str) -> tuple[Claim, ...]:
    """The claims whose name matches a pattern such as `llms.knn`, `llms.*` or `*`.

    Raises
    ------
    ConfigError
        None matches, or one that matches breaks a rule.
    """
    folders = {f"{p.parent.parent.name}.{p.parent.name}": p.parent for p in root.glob("*/*/*.toml")}
    chosen = sorted(name for name in folders if fnmatchcase(name, pattern))
    if not chosen:
        close = difflib.get_close_matches(pattern, folders, n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else "See: turnout claims list."
        raise ConfigError("pattern", f"match a claim in {root}", pattern, hint)
    return tuple(load_claim(folders[name]) for name in chosen)


def read_result(claim: Claim) -> dict[str, Any] | None:
    """The committed result of a claim, or None where there is none."""
    path = claim.folder / "result.json"
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _expect_keys(
    table: Mapping[str, Any], kind: type, where: str, without: tuple[str, ...] = ()
) -> None:
    known = {field.name: field.default for field in fields(kind) if field.name not in without}
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(known)}."
            raise ConfigError(f"{where}: {key}", "be a known key", key, hint)
    for key, default in known.items():
        if default is MISSING and key not in table:
            raise ConfigError(f"{where}: {key}", "be given", "nothing", "Add it.")


def _also(item: Any, path: Path) -> Also:
    if not isinstance(item, dict):
        raise _wrong(path, "also", "be tables [[also]]", item)
    _expect_keys(item, Also, f"{path}: also")
    text = item.get("text", "")
    return Also(
        measure=_text(item, "measure", path),
        band=_band(item["band"], "also.band", path),
        text=text if isinstance(text, str) else str(text),
    )


def _text(table: Mapping[str, Any], key: str, path: Path) -> str:
    value = table[key]
    if not isinstance(value, str) or not value.strip():
        raise _wrong(path, key, "be a non-empty text", value)
    return value.strip()


def _list(value: Any, key: str, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(path, key, "be a list", value)
    return value


def _texts(value: Any, key: str, path: Path) -> tuple[str, ...]:
    items = _list(value, key, path)
    if not all(isinstance(item, str) for item in items):
        raise _wrong(path, key, "be a list of texts", value)
    return tuple(items)


def _seeds(value: Any, path: Path) -> tuple[int, ...]:
    seeds = _list(value, "seeds", path)
    plain = all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds)
    if not seeds or not plain or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise _wrong(path, "seeds", "be different whole numbers >= 0, one at least", value)
    return tuple(seeds)


def _band(value: Any, key: str, path: Path) -> tuple[float, float]:
    pair = _list(value, key, path)
    numbers = [float(v) for v in pair if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(pair) != 2 or len(numbers) != 2 or not numbers[0] <= numbers[1]:
        raise _wrong(path, key, "be [low, high] with low <= high", value)
    if all(math.isinf(number) for number in numbers):
        raise _wrong(path, key, "bound the measure on one side at least", value)
    return numbers[0], numbers[1]


def _positive(value: Any, key: str, path: Path) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise _wrong(path, key, "be a number of seconds > 0", value)
    return float(value)


def _date(value: Any, path: Path) -> date:
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise _wrong(path, "written", "be a date such as 2026-11-22", value) from None


def _wrong(path: Path, key: str, rule: str, value: Any) -> ConfigError:
    return ConfigError(f"{path}: {key}", rule, value, "Correct the file.")
